// SPDX-License-Identifier: MIT
/*
 * A client's socket. Who is at the other end is what the kernel says (SO_PEERCRED), and only this
 * user and root are served. Anything out of order ends the connection, and with it what it held.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <common/cleanup.h>

#include "targets.h"

struct connection {
	struct connection *next;
	struct ub_daemon *daemon;
	struct session *session; /* NULL until hello, and for UB_HELLO_ASK */
	struct ub_watch *watch;
	struct caller caller;
	int sock;
	u32 kind; /* 0: no hello yet */
};

void ub_daemon_connection_free(struct connection *connection)
{
	struct ub_daemon *daemon = connection->daemon;
	struct connection **at;

	for (at = &daemon->connections; *at && *at != connection; at = &(*at)->next)
		;
	if (*at)
		*at = connection->next;
	if (connection->session) {
		if (connection->session->notes == connection)
			connection->session->notes = NULL;
		ub_daemon_session_leave(connection->session);
	}
	ub_watch_remove(connection->watch);
	ub_daemon_caller_deinit(&connection->caller);
	close(connection->sock);
	free(connection);
	ub_daemon_check_idle(daemon);
}

void ub_daemon_connection_note(struct connection *connection, const char *text)
{
	struct ub_msg msg = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_NOTE };

	/* A reader that lets its socket fill up misses lines; nobody waits for it. */
	if (ub_msg_send(connection->sock, &msg, text, strlen(text), -1))
		return;
}

void ub_daemon_connection_over(struct connection *connection)
{
	struct ub_msg msg = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_OVER };

	/* Told to go, we leave tools behind that go on: that is no end of theirs. */
	if (!connection->daemon->told_to_go && ub_msg_send(connection->sock, &msg, NULL, 0, -1))
		ub_daemon_log(connection->daemon, "a session's end could not be told");
	ub_daemon_connection_free(connection);
}

/* Whether the answer depends on what comes of an operation on processes, any of which may be a tool
 * that has a call out. */
static bool may_operate(const struct ub_call *call)
{
	switch (call->nr) {
	case SYS_ioctl:
		return true;
	case SYS_bpf:
		return call->args[0] == BPF_LINK_CREATE || call->args[0] == BPF_LINK_UPDATE ||
		       call->args[0] == BPF_LINK_DETACH;
	default:
		return false;
	}
}

void ub_daemon_call(struct ub_daemon *daemon, struct caller *caller, const struct ub_call *call,
		    bool held, struct ub_reply *reply)
{
	*reply = (struct ub_reply) { .fd = -1 };
	if (ub_daemon_file_call(daemon, caller, call, reply))
		return;
	if (may_operate(call))
		ub_daemon_listeners_quiet(daemon);
	if (held)
		ub_daemon_targets_hold(daemon->targets, caller->base.pid);
	ub_kernel_call(daemon->kernel, &caller->base, call, reply);
	ub_daemon_targets_flush(daemon->targets);
}

static int reply(struct connection *connection, s64 value, u64 word1, u64 word2, int fd)
{
	struct ub_msg msg = {
		.version = UB_PROTOCOL_VERSION,
		.type = UB_MSG_REPLY,
		.words = { (u64)value, word1, word2 },
	};

	return ub_msg_send(connection->sock, &msg, NULL, 0, fd);
}

static int begin_session(struct connection *connection, const struct ub_msg *msg, const void *data,
			 size_t size)
{
	struct ub_daemon *daemon = connection->daemon;
	const struct ub_caller *peer = &connection->caller.base;
	struct session *session;
	u64 nr = msg->words[1];
	int err;

	if (msg->words[0] == UB_HELLO_MEMBER) {
		session = ub_daemon_session_find(daemon, msg->words[2]);
		if (!session || session->uid != peer->uid)
			return -ENOENT;
		ub_daemon_session_enter(session);
	} else {
		if (nr > size / sizeof(s32))
			return -EBADMSG;
		session = ub_daemon_session_new(daemon, peer->pid, peer->uid, peer->gid);
		if (!session)
			return -ENOMEM;
		err = ub_daemon_session_set_pids(session, data, (u32)nr);
		if (err) {
			ub_daemon_session_put(session);
			return err;
		}
		ub_daemon_session_enter(session);
		ub_daemon_session_put(session);
	}
	connection->session = session;
	connection->caller.base.session = session->id;
	return 0;
}

