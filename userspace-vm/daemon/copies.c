// SPDX-License-Identifier: MIT
/*
 * A process that forks while it is attached gives its child a copy of the patched text and of the
 * trampolines. The child runs them without harm and without counting; when the last image leaves
 * the parent, by detach, exit or exec, the children that came meanwhile are cleaned too. That is
 * done from the tick, so that no detach waits for it, and a few at a time: a server may have
 * hundreds.
 */
#include "targets.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <daemon/procfs.h>
#include <surgeon/surgeon.h>

#define MAX_AT_ONCE 16
#define MAX_ROUNDS  50 /* without success: stopped by a debugger, say */

u64 ub_daemon_now_ticks(void)
{
	const u64 hz = (u64)sysconf(_SC_CLK_TCK);
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (u64)ts.tv_sec * hz + (u64)ts.tv_nsec * hz / 1000000000;
}

void ub_daemon_copies_note(struct targets *targets, u64 since)
{
	if (!targets->copies_rounds || since < targets->copies_since)
		targets->copies_since = since;
	targets->copies_rounds = MAX_ROUNDS;
	ub_daemon_targets_start_tick(targets);
}

static bool is_copy(struct targets *targets, pid_t pid)
{
	const struct target *target = ub_daemon_target_find(targets, pid);
	u64 started;

	return !(target && (target->image || target->leaving)) &&
	       !ub_procfs_start_time(pid, &started) && started >= targets->copies_since &&
	       ub_surgeon_find(pid, NULL) == 1;
}

bool ub_daemon_copies_clean(struct targets *targets)
{
	u32 cleaned = 0, left = 0;
	struct dirent *entry;
	DIR *proc;

	if (!targets->copies_rounds)
		return true;
	proc = opendir("/proc");
	while (proc && (entry = readdir(proc))) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		struct ub_reason why = {};
		int n;

		if (pid <= 0 || !is_copy(targets, pid))
			continue;
		if (cleaned >= MAX_AT_ONCE) {
			left++;
			break;
		}
		if (ub_daemon_listener_owes(targets->daemon, pid)) {
			left++;
			continue;
		}
		n = ub_surgeon_repair(pid, ub_daemon_listener_has(targets->daemon, pid), &why);
		ub_daemon_log(targets->daemon, "pid %d: a copy: %s", pid,
			      n < 0 ? why.text : "removed");
		cleaned += n >= 0;
		/* Another daemon's, or not ours to touch. */
		left += n < 0 && n != -ESRCH && n != -EPERM && n != -EBUSY;
	}
	if (proc)
		closedir(proc);
	if (!left)
		targets->copies_rounds = 0;
	else if (!cleaned)
		targets->copies_rounds--;
	return !targets->copies_rounds;
}
