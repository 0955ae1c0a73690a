// SPDX-License-Identifier: MIT
#include <map/thread.h>

#include <run/syscall.h>

u32 ub_thread_id(const struct ub_run *run)
{
	const struct ub_process *process = run ? run->process : NULL;
	u64 base;

	if (process && process->tid_offset && !process->vm_sharers &&
	    !(process->fork_page && *(const volatile u64 *)process->fork_page != 1)) {
		base = ub_run_fs_base(run);
		if (base)
			return *(const volatile u32 *)(base + (u64)process->tid_offset);
	}
	if (ub_syscalls_forbidden(process))
		return process->own_tgid;
	return (u32)ub_syscall(process, SYS_gettid, 0, 0, 0, 0, 0, 0);
}
