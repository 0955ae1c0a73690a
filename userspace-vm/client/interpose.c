// SPDX-License-Identifier: MIT
/*
 * syscall(), ioctl() and epoll_ctl(), as the executable (or the preloaded library) gives them to
 * every library in the process: until ub_interpose_start() exactly libc's, from then on the calls
 * that the userspace kernel knows are sent to the daemon, which reads and writes this process's
 * memory itself or, where it may not, has it copied here while this thread waits.
 *
 * One connection per process, one call on it at a time. A child that forked off finds out by its
 * pid and opens a connection of its own, to the same session.
 */
#include "interpose.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <client/client.h>
#include <common/cleanup.h>
#include <daemon/protocol.h>

#include "private.h"

/* Out of the way of descriptors that a tool counts on being the next. */
#define FIRST_FD 200

/* perf's ioctls are all of type '$'. */
#define IS_PERF_IOCTL(request) (((request)&0xff00) == ('$' << 8))

static struct {
	bool active;
	int sock; /* -1: the daemon is gone */
	pid_t pid;
	u64 session;
	void (*on_lost)(void); /* NULL: none, or called */
	u64 waited_ms;	       /* for the daemon, before that was given up; 0: it was not */
	pthread_mutex_t lock;
	u8 data[UB_MSG_MAX_DATA];
} state = { .sock = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

void ub_interpose_start(int sock, u64 session, void (*on_lost)(void))
{
	int high = fcntl(sock, F_DUPFD_CLOEXEC, FIRST_FD);

	if (high >= 0) {
		close(sock);
		sock = high;
	}
	state.sock = sock;
	state.session = session;
	state.on_lost = on_lost;
	state.pid = getpid();
	__atomic_store_n(&state.active, true, __ATOMIC_RELEASE);
}

bool ub_client_lost(struct ub_reason *why)
{
	struct pollfd peer = { .fd = state.sock };

	if (!state.active)
		return false;
	if (state.waited_ms) {
		ub_reason_set(
			why, -ENOSYS,
			"interrupted: the userspace kernel's daemon has not answered for %llu "
			"ms (is it stopped? `kill -CONT` the process ubpf-daemon)",
			(unsigned long long)state.waited_ms);
		return true;
	}
	if (state.sock >= 0 && (poll(&peer, 1, 0) != 1 || !(peer.revents & (POLLHUP | POLLERR))))
		return false;
	ub_reason_set(why, -ENOSYS, UB_CLIENT_LOST ": start the session again");
	return true;
}

static void lose_connection(void)
{
	close(state.sock);
	state.sock = -1;
}

/* The parent's connection is the parent's: replies on it would be stolen. */
static void reconnect_in_child(void)
{
	int sock;

	pthread_mutex_init(&state.lock, NULL);
	if (state.sock >= 0)
		lose_connection();
	state.pid = getpid();
	sock = ub_client_join(state.session, NULL);
	if (sock >= 0)
		state.sock = sock;
}

/* Copies within this process without ever faulting: 0 or -EFAULT. */
static int copy_own(u64 address, void *local, size_t size, bool write)
{
	struct iovec here = { local, size };
	struct iovec there = { (void *)(uintptr_t)address, size };
	long n = ub_raw_syscall(write ? SYS_process_vm_writev : SYS_process_vm_readv, state.pid,
				(long)&here, 1, (long)&there, 1, 0);

	return n == (long)size ? 0 : -EFAULT;
}

static int serve_copy(const struct ub_msg *msg, size_t size)
{
	struct ub_msg answer = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_COPIED };
	bool write = msg->type == UB_MSG_WRITE;
	u64 wanted = msg->words[1];
	int err;

	if (wanted > sizeof(state.data) || (write && size != wanted))
		return -EBADMSG;
	err = copy_own(msg->words[0], state.data, wanted, write);
	answer.words[0] = (u64)(s64)err;
	return ub_msg_send(state.sock, &answer, state.data, err || write ? 0 : wanted, -1);
}

/* Another file in the place of one of ours. */
static int serve_install(const struct ub_msg *msg, int fd)
{
	struct ub_msg answer = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_COPIED };

	if (fd < 0)
		return -EBADMSG;
	if (dup3(fd, (int)msg->words[0], (int)msg->words[1] & O_CLOEXEC) < 0)
		answer.words[0] = (u64)(s64)-errno;
	return ub_msg_send(state.sock, &answer, NULL, 0, -1);
}

