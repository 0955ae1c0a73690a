// SPDX-License-Identifier: MIT
/* Helpers on maps. Freestanding. */
#include <helper/internal.h>

#include <map/iterate.h>

HELPER(map_lookup_elem)
{
	return (u64)ub_map_lookup((struct ub_map *)r1, (const void *)r2, run_);
}

HELPER(map_update_elem)
{
	return (u64)ub_map_update((struct ub_map *)r1, (const void *)r2, (const void *)r3, r4,
				  run_);
}

HELPER(map_delete_elem)
{
	return (u64)ub_map_delete((struct ub_map *)r1, (const void *)r2, run_);
}

HELPER(map_push_elem)
{
	return (u64)ub_map_push_run((struct ub_map *)r1, (const void *)r2, r3, run_);
}

HELPER(map_pop_elem)
{
	return (u64)ub_map_pop((struct ub_map *)r1, (void *)r2);
}

HELPER(map_peek_elem)
{
	return (u64)ub_map_peek((struct ub_map *)r1, (void *)r2);
}

HELPER(map_lookup_percpu_elem)
{
	return (u64)ub_map_lookup_percpu((struct ub_map *)r1, (const void *)r2, (u32)r3);
}

HELPER(for_each_map_elem)
{
	struct ub_map *map = (struct ub_map *)r1;
	struct ub_map_iter iter = { 0 };
	u64 visited = 0;
	const void *key;
	void *value;

	if (r4)
		return (u64)-EINVAL;
	if (!ub_map_iterable(map))
		return (u64)-EINVAL;
	while (ub_map_iterate(map, &iter, &key, &value, run_)) {
		visited++;
		if (ub_run_callback(run_, r2, r1, (u64)key, (u64)value, r3))
			break;
	}
	return visited;
}

/*
 * A lock in shared memory whose holder may be dead or stopped. The wait is bounded: a program in
 * somebody's process never hangs for another; then the lock is taken over, and what it guards may
 * be seen half changed, as after the holder's death. Holders that were only preempted get the CPU
 * meanwhile. The word holds the holder's thread id, so that an unlock by one who has lost it frees
 * nothing.
 */
#define ROUNDS		200
#define SPINS_PER_ROUND 100

HELPER(spin_lock)
{
	u32 *lock = (u32 *)r1, me = ub_run_tid(run_) | 1u << 31;

	for (u32 i = 0; i < ROUNDS * SPINS_PER_ROUND; i++) {
		u32 free = 0;

		if (__atomic_compare_exchange_n(lock, &free, me, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return 0;
		__builtin_ia32_pause();
		if (i % SPINS_PER_ROUND == SPINS_PER_ROUND - 1)
			sys_call(run_, SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	__atomic_store_n(lock, me, __ATOMIC_RELEASE);
	return 0;
}

HELPER(spin_unlock)
{
	u32 *lock = (u32 *)r1, me = ub_run_tid(run_) | 1u << 31;

	__atomic_compare_exchange_n(lock, &me, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	return 0;
}
