// SPDX-License-Identifier: MIT
#include <common/proc.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <common/cleanup.h>

#define FIRST_SIZE 4096

static int open_file(const char *proc, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", proc, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESRCH : -errno;
	return fd;
}

int ub_proc_status_read(const char *proc, char **text)
{
	_cleanup_close_ int fd = open_file(proc, "status");
	_cleanup_free_ char *all = NULL;
	size_t used = 0, size = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	do {
		if (size - used < 2) {
			char *grown = realloc(all, size ? size * 2 : FIRST_SIZE);

			if (!grown)
				return -ENOMEM;
			all = grown;
			size = size ? size * 2 : FIRST_SIZE;
		}
		n = read(fd, all + used, size - used - 1);
		if (n < 0)
			return -errno;
		used += (size_t)n;
	} while (n);
	if (!used)
		return -ESRCH;
	all[used] = '\0';
	*text = TAKE_PTR(all);
	return 0;
}

const char *ub_proc_status_field(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *at = text; (at = strstr(at, key)); at += length) {
		if (at > text && at[-1] == '\n' && at[length] == ':')
			return at + length + 1;
	}
	return "";
}

int ub_proc_status(const char *proc, const char *key, int base, u64 *value)
{
	_cleanup_free_ char *text = NULL;
	const char *field;
	int err = ub_proc_status_read(proc, &text);

	if (err)
		return err;
	field = ub_proc_status_field(text, key);
	if (!*field)
		return -ENOENT;
	*value = strtoull(field, NULL, base);
	return 0;
}

int ub_proc_stat_read(const char *proc, char text[UB_PROC_STAT_MAX])
{
	_cleanup_close_ int fd = open_file(proc, "stat");
	ssize_t n = fd < 0 ? fd : read(fd, text, UB_PROC_STAT_MAX - 1);

	if (fd < 0)
		return fd;
	if (n <= 0)
		return n ? -errno : -ESRCH;
	text[n] = '\0';
	return 0;
}

const char *ub_proc_stat_field(const char *text, int field)
{
	/* The name in field 2 may hold anything. */
	const char *at = strrchr(text, ')');

	for (int i = 2; at && i < field; i++)
		at = strchr(at + 1, ' ');
	return at ? at + 1 : "";
}

static int read_stat_of(int pid, char text[UB_PROC_STAT_MAX])
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	return ub_proc_stat_read(proc, text);
}

u64 ub_proc_start_time(int pid)
{
	char text[UB_PROC_STAT_MAX];

	if (read_stat_of(pid, text))
		return 0;
	return strtoull(ub_proc_stat_field(text, UB_PROC_STAT_START_TIME), NULL, 10);
}

u32 ub_proc_pid_namespace(const char *proc)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/ns/pid", proc);
	return stat(path, &st) ? 0 : (u32)st.st_ino;
}

bool ub_proc_lives(int pid, u64 start_time)
{
	char text[UB_PROC_STAT_MAX], state;

	if (read_stat_of(pid, text))
		return false;
	state = *ub_proc_stat_field(text, UB_PROC_STAT_STATE);
	return state != 'Z' && state != 'X' &&
	       strtoull(ub_proc_stat_field(text, UB_PROC_STAT_START_TIME), NULL, 10) == start_time;
}

bool ub_proc_stopped(int pid)
{
	char text[UB_PROC_STAT_MAX], state;

	if (pid <= 0 || read_stat_of(pid, text))
		return false;
	state = *ub_proc_stat_field(text, UB_PROC_STAT_STATE);
	return state == 'T' || state == 't';
}
