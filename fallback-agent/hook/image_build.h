/* SPDX-License-Identifier: MIT */
/*
 * The builder's own state: what is known of an image while it is made, in the order in which it
 * becomes known.
 */
#ifndef UB_HOOK_IMAGE_BUILD_H
#define UB_HOOK_IMAGE_BUILD_H

#include <hook/image_private.h>
#include <hook/module.h>
#include <hook/plan.h>
#include <hook/pun.h>
#include <hook/returns.h>
#include <hook/x86_64/trampoline.h>

/* What a link does at an address, in the order in which it is done there. */
enum ub_hook_kind {
	UB_HOOK_ENTRY,	  /* run */
	UB_HOOK_RETURN,	  /* run, before a ret */
	UB_HOOK_NOTED,	  /* run, before a ret, if the place of the return address was noted for the
			   link */
	UB_HOOK_NOTE,	  /* note it, before a jump */
	UB_HOOK_DIVERT,	  /* take it over */
	UB_HOOK_UNDIVERT, /* put back what was taken over, before an unwinder looks: of no link */
};

/* One link at one address of one file: a return link has several. */
struct ub_hook {
	u64 address; /* in the file */
	u32 link;    /* index into the request's links */
	enum ub_hook_kind kind;
};

/* One file, with everything wanted in it; mapped at one or more places. */
struct ub_image_file {
	dev_t dev;
	ino_t ino;
	u32 nr_modules;
	struct ub_module *modules;
	u32 nr_hooks;
	u32 hooks_capacity;
	bool sorted;	       /* and what follows is theirs */
	struct ub_hook *hooks; /* sorted by address, entries before returns, then in attach order */
	u32 nr_addresses;
	u64 *addresses;	 /* of hooks, unique */
	u32 *first_hook; /* of each address; nr_addresses + 1 */
	struct ub_plan plan;
	u32 nr_placed;
	u32 placed_capacity;
	/* The plan's overlapping jumps: for each chain one in each module. */
	struct ub_pun_placed *placed;
};

/* Code within reach of some modules: one part with an agent, the programs and the trampolines. */
struct ub_image_zone {
	u64 low;
	u64 high;
	u64 address;
	u64 bound; /* bytes at most */
	struct ub_emit emit;
	u64 *programs; /* address of each link's program here, 0 = not placed yet */
};

struct ub_image_build {
	const struct ub_image_request *request;
	struct ub_image *image;
	struct ub_address_space space;

	u32 nr_files;
	struct ub_image_file *files;
	u32 nr_zones;
	struct ub_image_zone *zones;

	struct ub_map *maps; /* bound for the target */
	u64 *map_addresses;  /* of the target's struct ub_map */
	u64 *map_tables;     /* of each link's table of pointers to them */
	u64 *infos;	     /* of each link's struct ub_link_info */
	u64 *callees;	     /* where each callee's program was placed */

	bool self_pointer; /* see struct ub_trampoline_space */

	/* Data part. */
	u32 slot_bits;
	u64 data_size;
	u64 counters_offset;
	u64 counters_stride;
	u64 infos_offset;
	u64 maps_offset;
	u64 tables_offset;
	u64 inner_offset;  /* tables of maps that hold programs or maps */
	u64 ranges_offset; /* struct ub_safe_ranges */
	u64 holds_offset;
	u64 tails_offset;
	u64 stacks_offset;
	bool needs_tails;
	bool *at_entry; /* of each link: take over the return address there */
	bool *dropped;	/* of each link: its hooks are to go before the next plan */
	bool again;	/* some are */
	u32 nr_refused; /* links */
	bool hooked_unwinders;
	bool needs_diverts;
	u64 diverts;	    /* address of struct ub_diverts */
	u64 divert_code;    /* of its entries */
	u64 events_address; /* the process's event ring, and behind it those of its RINGBUF maps */
	u64 events_size;
	u32 own_events_size; /* data of the process's own */

#define UB_MAX_SHARING 8
	u32 nr_sharing; /* sites of sharing.c: addresses in the file number sharing_file */
	u32 sharing_file;
	u64 sharing[UB_MAX_SHARING];

	struct ub_pun_pages puns;

	u32 sites_capacity;
	u32 moves_in_capacity;
	u32 moves_out_capacity;
};

/* What remains of the builder in a finished image: where its counters are. */
struct ub_image_counting {
	u32 nr_links;
	u32 nr_slots;
	u32 *link_ids;
	struct ub_hit_counters *sums; /* room for ub_image_count() */
	u64 *functions; /* whose return each link probes, in the target; 0: it probes none */
	u64 counters_offset;
	u64 counters_stride;
	u64 stacks_offset; /* 0: there are none */
	u64 holds_offset;
	u64 tails_offset; /* 0: there are none */
	u32 slot_bits;
	u32 nr_continuations;
	u32 continuations_capacity;
	struct ub_image_continuation *continuations;
	struct ub_event_ring *events;
	u32 events_size;
	u32 nr_map_events;
	struct ub_image_map_events *map_events;
};

