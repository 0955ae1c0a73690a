// SPDX-License-Identifier: MIT
/*
 * Changes of a target: the image wanted now is planned and put in the place of the one that is
 * there.
 *
 * A caller that waits for the reply to a seccomp notification can't be stopped before it has it:
 * the surgeon would wait, and the reply for the surgeon. So surgery on the caller of the call at
 * hand is put off (ub_daemon_targets_hold), begun by a thread just before the reply
 * (targets_before_reply waits until the surgeon has seized the process) and ended after it: the
 * caller stops on its way out of the system call, before it runs another instruction. That on the
 * caller of a call that was received and is not at hand yet, or whose answer waits for that of the
 * call at hand (listener.c), is put off until it is, or until the next tick. What is put off is
 * planned all the same, so that what can't be is said at once; what only the stop shows (another
 * tracer) fails the caller's own call, if it made a link, and is left to the tick otherwise.
 */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>
#include <hook/image.h>
#include <surgeon/surgeon.h>

#define SEIZE_WAIT_MS 500
#define MAX_PLANS     5

/* --- surgery ------------------------------------------------------------------------------------
 */

/* One change of a target, from plan to bookkeeping. */
struct change {
	struct target *target;
	struct ub_image *new;
	int mem_fd;
	u32 nr_links;
	u32 *links;
	struct ub_surgery result;
	struct ub_reason why;
	int err;
};

static void change_deinit(struct change *change)
{
	ub_image_free(change->new);
	change->new = NULL;
	if (change->mem_fd >= 0)
		close(change->mem_fd);
	change->mem_fd = -1;
	free(change->links);
	change->links = NULL;
}

/* Links the process should have now: wanted, and their files mapped. */
static int wanted_links(struct target *target, struct link ***out, u32 *nr_out)
{
	struct link **wanted = NULL;
	u32 nr = 0;

	for (struct link *link = target->targets->links; link; link = link->next) {
		struct link **grown;
		int mapped;

		if (!ub_daemon_target_wants(target, link))
			continue;
		mapped = ub_daemon_target_has(target, link->id) && !target->stale
				 ? 1
				 : ub_procfs_maps_file(target->pid, link->dev, link->ino);
		if (mapped < 0) {
			free(wanted);
			return mapped == -ENOENT ? -ESRCH : mapped;
		}
		if (!mapped)
			continue;
		grown = reallocarray(wanted, nr + 1, sizeof(*wanted));
		if (!grown) {
			free(wanted);
			return -ENOMEM;
		}
		wanted = grown;
		wanted[nr++] = link;
	}
	*out = wanted;
	*nr_out = nr;
	return 0;
}

static int build(struct change *change, struct link **links, u32 nr)
{
	_cleanup_(ub_daemon_parts_free) struct parts parts = {};
	struct target *target = change->target;
	struct ub_image_request request = {
		.pid = target->pid,
		.nr_cpus = target->targets->daemon->nr_cpus,
		.tgid_in_client = (u64)target->pid,
		.uid_gid = (u64)target->gid << 32 | target->uid,
		.own_filter = ub_daemon_listener_has(target->targets->daemon, target->pid),
		.generation = target->generation + 1,
		.current = target->image,
	};
	char path[64];
	int err;

	change->links = calloc(nr, sizeof(*change->links));
	if (!change->links)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++)
		change->links[i] = links[i]->id;
	change->nr_links = nr;
	err = ub_daemon_parts_find(&parts, links, nr);
	if (err)
		return err;
	request.nr_links = parts.nr_links;
	request.links = parts.links;
	request.nr_maps = parts.nr_maps;
	request.maps = parts.maps;
	request.nr_callees = parts.nr_callees;
	request.callees = parts.callees;
	/* Before the plan, so that an exec from here on is noticed. */
	snprintf(path, sizeof(path), "/proc/%d/mem", target->pid);
	change->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	return ub_image_build(&request, &change->new, &change->why);
}

