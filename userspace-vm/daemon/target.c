// SPDX-License-Identifier: MIT
/* One target process: when it comes and goes, and which links its image holds. */
#include "targets.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>
#include <hook/image.h>

/* --- links an image holds -----------------------------------------------------------------------
 */

static bool contains(const u32 *ids, u32 nr, u32 id)
{
	for (u32 i = 0; i < nr; i++) {
		if (ids[i] == id)
			return true;
	}
	return false;
}

bool ub_daemon_target_has(const struct target *target, u32 link_id)
{
	return target->image && contains(target->links, target->nr_links, link_id);
}

static void fold(void *targets, u32 link_id, u64 hits, u64 misses)
{
	ub_daemon_link_count(targets, link_id, hits, misses);
}

/* Keeps what @image counted. */
void ub_daemon_targets_fold(struct targets *targets, const struct ub_image *image)
{
	ub_image_count(image, fold, targets);
}

void ub_daemon_target_drop_image(struct target *target)
{
	if (!target->image)
		return;
	ub_daemon_events_target_drain(target->targets->events, target);
	ub_daemon_targets_fold(target->targets, target->image);
	ub_image_free(target->image);
	target->image = NULL;
	free(target->links);
	target->links = NULL;
	target->nr_links = 0;
}

static void ub_daemon_target_drop_leaving(struct target *target)
{
	while (target->leaving) {
		struct leaving *leaving = target->leaving;

		target->leaving = leaving->next;
		ub_daemon_targets_fold(target->targets, leaving->image);
		ub_image_free(leaving->image);
		free(leaving->links);
		free(leaving);
	}
}

/* --- a target's life ----------------------------------------------------------------------------
 */

struct target *ub_daemon_target_find(struct targets *targets, pid_t pid)
{
	struct target *target = targets->list;

	while (target && target->pid != pid)
		target = target->next;
	return target;
}

/* The process ended or exec'd: its image went with its memory. */
void ub_daemon_target_memory_gone(struct target *target)
{
	if (target->image || target->leaving)
		ub_daemon_copies_note(target->targets, target->holds_since);
	ub_daemon_target_drop_image(target);
	ub_daemon_target_drop_leaving(target);
	if (target->mem_fd >= 0)
		close(target->mem_fd);
	target->mem_fd = -1;
	target->nr_failed = 0;
	target->retry_ms = 0;
	target->retry_at_ms = 0;
	target->refused_until_ms = 0;
	target->dirty = true;
}

void ub_daemon_target_free(struct target *target)
{
	struct targets *targets = target->targets;
	struct target **at;

	for (at = &targets->list; *at != target; at = &(*at)->next)
		;
	*at = target->next;
	if (targets->deferred == target)
		targets->deferred = NULL;
	ub_watch_remove(target->watch);
	ub_daemon_target_memory_gone(target);
	close(target->pidfd);
	free(target->failed);
	free(target);
	ub_daemon_links_sweep(targets);
	ub_daemon_check_idle(targets->daemon);
}

static bool is_process_alive(void *opaque, u32 tgid)
{
	struct ub_procfs_status status;

	return ub_procfs_status((pid_t)tgid, &status) == 0 && status.state != 'Z' &&
	       status.state != 'X';
}

static void on_process_end(void *opaque, u32 events)
{
	struct target *target = opaque;
	struct ub_daemon *daemon = target->targets->daemon;
	bool ran_programs = target->generation > 0;

	ub_daemon_log(daemon, "pid %d ended", target->pid);
	ub_daemon_target_free(target);
	/* It may have held elements of maps that it can't give back any more. */
	if (ran_programs && daemon->kernel)
		ub_kernel_sweep(daemon->kernel, is_process_alive, NULL);
}

struct target *ub_daemon_target_get(struct targets *targets, pid_t pid)
{
	struct target *target = ub_daemon_target_find(targets, pid);
	struct ub_procfs_status status;

	if (target)
		return target;
	if (ub_procfs_status(pid, &status) || status.tgid != pid) {
		errno = ESRCH;
		return NULL;
	}
	target = calloc(1, sizeof(*target));
	if (!target)
		return NULL;
	target->targets = targets;
	target->pid = pid;
	target->uid = status.uid;
	target->gid = status.gid;
	target->mem_fd = -1;
	target->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (target->pidfd >= 0)
		target->watch = ub_loop_watch(targets->daemon->loop, target->pidfd, EPOLLIN,
					      on_process_end, target);
	if (!target->watch) {
		int err = errno;

		if (target->pidfd >= 0)
			close(target->pidfd);
		free(target);
		errno = err;
		return NULL;
	}
	target->next = targets->list;
	targets->list = target;
	ub_daemon_targets_start_tick(targets);
	return target;
}

/* Whether the memory that the image was put into is no longer the process's. */
bool ub_daemon_target_execed(const struct target *target)
{
	u8 byte;

	/* The address is mapped or not: only a memory without users reads as end of file. */
	return target->mem_fd >= 0 && pread(target->mem_fd, &byte, 1, 0x1000) == 0;
}

bool ub_daemon_target_ended(const struct target *target)
{
	return poll(&(struct pollfd) { target->pidfd, POLLIN, 0 }, 1, 0) == 1;
}

bool ub_daemon_target_wants(const struct target *target, const struct link *link)
{
	return ub_daemon_link_covers(link, target) &&
	       !contains(target->failed, target->nr_failed, link->id);
}
