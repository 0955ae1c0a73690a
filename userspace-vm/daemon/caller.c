// SPDX-License-Identifier: MIT
/*
 * Memory of a calling process. The kernel's own way (process_vm_readv) wherever the daemon may;
 * where it may not (Yama, a process that is not dumpable), a client on a socket is asked to copy
 * for us while it waits for its reply, as it is asked to exchange its files.
 */
#include "private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include <common/cleanup.h>

/* How long a client that was asked to copy may take: it sits in recvmsg(). */
#define COPY_TIMEOUT_MS 2000

static bool call_is_alive(const struct caller *caller)
{
	u64 id = caller->base.call_id;

	return caller->listener_fd < 0 ||
	       ioctl(caller->listener_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* 0; -EFAULT; -EPERM: the daemon may not, somebody else might. */
static int transfer(pid_t tid, u64 address, void *local, size_t size, bool write)
{
	while (size) {
		struct iovec here = { local, size };
		struct iovec there = { (void *)(uintptr_t)address, size };
		ssize_t n = write ? process_vm_writev(tid, &here, 1, &there, 1, 0)
				  : process_vm_readv(tid, &here, 1, &there, 1, 0);

		if (n < 0)
			return errno == EPERM || errno == ENOSYS || errno == EACCES ? -EPERM
										    : -EFAULT;
		if (n == 0)
			return -EFAULT;
		local = (u8 *)local + n;
		address += (u64)n;
		size -= (size_t)n;
	}
	return 0;
}

/* The client's answer to READ or WRITE, with up to @capacity bytes of data. */
static int await_copied(int sock, void *data, size_t capacity)
{
	struct pollfd ready = { .fd = sock, .events = POLLIN };
	struct ub_msg msg;
	size_t size;
	int err;

	if (poll(&ready, 1, COPY_TIMEOUT_MS) != 1)
		return -EFAULT;
	err = ub_msg_recv(sock, &msg, data, capacity, &size, NULL);
	if (err || msg.type != UB_MSG_COPIED || (msg.words[0] == 0 && size != capacity))
		return -EFAULT;
	return msg.words[0] ? -EFAULT : 0;
}

static int ask_to_copy(int sock, u64 address, void *local, size_t size, bool write)
{
	while (size) {
		size_t part = size < UB_MSG_MAX_DATA ? size : UB_MSG_MAX_DATA;
		struct ub_msg msg = {
			.version = UB_PROTOCOL_VERSION,
			.type = write ? UB_MSG_WRITE : UB_MSG_READ,
			.words = { address, part },
		};

		if (ub_msg_send(sock, &msg, local, write ? part : 0, -1) ||
		    await_copied(sock, write ? NULL : local, write ? 0 : part))
			return -EFAULT;
		local = (u8 *)local + part;
		address += part;
		size -= part;
	}
	return 0;
}

static int copy(struct caller *caller, u64 address, void *local, size_t size, bool write)
{
	int err;

	/* The id says that the thread we are about to look into is the one that called. */
	if (write && !call_is_alive(caller))
		return -EFAULT;
	err = transfer(caller->tid, address, local, size, write);
	if (err == -EPERM)
		err = caller->sock >= 0 ? ask_to_copy(caller->sock, address, local, size, write)
					: -EFAULT;
	if (!err && !write && !call_is_alive(caller))
		err = -EFAULT;
	return err;
}

/* Whether the bytes are on one page, which is (now) in hand. What a call reads is thereby what was
 * there at one moment. */
static bool have_page(struct caller *caller, u64 address, size_t size)
{
	u64 page = address & ~(u64)(UB_CALLER_PAGE - 1);

	if (address + size > page + UB_CALLER_PAGE)
		return false;
	if (page && caller->page == page)
		return true;
	caller->page = 0;
	if (!page || transfer(caller->tid, page, caller->bytes, UB_CALLER_PAGE, false) ||
	    !call_is_alive(caller))
		return false;
	caller->page = page;
	return true;
}

static int caller_read(struct ub_caller *base, u64 address, void *into, size_t size)
{
	struct caller *caller = (struct caller *)base;

	if (address + size < address)
		return -EFAULT;
	if (!size)
		return 0;
	if (!have_page(caller, address, size))
		return copy(caller, address, into, size, false);
	memcpy(into, caller->bytes + (address - caller->page), size);
	return 0;
}

static int caller_write(struct ub_caller *base, u64 address, const void *from, size_t size)
{
	struct caller *caller = (struct caller *)base;

	if (address + size < address)
		return -EFAULT;
	caller->page = 0;
	return size ? copy(caller, address, (void *)from, size, true) : 0;
}

static int ask_to_install(int sock, int fd, int number, u32 flags)
{
	const struct ub_msg msg = {
		.version = UB_PROTOCOL_VERSION,
		.type = UB_MSG_INSTALL,
		.words = { (u64)number, flags },
	};
	int err = ub_msg_send(sock, &msg, NULL, 0, fd);

	return err ? err : await_copied(sock, NULL, 0);
}

static int caller_install(struct ub_caller *base, int fd, int number, u32 flags)
{
	const struct caller *caller = (struct caller *)base;
	struct seccomp_notif_addfd add = {
		.id = base->call_id,
		.flags = SECCOMP_ADDFD_FLAG_SETFD,
		.srcfd = (u32)fd,
		.newfd = (u32)number,
		.newfd_flags = flags,
	};

	if (caller->listener_fd < 0)
		return ask_to_install(caller->sock, fd, number, flags);
	return ioctl(caller->listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -errno : 0;
}

void ub_daemon_caller_listen(struct caller *caller, int listener_fd)
{
	caller->listener_fd = listener_fd;
}

void ub_daemon_caller_init(struct caller *caller, pid_t pid, int pidfd, uid_t uid, gid_t gid,
			   u64 session)
{
	*caller = (struct caller){
		.base = {
			.pid = pid,
			.pidfd = pidfd,
			.uid = uid,
			.gid = gid,
			.session = session,
			.read = caller_read,
			.write = caller_write,
			.install = caller_install,
		},
		.tid = pid,
		.sock = -1,
		.listener_fd = -1,
	};
	caller->base.opaque = caller;
}

void ub_daemon_caller_begin(struct caller *caller, pid_t tid, u64 id)
{
	caller->tid = tid;
	caller->base.call_id = id;
	caller->page = 0;
}

void ub_daemon_caller_deinit(struct caller *caller)
{
	if (caller->base.pidfd >= 0)
		close(caller->base.pidfd);
	caller->base.pidfd = -1;
}
