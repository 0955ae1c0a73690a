/* SPDX-License-Identifier: MIT */
/*
 * What a running program holds of a map's shared memory, and how it is found out that the program
 * never comes back for it. Internal to map/; freestanding.
 *
 * A signal handler may interrupt a hit between two instructions and leave by siglongjmp(): a node
 * that was taken and not linked yet, or a record that was reserved and not submitted, is then
 * nobody's, although its process and its thread live. So whoever takes something says so before it
 * does, in its thread's struct ub_holds, and takes that back when it is done.
 *
 * What a hit that never ends has left is told from what one still holds that is merely interrupted
 * (by a handler which hits, too, or which has switched to another coroutine's stack) by the hit's own
 * frame: struct ub_run stands on the stack, and run->held says which of the thread's holds are
 * its. As long as the hit goes on, nobody else writes there. So a hold is left behind for certain if
 *   - the frame that it names overlaps that of the hit which looks: which is how it goes when the
 *     same code is reached again as deep as before; or
 *   - the frame's run->held says otherwise: somebody has used that memory since. It may not be there
 *     any more, so it is looked at only in a page of our own, or by the kernel when there is no
 *     room for one more hold.
 * Nothing is concluded from one stack pointer being above another: there are several stacks.
 *
 * Who finds that (ub_hold_room(), for the thread's next hold) ends a record as discarded, and of a
 * node says that its owner is gone, and tells the daemon, which sweeps the map. That the words say
 * what the hold says, thread number and generation included, is checked by the compare-and-swap that
 * changes them: so a hold may be noted before the thing is taken, and no instant is without one.
 */
#ifndef UB_MAP_HOLD_H
#define UB_MAP_HOLD_H

#include <map/map.h>
#include <run/run.h>

#define UB_HOLDS 7

struct ub_hold {
	u64 run;   /* address of the hit's struct ub_run, 0: free */
	u64 map;   /* of a node: address of its struct ub_map */
	u64 what;  /* UB_HOLD_*, 0: nothing yet */
	u64 state; /* what the word that says whose it is holds when it is ours */
};

/* One thread's, written by that thread alone. */
struct ub_holds {
	u64 more; /* some but the first may be in use */
	struct ub_hold hold[UB_HOLDS];
	u64 reserved[3];
};

_Static_assert(sizeof(struct ub_holds) == UB_HOLDS_SIZE, "run.h says so to others");

/* The kind in the lower bits of what is held. */
#define UB_HOLD_KIND	     7ull
#define UB_HOLD_NODE(index)  ((u64)(index) << 3 | 1)
#define UB_HOLD_RECORD(word) ((u64)(word) | 2) /* address of an event record's header */
#define UB_HOLD_DRAIN(word)  ((u64)(word) | 3) /* address of a user ring buffer's drainer */

/* Number of the thread among its process's, as far as it is told apart by one: with the process it
 * makes what a thread writes into a word its own. */
#define UB_HOLD_NUMBERS 4096u
static inline u32 ub_hold_number(const struct ub_run *run)
{
	return run && run->holds ? (u32)((u64)run->holds / UB_HOLDS_SIZE % UB_HOLD_NUMBERS) : 0;
}

/* Gives up what others of the thread's hits have left, and finds room for a hold of @what: its
 * number, or UB_HOLDS. @what 0: for none. */
u32 ub_hold_room(const struct ub_map *map, u64 what, struct ub_run *run);
/* @run has got what can't be had twice: what others of the thread noted of it is nothing. */
void ub_hold_got(const struct ub_map *map, u64 what, struct ub_run *run);
void ub_hold_drop_any(const struct ub_map *map, u64 what, struct ub_run *run);

#define ub_hold_store(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

/* @run is about to take @what. */
static inline void ub_hold_note(const struct ub_map *map, u64 what, u64 state, struct ub_run *run)
{
	struct ub_hold *hold;
	u64 held = 1;

	if (!run || !run->holds)
		return;
	hold = &run->holds->hold[0];
	if (ub_unlikely(hold->run | run->holds->more)) {
		u32 i = ub_hold_room(map, what, run);

		if (i == UB_HOLDS)
			return;
		hold = &run->holds->hold[i];
		held = run->held | 1ull << i;
	}
	/* In this order, for handlers that interrupt here: only what has a run is in use, and says
	 * nothing before it says all. */
	ub_hold_store(run->held, held);
	ub_hold_store(hold->run, (u64)run);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	hold->map = (u64)map;
	hold->state = state;
	ub_hold_store(hold->what, what);
}

static inline void ub_hold_free(struct ub_hold *hold)
{
	ub_hold_store(hold->what, 0);
	ub_hold_store(hold->run, 0);
}

/* Where nothing is there to be held, perhaps for want of what was left behind. */
static inline void ub_hold_look(struct ub_run *run)
{
	if (run && run->holds && run->holds->hold[0].run | run->holds->more)
		(void)ub_hold_room(NULL, 0, run);
}

/* @run has given @what away, or did not get it. */
static inline void ub_hold_drop(const struct ub_map *map, u64 what, struct ub_run *run)
{
	if (!run || !run->held)
		return;
	if (ub_unlikely(run->held != 1 || run->holds->hold[0].what != what)) {
		ub_hold_drop_any(map, what, run);
		return;
	}
	ub_hold_free(&run->holds->hold[0]);
	ub_hold_store(run->held, 0);
}

/* Whether @run has noted something of @map first of all: then the map is swept in any case. */
static inline bool ub_hold_covers(const struct ub_map *map, const struct ub_run *run)
{
	return run && run->held & 1 && run->holds->hold[0].map == (u64)map;
}

#endif
