// SPDX-License-Identifier: MIT
#include <daemon/protocol.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for a few more than the one that is welcome, so that the rest can be closed. */
#define MAX_FDS 8

int ub_msg_send(int sock, const struct ub_msg *msg, const void *data, size_t size, int fd)
{
	struct iovec iov[2] = {
		{ (void *)msg, sizeof(*msg) },
		{ (void *)data, size },
	};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct msghdr head = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };
	ssize_t n;

	if (size > UB_MSG_MAX_DATA)
		return -EMSGSIZE;
	if (fd >= 0) {
		struct cmsghdr *cmsg;

		head.msg_control = control.bytes;
		head.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&head);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	do {
		n = sendmsg(sock, &head, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Keeps the first descriptor that came along, if it is wanted, and closes the others. */
static void take_fds(struct msghdr *head, int *fd)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(head); cmsg; cmsg = CMSG_NXTHDR(head, cmsg)) {
		size_t nr;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < nr; i++) {
			int got;

			memcpy(&got, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(got));
			if (fd && *fd < 0)
				*fd = got;
			else
				close(got);
		}
	}
}

int ub_msg_recv(int sock, struct ub_msg *msg, void *data, size_t capacity, size_t *size, int *fd)
{
	struct iovec iov[2] = {
		{ msg, sizeof(*msg) },
		{ data, capacity },
	};
	union {
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr head = {
		.msg_iov = iov,
		.msg_iovlen = capacity ? 2 : 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int got = -1;
	ssize_t n;

	do {
		n = recvmsg(sock, &head, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&head, fd ? &got : NULL);
	if (n < (ssize_t)sizeof(*msg) || (head.msg_flags & MSG_TRUNC) ||
	    msg->version != UB_PROTOCOL_VERSION) {
		if (got >= 0)
			close(got);
		return n == 0 ? -ECONNRESET : -EBADMSG;
	}
	*size = (size_t)n - sizeof(*msg);
	if (fd)
		*fd = got;
	return 0;
}
