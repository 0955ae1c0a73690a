// SPDX-License-Identifier: MIT
#include <hook/filter.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>

/* The number behind @key, which begins a line of @status; @otherwise if there is none. */
static u64 number_of(const char *status, const char *key, u64 otherwise)
{
	const char *at = strstr(status, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : otherwise;
}

bool ub_filter_on(const char *proc, bool own_first)
{
	_cleanup_close_ int fd = -1;
	char path[96], status[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/status", proc);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	if (n <= 0)
		return false;
	status[n] = '\0';
	if (!number_of(status, "\nSeccomp:", 0))
		return false;
	/* How many they are Linux says since 5.9: without that none is known to be harmless. */
	return !own_first || number_of(status, "\nSeccomp_filters:", 0) != 1;
}

bool ub_filter_on_any(pid_t pid, bool own_first)
{
	struct dirent *entry;
	bool found = false;
	char path[96];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && !found && (entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, tid);
		found = tid > 0 && ub_filter_on(path, own_first);
	}
	if (tasks)
		closedir(tasks);
	return found;
}
