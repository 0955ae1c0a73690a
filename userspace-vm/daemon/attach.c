// SPDX-License-Identifier: MIT
/*
 * Links: what the kernel asks for (struct ub_kernel_ops), turned into what targets should hold.
 */
#include "parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>
#include <hook/image.h>

struct link *ub_daemon_link_find(struct targets *targets, u32 id)
{
	struct link *link = targets->links;

	while (link && link->id != id)
		link = link->next;
	return link;
}

static void link_free(struct link *link)
{
	ub_daemon_session_put(link->session);
	free(link->path);
	free(link->maps);
	free(link);
}

static struct link *link_new(struct targets *targets, const struct ub_link_view *view,
			     struct session *session)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->path = strdup(view->path ? view->path : "");
	link->maps = calloc(view->nr_maps + 1, sizeof(*link->maps));
	if (!link->path || !link->maps) {
		free(link->path);
		free(link->maps);
		free(link);
		return NULL;
	}
	if (view->nr_maps)
		memcpy(link->maps, view->maps, view->nr_maps * sizeof(*link->maps));
	link->nr_maps = view->nr_maps;
	link->id = view->link_id;
	link->prog_id = view->prog_id;
	link->pid = view->pid > 0 ? view->pid : -1;
	link->dev = view->dev;
	link->ino = view->ino;
	link->offset = view->offset;
	link->ref_ctr_offset = view->ref_ctr_offset;
	link->cookie = view->cookie;
	link->is_return = view->is_return;
	link->program = view->program;
	link->code = view->code;
	link->enabled = true;
	link->session = session;
	ub_daemon_session_get(session);
	return link;
}

/* At the end: links run in the order in which they were attached. */
static void link_append(struct targets *targets, struct link *link)
{
	struct link **at = &targets->links;

	while (*at)
		at = &(*at)->next;
	*at = link;
}

static void mark_targets_of(struct targets *targets, u32 link_id)
{
	for (struct target *target = targets->list; target; target = target->next) {
		if (!ub_daemon_target_has(target, link_id))
			continue;
		ub_daemon_events_read_now(target);
		target->dirty = true;
		target->retry_at_ms = 0;
	}
}

/* Takes the link out of the list; its targets are brought up to date by the next flush. */
static void link_remove(struct targets *targets, u32 id)
{
	struct link **at;

	for (at = &targets->links; *at; at = &(*at)->next) {
		struct link *link = *at;

		if (link->id != id)
			continue;
		mark_targets_of(targets, id);
		*at = link->next;
		/* These are the kernel's, until now. */
		link->program = NULL;
		link->code = NULL;
		link->nr_maps = 0;
		link->next = targets->dead;
		targets->dead = link;
		ub_daemon_links_sweep(targets);
		return;
	}
}

/* --- counters -----------------------------------------------------------------------------------
 */

void ub_daemon_link_count(struct targets *targets, u32 id, u64 hits, u64 misses)
{
	struct link *link = ub_daemon_link_find(targets, id);

	for (struct link *dead = targets->dead; dead && !link; dead = dead->next) {
		if (dead->id == id)
			link = dead;
	}
	if (!link)
		return;
	link->hits += hits;
	link->misses += misses;
}

static bool is_held(const struct targets *targets, u32 id)
{
	for (const struct target *target = targets->list; target; target = target->next) {
		if (ub_daemon_target_has(target, id))
			return true;
		for (const struct leaving *leaving = target->leaving; leaving;
		     leaving = leaving->next) {
			for (u32 i = 0; i < leaving->nr_links; i++) {
				if (leaving->links[i] == id)
					return true;
			}
		}
	}
	return false;
}

static struct total *total_of(struct targets *targets, u32 prog_id)
{
	struct total *total = targets->totals;

	while (total && total->prog_id != prog_id)
		total = total->next;
	return total;
}

