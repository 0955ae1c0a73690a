// SPDX-License-Identifier: MIT
/*
 * Files by which tools ask about the kernel's probes, where the machine's own are missing, not
 * readable for the user, or speak of the wrong kernel: opened by a client under the listener,
 * answered with a memfd. Everything else goes to the real kernel, so this is no sandbox and need
 * not be: that the path may be changed after it was looked at harms nobody.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* The number in /proc/self/fdinfo/N or /proc/PID/fdinfo/N of the caller's own, or -1. */
static int fdinfo_number(const struct caller *caller, const char *path)
{
	char own[64], *end;
	const char *digits;
	long fd;

	snprintf(own, sizeof(own), "/proc/%d/fdinfo/", caller->base.pid);
	if (!strncmp(path, own, strlen(own)))
		digits = path + strlen(own);
	else if (!strncmp(path, "/proc/self/fdinfo/", 18))
		digits = path + 18;
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
	fd = fdinfo_number(caller, path);
	return fd < 0 ? -ENOENT : fdinfo_fd(daemon, caller, fd);
}

bool ub_daemon_file_call(struct ub_daemon *daemon, struct caller *caller,
			 const struct ub_call *call, struct ub_reply *reply)
{
	char path[MAX_PATH];
	u64 address, flags;

	if (call->nr == SYS_openat) {
		address = call->args[1];
		flags = call->args[2];
	} else if (call->nr == SYS_open) {
		address = call->args[0];
		flags = call->args[1];
	} else {
		return false;
	}
	reply->pass = true;
	if (!read_path(caller, address, path, sizeof(path)) ||
	    (strncmp(path, "/sys/", 5) && strncmp(path, "/proc/", 6)))
		return true;
	reply->fd = open_ours(daemon, caller, path, flags);
	if (reply->fd < 0) {
		reply->fd = -1;
		return true;
	}
	reply->pass = false;
	reply->fd_flags = flags & O_CLOEXEC;
	return true;
}
