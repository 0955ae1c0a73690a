/* SPDX-License-Identifier: MIT */
/*
 * Shared memory into a target, and out again.
 *
 * The target makes a socketpair; we take one end with pidfd_getfd(), send the memfds through it, and
 * the target receives and maps them, and closes all descriptors again. No path, no name in any
 * namespace, no privilege over being allowed to trace.
 *
 * An operation that dies in between leaves descriptors and mappings. They are found without a log:
 * mappings by their names, memfds by their file position (UB_MARK_POSITION, which nothing of ours uses
 * otherwise), sockets by an odd send timeout (UB_MARK_TIMEOUT) that we set through our own copies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#define UB_MARK_POSITION 0x7562706672756eull
#define UB_MARK_TIMEOUT	 75627066 /* seconds */
#define MAX_FDS		 250	  /* the kernel's SCM_MAX_FD is 253 */

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* What the target needs at UB_REMOTE_ARGUMENTS to receive descriptors. */
struct exchange {
	s32 pair[2];
	struct msghdr msg;
	struct iovec iov;
	u64 byte;
	u8 control[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

_Static_assert(sizeof(struct exchange) <= UB_REMOTE_ARGUMENTS, "arguments fit");

static int remote(struct ub_target *t, const char *what, long nr, u64 a, u64 b, u64 c, u64 d, u64 e,
		  u64 f, s64 *result, struct ub_reason *why)
{
	int err = ub_remote_call(t, nr, a, b, c, d, e, f, result);

	if (err == -ESRCH)
		return ub_reason_set(why, err, "process %d is gone", t->pid);
	if (err)
		return ub_reason_set(why, err, "%s in process %d was interrupted", what, t->pid);
	if (*result < 0 && *result > -4096)
		return ub_reason_set(why, *result, "%s in process %d: %s", what, t->pid,
				     strerror(-*result));
	return 0;
}

/* --- descriptors -------------------------------------------------------------------------------- */

/* For its descriptors: those of the thread that makes the system calls. */
static int open_host(const struct ub_target *t)
{
	pid_t process = t->host ? t->host->process : t->pid;
	int fd;

	if (process == t->pid && t->alive != t->pid)
		return syscall(SYS_pidfd_open, t->host ? t->host->tid : t->alive, PIDFD_THREAD);
	fd = syscall(SYS_pidfd_open, process, 0);
	return fd;
}

static void mark_socket(int fd)
{
	struct timeval odd = { UB_MARK_TIMEOUT, 0 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &odd, sizeof(odd));
}

static bool socket_marked(int fd)
{
	struct timeval timeout = { 0 };
	socklen_t size = sizeof(timeout);
	int domain = 0;
	socklen_t domain_size = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &size) &&
	       timeout.tv_sec == UB_MARK_TIMEOUT;
}

/* Room for @nr descriptors more: raises the soft limit as far as the hard one allows. */
static int raise_limit(struct ub_target *t, u32 nr, struct rlimit *before)
{
	struct rlimit limit;

	if (prlimit(t->host->process, RLIMIT_NOFILE, NULL, &limit))
		return -EMFILE;
	*before = limit;
	if (limit.rlim_cur == limit.rlim_max)
		return -EMFILE;
	limit.rlim_cur = limit.rlim_max - limit.rlim_cur > nr ? limit.rlim_cur + nr : limit.rlim_max;
	return prlimit(t->host->process, RLIMIT_NOFILE, &limit, NULL) ? -EMFILE : 0;
}

static int make_pair(struct ub_target *t, int host, s32 pair[2], int *end, struct ub_reason *why)
{
	u64 at = ub_remote_arguments(t) + offsetof(struct exchange, pair);
	_cleanup_close_ int other = -1;
	s32 none[2] = { -1, -1 };
	s64 result;
	int err;

	err = ub_target_write(t, at, none, sizeof(none));
	if (err)
		return err;
	t->report->unmarked_pair = at;
	err = remote(t, "socketpair", SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, at, 0, 0,
		     &result, why);
	if (err)
		return err;
	err = ub_target_read(t, at, pair, sizeof(none));
	if (err)
		return err;
	*end = syscall(SYS_pidfd_getfd, host, pair[0], 0);
	if (*end < 0)
		return ub_reason_set(why, -errno, "cannot take a socket of process %d: %s", t->pid,
				     strerror(errno));
	mark_socket(*end);
	other = syscall(SYS_pidfd_getfd, host, pair[1], 0);
	if (other >= 0)
		mark_socket(other);
	t->report->unmarked_pair = 0;
	return ub_fault(t, UB_FAULT_socketpair);
}

static int send_fds(int socket, const int *fds, u32 nr)
{
	u8 control[CMSG_SPACE(MAX_FDS * sizeof(int))] = { 0 };
	char byte = 1;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	return sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Has the target receive what was sent. *got: how many arrived, also when it fails. */
static int receive_fds(struct ub_target *t, int socket, s32 *fds, u32 nr, u32 *got,
		       struct ub_reason *why)
{
	u64 base = ub_remote_arguments(t);
	struct exchange x = { 0 };
	struct cmsghdr *cmsg;
	s64 result;
	int err;

	*got = 0;
	x.iov = (struct iovec){ (void *)(base + offsetof(struct exchange, byte)), 1 };
	x.msg = (struct msghdr){
		.msg_iov = (void *)(base + offsetof(struct exchange, iov)),
		.msg_iovlen = 1,
		.msg_control = (void *)(base + offsetof(struct exchange, control)),
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	err = ub_target_write(t, base, &x, sizeof(x));
	if (!err)
		err = remote(t, "recvmsg", SYS_recvmsg, socket,
			     base + offsetof(struct exchange, msg), MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0,
			     0, 0, &result, why);
	if (!err)
		err = ub_target_read(t, base, &x, sizeof(x));
	if (err)
		return err;
	cmsg = (struct cmsghdr *)x.control;
	if (x.msg.msg_controllen >= sizeof(*cmsg) && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_len > CMSG_LEN(0))
		*got = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (*got > nr)
		return -EBADMSG;
	memcpy(fds, x.control + CMSG_LEN(0), *got * sizeof(int));
	if (*got < nr)
		return ub_reason_set(why, -EMFILE, "process %d has no free file descriptors (%u of %u arrived)",
				     t->pid, *got, nr);
	return ub_fault(t, UB_FAULT_received);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const s32 *)a < *(const s32 *)b ? -1 : *(const s32 *)a > *(const s32 *)b;
}

/* Closes them in the target, neighbours with one call. */
static int close_fds(struct ub_target *t, s32 *fds, u32 nr)
{
	int err = 0;

	qsort(fds, nr, sizeof(*fds), compare_fds);
	for (u32 i = 0, n; i < nr && err != -ESRCH; i += n) {
		s64 result = -ENOSYS;

		for (n = 1; i + n < nr && fds[i + n] == fds[i] + (s32)n; n++)
			;
		if (fds[i] < 0)
			continue;
		if (n > 1)
			err = ub_remote_call(t, SYS_close_range, fds[i], fds[i + n - 1], 0, 0, 0, 0,
					     &result);
		for (u32 k = 0; k < n && result == -ENOSYS && err != -ESRCH; k++) {
			s64 ignored;

			err = ub_remote_call(t, SYS_close, fds[i + k], 0, 0, 0, 0, 0, &ignored);
		}
	}
	return err;
}

static bool descriptor_is_ours(const struct ub_target *t, int host, int fd)
{
	char path[96], link[64], line[128];
	unsigned long position = 0;
	_cleanup_close_ int copy = -1;
	FILE *info;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/fd/%d", t->proc, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return false;
	link[n] = '\0';
	if (!strncmp(link, "socket:", 7)) {
		copy = syscall(SYS_pidfd_getfd, host, fd, 0);
		return copy >= 0 && socket_marked(copy);
	}
	if (strncmp(link, "/memfd:", 7))
		return false;
	snprintf(path, sizeof(path), "%s/fdinfo/%d", t->proc, fd);
	info = fopen(path, "re");
	if (!info)
		return false;
	if (fgets(line, sizeof(line), info))
		sscanf(line, "pos: %lu", &position);
	fclose(info);
	return position == UB_MARK_POSITION;
}

int ub_close_leaked(struct ub_target *t)
{
	_cleanup_close_ int host = open_host(t);
	s32 leaked[2 * MAX_FDS];
	struct dirent *entry;
	char path[96];
	u32 nr = 0;
	DIR *fds;

	/* A pair that was made and not marked yet. */
	if (t->report->unmarked_pair &&
	    !ub_target_read(t, t->report->unmarked_pair, leaked, 2 * sizeof(s32)) && leaked[0] > 0 &&
	    leaked[1] > 0) {
		for (u32 i = 0; i < 2; i++) {
			_cleanup_close_ int copy = syscall(SYS_pidfd_getfd, host, leaked[i], 0);
			int type = 0;
			socklen_t size = sizeof(type);

			if (copy >= 0 && !getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &size) &&
			    type == SOCK_DGRAM)
				mark_socket(copy);
		}
	}
	t->report->unmarked_pair = 0;
	snprintf(path, sizeof(path), "%s/fd", t->proc);
	fds = opendir(path);
	if (!fds)
		return 0;
	while ((entry = readdir(fds)) && nr < ub_array_size(leaked)) {
		if (entry->d_name[0] != '.' && descriptor_is_ours(t, host, atoi(entry->d_name)))
			leaked[nr++] = atoi(entry->d_name);
	}
	closedir(fds);
	return nr ? close_fds(t, leaked, nr) : 0;
}

/* --- mappings ----------------------------------------------------------------------------------- */

static int map_part(struct ub_target *t, const struct ub_part *part, s32 fd, struct ub_reason *why)
{
	int flags = part->flags | MAP_FIXED_NOREPLACE;
	u64 one = 1;
	s64 result;
	int err;

	err = remote(t, "mmap", SYS_mmap, part->address, part->size, part->prot, flags, fd, 0,
		     &result, why);
	if (err == -EEXIST)
		return -EAGAIN;
	if (err)
		return err;
	if ((u64)result != part->address) {
		/* A kernel before 4.17 takes the address for a hint. */
		err = remote(t, "munmap", SYS_munmap, result, part->size, 0, 0, 0, 0, &result, why);
		return err ? err : -EAGAIN;
	}
	err = ub_fault(t, UB_FAULT_mapping);
	if (err || part->kind != UB_PART_FORK)
		return err;
	err = remote(t, "madvise", SYS_madvise, part->address, part->size, MADV_WIPEONFORK, 0, 0, 0,
		     &result, why);
	return err ? err : ub_target_write(t, part->address, &one, sizeof(one));
}

/* Sends and receives the descriptors of parts [first, first + nr), nr_fds of them. */
static int pass_fds(struct ub_target *t, int end, s32 socket, const int *fds, s32 *there, u32 nr,
		    u32 *got, struct ub_reason *why)
{
	int err = send_fds(end, fds, nr);

	if (err)
		return ub_reason_set(why, err, "cannot pass descriptors to process %d: %s", t->pid,
				     strerror(-err));
	err = ub_fault(t, UB_FAULT_passed);
	return err ? err : receive_fds(t, socket, there, nr, got, why);
}

static int map_batch(struct ub_target *t, const struct ub_image *image, u32 first, u32 nr, int end,
		     s32 socket, s32 *there, u32 *nr_there, struct ub_reason *why)
{
	int fds[MAX_FDS];
	u32 nr_fds = 0, next = 0;
	int err = 0;

	*nr_there = 0;
	for (u32 i = first; i < first + nr; i++) {
		if (image->parts[i].fd < 0)
			continue;
		lseek(image->parts[i].fd, UB_MARK_POSITION, SEEK_SET);
		fds[nr_fds++] = image->parts[i].fd;
	}
	if (nr_fds)
		err = pass_fds(t, end, socket, fds, there, nr_fds, nr_there, why);
	for (u32 i = first; i < first + nr && !err; i++) {
		t->report->nr_tried = i + 1;
		err = map_part(t, &image->parts[i], image->parts[i].fd < 0 ? -1 : there[next++], why);
		if (err == -EAGAIN) {
			/* Not ours: it must not be taken for ours when this is undone. */
			t->report->nr_tried = i;
			t->taken = true;
			ub_reason_set(why, err, "address %lx in process %d was taken meanwhile",
				      image->parts[i].address, t->pid);
		}
	}
	return err;
}

int ub_map_parts(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	_cleanup_close_ int host = open_host(t), end = -1;
	s32 pair[2] = { -1, -1 }, there[MAX_FDS + 2];
	struct rlimit limit;
	bool raised = false;
	u32 nr_there = 0, nr;
	int err, closed;

	if (host < 0)
		return ub_reason_set(why, -EOPNOTSUPP, "process %d: its main thread has exited, and this kernel "
				     "cannot reach the descriptors of the others (needs Linux 6.9)", t->pid);
	t->report->changed = 1;
	err = make_pair(t, host, pair, &end, why);
	if (err == -EMFILE || (err && pair[0] < 0 && err != -ESRCH && err != -EIO)) {
		if (err == -EMFILE && !raise_limit(t, 2 + MAX_FDS, &limit)) {
			raised = true;
			err = make_pair(t, host, pair, &end, why);
		}
	}
	for (u32 i = 0; i < image->nr_parts && !err; i += nr) {
		nr = image->nr_parts - i < MAX_FDS ? image->nr_parts - i : MAX_FDS;
		err = map_batch(t, image, i, nr, end, pair[1], there, &nr_there, why);
		if (err == -EMFILE && !raised && !raise_limit(t, 2 + MAX_FDS, &limit)) {
			raised = true;
			close_fds(t, there, nr_there);
			err = map_batch(t, image, i, nr, end, pair[1], there, &nr_there, why);
		}
		if (i + nr < image->nr_parts && !err) {
			err = close_fds(t, there, nr_there);
			nr_there = 0;
		}
	}
	if (raised)
		prlimit(t->host->process, RLIMIT_NOFILE, &limit, NULL);
	there[nr_there++] = pair[0];
	there[nr_there++] = pair[1];
	closed = close_fds(t, there, nr_there);
	if (!err)
		err = closed;
	if (err == -EMFILE)
		ub_reason_set(why, err, "process %d has no free file descriptors and may not have more: "
			      "raise its limit (prlimit --nofile)", t->pid);
	if (err)
		return err;
	return ub_fault(t, UB_FAULT_mapped);
}

static bool part_is_mapped(const struct ub_target *t, const struct ub_part *part, bool tried)
{
	const struct ub_mapping *m = ub_target_mapping(t, part->address);
	const char *name;

	if (!m)
		return false;
	name = ub_mapping_name(t, m);
	if (part->kind != UB_PART_FORK)
		return m->start == part->address && strstr(name, UB_NAME_PREFIX);
	/* Anonymous memory bears no name: it is ours if we were about to map it, or if its neighbour is. */
	if (name[0] || m->shared)
		return false;
	return tried;
}

/* The fork page belongs to the part that follows it in memory: where that is mapped by us, so is this, unless we were
 * interrupted between the two. */
static bool neighbour_mapped(const struct ub_target *t, const struct ub_image *image, u32 i)
{
	const struct ub_part *fork = &image->parts[i];

	for (u32 k = 0; k < image->nr_parts; k++) {
		if (image->parts[k].address == fork->address + fork->size &&
		    part_is_mapped(t, &image->parts[k], false))
			return k > i || !t->report->nr_tried;
	}
	return false;
}

bool ub_parts_mapped(const struct ub_target *t, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_parts; i++) {
		if (part_is_mapped(t, &image->parts[i], false))
			return true;
	}
	return false;
}

