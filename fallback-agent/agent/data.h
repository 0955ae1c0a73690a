/* SPDX-License-Identifier: MIT */
/*
 * An image's data part as C sees it: see layout.h.
 */
#ifndef UB_AGENT_DATA_H
#define UB_AGENT_DATA_H

#include <agent/layout.h>
#include <run/run.h>

/* One thread. Only that thread writes it once its key is claimed. */
struct ub_thread_slot {
	u64 key;   /* fs base + 1, 0 = free */
	u64 guard; /* stack pointer in the innermost trampoline that is active, 0 = none; stale once
		    * the thread's stack pointer is above it (siglongjmp out of a signal handler) */
	u64 counters; /* address of its counters in the target */
	u64 tails;    /* address of its struct ub_thread_tails in the target */
	u64 stack;    /* upper end of its stack for programs */
	u64 holds;    /* address of its struct ub_holds (map/hold.h) in the target */
	u64 reserved[2];
} __attribute__((aligned(64)));

/* Tail jumps out of functions whose return is probed, until the return: agent/tail.c. */
#define UB_MAX_TAILS 31
struct ub_thread_tails {
	u64 pending; /* entries in use */
	u64 reserved;
	struct {
		u64 place; /* stack address of the return address, 0 = free */
		u64 group; /* number of the link */
	} entries[UB_MAX_TAILS];
};

/*
 * Return addresses that were taken over, for functions that leave by jumps which nobody can follow:
 * agent/divert.c. Private memory of the process, so that a forked child has its own copy, with its
 * own copies of the stacks.
 */
#define UB_MAX_DIVERTS	4096
#define UB_MAX_CALLERS	255
#define UB_DIVERT_ENTRY 16   /* bytes of code that each entry's place on the stack leads to */
#define UB_DIVERT_BUSY	1ull /* in place: being filled */
#define UB_DIVERT_NEAR                                                                             \
	(256ull << 10) /* above a thread's sp: a place of its own stack, whoever's entry it is */
struct ub_divert {
	u64 place;	  /* where on the stack, 0 = free */
	u64 original;	  /* what stood there; kept when the entry is free */
	u64 continuation; /* code that runs the programs and returns */
	u64 thread;	  /* fs base */
};

struct ub_diverts {
	u64 code; /* of entry 0 */
	u32 pending;
	u32 nr_callers;
	u64 closed; /* by the surgeon: nobody looks for entries any more */
	/* Code to which a return address may lead for it to be taken over; sorted. */
	struct {
		u64 start;
		u64 end;
	} callers[UB_MAX_CALLERS];
	u64 process; /* address of struct ub_process */
	u64 reserved;
	struct ub_divert entries[UB_MAX_DIVERTS];
};

struct ub_hit_counters {
	u64 hits;
	u64 misses;
};

struct ub_data_header {
	u64 slots_end;
	u64 counters;
	u64 counters_stride;
	u64 holds;
	u64 tails;
	u64 stacks;
};

_Static_assert(sizeof(struct ub_process) <= UB_DATA_STATE, "ub_process has grown");
_Static_assert(sizeof(struct ub_thread_slot) == UB_SLOT_SIZE, "slot size");
_Static_assert(sizeof(struct ub_thread_tails) == UB_TAILS_SIZE, "tails size");
_Static_assert(offsetof(struct ub_thread_slot, stack) == UB_SLOT_STACK, "slot layout");
_Static_assert(UB_DATA_HEADER + offsetof(struct ub_data_header, stacks) == UB_DATA_STACKS,
	       "header layout");
_Static_assert(offsetof(struct ub_thread_slot, holds) == UB_SLOT_HOLDS, "slot layout");
_Static_assert(UB_HOLDS_SIZE == 1 << UB_HOLDS_SHIFT, "holds size");
_Static_assert(UB_DATA_HEADER + offsetof(struct ub_data_header, holds) == UB_DATA_HOLDS,
	       "header layout");
_Static_assert(offsetof(struct ub_thread_slot, tails) == UB_SLOT_TAILS, "slot layout");
_Static_assert(UB_DATA_HEADER + offsetof(struct ub_data_header, tails) == UB_DATA_TAILS,
	       "header layout");
_Static_assert(offsetof(struct ub_thread_slot, guard) == UB_SLOT_GUARD, "slot layout");
_Static_assert(offsetof(struct ub_thread_slot, counters) == UB_SLOT_COUNTERS, "slot layout");

#endif
