// SPDX-License-Identifier: MIT
/* Helpers that tell the time. The vDSO needs no system call and no SSE. Freestanding. */
#include <helper/internal.h>

#include <linux/time.h>

#define NSEC_PER_SEC 1000000000ull

struct kernel_timespec {
	s64 tv_sec;
	s64 tv_nsec;
};

static u64 clock_ns(struct ub_run *run, s32 clock)
{
	struct kernel_timespec ts = { 0, 0 };
	u64 vdso = run && run->process ? run->process->vdso_clock_gettime : 0;

	if (vdso)
		((int (*)(s32, struct kernel_timespec *))vdso)(clock, &ts);
	else if (sys_call(run, SYS_clock_gettime, (u64)clock, (u64)&ts, 0, 0, 0, 0))
		return 0;
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

HELPER(ktime_get_ns)
{
	return clock_ns(run_, CLOCK_MONOTONIC);
}

HELPER(ktime_get_boot_ns)
{
	return clock_ns(run_, CLOCK_BOOTTIME);
}

HELPER(ktime_get_coarse_ns)
{
	return clock_ns(run_, CLOCK_MONOTONIC_COARSE);
}

HELPER(ktime_get_tai_ns)
{
	return clock_ns(run_, CLOCK_TAI);
}

/* The coarse clock's resolution is one tick; jiffies started five minutes before they wrap at 32
 * bits. */
HELPER(jiffies64)
{
	struct kernel_timespec tick = { 0, 0 };
	u64 hz;

	if (sys_call(run_, SYS_clock_getres, CLOCK_MONOTONIC_COARSE, (u64)&tick, 0, 0, 0, 0) ||
	    tick.tv_nsec <= 0)
		tick.tv_nsec = 4000000;
	hz = (NSEC_PER_SEC + (u64)tick.tv_nsec / 2) / (u64)tick.tv_nsec;
	return (1ull << 32) - 300 * hz +
	       clock_ns(run_, CLOCK_MONOTONIC_COARSE) / ((NSEC_PER_SEC + hz / 2) / hz);
}
