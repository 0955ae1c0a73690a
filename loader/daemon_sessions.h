/* SPDX-License-Identifier: MIT */
/*
 * Sessions of the userspace kernel that are not ours to ask: tools under exec. The daemon tells of
 * them, in the same form as our own sessions answer "list" and "detach".
 */
#ifndef UB_LOADER_DAEMON_SESSIONS_H
#define UB_LOADER_DAEMON_SESSIONS_H

#include <sys/types.h>

#include <json-c/json.h>

#include <common/reason.h>

/* An array of objects as a session answers "list" ("session" is the tool's pid), without those
 * whose pid is among @not; empty where no daemon runs. The caller's to put. */
struct json_object *ub_daemon_sessions(const pid_t * not, u32 nr_not);

/* Takes @pid (0: every process) out of the session whose "list" object this is. Like a session's
 * answer to "detach"; NULL and @why. */
struct json_object *ub_daemon_session_detach(struct json_object *session, pid_t pid,
					     struct ub_reason *why);

/* Why the daemon refused this process's last link; "" if it doesn't say. */
void ub_daemon_refusal(struct ub_reason *text);

#endif
