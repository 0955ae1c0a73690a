/* SPDX-License-Identifier: MIT */
/*
 * In-process interposition: this process's calls to bpf(2) and its companions, made through libc,
 * sent to the daemon over a socket.
 */
#ifndef UB_CLIENT_INTERPOSE_H
#define UB_CLIENT_INTERPOSE_H

#include <common/types.h>

/* From now on calls go to the daemon at the other end of @sock, which has said hello and becomes
 * interpose's own. @session: for children that fork off and make calls themselves. @on_lost (or
 * NULL): called once in a process when a call finds that there is no daemon any more. */
void ub_interpose_start(int sock, u64 session, void (*on_lost)(void));

/* What libc's syscall() is here: to the daemon if it is ours and there is one. Sets errno. */
long ub_interposed_syscall(long nr, long a1, long a2, long a3, long a4, long a5, long a6);
/* Lets the daemon see a call that is made all the same: it may exchange the files that are waited
 * for or mapped. */
void ub_interposed_show(long nr, long a1, long a2, long a3, long a4, long a5, long a6);
/* A system call's result as a function's: -1 and errno for an error. */
long ub_interposed_error(long value);

/* The real kernel's answer: a result or -errno. */
long ub_raw_syscall(long nr, long a1, long a2, long a3, long a4, long a5, long a6);

#endif