/* The event ring of one RINGBUF map. */
struct ub_image_map_events {
	u32 map_id;
	u32 max_entries; /* the map's */
	struct ub_event_ring *ring;
};

/* Code that runs when a return address that was taken over is returned to, and one of its links. */
struct ub_image_continuation {
	u64 code;
	u32 link; /* number in the image */
};

/* image_tables.c: bytes of all tables; where the @i-th map's are bound to; and their contents, once
 * the programs' places are known. */
u64 ub_image_tables_size(const struct ub_image_request *request);
void ub_image_tables_bind(struct ub_image_build *build);
int __must_check ub_image_tables_fill(struct ub_image_build *build);
void ub_image_tables_free(struct ub_image_tables *tables);

/* image_hooks.c: what is hooked where. */
int __must_check ub_image_add_link(struct ub_image_build *build, u32 index, struct ub_reason *why);
/* Plans for all files: at first as if all memory were free, which tells how much code there will
 * be, then, with room taken for that, as @final. What can't be hooked is refused; then, if links
 * lose or change hooks by it, build->again is set. */
int __must_check ub_image_plan(struct ub_image_build *build, bool final, struct ub_reason *why);
/* After that: hooks of dropped links go, those of return links taken over at the entry come. */
int __must_check ub_image_rehook(struct ub_image_build *build);
int __must_check ub_image_find_file(struct ub_image_build *build, const struct ub_point *point,
				    struct ub_image_file **out, struct ub_reason *why);
int __must_check ub_image_add_hook(struct ub_image_file *file, u64 address, u32 link,
				   enum ub_hook_kind kind);

/* image_code.c: emits zones, sites and moves. */
int __must_check ub_image_emit(struct ub_image_build *build, struct ub_reason *why);
/* image_window.c: one module's part of it. */
int __must_check ub_image_emit_module(struct ub_image_build *build, struct ub_image_zone *zone,
				      const struct ub_image_file *file,
				      const struct ub_module *module,
				      const struct ub_trampoline_space *space,
				      struct ub_reason *why);
u64 ub_image_zone_bound(const struct ub_image_build *build, const struct ub_image_zone *zone);

/* image_data.c: sizes, addresses and contents of the shared parts. */
int __must_check ub_image_lay_out_data(struct ub_image_build *build, struct ub_reason *why);
int __must_check ub_image_fill_data(struct ub_image_build *build, struct ub_reason *why);
int __must_check ub_image_add_part(struct ub_image *image, const struct ub_part *part);

/* runtime.c: what the target's C library says of its threads. Fills has_rseq and rseq_offset, and
 * build->self_pointer. */
void ub_runtime_find(struct ub_image_build *build, struct ub_process *process);

/* -EOPNOTSUPP: what is executed is not the process's code, but a translation of it. */
int __must_check ub_runtime_check(pid_t pid, const struct ub_address_space *space,
				  struct ub_reason *why);

/* Memory that the process keeps for ever, at most @max ranges. */
void ub_runtime_safe_ranges(const struct ub_image_build *build, struct ub_safe_ranges *ranges,
			    u32 max);

/* sharing.c. Finds the sites in libc: 0, or negative: nobody may trust thread pointers. */
bool ub_sharing_wanted(const struct ub_image_request *request);
int __must_check ub_sharing_find(struct ub_image_build *build, struct ub_image_file *file);
void ub_sharing_emit(struct ub_emit *emit, u64 data, const u8 *bytes, u64 back, u64 *syscall_at,
		     u64 *back_at);
/* The mapping of glibc, or NULL. */
const struct ub_mapping *ub_runtime_glibc(const struct ub_address_space *space);

/* image_divert.c: what taking over return addresses (agent/divert.c) needs. The entries of
 * unwinders are hooked; the table becomes a part once the code's address is known. */
int __must_check ub_image_hook_unwinders(struct ub_image_build *build, struct ub_reason *why);
int __must_check ub_image_add_diverts(struct ub_image_build *build, struct ub_reason *why);

/* image_unwind.c: what bpf_get_stack() needs, if any program calls it. */
void ub_image_add_unwind(struct ub_image_build *build);

/* cgroup.c: fills cgroup_id and cgroups as far as they can be known. */
void ub_cgroup_find(pid_t pid, struct ub_process *process);

/* image_target.c */
int __must_check ub_image_check_memory(const struct ub_image_build *build, struct ub_reason *why);
int __must_check ub_image_find_semaphores(struct ub_image_build *build, struct ub_reason *why);

/* vdso.c */
void ub_vdso_find(const struct ub_address_space *space, struct ub_process *process);

/* site_table.c */
int __must_check ub_image_add_site_table(struct ub_image_build *build, u64 address, u64 room,
					 struct ub_reason *why);
u64 ub_image_site_table_bound(const struct ub_image_build *build);

#endif
