/* SPDX-License-Identifier: MIT */
/*
 * System calls made in a process that runs programs, and the one place that asks whether it may be.
 * Freestanding.
 *
 * A seccomp filter may kill the process for a call that it knows nothing of. Who maps an image
 * looks for filters then (hook/filter.h), and goes on looking while it is there, and sets
 * no_syscalls: from then on nothing of ours makes any.
 */
#ifndef UB_RUN_SYSCALL_H
#define UB_RUN_SYSCALL_H

#include <errno.h>
#include <sys/syscall.h>

#include <run/run.h>

/* Whether @process (NULL: this very process, not a program in it) may be killed for a system
 * call. */
static inline bool ub_syscalls_forbidden(const struct ub_process *process)
{
	return process && __atomic_load_n(&process->no_syscalls, __ATOMIC_RELAXED);
}

/* What system call @nr returns, or -ENOSYS where it is not made. */
static inline long ub_syscall(const struct ub_process *process, long nr, u64 a1, u64 a2, u64 a3,
			      u64 a4, u64 a5, u64 a6)
{
	register u64 r10 __asm__("r10") = a4;
	register u64 r8 __asm__("r8") = a5;
	register u64 r9 __asm__("r9") = a6;
	long ret = nr;

	if (ub_syscalls_forbidden(process))
		return -ENOSYS;
	__asm__ volatile("syscall"
			 : "+a"(ret)
			 : "D"(a1), "S"(a2), "d"(a3), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#endif
