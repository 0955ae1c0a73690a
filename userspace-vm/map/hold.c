// SPDX-License-Identifier: MIT
/* Giving up what hits that never end have left. Freestanding. See the essay in hold.h. */
#include <map/hold.h>

#include <sys/uio.h>

#include <map/event_ring.h>
#include <map/pool.h>
#include <run/syscall.h>

#define PAGE 4096ull

static u64 frame_of(u64 word)
{
	return (word & ~UB_HOLD_USES) >> UB_HOLD_RUN_SHIFT;
}

/* Whether hold @i, whose run is @word, is of a hit that has been left, as far as that can be told by
 * looking at memory that is there for certain. (Whatever stands there by now.) */
static __attribute__((no_sanitize_address)) bool is_left(u64 word, u32 i, const struct ub_run *run)
{
	u64 frame = frame_of(word), mine = (u64)run, held = frame + offsetof(struct ub_run, held);

	if (frame == mine)
		return !(run->held >> i & 1);
	if (frame - mine < sizeof(*run) || mine - frame < sizeof(*run))
		return true;
	if (held % 8 || (held ^ (u64)&run->held) / PAGE)
		return false;
	return !(*(const volatile u64 *)held >> i & 1);
}

/* The same by the kernel, which may look at memory that is not there. */
static bool is_left_says_kernel(u64 word, u32 i, const struct ub_run *run)
{
	struct ub_run other;
	struct iovec to = { &other, sizeof(other) };
	struct iovec from = { (void *)frame_of(word), sizeof(other) };
	long pid = ub_syscall(run->process, SYS_getpid, 0, 0, 0, 0, 0, 0), ret;

	if (frame_of(word) == (u64)run || pid <= 0)
		return false;
	ret = ub_syscall(run->process, SYS_process_vm_readv, (u64)pid, (u64)&to, 1, (u64)&from, 1,
			 0);
	if (ret != sizeof(other))
		return ret == -EFAULT || ret > 0;
	/* What no hit changes while it goes on. */
	return !(other.held >> i & 1) || other.holds != run->holds ||
	       other.process != run->process || other.fs_base != run->fs_base;
}

/* Gives up what @hold says. False: the daemon can't be told now. */
static bool give_up(const struct ub_hold *hold, struct ub_run *run)
{
	const struct ub_map *map = (const struct ub_map *)hold->map;
	struct ub_event_ring *events = run->process->events;
	u64 *word = (u64 *)(hold->what & ~UB_HOLD_KIND);

	switch (hold->what & UB_HOLD_KIND) {
	case UB_HOLD_NODE(0):
		ub_pool_disown(map, (u32)(hold->what >> 3), hold->state);
		return !events || ub_event_tell(events, UB_EVENT_LEFT, map->attr.id, run);
	case UB_HOLD_RECORD(0):
		ub_event_give_up(word, hold->state, run);
		return true;
	case UB_HOLD_DRAIN(0):
		ub_atomic_cas(word, hold->state, 0);
		return true;
	default:
		return true;
	}
}

/* Makes hold @i @run's if its run still is @word. */
static bool make_own(u32 i, u64 word, struct ub_run *run)
{
	const u64 held = run->held;

	ub_hold_store(run->held, held | 1ull << i);
	if (ub_hold_swap(&run->holds->hold[i].run, word, ub_hold_word(run, word)))
		return true;
	ub_hold_store(run->held, held);
	return false;
}

void ub_hold_give_up_left(struct ub_run *run, bool ask)
{
	struct ub_holds *holds = run->holds;
	u64 more = holds->more;
	bool used = false;

	/* What shares our memory may share our holds: then nothing of them is believed. */
	if (run->process->vm_sharers || ub_hold_forked(run->process))
		return;
	for (u32 i = 0; i < UB_HOLDS; i++) {
		struct ub_hold *hold = &holds->hold[i];
		u64 word = *(volatile u64 *)&hold->run;

		if (ub_hold_in_use(word) &&
		    (ask ? is_left_says_kernel(word, i, run) : is_left(word, i, run)) &&
		    make_own(i, word, run)) {
			if (give_up(hold, run))
				ub_hold_free(i, run);
			else /* as left as it was */
				ub_hold_store(run->held, run->held & ~(1ull << i));
		}
		used |= i && ub_hold_in_use(hold->run);
	}
	/* Unless somebody has taken one since. */
	if (!used && more & 1)
		(void)ub_hold_swap(&holds->more, more, more + 1);
}

static u32 take_free(struct ub_run *run)
{
	struct ub_holds *holds = run->holds;

	for (u32 i = 0; i < UB_HOLDS; i++) {
		u64 word = *(volatile u64 *)&holds->hold[i].run, more = holds->more;

		if (ub_hold_in_use(word) || !make_own(i, word, run))
			continue;
		while (i && !ub_hold_swap(&holds->more, more, more + 1 + (more & 1)))
			more = holds->more;
		return i;
	}
	return UB_NO_HOLD;
}

u32 ub_hold_take_any(struct ub_run *run)
{
	u32 i;

	ub_hold_give_up_left(run, false);
	i = take_free(run);
	if (i != UB_NO_HOLD)
		return i;
	ub_hold_give_up_left(run, true);
	return take_free(run);
}

void ub_hold_drop_any(const struct ub_map *map, u64 what, struct ub_run *run)
{
	for (u32 i = 0; i < UB_HOLDS; i++) {
		const struct ub_hold *hold = &run->holds->hold[i];

		if (run->held >> i & 1 && hold->what == what && hold->map == (u64)map)
			ub_hold_free(i, run);
	}
}
