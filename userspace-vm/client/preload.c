// SPDX-License-Identifier: MIT
/*
 * libubpf-preload.so: the interposition for a tool that we did not link, where no seccomp listener
 * can be had. Joins the session that `ubpf-run exec` began, and answers what the filter would have
 * (UB_FILTER_AS_ROOT, daemon/files.c).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interpose.h"
#include "private.h"

#define PUBLIC __attribute__((visibility("default")))

static bool as_root;

static void tell_lost(void)
{
	dprintf(STDERR_FILENO,
		"ubpf-run: " UB_CLIENT_LOST ", and bpf calls of %s fail from now on: start it "
		"again\n",
		program_invocation_short_name);
}

__attribute__((constructor)) static void join_session(void)
{
	const char *number = getenv("UBPF_SESSION");
	u64 session = number ? strtoull(number, NULL, 10) : 0;
	int sock;

	if (!session)
		return;
	as_root = getenv("UBPF_AS_ROOT") != NULL;
	sock = ub_client_join(session, NULL);
	if (sock >= 0)
		ub_interpose_start(sock, session, tell_lost);
}

PUBLIC uid_t geteuid(void)
{
	return as_root ? 0 : (uid_t)ub_raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}

PUBLIC int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (as_root)
		return 0;
	return (int)ub_interposed_error(
		ub_raw_syscall(SYS_prlimit64, 0, (long)resource, (long)limit, 0, 0, 0));
}

/* Files under /sys/kernel are asked of the daemon, which passes what it does not know. */
static int open_file(const char *path, int flags, mode_t mode)
{
	if (as_root && path && !strncmp(path, "/sys/kernel/", 12))
		return (int)ub_interposed_syscall(SYS_openat, AT_FDCWD, (long)path, flags,
						  (long)mode, 0, 0);
	return (int)ub_interposed_error(
		ub_raw_syscall(SYS_openat, AT_FDCWD, (long)path, flags, (long)mode, 0, 0));
}

PUBLIC int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return open_file(path, flags, mode);
}

PUBLIC int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return open_file(path, flags | O_LARGEFILE, mode);
}

/* stdio opens its files by itself. */
PUBLIC FILE *fopen(const char *path, const char *mode)
{
	static FILE *(*next)(const char *path, const char *mode);
	int fd = -1;

	if (as_root && path && mode && mode[0] == 'r' && !strncmp(path, "/sys/kernel/", 12))
		fd = open_file(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0)
		return fdopen(fd, "r");
	if (!next)
		next = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
	if (next)
		return next(path, mode);
	errno = ENOSYS;
	return NULL;
}

/* What open() is under _FORTIFY_SOURCE. */
PUBLIC int __open_2(const char *path, int flags);
PUBLIC int __open64_2(const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return open_file(path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_file(path, flags | O_LARGEFILE, 0);
}
