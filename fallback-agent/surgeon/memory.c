/* SPDX-License-Identifier: MIT */
/*
 * Shared memory into a target, and out again.
 *
 * The target makes a socketpair; we take one end with pidfd_getfd(), send the memfds through it,
 * and the target receives and maps them, and closes all descriptors again. No path, no name in any
 * namespace, no privilege over being allowed to trace.
 *
 * An operation that dies in between leaves descriptors and mappings. They are found without a log:
 * mappings by their names, memfds by their file position (UB_MARK_POSITION, which nothing of ours
 * uses otherwise), sockets by an odd send timeout (UB_MARK_TIMEOUT) that we set through our own
 * copies. Between their birth and that mark they are in the note: the kernel writes the two numbers
 * behind magic words in the target's dead memory.
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
	u64 magic[2];
	s32 pair[2];
	struct msghdr msg;
	struct iovec iov;
	u64 byte;
	u8 control[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

/* What stands in front of a pair that may not be marked yet. */
static const u64 note_magic[2] = { 0x8e1f6a0d75627066ull, 0xb35c29d42d72756eull };

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

/* --- descriptors --------------------------------------------------------------------------- */

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
	limit.rlim_cur =
		limit.rlim_max - limit.rlim_cur > nr ? limit.rlim_cur + nr : limit.rlim_max;
	return prlimit(t->host->process, RLIMIT_NOFILE, &limit, NULL) ? -EMFILE : 0;
}

