// SPDX-License-Identifier: MIT
/*
 * libubpf-preload.so: poll(2), select(2) and mmap(2) on files of ours, which must be the right ones
 * for each (kernel/poll.c). The daemon is shown only such calls as may be about them: memory, or
 * the pipe that took its place.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interpose.h"

#define PUBLIC	   __attribute__((visibility("default")))
#define MAX_POLLED 1024 /* as the daemon */

static bool is_pipe(int fd)
{
	return fcntl(fd, F_GETPIPE_SZ) > 0;
}

static bool may_be_ours(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0 || is_pipe(fd);
}

static void show_poll(const struct pollfd *files, nfds_t nr)
{
	int saved = errno;
	bool any = false;

	for (nfds_t i = 0; files && nr <= MAX_POLLED && i < nr && !any; i++)
		any = files[i].fd >= 0 && files[i].events & (POLLIN | POLLRDNORM) &&
		      may_be_ours(files[i].fd);
	errno = saved;
	if (any)
		ub_interposed_show(SYS_poll, (long)files, (long)nr, 0, 0, 0, 0);
}

static void show_select(int nr, const fd_set *reads)
{
	int saved = errno;
	bool any = false;

	for (int fd = 0; reads && nr <= FD_SETSIZE && fd < nr && !any; fd++)
		any = FD_ISSET(fd, reads) && may_be_ours(fd);
	errno = saved;
	if (any)
		ub_interposed_show(SYS_select, nr, (long)reads, 0, 0, 0, 0);
}

/* libc's function of this name: each call is a place where a thread may be cancelled, as libc knows
 * how. */
static void *libc(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

PUBLIC int poll(struct pollfd *files, nfds_t nr, int timeout)
{
	static int (*next)(struct pollfd * files, nfds_t nr, int timeout);

	if (!next)
		next = (int (*)(struct pollfd *, nfds_t, int))libc("poll");
	show_poll(files, nr);
	return next(files, nr, timeout);
}

PUBLIC int ppoll(struct pollfd *files, nfds_t nr, const struct timespec *timeout,
		 const sigset_t *mask)
{
	static int (*next)(struct pollfd * files, nfds_t nr, const struct timespec *timeout,
			   const sigset_t *mask);

	if (!next)
		next = (int (*)(struct pollfd *, nfds_t, const struct timespec *,
				const sigset_t *))libc("ppoll");
	show_poll(files, nr);
	return next(files, nr, timeout, mask);
}

/* What these two are under _FORTIFY_SOURCE. */
PUBLIC int __poll_chk(struct pollfd *files, nfds_t nr, int timeout, size_t size);
PUBLIC int __ppoll_chk(struct pollfd *files, nfds_t nr, const struct timespec *timeout,
		       const sigset_t *mask, size_t size);

int __poll_chk(struct pollfd *files, nfds_t nr, int timeout, size_t size)
{
	if (size / sizeof(*files) < nr)
		abort();
	return poll(files, nr, timeout);
}

int __ppoll_chk(struct pollfd *files, nfds_t nr, const struct timespec *timeout,
		const sigset_t *mask, size_t size)
{
	if (size / sizeof(*files) < nr)
		abort();
	return ppoll(files, nr, timeout, mask);
}

PUBLIC int select(int nr, fd_set *reads, fd_set *writes, fd_set *others, struct timeval *timeout)
{
	static int (*next)(int nr, fd_set *reads, fd_set *writes, fd_set *others,
			   struct timeval *timeout);

	if (!next)
		next = (int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *))libc("select");
	show_select(nr, reads);
	return next(nr, reads, writes, others, timeout);
}

PUBLIC int pselect(int nr, fd_set *reads, fd_set *writes, fd_set *others,
		   const struct timespec *timeout, const sigset_t *mask)
{
	static int (*next)(int nr, fd_set *reads, fd_set *writes, fd_set *others,
			   const struct timespec *timeout, const sigset_t *mask);

	if (!next)
		next = (int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *,
				const sigset_t *))libc("pselect");
	show_select(nr, reads);
	return next(nr, reads, writes, others, timeout, mask);
}

/* 64 bits are what offsets have anyway. */
PUBLIC void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	int saved = errno;

	if (fd >= 0 && is_pipe(fd))
		ub_interposed_show(SYS_mmap, (long)address, (long)size, protection, flags, fd,
				   offset);
	errno = saved;
	return (void *)ub_interposed_error(
		ub_raw_syscall(SYS_mmap, (long)address, (long)size, protection, flags, fd, offset));
}

PUBLIC void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap(address, size, protection, flags, fd, offset);
}
