/* SPDX-License-Identifier: MIT */
/*
 * What can be known about a process without touching it: who it is, whether it can be a target,
 * which files it maps. Everything comes from /proc and a pidfd.
 */
#ifndef UB_LOADER_TRACEE_H
#define UB_LOADER_TRACEE_H

#include <limits.h>
#include <sys/types.h>

#include <common/reason.h>

/* A process, named so that its pid's next owner can't be taken for it. */
struct ub_tracee {
	pid_t pid;
	int pidfd;	/* owned; -1 = not open */
	u64 start_time; /* clock ticks after boot, for people: field 22 of /proc/PID/stat */
	uid_t uid;
	char comm[16];
};

/* Opens process @pid and refuses what can never be a target of either backend, with @why: no such
 * process, a thread's id, a kernel thread, a zombie, a 32-bit program, this very process. 0 or
 * -ESRCH, -EINVAL, -EOPNOTSUPP, -EPERM. */
int __must_check ub_tracee_open(pid_t pid, struct ub_tracee *target, struct ub_reason *why);
void ub_tracee_close(struct ub_tracee *target);

/* Whether the process exited (zombies included). */
bool ub_tracee_is_gone(const struct ub_tracee *target);

/* 0 if this process may operate on @target by ptrace, as far as can be told without trying; else
 * -EPERM or -EBUSY and @why names the owner or the tracer and what would help. */
int __must_check ub_tracee_may_trace(const struct ub_tracee *target, struct ub_reason *why);

struct ub_tracee_file {
	char path[PATH_MAX];  /* that this process can open */
	char shown[PATH_MAX]; /* as the target names it */
};

/*
 * The file that @name means in the target: "" its executable; a path, in its mount namespace; else
 * a library that it maps, "libc" standing for libc.so.6, libc-2.36.so or musl's loader. @symbol
 * (may be NULL): where no such library is mapped, the executable will do if it defines that
 * function (static programs). -ENOENT, -EACCES, -ESRCH.
 */
int __must_check ub_tracee_find_file(const struct ub_tracee *target, const char *name,
				     const char *symbol, struct ub_tracee_file *file,
				     struct ub_reason *why);

#endif