/* What the daemon asks for meanwhile. */
static int serve(const struct ub_msg *msg, size_t size, int fd)
{
	switch (msg->type) {
	case UB_MSG_READ:
	case UB_MSG_WRITE:
		return serve_copy(msg, size);
	case UB_MSG_INSTALL:
		return serve_install(msg, fd);
	default:
		return -EBADMSG;
	}
}

/* 0 and *reply and *fd, or -errno: the connection is of no use any more. @file (-1: none) goes
 * along. */
static int exchange(const struct ub_msg *call, int file, struct ub_msg *reply, int *fd)
{
	size_t size;
	int err;

	err = ub_msg_send(state.sock, call, NULL, 0, file);
	while (!err) {
		err = ub_client_receive(state.sock, reply, state.data, sizeof(state.data), &size,
					fd, &state.waited_ms);
		if (err || reply->type == UB_MSG_REPLY)
			break;
		err = serve(reply, size, *fd);
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	return err;
}

/* The value a system call returns: a result or -errno. *@pass: let the real kernel have it. */
static long call_daemon(long nr, const long args[6], bool *pass)
{
	struct ub_msg reply, call = {
		.version = UB_PROTOCOL_VERSION,
		.type = UB_MSG_CALL,
		.words = { (u64)nr },
	};
	/* The daemon adds to it what it wakes, and may not always take it itself. */
	int file = nr == SYS_epoll_ctl && fcntl((int)args[0], F_GETFD) >= 0 ? (int)args[0] : -1;
	void (*on_lost)(void) = NULL;
	int fd = -1, err;

	*pass = false;
	for (int i = 0; i < 6; i++)
		call.words[1 + i] = (u64)args[i];
	if (state.pid != getpid())
		reconnect_in_child();
	pthread_mutex_lock(&state.lock);
	err = state.sock < 0 ? -ENOTCONN : exchange(&call, file, &reply, &fd);
	if (err && state.sock >= 0)
		lose_connection();
	if (err) {
		on_lost = state.on_lost;
		state.on_lost = NULL;
	}
	pthread_mutex_unlock(&state.lock);
	if (on_lost)
		on_lost();
	/* What a process under a seccomp listener sees when its supervisor is gone. */
	if (err)
		return -ENOSYS;
	*pass = reply.words[1] & 1;
	if (fd < 0)
		return (long)(s64)reply.words[0];
	/* It came with close-on-exec set. */
	if (!((reply.words[1] >> 32) & O_CLOEXEC))
		fcntl(fd, F_SETFD, 0);
	return fd;
}

void ub_interposed_show(long nr, long a1, long a2, long a3, long a4, long a5, long a6)
{
	const long args[6] = { a1, a2, a3, a4, a5, a6 };
	int saved = errno;
	bool pass;

	if (__atomic_load_n(&state.active, __ATOMIC_ACQUIRE))
		call_daemon(nr, args, &pass);
	errno = saved;
}

long ub_interposed_error(long value)
{
	if ((unsigned long)value >= (unsigned long)-4095L) {
		errno = (int)-value;
		return -1;
	}
	return value;
}

long ub_interposed_syscall(long nr, long a1, long a2, long a3, long a4, long a5, long a6)
{
	const long args[6] = { a1, a2, a3, a4, a5, a6 };
	bool ours = __atomic_load_n(&state.active, __ATOMIC_ACQUIRE) &&
		    (nr != SYS_ioctl || IS_PERF_IOCTL(a2));

	if (ours) {
		int saved = errno;
		bool pass;
		long value = call_daemon(nr, args, &pass);

		errno = saved;
		if (!pass)
			return ub_interposed_error(value);
	}
	return ub_interposed_error(ub_raw_syscall(nr, a1, a2, a3, a4, a5, a6));
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	long arg;

	va_start(args, request);
	arg = va_arg(args, long);
	va_end(args);
	return (int)ub_interposed_syscall(SYS_ioctl, fd, (long)request, arg, 0, 0, 0);
}

__attribute__((visibility("default"))) int epoll_ctl(int epfd, int op, int fd,
						     struct epoll_event *event)
{
	return (int)ub_interposed_syscall(SYS_epoll_ctl, epfd, op, fd, (long)event, 0, 0);
}
