// SPDX-License-Identifier: MIT
/*
 * Files by which tools ask about the kernel's probes, where the machine's own are missing, not
 * readable for the user, or speak of the wrong kernel: opened by a client under the listener,
 * answered with a memfd; and what statfs(2) and readlink(2) say of such. Everything else goes to
 * the real kernel, so this is no sandbox and need not be: that the path may be changed after it was
 * looked at harms nobody.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include <common/cleanup.h>

#define MAX_PATH 128
#define PAGE	 4096

/* Reads a string of the caller's of less than @size bytes; false: longer, or not there. */
static bool read_path(struct caller *caller, u64 address, char *path, size_t size)
{
	size_t done = 0;

	/* Not beyond its end into a page that may not exist. */
	while (done < size) {
		size_t part = PAGE - (address + done) % PAGE;

		if (part > size - done)
			part = size - done;
		if (caller->base.read(&caller->base, address + done, path + done, part))
			return false;
		if (memchr(path + done, '\0', part))
			return true;
		done += part;
	}
	return false;
}

static int content_fd(const char *text, size_t size)
{
	_cleanup_close_ int fd = memfd_create("ubpf-run:file", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET))
		return -errno;
	return TAKE_FD(fd);
}

/* Our lines after the real ones. */
static int fdinfo_fd(struct ub_daemon *daemon, struct caller *caller, int fd)
{
	char text[4096], path[64];
	_cleanup_close_ int real = -1;
	ssize_t size;
	int more;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", caller->base.pid, fd);
	real = open(path, O_RDONLY | O_CLOEXEC);
	size = real < 0 ? -1 : read(real, text, sizeof(text) - 1024);
	if (size < 0)
		return -errno;
	more = ub_kernel_fdinfo(daemon->kernel, &caller->base, fd, text + size, 1024);
	if (more < 0)
		return more;
	return content_fd(text, (size_t)size + (size_t)(more < 1024 ? more : 1023));
}

/* The number in /proc/self/@what/N or /proc/PID/@what/N of the caller's own, or -1. */
static int fd_number(const struct caller *caller, const char *what, const char *path)
{
	char own[64], self[64], *end;
	const char *digits;
	long fd;

	snprintf(own, sizeof(own), "/proc/%d/%s/", caller->base.pid, what);
	snprintf(self, sizeof(self), "/proc/self/%s/", what);
	if (!strncmp(path, own, strlen(own)))
		digits = path + strlen(own);
	else if (!strncmp(path, self, strlen(self)))
		digits = path + strlen(self);
	else
		return -1;
	fd = strtol(digits, &end, 10);
	return *digits && !*end && fd >= 0 && fd <= INT32_MAX ? (int)fd : -1;
}

static bool is_one_of(const char *path, const char *const *names, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(path, names[i]))
			return true;
	}
	return false;
}

/* Descriptor, or -errno: not a file of ours. */
static int open_ours(struct ub_daemon *daemon, struct caller *caller, const char *path, u64 flags)
{
	/* Read to find probes made through them: there are none. */
	static const char *const empty[] = {
		"/sys/kernel/tracing/uprobe_events",
		"/sys/kernel/tracing/kprobe_events",
		"/sys/kernel/debug/tracing/uprobe_events",
		"/sys/kernel/debug/tracing/kprobe_events",
	};
	static const char *const traces[] = {
		"/sys/kernel/tracing/trace_pipe",
		"/sys/kernel/debug/tracing/trace_pipe",
	};
	char text[32];
	int fd;

	if (is_one_of(path, traces, ub_array_size(traces)))
		return ub_daemon_trace_open(daemon->trace, flags & O_NONBLOCK);
	if (is_one_of(path, empty, ub_array_size(empty)))
		return content_fd("", 0);
	if (!strcmp(path, "/sys/bus/event_source/devices/uprobe/type")) {
		snprintf(text, sizeof(text), "%u\n", ub_kernel_uprobe_type(daemon->kernel));
		return content_fd(text, strlen(text));
	}
	if (!strcmp(path, "/sys/bus/event_source/devices/uprobe/format/retprobe"))
		return content_fd("config:0\n", 9);
	if (!strcmp(path, "/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset"))
		return content_fd("config:32-63\n", 13);
	fd = fd_number(caller, "fdinfo", path);
	return fd < 0 ? -ENOENT : fdinfo_fd(daemon, caller, fd);
}

static void call_open(struct ub_daemon *daemon, struct caller *caller, const char *path, u64 flags,
		      struct ub_reply *reply)
{
	int fd = open_ours(daemon, caller, path, flags);

	if (fd < 0)
		return;
	reply->fd = fd;
	reply->fd_flags = flags & O_CLOEXEC;
	reply->pass = false;
}

/* By the name of an fd's link tools tell what it is. */
static void call_readlink(struct ub_daemon *daemon, struct caller *caller, const char *path,
			  u64 buffer, s64 size, struct ub_reply *reply)
{
	int fd = fd_number(caller, "fd", path);
	const char *name = fd < 0 ? NULL : ub_kernel_file_name(daemon->kernel, &caller->base, fd);
	size_t length;

	if (!name || size <= 0)
		return;
	length = strlen(name);
	if (length > (u64)size)
		length = (size_t)size;
	reply->value = caller->base.write(&caller->base, buffer, name, length);
	if (!reply->value)
		reply->value = (s64)length;
	reply->pass = false;
}

/* Whether bpffs and tracefs are there is asked by their magic numbers. */
static void call_statfs(struct caller *caller, const char *path, u64 buffer, struct ub_reply *reply)
{
	static const struct {
		const char *path;
		s64 magic;
	} mounts[] = {
		{ "/sys/fs/bpf", BPF_FS_MAGIC },
		{ "/sys/kernel/tracing", TRACEFS_MAGIC },
		{ "/sys/kernel/debug/tracing", TRACEFS_MAGIC },
	};
	struct statfs answer = { .f_bsize = PAGE, .f_frsize = PAGE, .f_namelen = NAME_MAX };

	for (size_t i = 0; i < ub_array_size(mounts); i++) {
		size_t length = strlen(mounts[i].path);

		if (strncmp(path, mounts[i].path, length) != 0 ||
		    (path[length] && path[length] != '/'))
			continue;
		answer.f_type = mounts[i].magic;
		reply->value = caller->base.write(&caller->base, buffer, &answer, sizeof(answer));
		reply->pass = false;
	}
}

bool ub_daemon_file_call(struct ub_daemon *daemon, struct caller *caller,
			 const struct ub_call *call, struct ub_reply *reply)
{
	bool at = call->nr == SYS_openat || call->nr == SYS_readlinkat;
	const u64 *args = call->args + at; /* after the directory */
	char path[MAX_PATH];

	if (!at && call->nr != SYS_open && call->nr != SYS_readlink && call->nr != SYS_statfs)
		return false;
	reply->pass = true;
	if (!read_path(caller, args[0], path, sizeof(path)) ||
	    (strncmp(path, "/sys/", 5) != 0 && strncmp(path, "/proc/", 6) != 0))
		return true;
	if (call->nr == SYS_statfs)
		call_statfs(caller, path, args[1], reply);
	else if (call->nr == SYS_readlink || call->nr == SYS_readlinkat)
		call_readlink(daemon, caller, path, args[1], (s64)args[2], reply);
	else
		call_open(daemon, caller, path, args[1], reply);
	return true;
}
