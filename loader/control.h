/* SPDX-License-Identifier: MIT */
/*
 * How commands talk to running sessions: each session listens on a socket of the run directory,
 * answers one line of JSON to each line of JSON. Requests: {"cmd":"list"},
 * {"cmd":"attach","pid":N},
 * {"cmd":"detach","pids":[N,...]} ([] = all), {"cmd":"maps"}. Answers have "ok"; where false,
 * "error" is the line for the user.
 */
#ifndef UB_LOADER_CONTROL_H
#define UB_LOADER_CONTROL_H

#include <json-c/json.h>
#include <sys/types.h>

#include <common/loop.h>
#include <common/reason.h>

/* Server side. @answer makes the answer to @request (both owned by the control). */
struct ub_control;
int __must_check ub_control_listen(struct ub_loop *loop,
				   struct json_object *(*answer)(void *opaque,
								 struct json_object *request),
				   void *opaque, struct ub_control **out, struct ub_reason *why);
void ub_control_close(struct ub_control *control);

/* Client side: a session that answers. */
struct ub_session_ref {
	pid_t pid;
	u64 started_ns; /* mtime of its socket: for the newest */
	int fd;
};

/* This user's running sessions, newest first; sockets of dead ones are removed. Free with
 * ub_sessions_close(). */
int __must_check ub_sessions_open(struct ub_session_ref **sessions, u32 *nr, struct ub_reason *why);
void ub_sessions_close(struct ub_session_ref *sessions, u32 nr);

/* Whether the session's process is stopped (SIGSTOP, a debugger): it would not answer. */
bool ub_session_is_stopped(const struct ub_session_ref *session);

/* Asks; *answer is for the caller to put. @request stays the caller's. */
int __must_check ub_session_ask(const struct ub_session_ref *session, struct json_object *request,
				struct json_object **answer, struct ub_reason *why);

#endif
