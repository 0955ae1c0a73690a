// SPDX-License-Identifier: MIT
/* Giving up what hits that never end have left. Freestanding. See the essay in hold.h. */
#include <map/hold.h>

#include <sys/uio.h>

#include <map/event_ring.h>
#include <map/pool.h>
#include <run/syscall.h>

#define PAGE 4096ull

static bool is_of(const struct ub_hold *hold, const struct ub_map *map, u64 what)
{
	return hold->run && what && hold->what == what && hold->map == (u64)map;
}

/* Whether hold @i is of a hit that has been left, as far as that can be told by looking at memory
 * that is there for certain. */
static bool is_left(const struct ub_hold *hold, u32 i, const struct ub_run *run)
{
	u64 frame = hold->run, mine = (u64)run, held = frame + offsetof(struct ub_run, held);

	/* What shares our memory may share our slot: then nothing of it is believed. */
	if (run->process->vm_sharers)
		return false;
	if (frame == mine)
		return !(run->held >> i & 1);
	if (frame - mine < sizeof(*run) || mine - frame < sizeof(*run))
		return true;
	if (held % 8 || (held ^ (u64)&run->held) / PAGE)
		return false;
	return !(*(const volatile u64 *)held >> i & 1);
}

/* The same by the kernel, which may look at memory that is not there. */
static bool is_left_says_kernel(const struct ub_hold *hold, u32 i, const struct ub_run *run)
{
	struct ub_run other;
	struct iovec to = { &other, sizeof(other) };
	struct iovec from = { (void *)hold->run, sizeof(other) };
	long pid = ub_syscall(run->process, SYS_getpid, 0, 0, 0, 0, 0, 0), ret;

	if (hold->run == (u64)run || pid <= 0 || run->process->vm_sharers)
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

u32 ub_hold_room(const struct ub_map *map, u64 what, struct ub_run *run)
{
	struct ub_holds *holds = run->holds;
	u32 room = UB_HOLDS;
	bool more = false;

	for (u32 pass = 0; pass < 2 && room == UB_HOLDS; pass++) {
		more = false;
		for (u32 i = 0; i < UB_HOLDS; i++) {
			struct ub_hold *hold = &holds->hold[i];

			if (hold->run &&
			    (pass ? is_left_says_kernel(hold, i, run) : is_left(hold, i, run)) &&
			    give_up(hold, run))
				ub_hold_free(hold);
			/* Who noted it before did not get it, or has lost it: it can be had. */
			if (is_of(hold, map, what) && (what & UB_HOLD_KIND) != UB_HOLD_DRAIN(0))
				ub_hold_free(hold);
			if (!hold->run && room == UB_HOLDS)
				room = i;
			more |= hold->run && i;
		}
	}
	ub_hold_store(holds->more, more || (room && room != UB_HOLDS));
	return room;
}

void ub_hold_got(const struct ub_map *map, u64 what, struct ub_run *run)
{
	struct ub_holds *holds = run ? run->holds : NULL;

	for (u32 i = 0; holds && i < UB_HOLDS; i++)
		if (is_of(&holds->hold[i], map, what) && holds->hold[i].run != (u64)run)
			ub_hold_free(&holds->hold[i]);
}

void ub_hold_drop_any(const struct ub_map *map, u64 what, struct ub_run *run)
{
	struct ub_holds *holds = run->holds;

	for (u32 i = 0; i < UB_HOLDS; i++) {
		struct ub_hold *hold = &holds->hold[i];

		if (!(run->held >> i & 1))
			continue;
		if (hold->run != (u64)run || is_of(hold, map, what)) {
			if (hold->run == (u64)run)
				ub_hold_free(hold);
			ub_hold_store(run->held, run->held & ~(1ull << i));
		}
	}
}
