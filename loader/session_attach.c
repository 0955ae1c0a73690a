// SPDX-License-Identifier: MIT
/*
 * Processes that come to a session and go: attached, detached, ended.
 */
#include "session_private.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include <client/client.h>

#include "link_manager.h"
#include "map_dump.h"
#include "output.h"

enum { LATE_MS = 2500 }; /* the daemon tries again after longer and longer */

/* Watches for the end of an attached process. */
struct exit_watch {
	struct exit_watch *next;
	struct ub_session *session;
	struct ub_watch *watch;
	pid_t pid;
};

static void on_exit_of_target(void *opaque, u32 events)
{
	struct exit_watch *exit_watch = opaque;

	ub_session_reap(exit_watch->session);
}

static void watch_exit(struct ub_session *session, const struct ub_tracee *target)
{
	struct exit_watch *exit_watch = calloc(1, sizeof(*exit_watch));

	if (!exit_watch)
		return; /* the tick reaps too, only later */
	exit_watch->session = session;
	exit_watch->pid = target->pid;
	exit_watch->watch =
		ub_loop_watch(session->loop, target->pidfd, EPOLLIN, on_exit_of_target, exit_watch);
	exit_watch->next = session->exit_watches;
	session->exit_watches = exit_watch;
}

static void unwatch_exit(struct ub_session *session, pid_t pid)
{
	struct exit_watch **at = &session->exit_watches;

	while (*at) {
		struct exit_watch *exit_watch = *at;

		if (exit_watch->pid != pid) {
			at = &exit_watch->next;
			continue;
		}
		*at = exit_watch->next;
		ub_watch_remove(exit_watch->watch);
		free(exit_watch);
	}
}

/* A count under a pid belongs to the process that had it when it was counted: a new owner starts at
 * 0. */
static void forget_former_owner(struct ub_session *session, const struct ub_tracee *target)
{
	const struct ub_bundled *bundled = session->programs->bundled;
	struct owner *owner = session->owners;

	while (owner && owner->pid != target->pid)
		owner = owner->next;
	if (owner && owner->start_time == target->start_time)
		return;
	if (!owner) {
		owner = calloc(1, sizeof(*owner));
		if (!owner)
			return;
		owner->pid = target->pid;
		owner->next = session->owners;
		session->owners = owner;
	} else if (bundled && bundled->pid_map) {
		ub_map_forget(session->programs, bundled->pid_map, target->pid);
	}
	owner->start_time = target->start_time;
}

static const struct ub_attachment *attachment_of(const struct ub_session *session, pid_t pid)
{
	const struct ub_attachment *attachment;

	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		if (attachment->target.pid == pid)
			return attachment;
	}
	return NULL;
}

/* What was said to be attached and is not. */
static void on_late(void *opaque)
{
	struct ub_session *session = opaque;
	const struct ub_attachment *attachment;

	session->late_timer = NULL;
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		struct ub_reason why = { 0 };

		if (session->options->backend->is_waiting(&attachment->target, &why))
			ub_note("process %d (%s) is not attached yet (tried again): %s",
				attachment->target.pid, attachment->target.comm, why.text);
	}
}

int ub_session_attach(struct ub_session *session, pid_t pid, struct ub_reason *why)
{
	const struct ub_attachment *attachment;
	int err;

	ub_session_reap(session);
	err = ub_link_manager_attach(session->manager, pid, why);
	if (err)
		return err;
	attachment = attachment_of(session, pid);
	forget_former_owner(session, &attachment->target);
	watch_exit(session, &attachment->target);
	ub_session_show_attach(session, attachment);
	if (session->options->backend->is_waiting && !session->late_timer)
		session->late_timer = ub_loop_after(session->loop, LATE_MS, on_late, session);
	return 0;
}

void ub_session_detach(struct ub_session *session, pid_t pid, struct ub_detach_outcome *outcome)
{
	unwatch_exit(session, pid);
	ub_link_manager_detach(session->manager, pid, outcome);
	if (outcome->result != UB_WAS_NOT_ATTACHED)
		ub_session_show_detach(session, outcome);
}

bool ub_session_is_finished(const struct ub_session *session)
{
	return !session->options->stay && !session->options->everybody &&
	       !ub_link_manager_count(session->manager);
}

void ub_session_reap(struct ub_session *session)
{
	const struct ub_attachment *attachment;
	struct ub_detach_outcome outcome;

	/* The watch goes before the pidfd that it watches. */
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		if (ub_tracee_is_gone(&attachment->target))
			unwatch_exit(session, attachment->target.pid);
	}
	while (ub_link_manager_reap(session->manager, &outcome))
		ub_session_show_detach(session, &outcome);
	if (session->started && ub_session_is_finished(session))
		ub_loop_stop(session->loop);
}

void ub_session_forget_processes(struct ub_session *session)
{
	ub_timer_remove(session->late_timer);
	while (session->exit_watches)
		unwatch_exit(session, session->exit_watches->pid);
	while (session->owners) {
		struct owner *owner = session->owners;

		session->owners = owner->next;
		free(owner);
	}
}

bool ub_session_is_lost(struct ub_session *session)
{
	struct ub_reason why;

	if (!ub_client_lost(&why))
		return false;
	if (!session->lost)
		ub_error("%s", why.text);
	session->lost = true;
	ub_loop_stop(session->loop);
	return true;
}
