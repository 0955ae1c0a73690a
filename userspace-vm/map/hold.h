/* SPDX-License-Identifier: MIT */
/*
 * What a running program holds of a map's shared memory, and how it is found out that the program
 * never comes back for it. Internal to map/; freestanding.
 *
 * A signal handler may interrupt a hit between two instructions and leave by siglongjmp(): a node
 * that was taken and not linked yet, or a record that was reserved and not submitted, is then
 * nobody's, although its process and its thread live. So whoever takes something says so before it
 * does, in one of its thread's holds, and gives the hold back when it is done.
 *
 * What a hit that never ends has left is told from what one still holds that is merely interrupted
 * (by a handler which hits, too, or which has switched to another coroutine's stack) by the hit's
 * own frame: struct ub_run stands on the stack, and run->held says which of the thread's holds are
 * its. As long as the hit goes on, nobody else writes there. So a hold is left behind for certain
 * if
 *   - the frame that it names overlaps that of the hit which looks: which is how it goes when the
 *     same code is reached again as deep as before; or
 *   - the frame's run->held says otherwise: somebody has used that memory since. It may not be there
 *     any more, so it is looked at only in a page of our own, or by the kernel when there is no
 *     room for one more hold.
 * Nothing is concluded from one stack pointer being above another: there are several stacks.
 *
 * Who finds that (ub_hold_look(), before the thread's next hold) makes the hold its own, ends a
 * record as discarded, and of a node says that its owner is gone, and tells the daemon, which sweeps
 * the map.
 *
 * A thing may be noted before it is taken, so that no instant is without a hold, because the word
 * that says whose it is (a node's state, a record's header, a ring's drainer) says by which hold:
 * process, image, thread and the hold's number. While a hold stands nobody else writes what it
 * says, not even another hit of the same thread that is about to take the very same thing. So if
 * the compare-and-swap that gives the thing up succeeds, it was that hit's, and if the hit never
 * took it, it fails, whoever has it now. (A node may also be noted by who takes it out of the map,
 * in the state of who once put it in: to say that this one is gone does no harm then.)
 *
 * A thread's holds are written by that thread alone, by its hits and those which interrupt them
 * between any two instructions. Each step that decides something is one instruction, cmpxchg without
 * the lock prefix, on struct ub_hold.run, which also counts how often it was changed: who was
 * interrupted with an old value in hand fails.
 *
 *   take     run->held says so; free -> run	 whoever looks now finds a live hit's hold of nothing
 *   note     what it is, and in the end that it is something
 *   give up  run->held says so; left -> run	 the same hold, now ours: if we are left, too, the
 *	      next one finds it; then the thing itself; then free
 *   free     it says nothing; run -> free; run->held
 *
 * Two threads never have the same holds, with two exceptions, which take none: what they are
 * interrupted in is lost if they leave it.
 *   - A forked child until it has been cleaned: the memory of the holds is shared with its parent,
 *     whose thread pointer it has. It knows by the fork page.
 *   - Processes made by clone(CLONE_VM) with their parent's thread pointer: while the count of them
 *     (run.h: vm_sharers) isn't zero, nothing is given up. A vfork's child runs while its parent's
 *     thread does not, like a handler.
 * A child that was forked by a handler amid a hit goes on with a copy of that hit, which has taken
 * what its parent has taken. ub_hold_inherited() tells, for as long as that hit goes on, and then
 * nothing is linked, given back or committed: that is for the parent to do.
 *
 * Two things are not covered, and why:
 *   - A child that is forked by a handler between that look and the compare-and-swap behind it, a
 *     few instructions, makes the swap like its parent. Only one of the two succeeds, as both expect
 *     the same word; but the other, if it is the parent, takes the node for not linked and may link
 *     it once more or give it back. Only the kernel could stop the one of them that is in between,
 *     by a restartable sequence (rseq(2)): two more stores for every update of every process, and
 *     nothing at all where libc has not registered one. Neither is worth it for a process that
 *     forks in a signal handler and goes on in what the handler interrupted.
 *   - Children of clone(CLONE_VM) that run beside their parent with its thread pointer, where no
 *     program of the image asks for pids or makes records: nobody counts them there (hook/sharing.c),
 *     and their hits and their parent's share holds without knowing. Each still drops only what it
 *     has noted, and no frame that is alive is taken for one that was left, so what goes wrong
 *     is that something which is left meanwhile is not given back. Only if a handler has left a hit
 *     as well, and both come to give up its hold within the same few instructions, a node may be
 *     disowned while it is being linked. Swaps with a lock prefix would close that: some ten
 *     nanoseconds a hit for everybody, against a kind of child that can call hardly anything of
 *     libc; or counting for every image with an update in it, three more sites in libc's code.
 */
#ifndef UB_MAP_HOLD_H
#define UB_MAP_HOLD_H

#include <map/map.h>
#include <run/run.h>

#define UB_HOLDS   7
#define UB_NO_HOLD UB_HOLDS /* instead of a hold's number: there is none */

struct ub_hold {
	u64 run;   /* address of the hit's struct ub_run, 0: free; in the lower bits, uses */
	u64 map;   /* of a node: address of its struct ub_map */
	u64 what;  /* UB_HOLD_*, 0: nothing yet */
	u64 state; /* what the word that says whose it is holds when it is ours */
};

/* Times that a hold's run was changed, in the bits that an address does not need (it has 56 at most,
 * the last three of them clear). */
#define UB_HOLD_USES	  0x7ffull
#define UB_HOLD_RUN_SHIFT 8

/* One thread's, written by that thread alone. */
struct ub_holds {
	u64 more; /* odd: some but the first may be in use; counts its changes */
	struct ub_hold hold[UB_HOLDS];
	u64 reserved[3];
};

