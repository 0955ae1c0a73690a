/* SPDX-License-Identifier: MIT */
/*
 * What the files of a session share: session.c (life), session_answer.c (orders of others),
 * session_show.c (what is printed), session_events.c (ring and perf buffers).
 */
#ifndef UB_LOADER_SESSION_PRIVATE_H
#define UB_LOADER_SESSION_PRIVATE_H

#include <json-c/json.h>

#include <common/loop.h>

#include "link_manager.h"
#include "session.h"

struct exit_watch;
struct ub_control;
struct ub_events;
struct ub_forks;

/* Who had a pid when it was last attached. */
struct owner {
	struct owner *next;
	pid_t pid;
	u64 start_time;
};

struct ub_session {
	const struct ub_session_options *options;
	struct ub_programs *programs;
	struct ub_link_manager *manager;
	struct ub_loop *loop;
	struct ub_control *control;
	struct exit_watch *exit_watches;
	struct owner *owners;
	struct ub_events *events;	    /* NULL if the programs have none */
	struct ub_forks *forks;		    /* NULL: children are not followed */
	struct ub_backend_link **everybody; /* links that are bound to no process */
	u32 nr_everybody;
	u64 next_tick_ns;
	u64 nr_lost;	  /* events */
	u64 nr_ring_lost; /* records that found no room in a ring buffer */
	struct ub_watch *signal_watch;
	struct ub_timer *late_timer;
	int signal_fd;
	pid_t child; /* the command that we started, 0 = none or ended */
	int child_status;
	bool started;
	bool lost; /* the userspace kernel's daemon is gone */
};

/* session_attach.c */
int __must_check ub_session_attach(struct ub_session *session, pid_t pid, struct ub_reason *why);
void ub_session_detach(struct ub_session *session, pid_t pid, struct ub_detach_outcome *outcome);
/* Drops processes that ended. */
void ub_session_reap(struct ub_session *session);
/* Whether the last process has gone and none can come. */
bool ub_session_is_finished(const struct ub_session *session);
/* What is known of processes, at the end. */
void ub_session_forget_processes(struct ub_session *session);
/* Whether the userspace kernel's daemon is gone; says so once, and ends the session. */
bool ub_session_is_lost(struct ub_session *session);

/* session_forks.c: children of attached processes are attached, from now on. */
int __must_check ub_session_forks_follow(struct ub_session *session, struct ub_reason *why);
void ub_session_forks_unfollow(struct ub_session *session);

/* session_everybody.c: links on every process within reach. */
int __must_check ub_session_attach_everybody(struct ub_session *session, struct ub_reason *why);
void ub_session_detach_everybody(struct ub_session *session);

/* session_answer.c: the control socket's ub_control_listen() callback. */
struct json_object *ub_session_answer(void *opaque, struct json_object *request);

/* session_show.c */
void ub_session_show_start(const struct ub_session *session);
void ub_session_show_attach(const struct ub_session *session,
			    const struct ub_attachment *attachment);
void ub_session_show_detach(const struct ub_session *session,
			    const struct ub_detach_outcome *outcome);
void ub_session_show_tick(const struct ub_session *session);
void ub_session_show_summary(const struct ub_session *session);
const char *ub_detach_result_text(enum ub_detach_result result);

/* session_events.c */
int __must_check ub_session_events_open(struct ub_session *session, struct ub_reason *why);
/* After the last: what programs could not put into ring buffers. */
void ub_session_events_count_lost(struct ub_session *session);
void ub_session_events_drain(struct ub_session *session);
void ub_session_events_close(struct ub_session *session);

#endif
