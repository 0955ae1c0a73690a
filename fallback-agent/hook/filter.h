/* SPDX-License-Identifier: MIT */
/*
 * Seccomp filters of others. A filter may kill its process for a system call that it does not
 * expect, and whether it would can't be asked. Each thread has its own: threads inherit those of
 * their maker, and may add to them at any time, for themselves or for all.
 *
 * Not every filter is feared. In a container each process is under the engine's, we too. Filters
 * are inherited and never dropped, and Linux tells how many a process has. So where we have N, and
 * the nearest ancestor that we and a process have in common has N, the process began with just
 * ours: what it has beyond these is its own. (Where the engine itself, outside, is that ancestor,
 * the first process of each line has to have N.) Whether ours let pass what is made in targets we
 * can try on ourselves (surgeon/filters.c).
 */
#ifndef UB_HOOK_FILTER_H
#define UB_HOOK_FILTER_H

#include <sys/types.h>

#include <common/types.h>

/* How many filters of process @proc ("/proc/PID") are no matter: those that it shares with us, and,
 * if @own_first, one more, the daemon's own, which lets all pass. Up to a millisecond in a
 * container: once for a process. */
u32 ub_filters_harmless(const char *proc, bool own_first);
/* Whether a filter of the thread or process @proc (as "/proc/PID/task/TID") beyond @nr_harmless may
 * keep system calls from being made. */
bool ub_filter_on(const char *proc, u32 nr_harmless);
/* The same for any thread of @pid; threads under just @nr_passing filters are known to be let pass.
 * 10 to 20 us for each. */
bool ub_filter_on_any(pid_t pid, bool own_first, u32 nr_passing);
/* Whether we are under filters ourselves, which others may share. */
bool ub_filter_on_us(void);

#endif
