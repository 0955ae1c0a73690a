/* SPDX-License-Identifier: MIT */
/*
 * The image as its two users see it: the builder (hook/) fills it, the surgeon (surgeon/) carries
 * it out. Everything is decided in here; the surgeon only maps, compares, writes, moves and counts.
 *
 * Each image is complete in itself and shares no mapping with the one it replaces. So to replace
 * OLD by NEW, from step 2 on with every thread stopped:
 *   1. map NEW's parts, in order, at their addresses (MAP_FIXED_NOREPLACE: somebody may have
 *	taken the gap since; then -EAGAIN and the image is built again);
 *   2. for every thread ip and every ip saved in a signal frame: NEW->moves_in (ub_moves_find(); an
 *	ip that it does not know stays as it is). OLD->moves_out only if there is no NEW: with one,
 *	threads leave OLD's trampolines by themselves, else a hit could be counted twice;
 *   3. check that memory holds OLD's bytes (site.new) at OLD's sites, and the file's bytes
 *	(site.old) at NEW's sites where no OLD site lies; anything else is somebody else's: -EBUSY;
 *   4. write site.old to OLD's sites, site.new to NEW's; only where both give different bytes;
 *   5. semaphores: add NEW's first, then take OLD's away;
 *   6. resume. OLD's parts go when no thread is inside: ub_image_inside() is false for every ip,
 *	for every ip saved in a signal frame, and ub_image_thread_inside() for every thread.
 */
#ifndef UB_HOOK_IMAGE_PRIVATE_H
#define UB_HOOK_IMAGE_PRIVATE_H

#include <hook/image.h>
#include <hook/memfd.h>
#include <hook/site_table.h>
#include <run/run.h>

enum ub_part_kind {
	UB_PART_CODE = 1, /* r-x, MAP_PRIVATE of a sealed memfd "ubpf-run:code" */
	UB_PART_SITES =
		2, /* r--, MAP_PRIVATE of a sealed memfd "ubpf-run:sites": struct ub_site_table */
	UB_PART_DATA = 3,   /* rw-, MAP_SHARED of a memfd "ubpf-run:data": see agent/data.h */
	UB_PART_EVENTS = 4, /* rw-, MAP_SHARED of a memfd "ubpf-run:events" */
	UB_PART_MAP = 5,  /* rw-, MAP_SHARED of a map's memfd; r-- for a ring buffer's positions */
	UB_PART_FORK = 6, /* rw-, anonymous, private; to be marked MADV_WIPEONFORK, then its first
			     * 8 bytes set to 1 */
	UB_PART_DIVERTS = 7, /* rw-, MAP_PRIVATE of a sealed memfd "ubpf-run:returns": struct
			      * ub_diverts, in agent/data.h */
	UB_PART_UNWIND = 8,  /* r--, MAP_PRIVATE of sealed memfds "ubpf-run:unwind": run/unwind.h */
};

struct ub_part {
	enum ub_part_kind kind;
	u64 address; /* in the target, page-aligned */
	u64 size;    /* bytes, a multiple of the page size */
	int prot;    /* PROT_* in the target */
	int flags;   /* MAP_PRIVATE or MAP_SHARED, and MAP_ANONYMOUS for UB_PART_FORK */
	int fd;	     /* -1 for UB_PART_FORK */
	bool owned;  /* fd is closed with the image (maps' memfds are borrowed) */
	u8 *here;    /* mapped in this process too (data, events), or NULL */
};

/* A place in the text of the target that is overwritten. No two sites of one image overlap. */
struct ub_site {
	u64 address;	       /* in the target */
	u32 len;	       /* 1 .. UB_SITE_BYTES */
	u8 old[UB_SITE_BYTES]; /* the file's bytes */
	u8 new[UB_SITE_BYTES];
	dev_t dev; /* of the file it is mapped from, and where in it */
	ino_t ino;
	u64 offset;
	u64 to; /* where the jump at its start leads */
};

/* An instruction pointer that must be, or may be, changed with the bytes. Sorted by from. */
struct ub_move {
	u64 from;
	u64 to;
	bool resumes; /* moves_out: code in the image jumps to `to` by itself */
};

/* A USDT semaphore: a u16 in the target to which count is added, and taken away at the end. */
struct ub_semaphore {
	u64 address;
	u32 count;
};

