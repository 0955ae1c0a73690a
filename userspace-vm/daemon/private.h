/* SPDX-License-Identifier: MIT */
/*
 * The parts of the daemon and how they hold together.
 *
 *   daemon.c      start, idle exit, orderly end
 *   guard.c       the parent that cleans up after a crash
 *   connection.c  a client's socket (calls, asks)
 *   listener.c    a seccomp listener (calls)
 *   caller.c      memory of a calling process
 *   session.c     who the clients are
 *   targets.c     processes that are operated on, as they come to need it
 *   target.c      one of them
 *   update.c      changes of one: plan, surgery, bookkeeping
 *   attach.c      links, and which target has which
 *   census.c      finds targets as they come
 *   copies.c      what their children inherited
 *   events.c      records that targets produce
 *   trace_pipe.c  what programs print
 *   request.c     JSON requests
 *   files.c       files that tools ask the kernel by
 */
#ifndef UB_DAEMON_PRIVATE_H
#define UB_DAEMON_PRIVATE_H

#include <limits.h>
#include <stdio.h>
#include <sys/types.h>

#include <common/loop.h>
#include <common/reason.h>
#include <daemon/protocol.h>
#include <kernel/kernel.h>

struct connection;
struct listener;
struct targets;
struct trace_pipe;

/* One running loader or tool, with the processes that it starts. Freed when its last connection,
 * listener and link are gone. */
struct session {
	struct session *next;
	struct ub_daemon *daemon;
	u64 id;
	u32 refs;
	u32 users; /* connections and listeners: without one, the session is over */
	pid_t pid; /* of the process that said hello */
	uid_t uid;
	gid_t gid;
	char comm[16];
	char command[256];
	u64 started;	/* seconds since the epoch */
	bool only_pids; /* a link without a pid means these processes */
	u32 nr_pids;
	pid_t *pids;
	u32 nr_excluded; /* taken out by `detach PID`, until attached by name again */
	pid_t *excluded;
	struct ub_reason refusal; /* of its last link that was refused */
	u32 told_attached;	  /* what was said about how far links without a pid reach */
	u32 told_refused;
	struct connection *notes; /* where lines for people go, or NULL */
};

struct ub_daemon {
	struct ub_loop *loop;
	struct ub_kernel *kernel;
	struct targets *targets;
	struct trace_pipe *trace;
	struct connection *connections;
	struct listener *listeners;
	struct listener *ended_listeners; /* whose threads have not been seen to end */
	struct session *sessions;
	u64 next_session;
	uid_t uid;
	u32 nr_cpus;
	int listen_fd;
	int spare_fd; /* to take a connection with when there are no more */
	struct ub_watch *listen_watch;
	int signal_fd;
	struct ub_watch *signal_watch;
	int guard_fd; /* hangs up when the guard dies */
	struct ub_watch *guard_watch;
	pid_t guard_pid;
	bool told_to_go; /* by a signal */
	struct ub_timer *idle_timer;
	struct ub_timer *reap_timer;
	char run_dir[PATH_MAX];
	FILE *log;
};

void ub_daemon_log(struct ub_daemon *daemon, const char *fmt, ...) __printf_like(2, 3);
/* Something ended: see whether the daemon is still needed. */
void ub_daemon_check_idle(struct ub_daemon *daemon);

/* --- guard.c ------------------------------------------------------------------------------------
 */

/* Forks: returns 0 in the daemon, with *@guard_fd and *@guard_pid; in the parent only returns when
 * the daemon is gone and cleaned up after, with 1. -errno on failure. */
int __must_check ub_daemon_guard_start(const char *run_dir, int *guard_fd, pid_t *guard_pid);
/* A new guard for this daemon, whose old one was killed. 0 or -errno. */
int __must_check ub_daemon_guard_replace(const char *run_dir, int close_fd, int *guard_fd,
					 pid_t *guard_pid);

/* --- caller.c -----------------------------------------------------------------------------------
 */

#define UB_CALLER_PAGE 4096

/* A process that makes calls, as the transports keep it. */
struct caller {
	struct ub_caller base;
	pid_t tid;	 /* the calling thread, whose memory is read */
	int sock;	 /* where the client can be asked to copy, or -1 */
	int listener_fd; /* where call_id can be checked, or -1 */
	int came_fd;	 /* what came with the call at hand over a socket, or -1 */
	/* What was read last: attr and what it points to mostly lie on one page, and each look at
	 * another process costs more than all that is done with it. */
	u64 page; /* its address; 0: none in this call */
	u8 bytes[UB_CALLER_PAGE];
};

