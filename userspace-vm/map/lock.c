// SPDX-License-Identifier: MIT
#include <map/lock.h>

#include <linux/time_types.h>
#include <time.h>

#include <map/thread.h>
#include <run/syscall.h>

#define ROUNDS		200
#define SPINS_PER_ROUND 100
/* Where others want the CPU each round takes as long as they do. */
#define PATIENCE_NS 100000000ull

/* Never zero, which is what a free lock holds. */
static u32 holder(struct ub_run *run)
{
	return ub_thread_id(run) | 1u << 31;
}

/* 0 where that can't be asked. */
static u64 now_ns(const struct ub_process *process)
{
	struct __kernel_timespec now;

	if (ub_syscall(process, SYS_clock_gettime, CLOCK_MONOTONIC, (u64)&now, 0, 0, 0, 0))
		return 0;
	return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

void ub_lock_acquire(u32 *lock, struct ub_run *run)
{
	const struct ub_process *process = run ? run->process : NULL;
	u32 me = holder(run);
	u64 end = 0;

	for (u32 i = 0; i < ROUNDS * SPINS_PER_ROUND; i++) {
		u32 free = 0;

		if (__atomic_compare_exchange_n(lock, &free, me, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
		if (i % SPINS_PER_ROUND != SPINS_PER_ROUND - 1)
			continue;
		if (!end)
			end = now_ns(process) + PATIENCE_NS;
		else if (now_ns(process) > end)
			break;
		ub_syscall(process, SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	__atomic_store_n(lock, me, __ATOMIC_RELEASE);
}

void ub_lock_release(u32 *lock, struct ub_run *run)
{
	u32 me = holder(run);

	__atomic_compare_exchange_n(lock, &me, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
