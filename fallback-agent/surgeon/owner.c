/* SPDX-License-Identifier: MIT */
/*
 * Whether who operated on a target lives: its site table names him by number and start time.
 *
 * The number is that of his pid namespace. A target in a container holds what the container's own
 * daemon brought, or the host's; who cleans up may be in either, and on the host there is always
 * another process by that number, or none. So a number of another namespace is looked for among all
 * processes, each of which tells its numbers in all namespaces that it is in. Whoever is not found
 * is dead if he would be seen: by the first namespace, which sees everybody, or if the target is of
 * his namespace, since we see that. Of anybody else nothing can be said; he is let be.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/recorded.h>

#define FIRST_NAMESPACE 0xeffffffcu /* Linux: PROC_PID_INIT_INO */

/* @proc's number in the innermost pid namespace that it is in: the last of the line. */
static u32 innermost_pid(const char *proc)
{
	_cleanup_free_ char *text = NULL;
	const char *at;
	u32 pid = 0;
	int n;

	if (ub_proc_status_read(proc, &text))
		return 0;
	for (at = ub_proc_status_field(text, "NSpid"); sscanf(at, "%*[ \t]%u%n", &pid, &n) == 1;)
		at += n;
	return pid;
}

/* Among the processes that we see; 1, 0 or -1: there is no looking. */
static int is_seen(const struct ub_site_table *table)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int found = dir ? 0 : -1;

	while (!found && (entry = readdir(dir))) {
		char proc[32];
		int pid = atoi(entry->d_name);

		snprintf(proc, sizeof(proc), "/proc/%d", pid);
		found = pid > 0 && ub_proc_lives(pid, table->owner_start) &&
			innermost_pid(proc) == table->owner_pid;
	}
	if (dir)
		closedir(dir);
	return found;
}

bool ub_owner_is_here(const struct ub_site_table *table)
{
	return !table->owner_pidns || table->owner_pidns == ub_proc_pid_namespace("/proc/self");
}

bool ub_owner_lives(const struct ub_target *t, const struct ub_site_table *table)
{
	int seen;

	if (!table->owner_pid)
		return false;
	if (ub_owner_is_here(table))
		return ub_proc_lives((int)table->owner_pid, table->owner_start);
	seen = is_seen(table);
	if (seen)
		return true;
	return ub_proc_pid_namespace("/proc/self") != FIRST_NAMESPACE &&
	       ub_proc_pid_namespace(t->proc) != table->owner_pidns;
}