/* @pidfd becomes the caller's. */
void ub_daemon_caller_init(struct caller *caller, pid_t pid, int pidfd, uid_t uid, gid_t gid,
			   u64 session);
/* Its calls come from a seccomp listener. */
void ub_daemon_caller_listen(struct caller *caller, int listener_fd);
void ub_daemon_caller_deinit(struct caller *caller);
/* @tid makes call @id. */
void ub_daemon_caller_begin(struct caller *caller, pid_t tid, u64 id);

/* --- connection.c -------------------------------------------------------------------------------
 */

int __must_check ub_daemon_connection_new(struct ub_daemon *daemon, int sock);
void ub_daemon_connection_free(struct connection *connection);
void ub_daemon_connection_note(struct connection *connection, const char *text);
/* Frees the connection that a session's notes went over; its other end learns why. */
void ub_daemon_connection_over(struct connection *connection);

/* Lets the kernel answer @call of @caller and has the links that went with it gone; what a
 * transport does between receiving and replying. @held: the caller can't be stopped before the
 * reply. */
void ub_daemon_call(struct ub_daemon *daemon, struct caller *caller, const struct ub_call *call,
		    bool held, struct ub_reply *reply);

/* --- listener.c ---------------------------------------------------------------------------------
 */

/* Serves the seccomp listener @fd, which becomes its own. 0 or -errno (then @fd is the caller's).
 */
int __must_check ub_daemon_listener_new(struct ub_daemon *daemon, struct session *session, int fd);
void ub_daemon_listener_free(struct listener *listener);
/* Whether process @pid has made a call through a listener of ours, so is under our filter. */
bool ub_daemon_listener_has(const struct ub_daemon *daemon, pid_t pid);
/* Whether it may be so all the same: it is under some filter. */
bool ub_daemon_listener_may_have(const struct ub_daemon *daemon, pid_t pid);
/* Whether a call of process @pid is in our hands and not answered: it can't be stopped before. No
 * other call is received until the loop is left. */
bool ub_daemon_listener_owes(struct ub_daemon *daemon, pid_t pid);
/* Answers all that are in our hands, and again none is received until the loop is left. Only
 * between two operations: what is asked for may be anything. */
void ub_daemon_listeners_quiet(struct ub_daemon *daemon);
/* Waits, outside the loop, for the threads of listeners that were freed. */
void ub_daemon_listeners_wait(struct ub_daemon *daemon);

/* --- session.c ----------------------------------------------------------------------------------
 */

struct session *ub_daemon_session_new(struct ub_daemon *daemon, pid_t pid, uid_t uid, gid_t gid);
/* Its process's name and command line as they are now: a tool under exec gets its own late. */
void ub_daemon_session_refresh(struct session *session);
struct session *ub_daemon_session_find(struct ub_daemon *daemon, u64 id);
void ub_daemon_session_get(struct session *session);
void ub_daemon_session_put(struct session *session);
/* A connection or listener of the session comes, goes. */
void ub_daemon_session_enter(struct session *session);
void ub_daemon_session_leave(struct session *session);
int __must_check ub_daemon_session_set_pids(struct session *session, const s32 *pids, u32 nr);
void ub_daemon_session_exclude(struct session *session, pid_t pid);
void ub_daemon_session_include(struct session *session, pid_t pid);
bool ub_daemon_session_excludes(const struct session *session, pid_t pid);
bool ub_daemon_session_names(const struct session *session, pid_t pid);
void ub_daemon_session_note(struct session *session, const char *fmt, ...) __printf_like(2, 3);

/* --- files.c ------------------------------------------------------------------------------------
 */

/* Answers open(2) and openat(2); false: @call is another. */
bool ub_daemon_file_call(struct ub_daemon *daemon, struct caller *caller,
			 const struct ub_call *call, struct ub_reply *reply);

/* --- trace_pipe.c -------------------------------------------------------------------------------
 */

struct trace_pipe *ub_daemon_trace_new(struct ub_loop *loop);
void ub_daemon_trace_free(struct trace_pipe *pipe);
/* A program printed @line, which ends with a newline. */
void ub_daemon_trace_line(struct trace_pipe *pipe, const char *line, size_t size);
/* A file that reads as trace_pipe does: descriptor or -errno. */
int __must_check ub_daemon_trace_open(struct trace_pipe *pipe, bool nonblock);

/* --- request.c ----------------------------------------------------------------------------------
 */

/* Answers one line of JSON; the answer is malloc'ed, NULL without memory. */
char *ub_daemon_request_answer(struct ub_daemon *daemon, const char *text, size_t size);

#endif
