// SPDX-License-Identifier: MIT
/*
 * Clients hold real fds, so dup, fork, SCM_RIGHTS and exec work without our help: an object is
 * known by the inode of the file, whatever number it has in whichever process. What must be found
 * out is the last close.
 *
 * Most files are one end of a socket pair: when the client's last duplicate is closed, our end sees
 * POLLHUP. Nothing the client does with its end matters (what it writes is never read).
 *
 * Memory that clients mmap must be a memfd. The client gets a description of its own, reopened
 * through /proc/self/fd; the kernel keeps that open while a mapping of it exists. Its closing is
 * told by inotify, which merges equal events that follow each other, so they can't be counted. An
 * exact question is asked instead: a write lease on a description of our own, which the kernel
 * grants only while nobody else has the inode open (the memfd itself, made by memfd_create(2), does
 * not count). Linux tells of a close a moment before it counts the description out (__fput() of
 * fs/file_table.c), so who still seems to be open is asked about again after a while. Whoever opens
 * the memory in between breaks the lease, of which Linux tells by a signal.
 */
#include <kernel/file.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* The first time, and once more: who closes may be kept from going on for long on a busy
 * machine. */
static const u32 ask_again_ms[] = { 1000, 50 };

static struct ub_file **bucket(struct ub_kernel *kernel, dev_t dev, ino_t ino)
{
	u64 hash = (u64)ino * 0x9e3779b97f4a7c15ull ^ (u64)dev * 0xff51afd7ed558ccdull;

	return &kernel->files[hash >> 54];
}

static struct ub_file *find(struct ub_kernel *kernel, dev_t dev, ino_t ino)
{
	struct ub_file *file = *bucket(kernel, dev, ino);

	while (file && (file->ino != ino || file->dev != dev))
		file = file->next;
	return file;
}

static void drop(struct ub_file *file)
{
	struct ub_object *object = file->object;
	struct ub_kernel *kernel = object->kernel;
	struct ub_file **at = bucket(kernel, file->dev, file->ino);

	while (*at && *at != file)
		at = &(*at)->next;
	if (*at)
		*at = file->next;
	kernel->nr_files--;
	if (object->poll_file == file)
		object->poll_file = NULL;
	if (file->watch)
		ub_watch_remove(file->watch);
	if (file->socket >= 0)
		close(file->socket);
	if (file->watch_descriptor >= 0)
		inotify_rm_watch(kernel->inotify_fd, file->watch_descriptor);
	if (file->asked_fd >= 0)
		close(file->asked_fd);
	free(file);
	ub_object_put_user(object);
}

static int insert(struct ub_object *object, int fd, u32 mode, struct ub_file **out)
{
	struct ub_kernel *kernel = object->kernel;
	struct ub_file *file;
	struct ub_file **at;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = (struct ub_file) { .dev = st.st_dev,
				   .ino = st.st_ino,
				   .object = object,
				   .mode = mode,
				   .socket = -1,
				   .memfd = -1,
				   .asked_fd = -1,
				   .watch_descriptor = -1 };
	at = bucket(kernel, st.st_dev, st.st_ino);
	file->next = *at;
	*at = file;
	kernel->nr_files++;
	ub_object_get_user(object);
	*out = file;
	return 0;
}

static void socket_event(void *opaque, u32 events)
{
	if (events & (EPOLLHUP | EPOLLERR))
		drop(opaque);
}

/* A pipe that has no reader is given another where the client waits once more: perhaps since the
 * event was taken out. */
static void pipe_event(void *opaque, u32 events)
{
	struct ub_file *file = opaque;
	struct pollfd now = { .fd = file->socket };

	if (poll(&now, 1, 0) == 1)
		socket_event(opaque, (u32)now.revents);
}

