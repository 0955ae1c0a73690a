/* SPDX-License-Identifier: MIT */
/* What Linux tells of a process or thread in the files "status" and "stat" of its directory in
 * /proc. */
#ifndef UB_COMMON_PROC_H
#define UB_COMMON_PROC_H

#include <common/types.h>

/*
 * All of @proc/status ("/proc/PID", or a thread's directory there) into *text, for the caller to
 * free: a process in many groups has a long one. -ESRCH: there is no such process, or another
 * -errno.
 */
int __must_check ub_proc_status_read(const char *proc, char **text);
/* What stands behind "@key:" in such a text, to its end, or "". */
const char *ub_proc_status_field(const char *text, const char *key);
/* Both in one step, for a number with @base 10 or 16. -ENOENT: there is no such line, or as
 * above. */
int __must_check ub_proc_status(const char *proc, const char *key, int base, u64 *value);

#define UB_PROC_STAT_MAX 1024

/* All of @proc/stat into @text. -ESRCH: there is no such process, or another -errno. */
int __must_check ub_proc_stat_read(const char *proc, char text[UB_PROC_STAT_MAX]);
/* Where field @field of such a text begins, by its number in proc_pid_stat(5), from 3 on; or "". */
const char *ub_proc_stat_field(const char *text, int field);
/* When process @pid started, in clock ticks since the system did: with its number it is the
 * process's name for ever. 0: there is no such process. */
u64 ub_proc_start_time(int pid);
/* Whether the process of that number and start is there and has not ended: one that nobody has
 * waited for yet has. */
bool ub_proc_lives(int pid, u64 start_time);
/* Whether it is stopped, by a signal or a tracer: it does nothing until somebody continues it. */
bool ub_proc_stopped(int pid);

/* What names the pid namespace of @proc ("/proc/PID" or "/proc/self"). 0: that may not be known. */
u32 ub_proc_pid_namespace(const char *proc);

enum {
	UB_PROC_STAT_STATE = 3, /* one letter: R, S, D, T, Z, ... */
	UB_PROC_STAT_PARENT = 4,
	UB_PROC_STAT_FLAGS = 9, /* PF_* of the kernel */
	UB_PROC_STAT_START_TIME = 22,
};

#endif
