// SPDX-License-Identifier: MIT
#include "private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <daemon/procfs.h>

#define MAX_PIDS 4096

void ub_daemon_session_refresh(struct session *session)
{
	struct ub_procfs_status status;

	/* After its end the pid may be another's; its name stays. */
	if (!session->users || ub_procfs_status(session->pid, &status))
		return;
	memcpy(session->comm, status.comm, sizeof(session->comm));
	ub_procfs_command(session->pid, session->command, sizeof(session->command));
}

struct session *ub_daemon_session_new(struct ub_daemon *daemon, pid_t pid, uid_t uid, gid_t gid)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->daemon = daemon;
	session->id = ++daemon->next_session;
	session->refs = 1;
	session->pid = pid;
	session->uid = uid;
	session->gid = gid;
	session->started = (u64)time(NULL);
	session->users = 1;
	ub_daemon_session_refresh(session);
	session->users = 0;
	session->next = daemon->sessions;
	daemon->sessions = session;
	return session;
}

struct session *ub_daemon_session_find(struct ub_daemon *daemon, u64 id)
{
	struct session *session = daemon->sessions;

	while (session && session->id != id)
		session = session->next;
	return session;
}

void ub_daemon_session_get(struct session *session)
{
	session->refs++;
}

void ub_daemon_session_put(struct session *session)
{
	struct session **at;

	if (!session || --session->refs)
		return;
	for (at = &session->daemon->sessions; *at != session; at = &(*at)->next)
		;
	*at = session->next;
	free(session->pids);
	free(session->excluded);
	free(session);
}

void ub_daemon_session_enter(struct session *session)
{
	ub_daemon_session_get(session);
	session->users++;
}

void ub_daemon_session_leave(struct session *session)
{
	if (--session->users == 0 && session->daemon->kernel)
		ub_kernel_session_end(session->daemon->kernel, session->id);
	ub_daemon_session_put(session);
}

int ub_daemon_session_set_pids(struct session *session, const s32 *pids, u32 nr)
{
	if (!nr)
		return 0;
	if (nr > MAX_PIDS)
		return -E2BIG;
	session->pids = calloc(nr, sizeof(*session->pids));
	if (!session->pids)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++)
		session->pids[i] = pids[i];
	session->nr_pids = nr;
	session->only_pids = true;
	return 0;
}

static bool contains(const pid_t *pids, u32 nr, pid_t pid)
{
	for (u32 i = 0; i < nr; i++) {
		if (pids[i] == pid)
			return true;
	}
	return false;
}

bool ub_daemon_session_names(const struct session *session, pid_t pid)
{
	return contains(session->pids, session->nr_pids, pid);
}

bool ub_daemon_session_excludes(const struct session *session, pid_t pid)
{
	return contains(session->excluded, session->nr_excluded, pid);
}

void ub_daemon_session_exclude(struct session *session, pid_t pid)
{
	pid_t *grown;

	if (ub_daemon_session_excludes(session, pid) || session->nr_excluded >= MAX_PIDS)
		return;
	grown = reallocarray(session->excluded, session->nr_excluded + 1, sizeof(*grown));
	if (!grown)
		return;
	session->excluded = grown;
	session->excluded[session->nr_excluded++] = pid;
}

void ub_daemon_session_include(struct session *session, pid_t pid)
{
	for (u32 i = 0; i < session->nr_excluded; i++) {
		if (session->excluded[i] == pid)
			session->excluded[i--] = session->excluded[--session->nr_excluded];
	}
}

void ub_daemon_session_note(struct session *session, const char *fmt, ...)
{
	char text[600];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	ub_daemon_log(session->daemon, "session %llu: %s", (unsigned long long)session->id, text);
	if (session->notes)
		ub_daemon_connection_note(session->notes, text);
}
