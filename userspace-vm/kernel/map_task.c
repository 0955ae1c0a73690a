// SPDX-License-Identifier: MIT
/*
 * TASK_STORAGE from user space: elements are named by pidfds. In shared memory an element's key is
 * what bpf_get_current_pid_tgid() returns in that thread (helper/identity.c): the thread's id as
 * its process sees it, except for the leader, who is the tgid.
 */
#include <kernel/kinds.h>

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define SWEEP_MS 1000

/* The first number behind @name in a file of /proc, or the last one on that line. */
static bool proc_number(const char *path, const char *name, bool last, s64 *number)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		const char *at = last ? strrchr(line, '\t') : strchr(line, '\t');

		if (at && !strncmp(line, name, strlen(name)))
			return sscanf(at, "%" SCNd64, number) == 1;
	}
	return false;
}

static bool task_key(pid_t tid, u64 *pid_tgid)
{
	s64 tgid, own = tid;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (!proc_number(path, "Tgid:", false, &tgid))
		return false;
	if (tgid != tid && !proc_number(path, "NSpid:", true, &own))
		return false;
	*pid_tgid = (u64)tgid << 32 | (u32)own;
	return true;
}

int ub_kmap_task_key(struct ub_caller *c, s32 fd, u64 *pid_tgid)
{
	char path[48];
	s64 tid;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", c->pid, fd);
	if (!proc_number(path, "Pid:", false, &tid))
		return -EBADF;
	/* -1: reaped, 0: of a pid namespace that is not below ours */
	return tid > 0 && task_key((pid_t)tid, pid_tgid) ? 0 : -ENOENT;
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Whether some thread of the process is known by that key. */
static bool is_thread_of(pid_t tgid, u64 pid_tgid)
{
	_cleanup_(close_dir) DIR *dir = NULL;
	const struct dirent *entry;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/task", tgid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		u64 key;

		if (entry->d_name[0] != '.' && task_key(atoi(entry->d_name), &key) &&
		    key == pid_tgid)
			return true;
	}
	return false;
}

static bool is_alive(u64 pid_tgid)
{
	pid_t tgid = (pid_t)(pid_tgid >> 32), tid = (pid_t)pid_tgid;

	if (!syscall(SYS_tgkill, tgid, tid, 0) || errno == EPERM)
		return true;
	/* In another pid namespace threads have numbers of their own. */
	return (!kill(tgid, 0) || errno == EPERM) && is_thread_of(tgid, pid_tgid);
}

static void sweep(void *opaque)
{
	struct ub_kernel_map *map = opaque;
	u64 key, next;
	int err = ub_map_sys_next_key(&map->map, NULL, &next);

	while (!err) {
		key = next;
		/* Before the element goes, and with it its place. */
		err = ub_map_sys_next_key(&map->map, &key, &next);
		if (!is_alive(key) && ub_map_sys_delete(&map->map, &key))
			break;
	}
	map->task_sweep = ub_loop_after(map->object.kernel->loop, SWEEP_MS, sweep, map);
}

void ub_kmap_task_watch(struct ub_kernel_map *map)
{
	map->task_sweep = ub_loop_after(map->object.kernel->loop, SWEEP_MS, sweep, map);
}
