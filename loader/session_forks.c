// SPDX-License-Identifier: MIT
/*
 * --follow-forks: children of attached processes are attached too. A link that is bound to a
 * process does not count in its children, on either backend; so they are looked for, fifty times a
 * second if there is anybody new, and attached as any process is. What a child does before it is
 * seen is not counted, and one that ends before is not seen at all. Each child is tried once: one
 * that was taken out by hand, or that can't be attached, stays out.
 */
#include "session_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <common/proc.h>
#include <daemon/procfs.h>

#include "output.h"

/* Soon where somebody new has come, and every few rounds all the same. */
enum { LOOK_MS = 20, ROUNDS = 5 };

/* A child that was tried. */
struct child {
	struct child *next;
	pid_t pid;
	u64 start_time;
	bool seen; /* in this look */
};

struct ub_forks {
	struct ub_timer *timer;
	struct child *children;
	u64 last_pid;
	u32 rounds; /* since the last look */
};

/* Parent and start time of a process. */
static int read_stat(pid_t pid, pid_t *parent, u64 *start_time)
{
	char proc[32], text[UB_PROC_STAT_MAX];
	int err;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	err = ub_proc_stat_read(proc, text);
	if (err)
		return err;
	*parent = atoi(ub_proc_stat_field(text, UB_PROC_STAT_PARENT));
	*start_time = strtoull(ub_proc_stat_field(text, UB_PROC_STAT_START_TIME), NULL, 10);
	return 0;
}

/* Whether this very process was tried before. */
static bool was_tried(struct ub_forks *forks, pid_t pid, u64 start_time)
{
	for (struct child *child = forks->children; child; child = child->next) {
		if (child->pid == pid && child->start_time == start_time) {
			child->seen = true;
			return true;
		}
	}
	return false;
}

static void remember(struct ub_forks *forks, pid_t pid, u64 start_time)
{
	struct child *child = calloc(1, sizeof(*child));

	if (!child)
		return; /* then it is tried again, which does no harm */
	*child = (struct child) { forks->children, pid, start_time, true };
	forks->children = child;
}

static void forget_ended(struct ub_forks *forks)
{
	struct child **at = &forks->children;

	while (*at) {
		struct child *child = *at;

		if (child->seen) {
			child->seen = false;
			at = &child->next;
			continue;
		}
		*at = child->next;
		free(child);
	}
}

static void look_at(struct ub_session *session, pid_t pid)
{
	struct ub_reason why = { 0 };
	u64 start_time;
	pid_t parent;
	int err;

	if (read_stat(pid, &parent, &start_time) || was_tried(session->forks, pid, start_time) ||
	    ub_link_manager_state(session->manager, parent) != UB_ATTACHED ||
	    ub_link_manager_state(session->manager, pid) != UB_DETACHED)
		return;
	remember(session->forks, pid, start_time);
	err = ub_session_attach(session, pid, &why);
	/* Most children end or execute something else soon. */
	if (err && err != -ESRCH && err != -EALREADY)
		ub_note("process %d, a child of %d, is not followed: %s", pid, parent,
			why.text[0] ? why.text : strerror(-err));
}

static void look_around(struct ub_session *session)
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc");

	while (dir && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			look_at(session, (pid_t)strtol(entry->d_name, NULL, 10));
	}
	if (dir)
		closedir(dir);
	forget_ended(session->forks);
}

static void on_look(void *opaque)
{
	struct ub_session *session = opaque;
	struct ub_forks *forks = session->forks;
	u64 last_pid = ub_procfs_last_pid();

	if (last_pid != forks->last_pid || ++forks->rounds >= ROUNDS) {
		forks->last_pid = last_pid;
		forks->rounds = 0;
		look_around(session);
	}
	forks->timer = ub_loop_after(session->loop, LOOK_MS, on_look, session);
}

int ub_session_forks_follow(struct ub_session *session, struct ub_reason *why)
{
	session->forks = calloc(1, sizeof(*session->forks));
	if (session->forks)
		session->forks->timer = ub_loop_after(session->loop, LOOK_MS, on_look, session);
	if (!session->forks || !session->forks->timer)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	return 0;
}

void ub_session_forks_unfollow(struct ub_session *session)
{
	if (!session->forks)
		return;
	ub_timer_remove(session->forks->timer);
	for (struct child *child = session->forks->children; child; child = child->next)
		child->seen = false;
	forget_ended(session->forks);
	free(session->forks);
	session->forks = NULL;
}
