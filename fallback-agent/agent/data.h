/* SPDX-License-Identifier: MIT */
/*
 * Layout of an image's data part, shared by the builder, the trampolines and the surgeon. It is mapped
 * shared in the target and in the daemon; the page before it is the target's private fork page.
 *
 *   -4096  fork page: word 0 is 1, and 0 in a forked child (MADV_WIPEONFORK)
 *	0  struct ub_process
 *   0x200  struct ub_site_state
 *   0x400  struct ub_thread_slot[nr_slots], one per thread that ever hit, keyed by fs base
 *     ...  struct ub_link_info, struct ub_map, tables of them
 *     ...  counters: for each slot, struct ub_hit_counters[nr_links], padded to whole cache lines
 */
#ifndef UB_AGENT_DATA_H
#define UB_AGENT_DATA_H

#include <program/run.h>

#define UB_DATA_FORK (-4096)
#define UB_DATA_STATE 0x200
#define UB_DATA_SLOTS 0x400
#define UB_SLOT_SHIFT 6
#define UB_SLOT_PROBES 64 /* slots looked at for a thread before it shares the last one */

/* One thread. Only that thread writes it (the shared last slot: atomically). */
struct ub_thread_slot {
	u64 key;   /* fs base, 0 = free */
	u64 guard; /* stack pointer in the outermost trampoline that is active, 0 = none; stale once the
		    * thread's stack pointer is above it */
	u64 counters; /* address of its counters in the target */
	u64 reserved[5];
} __attribute__((aligned(64)));

struct ub_hit_counters {
	u64 hits;
	u64 misses;
};

_Static_assert(sizeof(struct ub_process) <= UB_DATA_STATE, "ub_process has grown");
_Static_assert(sizeof(struct ub_thread_slot) == 1 << UB_SLOT_SHIFT, "slot size");

#endif
