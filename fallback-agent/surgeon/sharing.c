// SPDX-License-Identifier: MIT
/*
 * Whether two processes run in the same memory.
 *
 * kcmp(2) says so, and is not always there: kernels are built without it, and the filters of
 * containers forbid it. Then it is proved: what a process may dump into a core file
 * (/proc/PID/coredump_filter) belongs to its memory, so a bit that is turned through one process is
 * turned in the other if they share it, and stays as it was in one that forked. It is the bit of
 * shared pages of persistent memory mapped past the page cache, which matters to nobody for the
 * microseconds until it is turned back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#define DUMP_DAX_SHARED (1ul << 8)

static int read_text(pid_t pid, const char *name, char *text, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (n <= 0)
		return errno == EACCES || errno == EPERM ? -EPERM : -ESRCH;
	text[n] = '\0';
	return 0;
}

/* Where code, data, stack, heap and arguments were when the memory was made by execve(): fields 26
 * to 28 and 45 to 51 of stat, zeros for those who may not know. */
struct layout {
	unsigned long at[10];
};

static int read_layout(pid_t pid, struct layout *layout)
{
	char text[1024], *p, *save = NULL;
	u32 nr = 0;
	int err = read_text(pid, "stat", text, sizeof(text));

	if (err)
		return err;
	p = strrchr(text, ')');
	if (!p)
		return -ESRCH;
	p = strtok_r(p + 1, " ", &save);
	for (u32 field = 3; p && nr < ub_array_size(layout->at); field++) {
		if ((field >= 26 && field <= 28) || (field >= 45 && field <= 51))
			layout->at[nr++] = strtoul(p, NULL, 10);
		p = strtok_r(NULL, " ", &save);
	}
	return nr == ub_array_size(layout->at) ? 0 : -ESRCH;
}

static int read_filter(pid_t pid, unsigned long *filter)
{
	char text[32];
	int err = read_text(pid, "coredump_filter", text, sizeof(text));

	if (!err)
		*filter = strtoul(text, NULL, 16);
	return err;
}

static int write_filter(int fd, unsigned long filter)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "0x%lx", filter);

	return pwrite(fd, text, n, 0) == n ? 0 : -errno;
}

static int prove(pid_t a, pid_t b)
{
	_cleanup_close_ int fd = -1;
	unsigned long before = 0, other = 0, now = 0;
	char path[64];
	int err;

	snprintf(path, sizeof(path), "/proc/%d/coredump_filter", a);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = read_filter(a, &before);
	if (!err)
		err = read_filter(b, &other);
	if (err || other != before)
		return err;
	err = write_filter(fd, before ^ DUMP_DAX_SHARED);
	if (err)
		return err;
	err = read_filter(b, &now);
	if (write_filter(fd, before) && !err)
		err = -errno;
	return err ? err : now != before;
}

int ub_same_memory(pid_t a, pid_t b)
{
	struct layout of_a = { 0 }, of_b = { 0 };
	long same = syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0);
	int err;

	if (same >= 0)
		return !same;
	if (errno == ESRCH)
		return -ESRCH;
	/* Nearly all differ in this, and the rest are forks of each other. */
	err = read_layout(a, &of_a);
	if (!err)
		err = read_layout(b, &of_b);
	if (err || memcmp(&of_a, &of_b, sizeof(of_a)))
		return err;
	return of_a.at[2] ? prove(a, b) : -EPERM;
}
