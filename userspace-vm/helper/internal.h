/* SPDX-License-Identifier: MIT */
/* What helpers share: system calls without libc, and signatures. Internal to helper/; freestanding.
 */
#ifndef UB_HELPER_INTERNAL_H
#define UB_HELPER_INTERNAL_H

#include <helper/helper.h>
#include <map/cpu.h>
#include <map/map.h>
#include <map/mem.h>
#include <run/syscall.h>

#define HELPER(name) u64 ub_helper_##name(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run_)

/* System call @nr, or -ENOSYS where a filter of the target might kill for it. */
static inline long sys_call(const struct ub_run *run, long nr, u64 a1, u64 a2, u64 a3, u64 a4,
			    u64 a5, u64 a6)
{
	return ub_syscall(run ? run->process : NULL, nr, a1, a2, a3, a4, a5, a6);
}

/* The caller's thread id as the process itself sees it. */
u32 ub_run_tid(struct ub_run *run);

/* What process_vm_readv(2) takes for this very process. */
u32 ub_run_own_pid(struct ub_run *run);

/* Reads @size bytes at @address of this process. 0, or -EFAULT with @into untouched or half
 * written. */
int ub_memory_read(struct ub_run *run, void *into, u64 address, u64 size);

/*
 * Formats as the kernel's bpf_bprintf_prepare() and bstr_printf() into @out of @size bytes, NUL
 * included. Returns the length that all of it would have (without NUL), or -EINVAL for what the
 * kernel refuses.
 */
long ub_format(struct ub_run *run, char *out, u64 size, const char *fmt, u64 fmt_size,
	       const u64 *args, u32 nr_args);

#endif
