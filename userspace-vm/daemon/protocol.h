/* SPDX-License-Identifier: MIT */
/*
 * What client and daemon say to each other over a UNIX seqpacket socket. One message per packet: a
 * fixed head, then up to UB_MSG_MAX_DATA bytes, and at most one file descriptor.
 *
 *   client                       daemon
 *   HELLO kind, pids [fd]   ->                    first message of every connection
 *                           <-   REPLY 0, guard's pid, session id
 *   CALL nr, args [fd]      ->                    a system call (kind UB_HELLO_CALLER); fd: the set of an
 *                                                 epoll_ctl()
 *                           <-   READ addr, size     only where the daemon may not read the
 * client's COPIED 0|-errno, data   ->                       memory itself
 *                           <-   WRITE addr, data
 *   COPIED 0|-errno         ->
 *                           <-   INSTALL number, flags, fd    only of a call that waits for files, or maps one
 *   COPIED 0|-errno         ->
 *                           <-   REPLY value, pass [fd]
 *   ASK json                ->                    a request of a command (any kind)
 *                           <-   ANSWER more, json   as many as it takes, the last with more = 0
 *                           <-   NOTE text           (kind UB_HELLO_LISTENER) for the user's terminal
 *                           <-   OVER                (kind UB_HELLO_LISTENER) nobody is under the listener
 *                                                    any more; an end without it is the daemon's own
 *
 * Both sides treat what they receive as hostile.
 */
#ifndef UB_DAEMON_PROTOCOL_H
#define UB_DAEMON_PROTOCOL_H

#include <sys/types.h>

#include <common/types.h>

#define UB_PROTOCOL_VERSION 1
#define UB_MSG_MAX_DATA	    32768

/* In a daemon's environment: the one before it was killed with its guard, and there may be targets
 * to clean. */
#define UB_DAEMON_REPAIR "UBPF_DAEMON_REPAIR"

enum ub_msg_type {
	UB_MSG_HELLO = 1, /* words: kind, number of pids (data: s32 each) */
	UB_MSG_CALL,	  /* words: nr, args[6] */
	UB_MSG_REPLY, /* words: value (s64), 1 = pass to the real kernel; after HELLO: value, guard,
			 session */
	UB_MSG_READ,  /* words: address, size */
	UB_MSG_WRITE, /* words: address, size; data */
	UB_MSG_COPIED,	/* words: 0 or -errno; data */
	UB_MSG_ASK,	/* data: JSON */
	UB_MSG_ANSWER,	/* words: more to come; data: JSON */
	UB_MSG_NOTE,	/* data: a line for people */
	UB_MSG_INSTALL, /* words: number, O_CLOEXEC or 0; and the file that it shall be */
	UB_MSG_OVER,	/* the last of a session that ended by itself */
};

enum ub_hello_kind {
	UB_HELLO_CALLER = 1, /* calls come over this socket: in-process interposition */
	UB_HELLO_LISTENER,   /* the fd is a seccomp listener: calls of the processes under it */
	UB_HELLO_ASK,	     /* no calls, only ASK */
	UB_HELLO_MEMBER, /* as CALLER, in the session of word 2 (a tool under the preload library)
			  */
};

struct ub_msg {
	u32 version;
	u32 type;
	u64 words[8];
};

/* Sends one message with @size bytes of @data and @fd (-1: none). 0 or -errno; -EAGAIN only on a
 * nonblocking socket. Never raises SIGPIPE. */
int __must_check ub_msg_send(int sock, const struct ub_msg *msg, const void *data, size_t size,
			     int fd);

/* Receives one message: *size <= @capacity bytes of data and, if @fd is not NULL, *fd (-1: none,
 * else the caller's to close, close-on-exec). 0; -ECONNRESET: the peer is gone; -EBADMSG: too
 * short, too long or of another version; -EAGAIN; never -EINTR. */
int __must_check ub_msg_recv(int sock, struct ub_msg *msg, void *data, size_t capacity,
			     size_t *size, int *fd);

/* Takes the lock over starting and ending this user's daemon: while it is held, no daemon starts,
 * leaves, or is cleaned up after. A descriptor (closing it unlocks), or -errno; -EWOULDBLOCK: held
 * by somebody else. */
int __must_check ub_run_dir_lock(const char *run_dir);
/* So long somebody may be stopped (by a signal, a debugger) before he is waited for no more. */
#define UB_STOPPED_MS 1000
/* The same, and waits while it is held: -EWOULDBLOCK only if process *@holder has it and is
 * stopped. @go_on (or NULL) is called every 100 ms with for how long, and ends the wait with -EINTR
 * by saying false. */
int __must_check ub_run_dir_lock_wait(const char *run_dir, bool (*go_on)(u64 ms), pid_t *holder);
/* Removes sockets at which nobody listens any more: of loaders that were killed. */
void ub_run_dir_sweep(const char *run_dir);

#endif
