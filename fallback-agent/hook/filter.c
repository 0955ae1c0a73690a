// SPDX-License-Identifier: MIT
#include <hook/filter.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/proc.h>

#define MAX_ANCESTORS 64

struct lineage {
	pid_t process, parent;
	u64 nr_filters; /* UNKNOWN before Linux 5.9 */
};

#define UNKNOWN (~0ull)

/* The number behind @key in @status; @otherwise if there is none. */
static u64 number_of(const char *status, const char *key, u64 otherwise)
{
	const char *field = ub_proc_status_field(status, key);

	return *field ? strtoull(field, NULL, 10) : otherwise;
}

static int read_lineage(const char *proc, struct lineage *lineage)
{
	_cleanup_free_ char *status = NULL;
	int err = ub_proc_status_read(proc, &status);

	if (err)
		return err;
	lineage->process = (pid_t)number_of(status, "Tgid", 0);
	lineage->parent = (pid_t)number_of(status, "PPid", 0);
	switch (number_of(status, "Seccomp", 0)) {
	case 0: /* disabled */
		lineage->nr_filters = 0;
		break;
	case 2: /* filters */
		lineage->nr_filters = number_of(status, "Seccomp_filters", UNKNOWN);
		break;
	default: /* read(2), write(2) and no more */
		lineage->nr_filters = UNKNOWN;
	}
	return 0;
}

static int read_lineage_of(pid_t pid, struct lineage *lineage)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	return read_lineage(proc, lineage);
}

/* The nearest of @from and its ancestors that is @stop or whose parent is not in our pid
 * namespace. */
static int climb(struct lineage from, bool (*stop)(pid_t pid), struct lineage *found)
{
	*found = from;
	for (int i = 0; i < MAX_ANCESTORS; i++) {
		if (!found->parent || (stop && stop(found->process)))
			return 0;
		if (read_lineage_of(found->parent, found))
			return -ESRCH;
	}
	return -ELOOP;
}

static bool is_ancestor_of_ours(pid_t pid)
{
	struct lineage at = { .process = getpid(), .parent = getppid() };

	for (int i = 0; i < MAX_ANCESTORS && at.process != pid; i++) {
		if (!at.parent || read_lineage_of(at.parent, &at))
			return false;
	}
	return at.process == pid;
}

/* Whether a process of the engine outside, which started @first and, later, us, gave both the
 * same. */
static bool came_in_like_us(const struct lineage *first, const struct lineage *us)
{
	struct stat theirs, ours;
	struct lineage our_first;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", first->process);
	return !climb(*us, NULL, &our_first) && our_first.nr_filters == us->nr_filters &&
	       !stat(path, &theirs) && !stat("/proc/self/ns/mnt", &ours) &&
	       theirs.st_ino == ours.st_ino;
}

/* How many filters @process shares with us: all of ours, or none that we know of. */
static u64 nr_shared(const struct lineage *process)
{
	struct lineage us, common;

	if (read_lineage("/proc/self", &us) || us.nr_filters == UNKNOWN || !us.nr_filters)
		return 0;
	if (climb(*process, is_ancestor_of_ours, &common) || common.nr_filters != us.nr_filters)
		return 0;
	return is_ancestor_of_ours(common.process) || came_in_like_us(&common, &us) ? us.nr_filters
										    : 0;
}

u32 ub_filters_harmless(const char *proc, bool own_first)
{
	struct lineage process;

	if (read_lineage(proc, &process) || !process.nr_filters)
		return own_first;
	return (u32)nr_shared(&process) + own_first;
}

bool ub_filter_on(const char *proc, u32 nr_harmless)
{
	struct lineage thread;
	int err = read_lineage(proc, &thread);

	/* Of one that can't be looked at the worst is feared. */
	if (err)
		return err != -ESRCH;
	return thread.nr_filters && thread.nr_filters != nr_harmless;
}

bool ub_filter_on_us(void)
{
	struct lineage us;

	return !read_lineage("/proc/self", &us) && us.nr_filters;
}

bool ub_filter_on_any(pid_t pid, bool own_first, u32 nr_passing)
{
	struct dirent *entry;
	bool found = false;
	u32 nr_harmless;
	char path[96];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	nr_harmless = ub_filters_harmless(path, own_first);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return errno != ENOENT;
	while (!found && (entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, tid);
		found = tid > 0 && ub_filter_on(path, nr_harmless) &&
			(!nr_passing || ub_filter_on(path, nr_passing));
	}
	closedir(tasks);
	return found;
}
