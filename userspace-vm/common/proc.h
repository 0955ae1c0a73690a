/* SPDX-License-Identifier: MIT */
/* What Linux tells of a process or thread in the file "status" of its directory in /proc. */
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

#endif
