/* SPDX-License-Identifier: MIT */
/*
 * Seccomp filters of others. A filter may kill its process for a system call that it does not expect, and
 * whether it would can't be asked. Each thread has its own: threads inherit those of their maker, and may add
 * to them at any time, for themselves or for all.
 */
#ifndef UB_HOOK_FILTER_H
#define UB_HOOK_FILTER_H

#include <sys/types.h>

#include <common/types.h>

/* Whether a filter of the thread or process @proc (as "/proc/PID/task/TID") may keep system calls from being
 * made. @own_first: its first filter is the daemon's own and lets them pass. */
bool ub_filter_on(const char *proc, bool own_first);
/* The same for any thread of @pid. 10 to 20 us for each. */
bool ub_filter_on_any(pid_t pid, bool own_first);

#endif
