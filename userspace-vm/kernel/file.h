/* SPDX-License-Identifier: MIT */
/*
 * Files: how a client's fd number stands for an object, and how its last close is noticed (file.c).
 */
#ifndef UB_KERNEL_FILE_H
#define UB_KERNEL_FILE_H

#include <kernel/object.h>

enum {
	UB_FILE_READ = 1 << 0,
	UB_FILE_WRITE = 1 << 1,
	UB_FILE_RDWR = UB_FILE_READ | UB_FILE_WRITE,
};

/* A client's file. Owned by the kernel's table; holds a user reference on its object. */
struct ub_file {
	struct ub_file *next;
	dev_t dev;
	ino_t ino;
	struct ub_object *object;
	u32 mode; /* UB_FILE_* */
	/* Either a socket pair, whose other end the client holds ... */
	int socket;
	struct ub_watch *watch;
	/* ... or a memfd (not owned), reopened for the client and, to ask who has it open, for
	 * us. */
	int memfd;
	int asked_fd;
	int watch_descriptor;
	s64 opens; /* descriptions handed out less closes seen: where nothing better can be had */
	u32 ask_again; /* so often: a close was told, though somebody still seemed to have it open */
	/* Where the socket is a pipe instead: it holds a byte, so that its readers are ready. */
	bool raised;
};

int __must_check ub_files_init(struct ub_kernel *kernel);
/* Drops all files and with them all that only clients hold. */
void ub_files_exit(struct ub_kernel *kernel);

/* A new fd for @object, to be installed in the client: one end of a socket pair. Takes a user
 * reference on @object that goes when the client closes its last duplicate. fd or -errno. */
int __must_check ub_file_socket(struct ub_object *object, u32 mode);
/* The same for memory that the client may map: a fresh description of @memfd. */
int __must_check ub_file_memory(struct ub_object *object, int memfd, u32 mode);

/* The same, as the reading end of a pipe, of which @object has one. */
int __must_check ub_file_pipe(struct ub_object *object, u32 mode);

/* The file behind the caller's @fd: -EBADF no such fd, -EINVAL not one of ours. */
int __must_check ub_file_get(struct ub_kernel *kernel, struct ub_caller *caller, int fd,
			     struct ub_file **out);
/* The object of @kind behind it: -EBADF, -EINVAL. No reference is taken. */
int __must_check ub_file_object(struct ub_kernel *kernel, struct ub_caller *caller, int fd,
				enum ub_kind kind, struct ub_object **out);

#endif
