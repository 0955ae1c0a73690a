/* SPDX-License-Identifier: MIT */
/*
 * Image: everything that a target holds of ours, as a plan made before the target is stopped.
 *
 * One image serves all links of all sessions on one process. Attach, detach and every change in
 * between are one operation: build the image that is wanted now and have the surgeon replace the
 * one that is there (none at first, none at the end).
 *
 *   mapping           protection  holds
 *   code              r-x         agent (helpers), trampolines, compiled programs; sealed memfd
 *   data              rw-         struct ub_process, ub_map descriptors, ub_link_info, guards,
 *                                 site table (struct ub_site_table): shared with the daemon
 *   events            rw-         the process's event ring: shared with the daemon
 *   map i             rw-         shared memory of a map
 *
 * Mappings are named [memfd:ubpf-run:...] so that people and `doctor` see whose they are.
 */
#ifndef UB_HOOK_IMAGE_H
#define UB_HOOK_IMAGE_H

#include <sys/types.h>

#include <common/reason.h>
#include <jit/jit.h>

enum ub_point_kind {
	UB_POINT_ENTRY,	 /* before the instruction at the offset (function entry or inside) */
	UB_POINT_RETURN, /* whenever the function that starts at the offset returns */
};

/* Where: a file as mapped in the target. */
struct ub_point {
	enum ub_point_kind kind;
	dev_t dev; /* st_dev and st_ino of the file, as seen through the target's mount namespace */
	ino_t ino;
	u64 offset;	    /* file offset */
	u64 ref_ctr_offset; /* file offset of a USDT semaphore, 0 = none */
};

/* What runs there: one link. */
struct ub_image_link {
	struct ub_point point;
	u32 link_id;
	u32 prog_id;
	u64 cookie;
	const struct ub_program *program;
	const struct ub_code *code;
	u32 nr_maps;
	const u32 *maps; /* for each of the program's maps: index into the request's maps */
};

/* A program that is not attached: others tail-call it. */
struct ub_image_callee {
	u32 prog_id;
	const struct ub_program *program;
	const struct ub_code *code;
	u32 nr_maps;
	const u32 *maps; /* as a link's */
};

/* What a map whose values are programs or maps holds. */
struct ub_image_entry {
	u32 slot;  /* PROG_ARRAY: where. Maps of maps: the inner map's id, which finds it */
	u32 index; /* into the request's callees, or its maps */
};

struct ub_image_map {
	struct ub_map_attr attr;
	int fd;		/* memfd of its shared memory */
	u32 nr_entries; /* sorted by slot, none twice */
	const struct ub_image_entry *entries;
};

struct ub_image_request {
	pid_t pid;
	u32 nr_links;
	const struct ub_image_link *links; /* in attach order */
	u32 nr_maps;
	const struct ub_image_map *maps;
	u32 nr_callees;
	const struct ub_image_callee *callees;
	u32 nr_cpus;
	u64 tgid_in_client; /* for bpf_get_current_pid_tgid() */
	u64 uid_gid;
	bool own_filter; /* the process's first seccomp filter is the caller's and lets our calls pass */
	u32 generation;
	const struct ub_image *current; /* what the target holds now, or NULL */
	/* NULL, or a flag for each link: set for those that can't be probed. They are left out
	 * then, rather than that there is no image because of them. */
	bool *refused;
};

struct ub_image; /* opaque: see hook/image_private.h; freed with ub_image_free() */

/* Looks at the (running) target's mappings and files and plans. Nothing is changed in the target.
 * -ENOENT: the file is not mapped there (yet); -EOPNOTSUPP: a point, or with
 * request->refused all points, can't be hooked, @why says which and why; -EBUSY: bytes differ from the file's and are not ours; -ESRCH; -EPERM; ... */
int __must_check ub_image_build(const struct ub_image_request *request, struct ub_image **out,
				struct ub_reason *why);
void ub_image_free(struct ub_image *image);

/* Sum over threads of one link's counters, read from the data shared with the target. */
void ub_image_counters(const struct ub_image *image, u32 link_id, u64 *hits, u64 *misses);
/* The same of all links, in one pass over them. */
void ub_image_count(const struct ub_image *image,
		    void (*each)(void *opaque, u32 link_id, u64 hits, u64 misses), void *opaque);
/* The process's event ring as mapped in this process, and its size. */
struct ub_event_ring *ub_image_events(const struct ub_image *image, u32 *data_size);
/* The same for the ring of the @i-th RINGBUF map in it, with that map's size, or NULL behind the
 * last. */
struct ub_event_ring *ub_image_map_events(const struct ub_image *image, u32 i, u32 *map_id,
					  u32 *max_entries);
/* Whether the image holds the map with that id. */
bool ub_image_has_map(const struct ub_image *image, u32 map_id);
/* What the image holds of the PROG_ARRAY or map of maps @map_id, or NULL: nothing. */
struct ub_image_table *ub_image_table(const struct ub_image *image, u32 map_id);
/* Id of the program in slot @slot, or of the inner map with the id @slot; 0: none. */
u32 ub_image_table_get(const struct ub_image_table *table, u32 slot);
/* Empties @slot at once, without touching the target: it is the target's own table, no other
 * process's. */
void ub_image_table_clear(struct ub_image_table *table, u32 slot);
/* Starts or stops counting at once, without touching the target: struct ub_process.enabled. */
void ub_image_enable(struct ub_image *image, bool enabled);
/* From now on nothing of ours makes a system call in the process (@forbid) or what helpers need is
 * made: it is under a seccomp filter, or under one that lets them pass. Without, heap reads fail
 * with -EFAULT. Images are built so where a filter is there already. */
void ub_image_forbid_syscalls(const struct ub_image *image, bool forbid);
bool ub_image_forbids_syscalls(const struct ub_image *image);

#endif