_Static_assert(sizeof(struct ub_holds) == UB_HOLDS_SIZE, "run.h says so to others");

/* The kind in the lower bits of what is held. */
#define UB_HOLD_KIND	     7ull
#define UB_HOLD_NODE(index)  ((u64)(index) << 3 | 1)
#define UB_HOLD_RECORD(word) ((u64)(word) | 2) /* address of an event record's header */
#define UB_HOLD_DRAIN(word)  ((u64)(word) | 3) /* address of a user ring buffer's drainer */

/* Number of the thread among its process's: no image has more slots. */
#define UB_HOLD_NUMBERS 4096u
static inline u32 ub_hold_number(const struct ub_run *run)
{
	return run && run->holds ? (u32)((u64)run->holds / UB_HOLDS_SIZE % UB_HOLD_NUMBERS) : 0;
}

/* What tells the images apart whose hits may be under way in a process at the same time: the one
 * that is there, and those that somebody is still inside of. */
#define UB_HOLD_IMAGES 8u
static inline u32 ub_hold_image(const struct ub_run *run)
{
	return run && run->process ? run->process->generation % UB_HOLD_IMAGES : 0;
}

#define ub_hold_store(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

/* Compare-and-swap among a thread and its own signal handlers. */
static inline bool ub_hold_swap(u64 *word, u64 old, u64 new)
{
	bool done;

	__asm__ volatile("cmpxchgq %3, %0"
			 : "+m"(*word), "+a"(old), "=@ccz"(done)
			 : "r"(new)
			 : "memory");
	return done;
}

static inline bool ub_hold_in_use(u64 word)
{
	return word > UB_HOLD_USES;
}

/* What comes after @word in a hold's run: @run's, or NULL: free. */
static inline u64 ub_hold_word(const struct ub_run *run, u64 word)
{
	return (u64)run << UB_HOLD_RUN_SHIFT | ((word + 1) & UB_HOLD_USES);
}

/* Whether this is a child that was forked from the process whose memory the holds are in. */
static inline bool ub_hold_forked(const struct ub_process *process)
{
	return process->fork_page && *(const volatile u64 *)process->fork_page != 1;
}

/* Whether what @run has noted is its parent's: it was forked amid this hit. */
static inline bool ub_hold_inherited(const struct ub_run *run)
{
	return run && run->held && ub_hold_forked(run->process);
}

u32 ub_hold_take_any(struct ub_run *run);
void ub_hold_give_up_left(struct ub_run *run, bool ask);
void ub_hold_drop_any(const struct ub_map *map, u64 what, struct ub_run *run);

/* A hold of nothing yet for @run: its number, or UB_NO_HOLD. */
static inline u32 ub_hold_take(struct ub_run *run)
{
	struct ub_hold *hold;
	u64 word;

	if (!run || !run->holds || ub_unlikely(ub_hold_forked(run->process)))
		return UB_NO_HOLD;
	hold = &run->holds->hold[0];
	word = hold->run;
	if (ub_unlikely(ub_hold_in_use(word) || run->holds->more & 1))
		return ub_hold_take_any(run);
	/* The first, and no other of them is this run's. */
	ub_hold_store(run->held, 1);
	if (ub_likely(ub_hold_swap(&hold->run, word, ub_hold_word(run, word))))
		return 0;
	ub_hold_store(run->held, 0);
	return ub_hold_take_any(run);
}

/* @run is about to take @what by hold @i, which may have noted something before that it did not
 * get. */
static inline void ub_hold_note(u32 i, const struct ub_map *map, u64 what, u64 state,
				struct ub_run *run)
{
	struct ub_hold *hold;

	if (i == UB_NO_HOLD)
		return;
	hold = &run->holds->hold[i];
	ub_hold_store(hold->what, 0);
	hold->map = (u64)map;
	hold->state = state;
	/* Nothing is said before all is: for handlers that interrupt here. */
	ub_hold_store(hold->what, what);
}

/* A hold for @what: its number, or UB_NO_HOLD. */
static inline u32 ub_hold_new(const struct ub_map *map, u64 what, u64 state, struct ub_run *run)
{
	u32 i = ub_hold_take(run);

	ub_hold_note(i, map, what, state, run);
	return i;
}

static inline void ub_hold_free(u32 i, struct ub_run *run)
{
	struct ub_hold *hold = &run->holds->hold[i];

	if (ub_unlikely(ub_hold_forked(run->process)))
		return;
	ub_hold_store(hold->what, 0);
	ub_hold_store(hold->run, ub_hold_word(NULL, hold->run));
	ub_hold_store(run->held, run->held & ~(1ull << i));
}

/* Hold @i is not needed: what it has noted, if anything, @run has given away or did not get. */
static inline void ub_hold_return(u32 i, struct ub_run *run)
{
	if (i != UB_NO_HOLD)
		ub_hold_free(i, run);
}

/* Where nothing is there to be held, perhaps for want of what was left behind. */
static inline void ub_hold_look(struct ub_run *run)
{
	if (run && run->holds && (ub_hold_in_use(run->holds->hold[0].run) || run->holds->more & 1))
		ub_hold_give_up_left(run, false);
}

/* Whatever hold @run has noted @what with: it has given it away, or did not get it. */
static inline void ub_hold_drop(const struct ub_map *map, u64 what, struct ub_run *run)
{
	if (!run || !run->held)
		return;
	if (ub_unlikely(run->held != 1 || run->holds->hold[0].what != what))
		ub_hold_drop_any(map, what, run);
	else
		ub_hold_free(0, run);
}

/* Whether @run has noted something of @map first of all: then the map is swept in any case. */
static inline bool ub_hold_covers(const struct ub_map *map, const struct ub_run *run)
{
	return run && run->held & 1 && run->holds->hold[0].map == (u64)map;
}

#endif
