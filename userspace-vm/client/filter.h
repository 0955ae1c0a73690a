/* SPDX-License-Identifier: MIT */
/*
 * The seccomp filter that brings a process's calls to the daemon.
 */
#ifndef UB_CLIENT_FILTER_H
#define UB_CLIENT_FILTER_H

#include <common/reason.h>

enum {
	UB_FILTER_AS_ROOT = 1 << 0,  /* geteuid() and getuid() say 0, prlimit() says done */
	UB_FILTER_BPF_ONLY = 1 << 1, /* nothing but bpf(2), for who serves the listener itself */
};

/* Sets no_new_privs and installs the filter on this thread, for good. Its listener, close-on-exec,
 * or -errno: -EBUSY where another listener is installed already; -EINVAL on a kernel that is too
 * old. */
int __must_check ub_filter_install(u32 flags, struct ub_reason *why);

/* Tries, in a child, whether a bpf(2) call under the filter really arrives. 0; -EBUSY: another
 * listener; -EPERM: a filter around us answers bpf(2) itself; -errno. */
int __must_check ub_filter_probe(struct ub_reason *why);

#endif
