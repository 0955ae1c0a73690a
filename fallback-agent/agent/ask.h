/* SPDX-License-Identifier: MIT */
/*
 * Whether the agent may make system calls.
 */
#ifndef UB_AGENT_ASK_H
#define UB_AGENT_ASK_H

#include <run/syscall.h>

/* In a forked child nobody knows what filters it puts itself under. */
static inline bool ub_agent_may_ask_kernel(const struct ub_process *process)
{
	return !ub_syscalls_forbidden(process) && *(const volatile u64 *)process->fork_page == 1;
}

#endif
