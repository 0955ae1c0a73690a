// SPDX-License-Identifier: MIT
/*
 * Whether two processes run in the same memory.
 *
 * kcmp(2) says so, and is not always there: kernels are built without it, and the filters of
 * containers forbid it. Then it is proved: what a process may dump into a core file
 * (/proc/PID/coredump_filter) belongs to its memory, so a bit that is turned through one process is
 * turned in the other if they share it, and stays as it was in one that forked. It is the bit of
 * shared pages of persistent memory mapped past the page cache, which matters to nobody for the
 * microseconds until it is turned back. A surgeon that is killed meanwhile has noted it for its
 * caller.
 *
 * Where that file can't be written, two memories can still be told apart by how large they have
 * been at most. If not even that differs nobody knows, and says so.
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
		return n && (errno == EACCES || errno == EPERM) ? -EPERM : -ESRCH;
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
	static const int fields[] = { 26, 27, 28, 45, 46, 47, 48, 49, 50, 51 };
	char proc[64], text[UB_PROC_STAT_MAX];
	int err;

	_Static_assert(ub_array_size(fields) == ub_array_size(layout->at), "a field each");
	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	err = ub_proc_stat_read(proc, text);
	if (err)
		return err == -EACCES || err == -EPERM ? -EPERM : -ESRCH;
	for (u32 i = 0; i < ub_array_size(fields); i++)
		layout->at[i] = strtoul(ub_proc_stat_field(text, fields[i]), NULL, 10);
	return 0;
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

static struct ub_target *tried_for; /* whoever is told of what must be turned back */

void ub_sharing_report(struct ub_target *t)
{
	tried_for = t;
}

void ub_sharing_undo(struct ub_report *report)
{
	const unsigned long turned = report->tried_filter ^ DUMP_DAX_SHARED;
	_cleanup_close_ int fd = -1;
	unsigned long now = 0;
	char path[64];

	if (!report->tried_pid)
		return;
	snprintf(path, sizeof(path), "/proc/%d/coredump_filter", report->tried_pid);
	/* Another process by that number has another filter, most likely. */
	if (!read_filter(report->tried_pid, &now) && now == turned) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		(void)!(fd >= 0 && write_filter(fd, report->tried_filter));
	}
	report->tried_pid = 0;
}

static void note(pid_t pid, unsigned long filter)
{
	if (!tried_for)
		return;
	tried_for->report->tried_filter = filter;
	tried_for->report->tried_pid = pid;
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
	note(a, before);
	err = write_filter(fd, before ^ DUMP_DAX_SHARED);
	if (!err)
		err = read_filter(b, &now);
	if (tried_for)
		(void)ub_fault(tried_for, UB_FAULT_sharing);
	if (write_filter(fd, before) && !err)
		err = -errno;
	note(0, 0);
	return err ? err : now != before;
}

/* The most that a memory has been, which grows only. */
struct peaks {
	unsigned long at[2];
};

static int read_peaks(pid_t pid, struct peaks *peaks)
{
	static const char *const keys[] = { "VmPeak", "VmHWM" };
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	for (u32 i = 0; i < ub_array_size(keys); i++) {
		u64 value;
		int err = ub_proc_status(proc, keys[i], 10, &value);

		if (err) /* a dead one has no such lines */
			return err == -ENOENT ? -ESRCH : err;
		peaks->at[i] = value;
	}
	return 0;
}

/* 0: @b's peaks are not between what @a's were before and are after, so these are two memories.
 * -EPERM: they may be one. */
static int compare_peaks(pid_t a, pid_t b)
{
	struct peaks low = { 0 }, other = { 0 }, high = { 0 };
	int err = read_peaks(a, &low);

	if (!err)
		err = read_peaks(b, &other);
	if (!err)
		err = read_peaks(a, &high);
	for (u32 i = 0; !err && i < ub_array_size(low.at); i++) {
		if (low.at[i] <= high.at[i] &&
		    (other.at[i] < low.at[i] || other.at[i] > high.at[i]))
			return 0;
	}
	return err ? err : -EPERM;
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
	err = of_a.at[2] ? prove(a, b) : -EPERM;
	return err < 0 && err != -ESRCH ? compare_peaks(a, b) : err;
}

int ub_shares(const struct ub_target *t, pid_t pid, struct ub_reason *why)
{
	int same = ub_same_memory(t->alive, pid);

	if (same >= 0 || same == -ESRCH)
		return same == 1;
	return ub_reason_set(
		why, -EPERM,
		"process %d may share the memory of process %d, which can't be found out here: kcmp(2) is "
		"forbidden and /proc/%d/coredump_filter can't be written; run this outside of the "
		"container",
		pid, t->pid, t->pid);
}
