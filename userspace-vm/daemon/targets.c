// SPDX-License-Identifier: MIT
/*
 * Target processes.
 *
 * A target is a process that holds an image, or should. There is one operation on it,
 * ub_daemon_target_update(): work out which links it should have now, plan an image for them, have
 * the surgeon put that in the place of the one that is there. It either succeeds or leaves the
 * process as it was, and it can be tried again at any time; so nothing has to be undone here, and
 * what could not be done now (a process stopped by a debugger, a thread inside a program) is simply
 * tried again from the tick.
 *
 * A process is named by its pidfd, its memory by an open /proc/PID/mem: that reads 0 bytes once the
 * process has exec'd, and then the image is gone with the memory and the links start anew.
 */
#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <common/cleanup.h>
#include <common/clock.h>
#include <daemon/procfs.h>
#include <hook/image.h>
#include <surgeon/surgeon.h>

#define TICK_MS		 100
#define RETRY_FIRST_MS	 100
#define RETRY_LAST_MS	 2000
#define REFUSED_AGAIN_MS 5000
#define DETACH_ALL_MS	 3000
#define LATE_MS		 2000 /* so long a link may wait for its process without a word */

u64 ub_daemon_now_ms(void)
{
	return ub_now_ns() / 1000000;
}

void ub_daemon_sleep_us(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

static void on_tick(void *opaque);

void ub_daemon_targets_start_tick(struct targets *targets)
{
	if (!targets->tick && (targets->list || targets->links || targets->copies_rounds))
		targets->tick = ub_loop_after(targets->daemon->loop, TICK_MS, on_tick, targets);
}

/* --- keeping up ---------------------------------------------------------------------------------
 */

static void later(struct target *target)
{
	target->retry_ms = target->retry_ms ? target->retry_ms * 2 : RETRY_FIRST_MS;
	if (target->retry_ms > RETRY_LAST_MS)
		target->retry_ms = RETRY_LAST_MS;
	target->retry_at_ms = ub_daemon_now_ms() + target->retry_ms;
	target->dirty = true;
}

static void note_failed(struct target *target, u32 id)
{
	u32 *grown = reallocarray(target->failed, target->nr_failed + 1, sizeof(*grown));

	if (!grown)
		return;
	target->failed = grown;
	target->failed[target->nr_failed++] = id;
}

/* One link that can't be placed must not keep the others out. */
static void exclude_failing(struct target *target, int err, const struct ub_reason *why)
{
	for (struct link *link = target->targets->links; link; link = link->next) {
		if (!ub_daemon_target_wants(target, link) || ub_daemon_target_has(target, link->id))
			continue;
		note_failed(target, link->id);
		link->nr_refused++;
		ub_daemon_session_note(link->session, "pid %d: %s", target->pid,
				       why->text[0] ? why->text : strerror(-err));
		break;
	}
}

static void collect(struct target *target)
{
	struct leaving **at = &target->leaving;

	while (*at && !ub_daemon_target_waits(target)) {
		struct leaving *leaving = *at;
		struct ub_surgery result = {};
		int err = ub_surgeon_collect(target->pid, target->pidfd, leaving->image, &result,
					     NULL);

		if (err || result.removal == UB_REMOVED_LATER) {
			at = &leaving->next;
			continue;
		}
		*at = leaving->next;
		ub_daemon_targets_fold(target->targets, leaving->image);
		ub_image_free(leaving->image);
		free(leaving->links);
		free(leaving);
	}
}

/* A link waits for its file to be mapped, or anything else that is not as it should be. */
static bool needs_update(struct target *target)
{
	if (target->dirty)
		return true;
	if (target->image && target->mem_fd >= 0 &&
	    !ub_surgeon_stands(target->mem_fd, target->image)) {
		target->stale = true; /* a library was unloaded, and perhaps loaded again */
		return true;
	}
	for (struct link *link = target->targets->links; link; link = link->next) {
		if (ub_daemon_target_wants(target, link) &&
		    !ub_daemon_target_has(target, link->id) &&
		    ub_procfs_maps_file(target->pid, link->dev, link->ino) == 1)
			return true;
	}
	return false;
}

static bool is_needed(const struct target *target)
{
	if (target->image || target->leaving)
		return true;
	if (ub_daemon_now_ms() < target->refused_until_ms)
		return true;
	for (struct link *link = target->targets->links; link; link = link->next) {
		/* Links without a pid find it again, by the census. */
		if (ub_daemon_link_covers(link, target) &&
		    (link->pid > 0 || link->session->only_pids))
			return true;
	}
	return false;
}

/* Whoever asked for this very process was told that it is attached. */
static void tell_if_late(struct target *target, int err, const struct ub_reason *why)
{
	const struct session *told = NULL;

	if (!target->late_since_ms) {
		target->told_late = false;
		return;
	}
	if (!err || target->told_late || ub_daemon_now_ms() - target->late_since_ms < LATE_MS)
		return;
	target->told_late = true;
	if (!target->failure.text[0])
		ub_reason_set(&target->failure, 0, "%s", why->text[0] ? why->text : strerror(-err));
	for (struct link *link = target->targets->links; link; link = link->next) {
		if ((link->pid < 0 && !link->session->only_pids) || link->session == told ||
		    !ub_daemon_target_wants(target, link) || ub_daemon_target_has(target, link->id))
			continue;
		ub_daemon_session_note(link->session,
				       "process %d is not attached yet (tried again): %s",
				       target->pid, target->failure.text);
		told = link->session;
	}
}

static void look_after(struct target *target)
{
	struct ub_reason why = {};
	int err;

	if (ub_daemon_target_execed(target)) {
		ub_daemon_log(target->targets->daemon, "pid %d: new memory (exec)", target->pid);
		ub_daemon_target_memory_gone(target);
	}
	if (ub_daemon_now_ms() < target->retry_at_ms ||
	    ub_daemon_now_ms() < target->refused_until_ms)
		return;
	if (target->leaving) {
		collect(target);
		if (target->leaving)
			later(target);
	}
	if (needs_update(target)) {
		err = ub_daemon_target_update(target, &why);
		if (err == -EOPNOTSUPP)
			exclude_failing(target, err, &why);
		else if (err == -EPERM && !target->image)
			target->refused_until_ms = ub_daemon_now_ms() + REFUSED_AGAIN_MS;
		if (err)
			later(target);
		tell_if_late(target, err, &why);
	}
	if (!is_needed(target))
		ub_daemon_target_free(target);
}

/* How many processes links without a pid have reached, and how many they may not, as that
 * changes. */
static void tell_reach(const struct targets *targets, struct session *session)
{
	u32 attached = 0, refused = 0;
	bool everywhere = false;

	for (const struct link *link = targets->links; link; link = link->next) {
		if (link->session != session || link->pid > 0 || session->only_pids ||
		    !link->enabled)
			continue;
		everywhere = true;
		if (link->nr_refused > refused)
			refused = link->nr_refused;
	}
	if (!everywhere)
		return;
	for (const struct target *target = targets->list; target; target = target->next) {
		bool has = false;

		for (u32 i = 0; i < target->nr_links && !has; i++) {
			const struct link *link =
				ub_daemon_link_find(target->targets, target->links[i]);

			has = link && link->session == session;
		}
		attached += has;
	}
	if (attached == session->told_attached && refused == session->told_refused)
		return;
	session->told_attached = attached;
	session->told_refused = refused;
	if (refused)
		ub_daemon_session_note(session, "attached to %u processes; %u may not be traced",
				       attached, refused);
	else
		ub_daemon_session_note(session, "attached to %u processes", attached);
}

/* Whether processes are to be operated on that may have calls out. */
static bool is_tool_due(const struct targets *targets)
{
	for (const struct target *target = targets->list; target; target = target->next) {
		if ((target->dirty || target->leaving) &&
		    ub_daemon_listener_may_have(targets->daemon, target->pid))
			return true;
	}
	return false;
}

static void on_tick(void *opaque)
{
	struct targets *targets = opaque;
	struct target *next;

	targets->tick = NULL;
	if (is_tool_due(targets))
		ub_daemon_listeners_quiet(targets->daemon);
	for (struct target *target = targets->list; target; target = next) {
		next = target->next;
		look_after(target);
	}
	ub_daemon_filters_look(targets);
	ub_daemon_copies_clean(targets);
	ub_daemon_census_tick(targets->census);
	for (struct session *session = targets->daemon->sessions; session; session = session->next)
		tell_reach(targets, session);
	ub_daemon_targets_start_tick(targets);
}

void ub_daemon_targets_flush(struct targets *targets)
{
	struct target *next;

	ub_daemon_targets_start_tick(targets);
	for (struct target *target = targets->list; target; target = next) {
		next = target->next;
		if (!target->dirty || ub_daemon_now_ms() < target->retry_at_ms)
			continue;
		if (ub_daemon_target_update(target, NULL))
			later(target);
		else if (!target->dirty && !is_needed(target))
			ub_daemon_target_free(target);
	}
}

bool ub_daemon_targets_busy(const struct targets *targets)
{
	for (const struct target *target = targets->list; target; target = target->next) {
		if (target->image || target->leaving)
			return true;
	}
	return targets->copies_rounds > 0;
}

void ub_daemon_targets_detach_all(struct targets *targets)
{
	u64 until = ub_daemon_now_ms() + DETACH_ALL_MS;

	ub_daemon_links_drop_all(targets);
	while (targets->list) {
		struct target *next;

		ub_daemon_listeners_quiet(targets->daemon);
		for (struct target *target = targets->list; target; target = next) {
			next = target->next;
			target->retry_at_ms = 0;
			target->refused_until_ms = 0;
			target->dirty = true;
			look_after(target);
		}
		if (ub_daemon_now_ms() >= until)
			break;
		if (targets->list)
			ub_daemon_sleep_us(20000);
	}
	while (!ub_daemon_copies_clean(targets) && ub_daemon_now_ms() < until)
		ub_daemon_sleep_us(20000);
}

struct targets *ub_daemon_targets_new(struct ub_daemon *daemon)
{
	struct targets *targets = calloc(1, sizeof(*targets));

	if (!targets)
		return NULL;
	targets->daemon = daemon;
	targets->filters_round = 1;
	targets->census = ub_daemon_census_new(targets);
	targets->events = ub_daemon_events_new(targets);
	if (!targets->census || !targets->events) {
		ub_daemon_targets_free(targets);
		return NULL;
	}
	return targets;
}

void ub_daemon_targets_free(struct targets *targets)
{
	if (!targets)
		return;
	while (targets->list)
		ub_daemon_target_free(targets->list);
	ub_timer_remove(targets->tick);
	ub_daemon_links_drop_all(targets);
	while (targets->totals) {
		struct total *total = targets->totals;

		targets->totals = total->next;
		free(total);
	}
	ub_daemon_census_free(targets->census);
	ub_daemon_events_free(targets->events);
	free(targets);
}
