// SPDX-License-Identifier: MIT
/*
 * poll(2) and select(2) on ring buffers and perf buffers.
 *
 * What a client maps must be a memfd, and a memfd is always ready: who polls it would go round in
 * circles. No file can be both mapped by an ordinary user and made ready by us, so the file behind
 * the client's number is whichever the call at hand needs: before a poll it is exchanged for a
 * pipe, which holds a byte while there are records unread; before an mmap(2) for the memory again.
 * Both are known by their inodes as the same object, so all other calls find it either way.
 *
 * epoll has no need of it: there an eventfd stands in for the file (events.c).
 */
#include <kernel/kinds.h>

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>

#define MAX_POLLED 1024 /* files; a program with more is no tool */
#define BYTE_BITS  8

/* Whether the caller's fd is closed by exec. */
static u32 cloexec_of(const struct ub_caller *caller, int fd)
{
	_cleanup_fclose_ FILE *file = NULL;
	unsigned int flags = O_CLOEXEC;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", caller->pid, fd);
	file = fopen(path, "re");
	if (file && fscanf(file, "pos: %*d flags: %o", &flags) != 1)
		flags = O_CLOEXEC;
	return flags & O_CLOEXEC;
}

static void exchange(struct ub_caller *caller, int number, int file)
{
	_cleanup_close_ int fd = file;

	/* It failed: the call goes on with the file that is there, as it would have without us. */
	if (fd >= 0 && caller->install(caller, fd, number, cloexec_of(caller, number)))
		return;
}

void ub_poll_level(struct ub_object *object)
{
	struct ub_file *file = object->poll_file;
	bool ready = ub_object_unread(object);
	char path[32], byte = 0;

	if (!file || file->raised == ready)
		return;
	if (ready) {
		file->raised = write(file->socket, &byte, 1) == 1;
	} else {
		_cleanup_close_ int reader = -1;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", file->socket);
		reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (reader >= 0 && (read(reader, &byte, 1) == 1 || errno == EAGAIN))
			file->raised = false;
	}
}

/* The caller is about to wait for @number. */
static void before_wait(struct ub_kernel *k, struct ub_caller *c, int number)
{
	struct ub_file *file;

	if (ub_file_get(k, c, number, &file) || !ub_object_can_wait(file->object))
		return;
	if (file->memfd >= 0)
		exchange(c, number, ub_file_pipe(file->object, file->mode));
	ub_poll_level(file->object);
}

static void before_poll(struct ub_kernel *k, struct ub_caller *c, u64 address, u64 nr)
{
	struct pollfd files[MAX_POLLED];

	if (!nr || nr > MAX_POLLED || c->read(c, address, files, nr * sizeof(*files)))
		return;
	for (u64 i = 0; i < nr; i++) {
		if (files[i].fd >= 0 && (files[i].events & (POLLIN | POLLRDNORM)))
			before_wait(k, c, files[i].fd);
	}
}

static void before_select(struct ub_kernel *k, struct ub_caller *c, u64 nr, u64 address)
{
	u8 bits[MAX_POLLED / BYTE_BITS] = { 0 };
	size_t size = (nr + 63) / 64 * sizeof(u64);

	if (!address || !nr || nr > MAX_POLLED || c->read(c, address, bits, size))
		return;
	for (u32 i = 0; i < nr; i++) {
		if (bits[i / BYTE_BITS] & 1u << i % BYTE_BITS)
			before_wait(k, c, (int)i);
	}
}

void ub_poll_call(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call)
{
	if (!c->install)
		return;
	if (call->nr == __NR_poll || call->nr == __NR_ppoll)
		before_poll(k, c, call->args[0], (u32)call->args[1]);
	else if ((s32)call->args[0] > 0)
		before_select(k, c, (u32)call->args[0], call->args[1]);
}

void ub_poll_before_mmap(struct ub_caller *c, int number, struct ub_file *file)
{
	struct ub_object *object = file->object;
	int memfd =
		object->kind == UB_KIND_PERF ? ub_to_perf(object)->memfd : ub_to_map(object)->memfd;

	if (c->install && file == object->poll_file)
		exchange(c, number, ub_file_memory(object, memfd, file->mode));
}