static void total_add(struct targets *targets, const struct link *link)
{
	struct total *total = total_of(targets, link->prog_id);

	if (!link->prog_id || (!link->hits && !link->misses))
		return;
	if (!total) {
		total = calloc(1, sizeof(*total));
		if (!total)
			return;
		total->prog_id = link->prog_id;
		total->next = targets->totals;
		targets->totals = total;
	}
	total->hits += link->hits;
	total->misses += link->misses;
}

void ub_daemon_links_sweep(struct targets *targets)
{
	struct link **at = &targets->dead;

	while (*at) {
		struct link *link = *at;

		if (is_held(targets, link->id)) {
			at = &link->next;
			continue;
		}
		*at = link->next;
		total_add(targets, link);
		link_free(link);
	}
}

static void program_counters(void *opaque, u32 prog_id, u64 *hits, u64 *misses)
{
	struct targets *targets = opaque;
	const struct total *total = total_of(targets, prog_id);
	struct link *lists[] = { targets->links, targets->dead };

	*hits = total ? total->hits : 0;
	*misses = total ? total->misses : 0;
	for (size_t i = 0; i < ub_array_size(lists); i++) {
		for (const struct link *link = lists[i]; link; link = link->next) {
			u64 more_hits, more_misses;

			if (link->prog_id != prog_id)
				continue;
			ub_daemon_link_counters(targets, link, &more_hits, &more_misses);
			*hits += more_hits;
			*misses += more_misses;
		}
	}
}

static void program_gone(void *opaque, u32 prog_id)
{
	struct targets *targets = opaque;
	struct total **at;

	for (struct link *link = targets->dead; link; link = link->next) {
		if (link->prog_id == prog_id)
			link->prog_id = 0;
	}
	for (at = &targets->totals; *at; at = &(*at)->next) {
		struct total *total = *at;

		if (total->prog_id != prog_id)
			continue;
		*at = total->next;
		free(total);
		return;
	}
}

/* --- who has which ------------------------------------------------------------------------------
 */

void ub_daemon_links_drop_all(struct targets *targets)
{
	while (targets->links)
		link_remove(targets, targets->links->id);
}

bool ub_daemon_link_covers(const struct link *link, const struct target *target)
{
	const struct session *session = link->session;

	if (!link->enabled || ub_daemon_session_excludes(session, target->pid))
		return false;
	if (link->pid > 0)
		return link->pid == target->pid;
	if (session->only_pids)
		return ub_daemon_session_names(session, target->pid);
	return target->uid == session->uid;
}

static int check_pid(struct targets *targets, pid_t pid, pid_t *tgid, struct ub_reason *why)
{
	struct ub_procfs_status status;

	if (ub_procfs_status(pid, &status))
		return ub_reason_set(why, -ESRCH, "no process %d", pid);
	if (status.state == 'Z' || status.state == 'X')
		return ub_reason_set(why, -ESRCH,
				     "process %d (%s) has ended and waits for its parent", pid,
				     status.comm);
	if (!status.has_memory)
		return ub_reason_set(why, -ESRCH, "%d (%s) is a kernel thread", pid, status.comm);
	if (status.tgid == getpid() || status.tgid == targets->daemon->guard_pid)
		return ub_reason_set(why, -EINVAL, "process %d is ubpf-run's own daemon", pid);
	*tgid = status.tgid;
	return 0;
}

static int update_named(struct targets *targets, pid_t pid, struct ub_reason *why)
{
	struct target *target = ub_daemon_target_get(targets, pid);
	struct ub_reason ours = {};
	int err;

	if (!target)
		return ub_reason_set(why, -errno, "process %d: %s", pid, strerror(errno));
	target->dirty = true;
	err = ub_daemon_target_update(target, &ours);
	if (why)
		*why = ours;
	/* Unmapped between our look and the plan, or it executes one program after another: the
	 * tick tries again. */
	if ((err == -ENOENT && !ours.text[0]) || err == -EAGAIN)
		return 0;
	return err;
}

