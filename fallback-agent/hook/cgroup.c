// SPDX-License-Identifier: MIT
/*
 * A process's control group as BPF programs number it: the inode of its directory in the unified
 * hierarchy (cgroup_id() in Linux).
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <common/cleanup.h>
#include <hook/image_build.h>

#define ROOT_ID 1 /* of the hierarchy itself, rather than of a namespace's root */

/* Where the whole of the unified hierarchy is mounted, or false. */
static bool find_mount(char *path, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[PATH_MAX + 256], root[256], at[PATH_MAX];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, " - cgroup2 ") ||
		    sscanf(line, "%*s %*s %*s %255s %4095s", root, at) != 2)
			continue;
		if (strcmp(root, "/") || strlen(at) >= size)
			continue;
		strcpy(path, at);
		return true;
	}
	return false;
}

/* The path behind "0::" in /proc/PID/cgroup, without the line's end, or false. */
static bool find_group(pid_t pid, char *group, size_t size)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64], line[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		/* Outside the daemon's own cgroup namespace: nothing that could be looked up. */
		if (strncmp(line, "0::/", 4) || strstr(line, "/..") || strlen(line + 3) >= size)
			continue;
		strcpy(group, line + 3);
		return true;
	}
	return false;
}

void ub_cgroup_find(pid_t pid, struct ub_process *process)
{
	char path[2 * PATH_MAX], group[PATH_MAX];
	size_t length;
	struct stat st;
	char *at = group;

	if (!find_group(pid, group, sizeof(group)) || !find_mount(path, PATH_MAX))
		return;
	if (stat(path, &st))
		return;
	process->cgroup_id = st.st_ino;
	process->cgroups[process->nr_cgroups++] = st.st_ino;
	length = strlen(path);
	for (char *name; (name = strsep(&at, "/"));) {
		if (!*name)
			continue;
		length += (size_t)snprintf(path + length, sizeof(path) - length, "/%s", name);
		if (stat(path, &st)) {
			process->cgroup_id = 0;
			break;
		}
		process->cgroup_id = st.st_ino;
		if (process->nr_cgroups < UB_MAX_CGROUPS)
			process->cgroups[process->nr_cgroups++] = st.st_ino;
	}
	process->nr_lineage = process->nr_cgroups;
	/* Seen from a namespace of its own the levels are not the kernel's. */
	if (process->cgroups[0] != ROOT_ID || !process->cgroup_id)
		process->nr_cgroups = 0;
}
