/* SPDX-License-Identifier: MIT */
/*
 * Descriptors into a target's helper.
 *
 * A helper process in the target's memory (helper.c) makes a socketpair; we take one end with
 * pidfd_getfd(), send the memfds through it, and the helper receives and maps them. No path, no
 * name in any namespace, no privilege over being allowed to trace, nothing in the target's own
 * table of descriptors. Linux before 5.6 has no pidfd_getfd(), and containers forbid it: there the
 * helper connects to a socket of ours, whose name is abstract, so both must be in one network
 * namespace.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

/* Of whoever guesses our socket's name: the helper's own connection is told apart. */
#define BACKLOG 16

/* What the helper needs at ub_remote_arguments() to receive descriptors. */
struct exchange {
	union {
		s32 pair[2];
		struct sockaddr_un name;
	};
	struct msghdr msg;
	struct iovec iov;
	u64 byte;
	u8 control[CMSG_SPACE(UB_PASS_FDS * sizeof(int))];
};

_Static_assert(sizeof(struct exchange) <= UB_REMOTE_ARGUMENTS, "arguments fit");

/* One end of a socketpair of the helper's: -EPERM or -ENOSYS where pidfd_getfd() can't be had. */
static int take_socket(struct ub_target *t, int *end, s32 *socket, struct ub_reason *why)
{
	_cleanup_close_ int helper = syscall(SYS_pidfd_open, t->helper, 0);
	u64 at = ub_remote_arguments(t) + offsetof(struct exchange, pair);
	s32 pair[2];
	s64 result;
	int err;

	err = ub_remote_do(t, "socketpair", SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC,
			   0, at, 0, 0, &result, why);
	if (err)
		return err;
	err = ub_target_read(t, at, pair, sizeof(pair));
	if (err)
		return err;
	*end = syscall(SYS_pidfd_getfd, helper, pair[0], 0);
	if (*end < 0)
		return ub_reason_set(why, -errno, "cannot take a socket of process %d: %s", t->pid,
				     strerror(errno));
	*socket = pair[1];
	return 0;
}

/* A socket that listens, and its name, which the kernel chooses. */
static int listen_somewhere(struct sockaddr_un *name, socklen_t *size)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*name = (struct sockaddr_un) { .sun_family = AF_UNIX };
	*size = sizeof(*name);
	if (fd < 0 || bind(fd, (struct sockaddr *)name, sizeof(name->sun_family)) ||
	    getsockname(fd, (struct sockaddr *)name, size) || listen(fd, BACKLOG))
		return -errno;
	return TAKE_FD(fd);
}

/* The helper's connection among those that came: its socket, or -1. */
static int accept_helper(const struct ub_target *t, int listener)
{
	for (;;) {
		_cleanup_close_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		struct ucred peer;
		socklen_t size = sizeof(peer);

		if (fd < 0)
			return -1;
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.pid == t->helper)
			return TAKE_FD(fd);
	}
}

static int meet_helper(struct ub_target *t, int *end, s32 *socket, struct ub_reason *why)
{
	u64 at = ub_remote_arguments(t) + offsetof(struct exchange, name);
	struct sockaddr_un name;
	socklen_t size;
	_cleanup_close_ int listener = listen_somewhere(&name, &size);
	s64 result;
	int err;

	if (listener < 0)
		return ub_reason_set(why, listener, "cannot make a socket to meet process %d: %s",
				     t->pid, strerror(-listener));
	err = ub_target_write(t, at, &name, sizeof(name));
	if (!err)
		err = ub_remote_do(t, "socket", SYS_socket, AF_UNIX,
				   SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0, 0,
				   &result, why);
	if (err)
		return err;
	*socket = (s32)result;
	err = ub_remote_do(t, "connect", SYS_connect, *socket, at, size, 0, 0, 0, &result, why);
	if (err == -ECONNREFUSED)
		return ub_reason_set(
			why, err,
			"process %d is in another network namespace, and pidfd_getfd(2), which would "
			"do all the same, is forbidden here: run this in the process's container, or "
			"as root of the machine",
			t->pid);
	if (err)
		return err;
	*end = accept_helper(t, listener);
	return *end < 0 ? ub_reason_set(why, -EAGAIN, "process %d connected to somebody else",
					t->pid)
			: 0;
}

int ub_pass_begin(struct ub_target *t, int *end, s32 *socket, struct ub_reason *why)
{
	int err = take_socket(t, end, socket, why);

	if (err == -EPERM || err == -ENOSYS)
		err = meet_helper(t, end, socket, why);
	return err ? err : ub_fault(t, UB_FAULT_socketpair);
}

static int send_fds(int socket, const int *fds, u32 nr)
{
	u8 control[CMSG_SPACE(UB_PASS_FDS * sizeof(int))] = { 0 };
	char byte = 1;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	return sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Has the target receive what was sent. *got: how many arrived, also when it fails. */
static int receive_fds(struct ub_target *t, int socket, s32 *fds, u32 nr, u32 *got,
		       struct ub_reason *why)
{
	u64 base = ub_remote_arguments(t);
	struct exchange x = { 0 };
	struct cmsghdr *cmsg;
	s64 result;
	int err;

	*got = 0;
	x.iov = (struct iovec) { (void *)(base + offsetof(struct exchange, byte)), 1 };
	x.msg = (struct msghdr) {
		.msg_iov = (void *)(base + offsetof(struct exchange, iov)),
		.msg_iovlen = 1,
		.msg_control = (void *)(base + offsetof(struct exchange, control)),
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	err = ub_target_write(t, base, &x, sizeof(x));
	if (!err)
		err = ub_remote_do(t, "recvmsg", SYS_recvmsg, socket,
				   base + offsetof(struct exchange, msg),
				   MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0, 0, 0, &result, why);
	if (!err)
		err = ub_target_read(t, base, &x, sizeof(x));
	if (err)
		return err;
	cmsg = (struct cmsghdr *)x.control;
	if (x.msg.msg_controllen >= sizeof(*cmsg) && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_len > CMSG_LEN(0))
		*got = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (*got > nr)
		return -EBADMSG;
	memcpy(fds, x.control + CMSG_LEN(0), *got * sizeof(int));
	if (*got < nr)
		return ub_reason_set(why, -EMFILE,
				     "process %d has no free file descriptors (%u of %u arrived)",
				     t->pid, *got, nr);
	return ub_fault(t, UB_FAULT_received);
}

int ub_pass_fds(struct ub_target *t, int end, s32 socket, const int *fds, s32 *there, u32 nr,
		u32 *got, struct ub_reason *why)
{
	int err = send_fds(end, fds, nr);

	if (err)
		return ub_reason_set(why, err, "cannot pass descriptors to process %d: %s", t->pid,
				     strerror(-err));
	err = ub_fault(t, UB_FAULT_passed);
	return err ? err : receive_fds(t, socket, there, nr, got, why);
}