/* Brings the processes that one new link names up to date. */
static int place(struct targets *targets, struct link *link, struct ub_reason *why)
{
	const struct session *session = link->session;

	if (link->pid > 0)
		return update_named(targets, link->pid, why);
	for (u32 i = 0; i < session->nr_pids; i++) {
		struct ub_reason ours = {};

		/* A tool that asks for all processes is not told of one that can't be reached. */
		if (update_named(targets, session->pids[i], &ours)) {
			link->nr_refused++;
			ub_daemon_session_note(link->session, "pid %d: %s", session->pids[i],
					       ours.text);
		}
	}
	return 0;
}

static int attach(void *opaque, const struct ub_link_view *views, u32 nr, struct ub_caller *caller,
		  struct ub_reason *why)
{
	struct targets *targets = opaque;
	struct session *session = NULL;
	struct ub_reason ours = {};
	bool everywhere = false;
	int err = 0;
	u32 done;

	for (done = 0; done < nr && !err; done++) {
		struct ub_link_view view = views[done];
		struct link *link;

		session = ub_daemon_session_find(targets->daemon, view.session);
		if (!session)
			err = -EINVAL;
		else if (view.pid > 0)
			err = check_pid(targets, view.pid, &view.pid, &ours);
		if (err)
			break;
		link = link_new(targets, &view, session);
		if (!link) {
			err = -ENOMEM;
			break;
		}
		link_append(targets, link);
		ub_daemon_log(targets->daemon, "link %u: %s+0x%llx%s pid %d (%llx:%llu)", link->id,
			      link->path, (unsigned long long)link->offset,
			      link->is_return ? " return" : "", link->pid,
			      (unsigned long long)link->dev, (unsigned long long)link->ino);
		if (link->pid > 0)
			ub_daemon_session_include(session, link->pid);
		everywhere |= link->pid < 0 && !session->only_pids;
	}
	/* All links are there: the first update of each process puts all of them in at one stop. */
	for (u32 i = 0; i < done && !err; i++)
		err = place(targets, ub_daemon_link_find(targets, views[i].link_id), &ours);
	if (err) {
		/* An errno is all that bpf(2) can say; our own loader asks for the rest. */
		if (session)
			session->refusal = ours;
		if (why)
			*why = ours;
		for (u32 i = 0; i < done; i++)
			link_remove(targets, views[i].link_id);
		ub_daemon_targets_flush(targets);
		return err;
	}
	if (everywhere)
		ub_daemon_census_take(targets->census);
	return 0;
}

static void detach(void *opaque, const u32 *link_ids, u32 nr)
{
	struct targets *targets = opaque;

	for (u32 i = 0; i < nr; i++)
		link_remove(targets, link_ids[i]);
	/* Counting stops now where nothing else counts; the bytes go with the flush, many at once.
	 */
	for (struct target *target = targets->list; target; target = target->next) {
		bool wanted = false;

		for (u32 i = 0; i < target->nr_links && !wanted; i++)
			wanted = ub_daemon_link_find(targets, target->links[i]) != NULL;
		if (target->image && !wanted)
			ub_image_enable(target->image, false);
	}
}

static void enable(void *opaque, u32 link_id, bool enabled)
{
	struct targets *targets = opaque;
	struct link *link = ub_daemon_link_find(targets, link_id);

	if (!link || link->enabled == enabled)
		return;
	link->enabled = enabled;
	if (!enabled) {
		mark_targets_of(targets, link_id);
	} else {
		if (place(targets, link, NULL))
			return;
		if (link->pid < 0 && !link->session->only_pids)
			ub_daemon_census_take(targets->census);
	}
}