static int hello(struct connection *connection, const struct ub_msg *msg, const void *data,
		 size_t size, int *fd)
{
	struct ub_daemon *daemon = connection->daemon;
	u64 kind = msg->words[0];
	int err = 0;

	if (connection->kind || kind < UB_HELLO_CALLER || kind > UB_HELLO_MEMBER)
		return -EBADMSG;
	if ((kind == UB_HELLO_LISTENER) != (*fd >= 0))
		return -EBADMSG;
	if (kind != UB_HELLO_ASK)
		err = begin_session(connection, msg, data, size);
	if (!err && kind == UB_HELLO_LISTENER) {
		connection->session->notes = connection;
		err = ub_daemon_listener_new(daemon, connection->session, *fd);
		if (!err)
			*fd = -1;
	}
	connection->kind = (u32)kind;
	if (err) {
		if (reply(connection, err, 0, 0, -1))
			return err;
		return err;
	}
	return reply(connection, 0, (u64)daemon->guard_pid,
		     connection->session ? connection->session->id : 0, -1);
}

static int epoll_file_that_came(struct ub_caller *base)
{
	const struct caller *caller = base->opaque;
	int fd = fcntl(caller->came_fd, F_DUPFD_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int serve_call(struct connection *connection, const struct ub_msg *msg, int fd)
{
	struct ub_call call = { .nr = (int)msg->words[0] };
	struct ub_reply answer;
	int err;

	if (connection->kind != UB_HELLO_CALLER && connection->kind != UB_HELLO_MEMBER)
		return -EBADMSG;
	memcpy(call.args, &msg->words[1], sizeof(call.args));
	ub_daemon_caller_begin(&connection->caller, connection->caller.tid,
			       connection->caller.base.call_id + 1);
	connection->caller.came_fd = fd;
	ub_daemon_call(connection->daemon, &connection->caller, &call, false, &answer);
	err = reply(connection, answer.value, answer.pass | ((u64)answer.fd_flags << 32), 0,
		    answer.fd);
	/* Undelivered, the descriptor goes here, and its object with it. */
	if (answer.fd >= 0)
		close(answer.fd);
	return err;
}

static int serve_ask(struct connection *connection, const char *text, size_t size)
{
	_cleanup_free_ char *answer = NULL;
	const char *at;
	size_t left;

	ub_daemon_listeners_quiet(connection->daemon);
	answer = ub_daemon_request_answer(connection->daemon, text, size);
	at = answer;
	left = answer ? strlen(answer) : 0;
	if (!answer)
		return -ENOMEM;
	do {
		size_t part = left < UB_MSG_MAX_DATA ? left : UB_MSG_MAX_DATA;
		struct ub_msg msg = {
			.version = UB_PROTOCOL_VERSION,
			.type = UB_MSG_ANSWER,
			.words = { left > part },
		};
		int err = ub_msg_send(connection->sock, &msg, at, part, -1);

		if (err)
			return err;
		at += part;
		left -= part;
	} while (left);
	return 0;
}

static void on_message(void *opaque, u32 events)
{
	struct connection *connection = opaque;
	static u8 data[UB_MSG_MAX_DATA];
	_cleanup_close_ int fd = -1;
	struct ub_msg msg;
	size_t size;
	int err;

	err = ub_msg_recv(connection->sock, &msg, data, sizeof(data), &size, &fd);
	if (err == -EAGAIN)
		return;
	if (!err) {
		switch (msg.type) {
		case UB_MSG_HELLO:
			err = hello(connection, &msg, data, size, &fd);
			break;
		case UB_MSG_CALL:
			err = serve_call(connection, &msg, fd);
			break;
		case UB_MSG_ASK:
			err = connection->kind ? serve_ask(connection, (const char *)data, size)
					       : -EBADMSG;
			break;
		default:
			err = -EBADMSG;
		}
	}
	if (err)
		ub_daemon_connection_free(connection);
}

int ub_daemon_connection_new(struct ub_daemon *daemon, int sock)
{
	struct connection *connection;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int pidfd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return -errno;
	if (peer.uid != daemon->uid && peer.uid != 0)
		return -EPERM;
	pidfd = peer.pid > 0 ? (int)syscall(SYS_pidfd_open, peer.pid, 0) : -1;
	if (pidfd < 0)
		return -ESRCH;
	connection = calloc(1, sizeof(*connection));
	if (!connection) {
		close(pidfd);
		return -ENOMEM;
	}
	connection->daemon = daemon;
	connection->sock = sock;
	ub_daemon_caller_init(&connection->caller, peer.pid, pidfd, peer.uid, peer.gid, 0);
	connection->caller.sock = sock;
	connection->caller.base.epoll_file = epoll_file_that_came;
	connection->watch =
		ub_loop_watch(daemon->loop, sock, EPOLLIN | EPOLLRDHUP, on_message, connection);
	if (!connection->watch) {
		int err = -errno;

		close(pidfd);
		free(connection);
		return err;
	}
	connection->next = daemon->connections;
	daemon->connections = connection;
	return 0;
}