/* 1: there is something to do, planned in @change; 0: nothing; -errno. */
static int change_prepare(struct change *change, struct target *target)
{
	_cleanup_free_ struct link **links = NULL;
	u32 nr;
	int err;

	*change = (struct change) { .target = target, .mem_fd = -1 };
	if (ub_daemon_target_execed(target))
		ub_daemon_target_memory_gone(target);
	err = wanted_links(target, &links, &nr);
	if (err)
		return err;
	if (nr == target->nr_links && !target->stale) {
		bool same = true;

		for (u32 i = 0; same && i < nr; i++)
			same = links[i]->id == target->links[i];
		if (same)
			return 0;
	}
	if (nr == 0 && !target->image)
		return 0;
	if (nr == 0) {
		/* Counting stops at once, whatever becomes of the bytes. */
		ub_image_enable(target->image, false);
		return 1;
	}
	err = build(change, links, nr);
	return err ? err : 1;
}

static void change_operate(struct change *change)
{
	struct target *target = change->target;

	if (!target->image && !target->leaving)
		target->holds_since = ub_daemon_now_ticks();
	change->err = ub_surgeon_replace(target->pid, target->pidfd, target->image, change->new,
					 &change->result, &change->why);
}

/* The old image is out of use: free it, or keep it until its last thread has left. */
static void retire_image(struct target *target, const struct ub_surgery *result)
{
	struct leaving *leaving;

	if (!target->image || result->removal != UB_REMOVED_LATER) {
		ub_daemon_target_drop_image(target);
		return;
	}
	ub_daemon_events_target_drain(target->targets->events, target);
	leaving = calloc(1, sizeof(*leaving));
	if (!leaving) /* then its memory stays for as long as the process lives */
		return;
	ub_daemon_log(target->targets->daemon, "pid %d: mapping left: %s", target->pid,
		      result->left.text);
	leaving->image = target->image;
	leaving->links = target->links;
	leaving->nr_links = target->nr_links;
	leaving->why = result->left;
	leaving->next = target->leaving;
	target->leaving = leaving;
	target->image = NULL;
	target->links = NULL;
	target->nr_links = 0;
}

static void change_finish(struct change *change)
{
	struct target *target = change->target;
	struct targets *targets = target->targets;

	/* Failed halfway, or taken out. */
	if (change->err ? !target->image : !change->new)
		ub_daemon_copies_note(targets, target->holds_since);
	if (change->err) {
		ub_daemon_log(targets->daemon, "pid %d: %s: %s", target->pid,
			      strerror(-change->err), change->why.text);
		target->failure = change->why;
		if (!target->failure.text[0])
			ub_reason_set(&target->failure, 0, "%s", strerror(-change->err));
		change_deinit(change);
		return;
	}
	retire_image(target, &change->result);
	target->image = change->new;
	change->new = NULL;
	target->links = TAKE_PTR(change->links);
	target->nr_links = change->nr_links;
	if (target->mem_fd >= 0 && !target->leaving)
		close(target->mem_fd);
	if (!target->leaving || change->mem_fd >= 0)
		target->mem_fd = TAKE_FD(change->mem_fd);
	target->generation++;
	target->last_pause_ns = change->result.pause_ns;
	target->nr_passing_filters = change->result.nr_passing_filters;
	if (target->image && !target->attached_at)
		target->attached_at = (u64)time(NULL);
	if (!target->image)
		target->attached_at = 0;
	target->dirty = false;
	target->stale = false;
	target->retry_ms = 0;
	target->late_since_ms = 0;
	target->failure.text[0] = '\0';
	ub_daemon_events_target_changed(targets->events, target);
	ub_daemon_log(targets->daemon,
		      "pid %d: image %u with %u links, %u threads paused for %llu us", target->pid,
		      target->generation, target->nr_links, change->result.nr_threads,
		      (unsigned long long)change->result.pause_ns / 1000);
	change_deinit(change);
}

/* A child of a process that was attached when it forked has that one's bytes and mappings. */
static void drop_inherited(const struct target *target)
{
	struct ub_reason why = {};
	int n;

	if (target->image || target->leaving || ub_surgeon_find(target->pid, NULL) != 1)
		return;
	n = ub_surgeon_repair(target->pid,
			      ub_daemon_listener_has(target->targets->daemon, target->pid), &why);
	ub_daemon_log(target->targets->daemon, "pid %d: inherited: %s", target->pid,
		      n < 0 ? why.text : "removed");
}

