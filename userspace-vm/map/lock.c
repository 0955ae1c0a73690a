// SPDX-License-Identifier: MIT
#include <map/lock.h>

#include <map/thread.h>
#include <run/syscall.h>

#define ROUNDS		200
#define SPINS_PER_ROUND 100

/* Never zero, which is what a free lock holds. */
static u32 holder(struct ub_run *run)
{
	return ub_thread_id(run) | 1u << 31;
}

void ub_lock_acquire(u32 *lock, struct ub_run *run)
{
	const struct ub_process *process = run ? run->process : NULL;
	u32 me = holder(run);

	for (u32 i = 0; i < ROUNDS * SPINS_PER_ROUND; i++) {
		u32 free = 0;

		if (__atomic_compare_exchange_n(lock, &free, me, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
		if (i % SPINS_PER_ROUND == SPINS_PER_ROUND - 1)
			ub_syscall(process, SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	__atomic_store_n(lock, me, __ATOMIC_RELEASE);
}

void ub_lock_release(u32 *lock, struct ub_run *run)
{
	u32 me = holder(run);

	__atomic_compare_exchange_n(lock, &me, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
