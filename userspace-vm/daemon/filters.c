// SPDX-License-Identifier: MIT
/*
 * Processes that put themselves under a seccomp filter while they hold an image. Nothing tells of
 * it, so they are looked at from every tick, all threads, a few processes at a time: this takes no
 * more than a fiftieth of a CPU. A filter is thus known a tenth of a second after it came, and
 * later where there are more than a hundred threads (20 us each, 50 times). Until then a program's
 * helper may make a system call that the filter kills for: reading the heap, waking the daemon.
 * Afterwards none does, and what needs one fails.
 */
#include "targets.h"

#include <common/clock.h>
#include <hook/filter.h>
#include <hook/image.h>

#define SHARE  50
#define MAX_US 2000 /* at a time */

static void look(struct target *target)
{
	const bool own = ub_daemon_listener_has(target->targets->daemon, target->pid);

	if (!target->image || ub_image_forbids_syscalls(target->image) ||
	    !ub_filter_on_any(target->pid, own, target->nr_passing_filters))
		return;
	ub_daemon_log(target->targets->daemon, "pid %d: under a seccomp filter now", target->pid);
	ub_image_forbid_syscalls(target->image, true);
	for (struct leaving *leaving = target->leaving; leaving; leaving = leaving->next)
		ub_image_forbid_syscalls(leaving->image, true);
}

void ub_daemon_filters_look(struct targets *targets)
{
	u64 start = ub_now_ns() / 1000, spent = 0;

	if (start < targets->filters_at_us)
		return;
	for (struct target *target = targets->list; target; target = target->next) {
		if (target->filters_round == targets->filters_round)
			continue;
		target->filters_round = targets->filters_round;
		look(target);
		spent = ub_now_ns() / 1000 - start;
		if (spent >= MAX_US)
			break;
	}
	/* All of them were looked at: from the first on again. */
	if (spent < MAX_US)
		targets->filters_round++;
	targets->filters_at_us = start + SHARE * spent;
}