static int unmap(struct ub_target *t, u64 address, u64 size, struct ub_reason *why)
{
	s64 result;
	int err;

	if (!size)
		return 0;
	err = ub_fault(t, UB_FAULT_unmapping);
	if (err)
		return err;
	return remote(t, "munmap", SYS_munmap, address, size, 0, 0, 0, 0, &result, why);
}

/* The sites part goes last: while anything else is there, it can be found from it. */
int ub_unmap_parts(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	u64 start = 0, size = 0;
	int err = 0;

	for (u32 pass = 0; pass < 2 && !err; pass++) {
		for (u32 i = 0; i < image->nr_parts && !err; i++) {
			const struct ub_part *part = &image->parts[i];
			bool ours;

			if ((part->kind == UB_PART_SITES) != (pass == 1))
				continue;
			ours = part->kind == UB_PART_FORK ?
				       part_is_mapped(t, part, i < t->report->nr_tried ||
							       neighbour_mapped(t, image, i)) :
				       part_is_mapped(t, part, false);
			if (!ours)
				continue;
			if (size && start + size == part->address) {
				size += part->size;
				continue;
			}
			err = unmap(t, start, size, why);
			start = part->address;
			size = part->size;
		}
		if (!err)
			err = unmap(t, start, size, why);
		size = 0;
	}
	return err;
}