void ub_daemon_link_counters(struct targets *targets, const struct link *link, u64 *hits,
			     u64 *misses)
{
	*hits = link->hits;
	*misses = link->misses;
	for (struct target *target = targets->list; target; target = target->next) {
		u64 more_hits = 0, more_misses = 0;

		if (ub_daemon_target_has(target, link->id)) {
			ub_image_counters(target->image, link->id, &more_hits, &more_misses);
			*hits += more_hits;
			*misses += more_misses;
		}
		for (struct leaving *leaving = target->leaving; leaving; leaving = leaving->next) {
			for (u32 i = 0; i < leaving->nr_links; i++) {
				if (leaving->links[i] != link->id)
					continue;
				more_hits = more_misses = 0;
				ub_image_counters(leaving->image, link->id, &more_hits,
						  &more_misses);
				*hits += more_hits;
				*misses += more_misses;
			}
		}
	}
}

static void counters(void *opaque, u32 link_id, u64 *hits, u64 *misses)
{
	struct targets *targets = opaque;
	const struct link *link = ub_daemon_link_find(targets, link_id);

	*hits = *misses = 0;
	if (link)
		ub_daemon_link_counters(targets, link, hits, misses);
}

static void log_line(void *opaque, u64 session_id, const char *text)
{
	struct targets *targets = opaque;
	struct session *session = ub_daemon_session_find(targets->daemon, session_id);

	if (session)
		ub_daemon_session_note(session, "%s", text);
	else
		ub_daemon_log(targets->daemon, "%s", text);
}

static void trace(void *opaque, const char *line, size_t size)
{
	struct targets *targets = opaque;

	ub_daemon_trace_line(targets->daemon->trace, line, size);
	ub_daemon_log(targets->daemon, "%.*s", (int)size, line);
}

/*
 * An inner map or a program of a PROG_ARRAY changes. What goes is out of reach when this returns
 * (threads that are in a program may end it, as in the kernel). What comes is there in every
 * process that can be stopped; in others it will be, and until then there is nothing.
 */
static void map_changed(void *opaque, struct ub_kernel_map *map)
{
	struct targets *targets = opaque;
	const u32 type = ub_kernel_map_attr(map)->type;
	const u32 id = ub_kernel_map_id(map);

	/* Others that hold objects (perf events) are looked into by the kernel alone. */
	if (type != BPF_MAP_TYPE_PROG_ARRAY && type != BPF_MAP_TYPE_ARRAY_OF_MAPS &&
	    type != BPF_MAP_TYPE_HASH_OF_MAPS)
		return;
	for (struct target *target = targets->list; target; target = target->next) {
		for (struct leaving *leaving = target->leaving; leaving; leaving = leaving->next)
			(void)ub_daemon_parts_changed(leaving->image, map);
		if (!target->image || !ub_image_has_map(target->image, id) ||
		    !ub_daemon_parts_changed(target->image, map))
			continue;
		target->stale = true;
		target->dirty = true;
		if (ub_daemon_target_update(target, NULL))
			continue; /* dirty still: tried again, and said, by the next flush */
	}
}

const struct ub_kernel_ops ub_daemon_targets_kernel_ops = {
	.attach = attach,
	.detach = detach,
	.enable = enable,
	.counters = counters,
	.log = log_line,
	.trace = trace,
	.map_changed = map_changed,
	.program_counters = program_counters,
	.program_gone = program_gone,
};

static int exclude(struct targets *targets, struct session *only, struct target *target, pid_t pid)
{
	int nr = 0;

	for (struct link *link = targets->links; link; link = link->next) {
		if (only && link->session != only)
			continue;
		if (target && ub_daemon_target_has(target, link->id))
			nr++;
		ub_daemon_session_exclude(link->session, pid);
	}
	if (target) {
		target->dirty = true;
		target->retry_at_ms = 0;
	}
	return nr;
}

int ub_daemon_targets_exclude(struct targets *targets, struct session *session, pid_t pid)
{
	int nr = exclude(targets, session, ub_daemon_target_find(targets, pid), pid);

	ub_daemon_targets_flush(targets);
	return nr;
}

int ub_daemon_targets_exclude_all(struct targets *targets, struct session *session)
{
	int nr = 0;

	for (struct target *target = targets->list; target; target = target->next)
		nr += exclude(targets, session, target, target->pid);
	ub_daemon_targets_flush(targets);
	return nr;
}