bool ub_daemon_target_waits(const struct target *target)
{
	return target->pid == target->targets->held ||
	       ub_daemon_listener_owes(target->targets->daemon, target->pid);
}

static int update_once(struct target *target, struct ub_reason *why)
{
	const bool waits = ub_daemon_target_waits(target);
	struct change change;
	int err;

	if (!waits)
		drop_inherited(target);
	err = change_prepare(&change, target);
	if (err > 0 && waits) {
		/* As far as can be told now, it will succeed. */
		if (target->pid == target->targets->held)
			target->targets->deferred = target;
		target->dirty = true;
		change_deinit(&change);
		return 0;
	}
	if (err <= 0) {
		if (!err)
			target->dirty = false;
		else
			ub_daemon_log(target->targets->daemon, "pid %d: no image: %s: %s",
				      target->pid, strerror(-err), change.why.text);
		if (why)
			*why = change.why;
		change_deinit(&change);
		return err;
	}
	change_operate(&change);
	err = change.err;
	if (why)
		*why = change.why;
	change_finish(&change);
	return err;
}

int ub_daemon_target_update(struct target *target, struct ub_reason *why)
{
	int err;

	/*
	 * The process may map the memory that was planned on, execute another program, or unmap
	 * code, be it another link's: then another plan is needed, of what it maps now.
	 */
	for (int i = 0; i < MAX_PLANS; i++) {
		err = update_once(target, why);
		if (err == -ESRCH && !ub_daemon_target_ended(target))
			err = -EAGAIN;
		if (err != -EAGAIN)
			break;
		target->stale = true;
	}
	if (!err && !target->dirty)
		target->late_since_ms = 0;
	else if (!target->late_since_ms)
		target->late_since_ms = ub_daemon_now_ms();
	return err;
}

/* --- surgery on the process that waits for our reply
 * ---------------------------------------------- */

struct surgery_thread {
	pthread_t thread;
	struct change change;
	bool done; /* atomic */
};

static bool is_done(const struct surgery_thread *surgery)
{
	return __atomic_load_n(&surgery->done, __ATOMIC_ACQUIRE);
}

static void *surgery_main(void *opaque)
{
	struct surgery_thread *surgery = opaque;

	change_operate(&surgery->change);
	__atomic_store_n(&surgery->done, true, __ATOMIC_RELEASE);
	return NULL;
}

void ub_daemon_targets_hold(struct targets *targets, pid_t pid)
{
	targets->held = pid;
}

int ub_daemon_targets_before_reply(struct targets *targets)
{
	struct target *target = targets->deferred;
	struct surgery_thread *surgery;
	u64 until;
	int todo;

	targets->deferred = NULL;
	if (!target)
		return 0;
	surgery = calloc(1, sizeof(*surgery));
	if (!surgery)
		return -ENOMEM;
	todo = change_prepare(&surgery->change, target);
	if (!todo)
		target->dirty = false;
	if (todo > 0 && pthread_create(&surgery->thread, NULL, surgery_main, surgery))
		todo = -EAGAIN;
	if (todo <= 0) {
		change_deinit(&surgery->change);
		free(surgery);
		return todo;
	}
	targets->surgery = surgery;
	until = ub_daemon_now_ms() + SEIZE_WAIT_MS;
	while (!is_done(surgery) && ub_daemon_now_ms() < until) {
		if (ub_daemon_target_ended(target) || ub_procfs_tracer(target->pid))
			break;
		ub_daemon_sleep_us(50);
	}
	/* INTERRUPT follows SEIZE at once, but it does follow. */
	if (!is_done(surgery))
		ub_daemon_sleep_us(500);
	/* That soon only if it did not come so far as to stop it; or another plan is needed. */
	if (!is_done(surgery) || surgery->change.err == -EAGAIN || surgery->change.err == -ESRCH)
		return 0;
	return surgery->change.err;
}

void ub_daemon_targets_release(struct targets *targets)
{
	struct surgery_thread *surgery = targets->surgery;
	struct target *target;

	targets->held = 0;
	if (!surgery)
		return;
	targets->surgery = NULL;
	target = surgery->change.target;
	pthread_join(surgery->thread, NULL);
	if (surgery->change.err)
		target->dirty = true;
	change_finish(&surgery->change);
	free(surgery);
}