int ub_file_socket(struct ub_object *object, u32 mode)
{
	int pair[2];
	_cleanup_close_ int ours = -1;
	_cleanup_close_ int theirs = -1;
	struct ub_file *file;
	int err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	/* What a client might send us is not kept in memory for it. */
	if (shutdown(ours, SHUT_RD))
		return -errno;
	err = insert(object, theirs, mode, &file);
	if (err)
		return err;
	file->socket = TAKE_FD(ours);
	file->watch =
		ub_loop_watch(object->kernel->loop, file->socket, EPOLLHUP, socket_event, file);
	if (!file->watch) {
		err = errno ? -errno : -ENOMEM;
		drop(file);
		return err;
	}
	return TAKE_FD(theirs);
}

/* Another description of the end that clients have. */
static int reopen_pipe(const struct ub_file *file)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->socket);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ub_file_pipe(struct ub_object *object, u32 mode)
{
	int ends[2];
	_cleanup_close_ int ours = -1;
	_cleanup_close_ int theirs = -1;
	struct ub_file *file;
	int err;

	if (object->poll_file)
		return reopen_pipe(object->poll_file);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	theirs = ends[0];
	ours = ends[1];
	err = insert(object, theirs, mode, &file);
	if (err)
		return err;
	file->socket = TAKE_FD(ours);
	/* EPOLLERR: there is no reader any more. */
	file->watch = ub_loop_watch(object->kernel->loop, file->socket, 0, pipe_event, file);
	if (!file->watch) {
		err = errno ? -errno : -ENOMEM;
		drop(file);
		return err;
	}
	object->poll_file = file;
	return TAKE_FD(theirs);
}

/* Whether nobody has a description of the memory, or a mapping of one, besides us. Where leases are
 * forbidden (fs.leases-enable) the count must do: at worst an object lives too long. */
static bool is_closed(const struct ub_file *file)
{
	if (fcntl(file->asked_fd, F_SETLEASE, F_WRLCK))
		return errno != EAGAIN && file->opens <= 0;
	fcntl(file->asked_fd, F_SETLEASE, F_UNLCK);
	return true;
}

static void ask_again(void *opaque);

static void ask_after(struct ub_kernel *kernel, u32 ms)
{
	if (!kernel->ask_timer)
		kernel->ask_timer = ub_loop_after(kernel->loop, ms, ask_again, kernel);
}

static void ask_again(void *opaque)
{
	struct ub_kernel *kernel = opaque;

	kernel->ask_timer = NULL;
	for (u32 i = 0; i < UB_FILE_BUCKETS; i++) {
		struct ub_file *file = kernel->files[i];

		while (file) {
			bool closed = file->ask_again && is_closed(file);

			if (file->ask_again && --file->ask_again)
				ask_after(kernel, ask_again_ms[file->ask_again - 1]);
			if (closed)
				drop(file);
			/* What went may have taken others with it. */
			file = closed ? kernel->files[i] : file->next;
		}
	}
}

static void ask_later(struct ub_kernel *kernel, struct ub_file *file)
{
	file->ask_again = ub_array_size(ask_again_ms);
	ask_after(kernel, ask_again_ms[file->ask_again - 1]);
}

static void ask_about_all(struct ub_kernel *kernel)
{
	for (u32 i = 0; i < UB_FILE_BUCKETS; i++)
		for (struct ub_file *file = kernel->files[i]; file; file = file->next)
			if (file->memfd >= 0)
				ask_later(kernel, file);
}

static struct ub_file *by_watch(struct ub_kernel *kernel, int descriptor)
{
	/* Closes of memory are rare next to everything else: a walk is good enough. */
	for (u32 i = 0; i < UB_FILE_BUCKETS; i++)
		for (struct ub_file *file = kernel->files[i]; file; file = file->next)
			if (file->watch_descriptor == descriptor)
				return file;
	return NULL;
}

static void inotify_event(struct ub_kernel *kernel, const struct inotify_event *event)
{
	struct ub_file *file = by_watch(kernel, event->wd);

	if (event->mask & IN_Q_OVERFLOW)
		ask_about_all(kernel);
	if (!file || !(event->mask & IN_CLOSE))
		return;
	file->opens--;
	if (is_closed(file))
		drop(file);
	else
		ask_later(kernel, file);
}