/* Private to hook/: where the counters and the event ring are, and the tables of maps that hold
 * programs or maps. */
struct ub_image_counting;
struct ub_image_tables;

struct ub_image {
	pid_t pid;
	u32 generation;
	bool own_filter; /* as it was requested */

	u32 nr_parts;
	struct ub_part *parts; /* in the order in which they are mapped */
	u32 nr_sites;
	struct ub_site *sites; /* sorted by address */

	/* ip inside a site's bytes (not at its start) -> same place in its relocated copy. Every
	 * thread and signal frame with such an ip must be moved when the site is written. */
	u32 nr_moves_in;
	struct ub_move *moves_in;
	/* ip in a trampoline at a point where registers and stack are the program's own -> where it
	 * would be in the target's text. May be used when sites are restored, for threads to leave
	 * sooner. */
	u32 nr_moves_out;
	struct ub_move *moves_out;

	u32 nr_semaphores;
	struct ub_semaphore *semaphores;

	/* Set when no signal frame scan can find all saved ips (Go): each site then overwrites
	 * bytes of one instruction only. For information. */
	bool single_instruction;

	/* The makers of processes that share the memory are watched (sharing.c), so thread control
	 * blocks may be read for tids: ub_image_identify() is worth calling. */
	bool trust_tid;

	/* Data part, in the target and here. */
	u64 data_address;
	struct ub_process *process; /* in the data part mapped here */

	struct ub_image_counting *counting;
	struct ub_image_tables *tables; /* image_tables.c */
};

/*
 * Whether the @sites, sorted by address, do not overlap and, once all are written, hold jumps that
 * lead where they shall: no byte that a jump is made of, its own or one of what follows it, may be
 * another's to change. @file: the file's bytes from a site's start on. -EINVAL: they do not, and
 * nothing may be written.
 */
int __must_check ub_jumps_check(const struct ub_site *sites, u32 nr,
				const u8 *(*file)(void *opaque, const struct ub_site *site,
						  u64 *available),
				void *opaque, struct ub_reason *why);
/* The move for @ip, or @ip itself. */
u64 ub_moves_find(const struct ub_move *moves, u32 nr, u64 ip);
/* Whether @ip lies in the image's code. */
bool ub_image_inside(const struct ub_image *image, u64 ip);
/* Whether the thread with this fs base and stack pointer is within a program (or code that the
 * program called, or a signal handler on top of it), by its guard. @on_altstack: sp can't be
 * compared with the guard's, so a set guard counts. */
bool ub_image_thread_inside(const struct ub_image *image, u64 fs_base, u64 sp, bool on_altstack);
/* Whether any thread at all may be. */
bool ub_image_has_guards(const struct ub_image *image);
/*
 * For the surgeon, with all threads stopped and before sites are written: finds out, and checks
 * with every thread, where thread control blocks hold the tid, and notes it for helpers. @mem:
 * /proc/PID/mem. @sharers: other processes run in this memory now. Without it (or where nothing
 * fits) helpers ask the kernel.
 */
struct ub_thread_identity {
	u64 fs_base;
	pid_t tid;
};
void ub_image_identify(const struct ub_image *image, int mem,
		       const struct ub_thread_identity *threads, u32 nr, u32 sharers);
/*
 * Returns in flight, when @new is about to take @old's place with all threads stopped
 * (image_inherit.c). The code in @new that runs at the return which @code, a continuation of @old
 * (agent/divert.c), waits for; 0: there is none.
 */
u64 ub_image_continuation(const struct ub_image *old, u64 code, const struct ub_image *new);
/* The return that @code waits for will not be seen: counts that, for @new's links. */
void ub_image_missed(const struct ub_image *old, u64 code, const struct ub_image *new);
/* Gives @new the notes of tail jumps that @old has. @inside: threads in @old's code, which may be
 * about to look at those close to their stack pointers. */
struct ub_thread_stack {
	u64 fs_base;
	u64 sp;
};
void ub_image_inherit_tails(const struct ub_image *old, const struct ub_image *new,
			    const struct ub_thread_stack *inside, u32 nr);
/* Where the surgeon notes how far it came: in the data part, mapped in the target and here. */
struct ub_site_state *ub_image_state(const struct ub_image *image);

#endif
