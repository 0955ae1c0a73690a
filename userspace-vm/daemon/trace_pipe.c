// SPDX-License-Identifier: MIT
/*
 * trace_pipe: what programs print with bpf_trace_printk(). As long as nobody reads it, the newest
 * lines are kept; who opens it gets those and then each line as it comes. Nobody waits for a reader
 * that does not read: what its pipe has no room for is lost to it.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <common/cleanup.h>

#define KEPT_SIZE (64u << 10)
#define PIPE_SIZE (1 << 20)

struct reader {
	struct reader *next;
	struct trace_pipe *pipe;
	struct ub_watch *watch;
	int fd; /* the end that is written to */
};

struct trace_pipe {
	struct ub_loop *loop;
	struct reader *readers;
	char *kept; /* whole lines, while there is no reader */
	size_t nr_kept;
};

static void reader_free(struct reader *reader)
{
	struct reader **at;

	for (at = &reader->pipe->readers; *at != reader; at = &(*at)->next)
		;
	*at = reader->next;
	ub_watch_remove(reader->watch);
	close(reader->fd);
	free(reader);
}

static void on_reader_gone(void *opaque, u32 events)
{
	reader_free(opaque);
}

static void keep(struct trace_pipe *pipe, const char *line, size_t size)
{
	if (size > KEPT_SIZE)
		return;
	if (!pipe->kept)
		pipe->kept = malloc(KEPT_SIZE);
	if (!pipe->kept)
		return;
	while (pipe->nr_kept + size > KEPT_SIZE) {
		const char *end = memchr(pipe->kept, '\n', pipe->nr_kept);
		size_t first = end ? (size_t)(end + 1 - pipe->kept) : pipe->nr_kept;

		pipe->nr_kept -= first;
		memmove(pipe->kept, pipe->kept + first, pipe->nr_kept);
	}
	memcpy(pipe->kept + pipe->nr_kept, line, size);
	pipe->nr_kept += size;
}

static void write_to(const struct reader *reader, const char *text, size_t size)
{
	if (size && write(reader->fd, text, size) < 0)
		return;
}

void ub_daemon_trace_line(struct trace_pipe *pipe, const char *line, size_t size)
{
	if (!pipe->readers)
		keep(pipe, line, size);
	for (const struct reader *reader = pipe->readers; reader; reader = reader->next)
		write_to(reader, line, size);
}

int ub_daemon_trace_open(struct trace_pipe *pipe, bool nonblock)
{
	_cleanup_close_ int theirs = -1;
	struct reader *reader;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	theirs = ends[0];
	reader = calloc(1, sizeof(*reader));
	if (!reader) {
		close(ends[1]);
		return -ENOMEM;
	}
	reader->pipe = pipe;
	reader->fd = ends[1];
	reader->next = pipe->readers;
	pipe->readers = reader;
	/* EPOLLERR: it is closed. */
	reader->watch = ub_loop_watch(pipe->loop, reader->fd, 0, on_reader_gone, reader);
	if (!reader->watch || fcntl(reader->fd, F_SETFL, O_NONBLOCK) ||
	    (nonblock && fcntl(theirs, F_SETFL, O_NONBLOCK))) {
		reader_free(reader);
		return -ENOMEM;
	}
	/* A refusal leaves it at 64 KiB, which is room for what is kept. */
	fcntl(reader->fd, F_SETPIPE_SZ, PIPE_SIZE);
	write_to(reader, pipe->kept, pipe->nr_kept);
	pipe->nr_kept = 0;
	return TAKE_FD(theirs);
}

struct trace_pipe *ub_daemon_trace_new(struct ub_loop *loop)
{
	struct trace_pipe *pipe = calloc(1, sizeof(*pipe));

	if (pipe)
		pipe->loop = loop;
	return pipe;
}

void ub_daemon_trace_free(struct trace_pipe *pipe)
{
	if (!pipe)
		return;
	while (pipe->readers)
		reader_free(pipe->readers);
	free(pipe->kept);
	free(pipe);
}
