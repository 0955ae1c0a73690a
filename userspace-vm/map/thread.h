/* SPDX-License-Identifier: MIT */
/* Which thread this is. Freestanding. */
#ifndef UB_MAP_THREAD_H
#define UB_MAP_THREAD_H

#include <map/cpu.h>

static inline long ub_raw_syscall(long nr, u64 a1, u64 a2, u64 a3, u64 a4)
{
	register u64 r10 __asm__("r10") = a4;
	long ret = nr;

	__asm__ volatile("syscall"
			 : "+a"(ret)
			 : "D"(a1), "S"(a2), "d"(a3), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

/* The thread's id as the process itself sees it; the process's where no system call may be made and
 * the thread can't be told otherwise. @run NULL: not a program, but this very process. */
u32 ub_thread_id(const struct ub_run *run);

#endif
