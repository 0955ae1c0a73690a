/* SPDX-License-Identifier: MIT */
/*
 * What /proc says about a process. Everything here can be out of date when it returns: hold a pidfd
 * and look again where that matters.
 */
#ifndef UB_DAEMON_PROCFS_H
#define UB_DAEMON_PROCFS_H

#include <sys/types.h>

#include <common/types.h>

struct ub_procfs_status {
	pid_t tgid;
	pid_t parent;
	uid_t uid; /* real */
	gid_t gid;
	char state;	 /* 'Z': zombie, 'X': dead */
	bool has_memory; /* false: kernel thread or zombie */
	char comm[16];
};

/* @pid may be a thread's id. 0 or -ESRCH. */
int __must_check ub_procfs_status(pid_t pid, struct ub_procfs_status *status);

/* The process's tracer, 0: none. Takes no memory: another thread may fork meanwhile, and a
 * sanitizer's allocator would be locked in the child. */
pid_t ub_procfs_tracer(pid_t pid);

/* Start time in clock ticks since boot: with the pid, a name that is not used again. 0 or -ESRCH.
 */
int __must_check ub_procfs_start_time(pid_t pid, u64 *ticks);

/* The process's command line with blanks between arguments, "" where it has none. */
void ub_procfs_command(pid_t pid, char *text, size_t size);

/* A file that a process has mapped. */
struct ub_procfs_file {
	dev_t dev; /* as /proc/PID/maps says: differs from st_dev on some file systems */
	ino_t ino;
	const char *path; /* in the process's mount namespace */
};

/* Calls @fn for each run of mappings of the same file, until it returns nonzero, which is returned;
 * 0 at the end, or -errno. */
int ub_procfs_files(pid_t pid, int (*fn)(void *opaque, const struct ub_procfs_file *file),
		    void *opaque);

/* Whether @pid has the file (@dev, @ino as stat() reports them) mapped: 1, 0 or -errno. */
int ub_procfs_maps_file(pid_t pid, dev_t dev, ino_t ino);

/* The number of the process or thread that was made last, 0 where that can't be known: while it
 * stays the same, nobody new has come. */
u64 ub_procfs_last_pid(void);
/* Pages that a process has mapped; 0: it has ended. */
u64 ub_procfs_pages(pid_t pid);

/* Number of possible CPUs: per-CPU values exist for each. At least 1. */
u32 ub_procfs_possible_cpus(void);

#endif