static int make_pair(struct ub_target *t, int host, s32 pair[2], int *end, struct ub_reason *why)
{
	u64 note = ub_remote_arguments(t), at = note + offsetof(struct exchange, pair);
	struct exchange x = { .magic = { note_magic[0], note_magic[1] }, .pair = { -1, -1 } };
	_cleanup_close_ int other = -1;
	s64 result;
	int err;

	err = ub_target_write(t, note, &x, offsetof(struct exchange, msg));
	if (err)
		return err;
	err = remote(t, "socketpair", SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, at, 0,
		     0, &result, why);
	if (err)
		return err;
	err = ub_target_read(t, at, pair, sizeof(x.pair));
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
	x = (struct exchange) { 0 };
	err = ub_target_write(t, note, &x, offsetof(struct exchange, msg));
	return err ? err : ub_fault(t, UB_FAULT_socketpair);
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
	x.iov = (struct iovec) { (void *)(base + offsetof(struct exchange, byte)), 1 };
	x.msg = (struct msghdr) {
		.msg_iov = (void *)(base + offsetof(struct exchange, iov)),
		.msg_iovlen = 1,
		.msg_control = (void *)(base + offsetof(struct exchange, control)),
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	err = ub_target_write(t, base, &x, sizeof(x));
	if (!err)
		err = remote(t, "recvmsg", SYS_recvmsg, socket,
			     base + offsetof(struct exchange, msg), MSG_CMSG_CLOEXEC | MSG_DONTWAIT,
			     0, 0, 0, &result, why);
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
		return ub_reason_set(why, -EMFILE,
				     "process %d has no free file descriptors (%u of %u arrived)",
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

/* Two sockets are a pair if what one sends arrives at the other. */
static bool is_pair(int a, int b)
{
	u64 sent = note_magic[0], got = 0;

	return a >= 0 && b >= 0 &&
	       send(a, &sent, sizeof(sent), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(sent) &&
	       recv(b, &got, sizeof(got), MSG_DONTWAIT) == sizeof(got) && got == sent;
}

/* Marks the pair that a note tells of. */
static void mark_noted(struct ub_target *t, int host, u64 note)
{
	struct exchange x;

	if (ub_target_read(t, note, &x, offsetof(struct exchange, msg)) || x.pair[0] < 0 ||
	    x.pair[1] < 0)
		return;
	_cleanup_close_ int a = syscall(SYS_pidfd_getfd, host, x.pair[0], 0);
	_cleanup_close_ int b = syscall(SYS_pidfd_getfd, host, x.pair[1], 0);

	if (is_pair(a, b)) {
		mark_socket(a);
		mark_socket(b);
	}
	memset(&x, 0, sizeof(x));
	if (ub_target_write(t, note, &x, offsetof(struct exchange, msg)))
		return; /* gone */
}

/* Notes lie at the far end of the main stack, or else below the stack pointer of the thread that
 * was host. */
static void search_notes(struct ub_target *t, int host, u64 start, u64 end)
{
	u8 page[4096 + 16];

	for (u64 at = start; at + 16 <= end; at += 4096) {
		size_t size = end - at < sizeof(page) ? end - at : sizeof(page);
		u8 *found;

		if (ub_target_read(t, at, page, size))
			continue;
		found = memmem(page, size, note_magic, sizeof(note_magic));
		if (found)
			mark_noted(t, host, at + (found - page));
	}
}

static void find_notes(struct ub_target *t, int host)
{
	for (u32 i = 0; i < t->nr_mappings; i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (!strcmp(ub_mapping_name(t, m), "[stack]"))
			search_notes(t, host, m->start, m->end);
	}
	for (u32 i = 0; i < t->nr_threads && t->nr_threads <= 64; i++) {
		const struct ub_mapping *m = ub_target_mapping(t, t->threads[i].sp);
		u64 low;

		if (t->threads[i].state == UB_THREAD_GONE || !m)
			continue;
		low = (t->threads[i].sp - 65536) & ~4095ull;
		search_notes(t, host, low > m->start ? low : m->start, t->threads[i].sp & ~7ull);
	}
}

int ub_close_leaked(struct ub_target *t)
{
	_cleanup_close_ int host = open_host(t);
	struct ub_reason ignored;
	s32 leaked[2 * MAX_FDS];
	struct dirent *entry;
	char path[96];
	u32 nr = 0;
	DIR *fds;
	int err = 0;

	find_notes(t, host);
	snprintf(path, sizeof(path), "%s/fd", t->proc);
	fds = opendir(path);
	if (!fds)
		return 0;
	while ((entry = readdir(fds)) && nr < ub_array_size(leaked)) {
		if (entry->d_name[0] != '.' && descriptor_is_ours(t, host, atoi(entry->d_name)))
			leaked[nr++] = atoi(entry->d_name);
	}
	closedir(fds);
	if (nr && !t->host_in_use)
		err = ub_remote_begin(t, &ignored);
	return err || !nr ? err : close_fds(t, leaked, nr);
}

/* --- mappings ------------------------------------------------------------------------------ */

static int map_part(struct ub_target *t, const struct ub_part *part, s32 fd, struct ub_reason *why)
{
	int flags = part->flags | MAP_FIXED_NOREPLACE;
	u64 one = 1;
	s64 result;
	int err;

	err = remote(t, "mmap", SYS_mmap, part->address, part->size, part->prot, flags, fd, 0,
		     &result, why);
	if (err == -EEXIST) {
		t->taken = true;
		return ub_reason_set(why, -EAGAIN, "address %lx in process %d was taken meanwhile",
				     part->address, t->pid);
	}
	/* Not an invitation to try again: it locks all of its memory and may not lock more. */
	if (err == -EAGAIN)
		return ub_reason_set(why, -ENOMEM,
				     "process %d locks its memory (mlockall) and has reached its "
				     "limit: raise it (prlimit --memlock)",
				     t->pid);
	if (err)
		return err;
	if ((u64)result != part->address) {
		/* A kernel before 4.17 takes the address for a hint. */
		err = remote(t, "munmap", SYS_munmap, result, part->size, 0, 0, 0, 0, &result, why);
		t->taken = true;
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
		if (image->parts[i].kind == UB_PART_FORK)
			continue;
		lseek(image->parts[i].fd, UB_MARK_POSITION, SEEK_SET);
		fds[nr_fds++] = image->parts[i].fd;
	}
	if (nr_fds)
		err = pass_fds(t, end, socket, fds, there, nr_fds, nr_there, why);
	for (u32 i = first; i < first + nr && !err; i++) {
		if (image->parts[i].kind != UB_PART_FORK)
			err = map_part(t, &image->parts[i], there[next++], why);
	}
	return err;
}

/* Last, because it bears no name: by now the site table says where it is. */
static int map_fork_page(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	for (u32 i = 0; i < image->nr_parts; i++) {
		int err;

		if (image->parts[i].kind != UB_PART_FORK)
			continue;
		t->report->fork_tried = 1;
		err = map_part(t, &image->parts[i], -1, why);
		if (err) {
			/* Somebody else's: it must not be taken for ours when this is undone. */
			t->report->fork_tried = err != -EAGAIN;
			return err;
		}
	}
	return 0;
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
		return ub_reason_set(why, -EOPNOTSUPP,
				     "process %d: its main thread has exited, and this kernel "
				     "cannot reach the descriptors of the others (needs Linux 6.9)",
				     t->pid);
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
	if (!err)
		err = map_fork_page(t, image, why);
	if (raised)
		prlimit(t->host->process, RLIMIT_NOFILE, &limit, NULL);
	there[nr_there++] = pair[0];
	there[nr_there++] = pair[1];
	closed = close_fds(t, there, nr_there);
	if (!err)
		err = closed;
	if (err == -EMFILE)
		ub_reason_set(why, err,
			      "process %d has no free file descriptors and may not have more: "
			      "raise its limit (prlimit --nofile)",
			      t->pid);
	if (err)
		return err;
	return ub_fault(t, UB_FAULT_mapped);
}

static bool named_part_mapped(const struct ub_target *t, const struct ub_part *part)
{
	const struct ub_mapping *m = ub_target_mapping(t, part->address);

	return m && m->start == part->address && strstr(ub_mapping_name(t, m), UB_NAME_PREFIX);
}

/* Whether smaps shows MADV_WIPEONFORK at @address: nearly nothing else uses it. */
static bool wiped_on_fork(const struct ub_target *t, u64 address)
{
	char path[96], line[1024];
	_cleanup_fclose_ FILE *smaps = NULL;
	unsigned long start, end;
	bool here = false;

	snprintf(path, sizeof(path), "%s/smaps", t->proc);
	smaps = fopen(path, "re");
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = address >= start && address < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			return strstr(line, " wf") != NULL;
	}
	return false;
}

/* Documentation/admin-guide/mm/pagemap.rst; other bits, soft-dirty say, may be set for a hole too. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)

/* Never touched, in an image that never became live: mapped, but not yet marked, when we were
 * killed. */
static bool fresh_page(struct ub_target *t, const struct ub_image *image, u64 address)
{
	struct ub_site_state state;
	char path[96];
	u64 entry = PAGEMAP_PRESENT;
	FILE *pagemap;

	if (!ub_stage_known(t, image) || ub_stage_get(t, image, &state) ||
	    state.stage != UB_STAGE_MAPPED)
		return false;
	snprintf(path, sizeof(path), "%s/pagemap", t->proc);
	pagemap = fopen(path, "re");
	if (!pagemap)
		return false;
	if (fseek(pagemap, address / 4096 * 8, SEEK_SET) || fread(&entry, 8, 1, pagemap) != 1)
		entry = PAGEMAP_PRESENT;
	fclose(pagemap);
	return !(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
}

/* The fork page bears no name. It is ours if the image was complete and its neighbour in memory is
 * still there (both go with one munmap), or if we know that we mapped it, or if it looks like it.
 */
static bool fork_page_mapped(struct ub_target *t, const struct ub_image *image,
			     const struct ub_part *part)
{
	const struct ub_mapping *m = ub_target_mapping(t, part->address);

	if (!m || m->shared || ub_mapping_name(t, m)[0])
		return false;
	if (t->partial)
		return t->report->fork_tried;
	if (t->recorded)
		return wiped_on_fork(t, part->address) || fresh_page(t, image, part->address);
	for (u32 k = 0; k < image->nr_parts; k++) {
		if (image->parts[k].address == part->address + part->size)
			return named_part_mapped(t, &image->parts[k]);
	}
	return false;
}

static bool part_mapped(struct ub_target *t, const struct ub_image *image,
			const struct ub_part *part)
{
	return part->kind == UB_PART_FORK ? fork_page_mapped(t, image, part)
					  : named_part_mapped(t, part);
}

bool ub_parts_mapped(const struct ub_target *t, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_parts; i++) {
		if (named_part_mapped(t, &image->parts[i]))
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

			if ((part->kind == UB_PART_SITES) != (pass == 1))
				continue;
			if (!part_mapped(t, image, part))
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