static void inotify_ready(void *opaque, u32 events)
{
	struct ub_kernel *kernel = opaque;
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t size;

	while ((size = read(kernel->inotify_fd, buffer, sizeof(buffer))) > 0) {
		for (char *at = buffer; at < buffer + size;) {
			const struct inotify_event *event = (const void *)at;

			inotify_event(kernel, event);
			at += sizeof(*event) + event->len;
		}
	}
}

/* A broken lease is told by SIGIO, which would end us; SIGURG is nothing to who does not wait for
 * it. */
static int open_to_ask(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fcntl(fd, F_SETSIG, SIGURG))
		return -1;
	return TAKE_FD(fd);
}

int ub_file_memory(struct ub_object *object, int memfd, u32 mode)
{
	struct ub_kernel *kernel = object->kernel;
	char path[32];
	bool fresh = false;
	struct stat st;
	struct ub_file *file;
	int fd;
	int err;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	if (fstat(memfd, &st))
		return -errno;
	file = find(kernel, st.st_dev, st.st_ino);
	if (!file) {
		fresh = true;
		err = insert(object, memfd, mode, &file);
		if (err)
			return err;
		file->memfd = memfd;
		file->asked_fd = open_to_ask(path);
		file->watch_descriptor =
			file->asked_fd < 0 ? -1
					   : inotify_add_watch(kernel->inotify_fd, path, IN_CLOSE);
		if (file->watch_descriptor < 0) {
			err = -errno;
			drop(file);
			return err;
		}
	}
	/* A write-only file of Linux may not be mapped but for reading; there is no such thing
	 * here. */
	fd = open(path, (mode & UB_FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		if (fresh)
			drop(file);
		return err;
	}
	file->opens++;
	return fd;
}

/* The file behind the caller's @fd. To have it for a moment costs less than to walk /proc, where we
 * may (Yama can allow less of a process than to look at it). */
static int stat_file(const struct ub_caller *caller, int fd, struct stat *st)
{
	_cleanup_close_ int file = (int)syscall(__NR_pidfd_getfd, caller->pidfd, fd, 0);
	char path[48];

	if (file >= 0)
		return fstat(file, st) ? -errno : 0;
	if (errno == EBADF)
		return -EBADF;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", caller->pid, fd);
	if (stat(path, st))
		return errno == EACCES || errno == EPERM ? -EPERM : -EBADF;
	return 0;
}

int ub_file_get(struct ub_kernel *kernel, struct ub_caller *caller, int fd, struct ub_file **out)
{
	struct stat st;
	struct ub_file *file;
	int err;

	if (fd < 0)
		return -EBADF;
	err = stat_file(caller, fd, &st);
	if (err)
		return err;
	file = find(kernel, st.st_dev, st.st_ino);
	if (!file)
		return -EINVAL;
	*out = file;
	return 0;
}

int ub_file_object(struct ub_kernel *kernel, struct ub_caller *caller, int fd, enum ub_kind kind,
		   struct ub_object **out)
{
	struct ub_file *file;
	int err = ub_file_get(kernel, caller, fd, &file);

	if (err)
		return err;
	if (file->object->kind != kind)
		return -EINVAL;
	*out = file->object;
	return 0;
}

int ub_files_init(struct ub_kernel *kernel)
{
	kernel->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (kernel->inotify_fd < 0)
		return -errno;
	kernel->inotify_watch =
		ub_loop_watch(kernel->loop, kernel->inotify_fd, EPOLLIN, inotify_ready, kernel);
	return kernel->inotify_watch ? 0 : -ENOMEM;
}

void ub_files_exit(struct ub_kernel *kernel)
{
	for (u32 i = 0; i < UB_FILE_BUCKETS; i++)
		while (kernel->files[i])
			drop(kernel->files[i]);
	ub_timer_remove(kernel->ask_timer);
	ub_watch_remove(kernel->inotify_watch);
	if (kernel->inotify_fd >= 0)
		close(kernel->inotify_fd);
}
