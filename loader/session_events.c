// SPDX-License-Identifier: MIT
/*
 * Records that programs send through ring buffers and perf buffers, printed as they come: as JSON
 * after the BTF of `struct event` where the program has such a type of the record's size, else in
 * hex.
 */
#include "session_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "btf_json.h"
#include "output.h"

enum { MAX_BUFFERS = 16, PERF_PAGES = 16 };

struct buffer {
	struct ub_session *session;
	const char *name;
	int map_fd;
	struct ring_buffer *ring;
	struct perf_buffer *perf;
	struct ub_watch *watch;
};

struct ub_events {
	struct buffer buffers[MAX_BUFFERS];
	u32 nr;
	s32 event_type; /* BTF id of struct event, or < 0 */
};

static struct json_object *record_to_json(const struct ub_session *session, const void *data,
					  size_t size)
{
	const struct btf *btf = bpf_object__btf(session->programs->object);
	s32 type = session->events->event_type;

	if (type > 0 && btf__resolve_size(btf, type) <= (s64)size)
		return ub_btf_to_json(btf, type, data, size);
	return ub_btf_to_json(NULL, 0, data, size);
}

static void show_record(const struct buffer *buffer, const void *data, size_t size)
{
	struct json_object *record = record_to_json(buffer->session, data, size);

	if (buffer->session->options->json) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "event", json_object_new_string("record"));
		json_object_object_add(object, "map", json_object_new_string(buffer->name));
		json_object_object_add(object, "record", record);
		ub_json_line(object);
		return;
	}
	printf("\t%s: %s\n", buffer->name,
	       json_object_to_json_string_ext(record, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(record);
}

static int on_ring_record(void *opaque, void *data, size_t size)
{
	show_record(opaque, data, size);
	return 0;
}

static void on_perf_record(void *opaque, int cpu, void *data, u32 size)
{
	show_record(opaque, data, size);
}

static void on_perf_lost(void *opaque, int cpu, __u64 count)
{
	struct buffer *buffer = opaque;

	buffer->session->nr_lost += count;
}

static void on_ready(void *opaque, u32 events)
{
	struct buffer *buffer = opaque;

	if (buffer->ring)
		ring_buffer__consume(buffer->ring);
	else
		perf_buffer__consume(buffer->perf);
	fflush(stdout);
}

static int open_buffer(struct ub_session *session, const struct bpf_map *map, struct buffer *buffer,
		       struct ub_reason *why)
{
	int fd, err;

	buffer->session = session;
	buffer->name = bpf_map__name(map);
	buffer->map_fd = bpf_map__fd(map);
	ub_libbpf_forget();
	if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF)
		buffer->ring = ring_buffer__new(bpf_map__fd(map), on_ring_record, buffer, NULL);
	else
		buffer->perf = perf_buffer__new(bpf_map__fd(map), PERF_PAGES, on_perf_record,
						on_perf_lost, buffer, NULL);
	if (!buffer->ring && !buffer->perf) {
		err = -errno;
		return ub_reason_set(why, err, "cannot read from map %s: %s", buffer->name,
				     ub_libbpf_warning()[0] ? ub_libbpf_warning() : strerror(-err));
	}
	fd = buffer->ring ? ring_buffer__epoll_fd(buffer->ring)
			  : perf_buffer__epoll_fd(buffer->perf);
	buffer->watch = ub_loop_watch(session->loop, fd, EPOLLIN, on_ready, buffer);
	return buffer->watch ? 0 : ub_reason_set(why, -errno, "cannot watch map %s", buffer->name);
}

int ub_session_events_open(struct ub_session *session, struct ub_reason *why)
{
	const struct btf *btf = bpf_object__btf(session->programs->object);
	struct bpf_map *map;

	bpf_object__for_each_map(map, session->programs->object)
	{
		int err;

		if (bpf_map__type(map) != BPF_MAP_TYPE_RINGBUF &&
		    bpf_map__type(map) != BPF_MAP_TYPE_PERF_EVENT_ARRAY)
			continue;
		if (!session->events) {
			session->events = calloc(1, sizeof(*session->events));
			if (!session->events)
				return ub_reason_set(why, -ENOMEM, "out of memory");
			session->events->event_type =
				btf ? btf__find_by_name_kind(btf, "event", BTF_KIND_STRUCT)
				    : -ENOENT;
		}
		if (session->events->nr == MAX_BUFFERS)
			return ub_reason_set(why, -E2BIG, "more than %d event buffers",
					     MAX_BUFFERS);
		err = open_buffer(session, map, &session->events->buffers[session->events->nr++],
				  why);
		if (err)
			return err;
	}
	return 0;
}

void ub_session_events_drain(struct ub_session *session)
{
	for (u32 i = 0; session->events && i < session->events->nr; i++)
		on_ready(&session->events->buffers[i], 0);
}

void ub_session_events_count_lost(struct ub_session *session)
{
	const struct ub_backend *backend = session->options->backend;

	for (u32 i = 0; backend->lost_ring_records && session->events && i < session->events->nr;
	     i++) {
		const struct buffer *buffer = &session->events->buffers[i];
		struct bpf_map_info info = {};
		u32 size = sizeof(info);

		if (buffer->ring && !bpf_obj_get_info_by_fd(buffer->map_fd, &info, &size))
			session->nr_ring_lost += backend->lost_ring_records(info.id);
	}
}

void ub_session_events_close(struct ub_session *session)
{
	if (!session->events)
		return;
	for (u32 i = 0; i < session->events->nr; i++) {
		struct buffer *buffer = &session->events->buffers[i];

		ub_watch_remove(buffer->watch);
		ring_buffer__free(buffer->ring);
		perf_buffer__free(buffer->perf);
	}
	free(session->events);
	session->events = NULL;
}
