// SPDX-License-Identifier: MIT
/*
 * Which calls leave the process, and which do not.
 *
 * bpf(2), perf_event_open(2) and epoll_ctl(2) are told by number, ioctl(2) by its request: all of
 * perf's are of type '$', and no other ioctl costs more than the filter. open(2) is looked at for
 * the files by which tools ask about the kernel, poll(2), select(2) and mmap(2) of a shared file
 * for our files, which must be the right ones for each (kernel/poll.c). Everything of another
 * architecture (i386, x32) is left alone.
 *
 * WAIT_KILLABLE_RECV: once the daemon has taken a call, a signal no longer takes the caller out of
 * it, or the call would be made again, or its result be lost.
 */
#include "filter.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <common/cleanup.h>

#include "private.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define X32_BIT	     0x40000000
#define PROBE_CMD    0x7ffffff0 /* no such bpf(2) command */
#define PROBE_ANSWER 4711
#define PROBE_MS     60000

#define LOAD(field)	     BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(k, t, f)    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (t), (f))
#define IF_AT_LEAST(k, t, f) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (k), (t), (f))
#define RETURN(k)	     BPF_STMT(BPF_RET | BPF_K, (k))

/* No system call has this number: what stands here never matches. */
#define NONE 0x3fffffff

/* Looked at by the daemon whatever their arguments; bpf(2) first. */
static const u32 notified[] = {
	SYS_bpf,      SYS_perf_event_open, SYS_epoll_ctl, SYS_openat, SYS_open,	  SYS_statfs,
	SYS_readlink, SYS_readlinkat,	   SYS_poll,	  SYS_ppoll,  SYS_select, SYS_pselect6,
};

/* For tools that want to be root: their result is 0. */
static const u32 root_only[] = { SYS_geteuid, SYS_getuid, SYS_setrlimit, SYS_prlimit64 };

#define NR_NOTIFIED ub_array_size(notified)
#define NR_ROOT	    ub_array_size(root_only)

/* Where in the filter: the tests of one number each, those of arguments, and the three ends. */
enum {
	NUMBERS = 4,
	ROOT_NUMBERS = NUMBERS + NR_NOTIFIED,
	ARGUMENTS = ROOT_NUMBERS + NR_ROOT,
	ALLOW = ARGUMENTS + 10,
	NOTIFY,
	ZERO,
	FILTER_SIZE,
};

/* Jumps go over instructions. */
#define TO(target, from) ((u8)((target) - (from)-1))

static void make_filter(struct sock_filter *code, u32 flags)
{
	const u32 at = ARGUMENTS;
	const bool root = flags & UB_FILTER_AS_ROOT, all = !(flags & UB_FILTER_BPF_ONLY);
	const struct sock_filter start[] = {
		LOAD(arch),
		IF_EQUAL(AUDIT_ARCH_X86_64, 0, TO(ALLOW, 1)),
		LOAD(nr),
		IF_AT_LEAST(X32_BIT, TO(ALLOW, 3), 0),
	};
	const struct sock_filter end[] = {
		/* 0 */ IF_EQUAL(SYS_mmap, 0, 5),
		/* 1 */ LOAD(args[3]),
		/* 2: those of a fixed place may be our surgeon's, and must not be held */
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MAP_SHARED | MAP_PRIVATE | MAP_FIXED_NOREPLACE),
		/* 3 */ IF_EQUAL(MAP_SHARED, 0, TO(ALLOW, at + 3)),
		/* 4 */ LOAD(args[4]),
		/* 5 */ IF_EQUAL(0xffffffff, TO(ALLOW, at + 5), TO(NOTIFY, at + 5)),
		/* 6 */ IF_EQUAL(SYS_ioctl, 0, TO(ALLOW, at + 6)),
		/* 7 */ LOAD(args[1]),
		/* 8 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
		/* 9 */ IF_EQUAL('$' << 8, TO(NOTIFY, at + 9), TO(ALLOW, at + 9)),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_USER_NOTIF),
		/* An errno of 0 is a result of 0. */
		RETURN(SECCOMP_RET_ERRNO | 0),
	};

	memcpy(code, start, sizeof(start));
	for (u32 i = 0; i < NR_NOTIFIED; i++)
		code[NUMBERS + i] = (struct sock_filter)IF_EQUAL(i == 0 || all ? notified[i] : NONE,
								 TO(NOTIFY, NUMBERS + i), 0);
	for (u32 i = 0; i < NR_ROOT; i++)
		code[ROOT_NUMBERS + i] = (struct sock_filter)IF_EQUAL(
			root ? root_only[i] : NONE, TO(ZERO, ROOT_NUMBERS + i), 0);
	memcpy(code + ARGUMENTS, end, sizeof(end));
}

int ub_filter_install(u32 flags, struct ub_reason *why)
{
	struct sock_filter code[FILTER_SIZE];
	struct sock_fprog program = { ub_array_size(code), code };
	int fd;

	make_filter(code, flags);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return ub_reason_set(why, -errno, "no_new_privs: %s", strerror(errno));
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			  &program);
	if (fd >= 0)
		return fd;
	if (errno == EBUSY)
		return ub_reason_set(why, -EBUSY,
				     "this process is under another seccomp listener already");
	return ub_reason_set(why, -errno, "seccomp listener: %s (Linux 5.19 or later is needed)",
			     strerror(errno));
}

/* In a child of the process under the filter: what comes of a call? */
static void probe_call(void)
{
	long value = syscall(SYS_bpf, PROBE_CMD, NULL, 0);

	_exit(value == PROBE_ANSWER ? 0 : 1);
}

static int answer_probe(int listener)
{
	struct seccomp_notif_resp response = { .val = PROBE_ANSWER };
	struct seccomp_notif notif;

	memset(&notif, 0, sizeof(notif));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif))
		return -errno;
	response.id = notif.id;
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) ? -errno : 0;
}

/* In the process that gets the filter. The listener does not hang up when the call comes back by
 * itself (this process is under the filter too), so look at both. */
static int probe_here(void)
{
	int listener = ub_filter_install(UB_FILTER_BPF_ONLY, NULL);
	int status, err = -EPERM;
	pid_t caller;

	if (listener < 0)
		return listener;
	caller = fork();
	if (caller == 0)
		probe_call();
	if (caller < 0)
		return -errno;
	for (int waited = 0; waited < PROBE_MS; waited += 5) {
		struct pollfd ready = { .fd = listener, .events = POLLIN };

		if (poll(&ready, 1, 5) == 1 && (ready.revents & POLLIN)) {
			err = answer_probe(listener);
			break;
		}
		if (waitpid(caller, &status, WNOHANG) == caller)
			return -EPERM;
	}
	if (err)
		kill(caller, SIGKILL);
	waitpid(caller, &status, 0);
	return err ? err : WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPERM;
}

int ub_filter_probe(struct ub_reason *why)
{
	int status, err;
	pid_t pid = fork();

	if (pid < 0)
		return ub_reason_set(why, -errno, "fork: %s", strerror(errno));
	if (pid == 0)
		_exit(-probe_here() & 0xff);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return ub_reason_set(why, -errno, "waitpid: %s", strerror(errno));
	}
	err = WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
	switch (err) {
	case 0:
		return 0;
	case -EBUSY:
		return ub_reason_set(why, err,
				     "another seccomp listener is installed around this process");
	case -EPERM:
		return ub_reason_set(
			why, err,
			"a seccomp filter around this process answers bpf(2) itself (a "
			"container's default, for one)");
	default:
		return ub_reason_set(why, err, "seccomp listener: %s", strerror(-err));
	}
}
