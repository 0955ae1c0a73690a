// SPDX-License-Identifier: MIT
/*
 * Events: from a target's own ring, through us, into the client's ring buffer or perf buffer, and the
 * waking of who waits for them.
 *
 * The client's memory is only written here. Positions that we own are kept in our own memory and merely
 * shown to the client; positions that the client owns are read once and believed only if they make sense.
 * libbpf in turn believes every header it finds, so nothing of the target's but bytes of data gets there.
 *
 * The files that clients hold can't be made readable by us (a memfd always is, which epoll refuses), so
 * an eventfd is put into the client's epoll set in their place, edge-triggered because the client will
 * never read it. A kernel's ring is level-triggered: a reader that goes back to sleep with records unread is
 * woken again. That is what the tick is for.
 */
#include <kernel/kinds.h>

#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define PAGE_SIZE   4096u
#define TICK_MS	    10
#define MAX_RECORD  (UINT32_MAX / 4)
#define RING_DATA   (2 * PAGE_SIZE) /* offset: after the consumer's and the producer's page */
#define MAX_PERF    65535u

/* --- waking -------------------------------------------------------------------------------------- */

static int *eventfd_of(struct ub_object *object)
{
	return object->kind == UB_KIND_MAP ? &ub_to_map(object)->eventfd :
					     &ub_to_perf(object)->eventfd;
}

void ub_object_wake(struct ub_object *object)
{
	u64 one = 1;
	int fd = *eventfd_of(object);

	/* Full means that a reader has been told very often already. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EAGAIN) {
		u64 all;

		if (read(fd, &all, sizeof(all)) == sizeof(all) && write(fd, &one, sizeof(one)) < 0)
			return;
	}
}

static struct perf_event_mmap_page *perf_page(const struct ub_kperf *event)
{
	return (struct perf_event_mmap_page *)(void *)event->buffer;
}

static u64 ring_consumer(const struct ub_kernel_map *map)
{
	return __atomic_load_n((u64 *)(void *)map->map.shared, __ATOMIC_ACQUIRE);
}

bool ub_object_unread(struct ub_object *object)
{
	if (object->kind == UB_KIND_MAP)
		return ring_consumer(ub_to_map(object)) != ub_to_map(object)->producer;
	return ub_to_perf(object)->buffer &&
	       __atomic_load_n(&perf_page(ub_to_perf(object))->data_tail, __ATOMIC_ACQUIRE) !=
		       ub_to_perf(object)->head;
}

static void tick(void *opaque)
{
	struct ub_kernel *k = opaque;

	k->tick = NULL;
	for (u32 i = 0; i < k->nr_ticking;) {
		struct ub_object *object = k->ticking[i];

		if (ub_object_unread(object)) {
			ub_object_wake(object);
			i++;
		} else {
			k->ticking[i] = k->ticking[--k->nr_ticking];
		}
	}
	if (k->nr_ticking)
		k->tick = ub_loop_after(k->loop, TICK_MS, tick, k);
}

void ub_tick_add(struct ub_object *object)
{
	struct ub_kernel *k = object->kernel;

	for (u32 i = 0; i < k->nr_ticking; i++)
		if (k->ticking[i] == object)
			return;
	if (k->nr_ticking == k->ticking_capacity) {
		u32 capacity = k->ticking_capacity ? k->ticking_capacity * 2 : 16;
		struct ub_object **grown = reallocarray(k->ticking, capacity, sizeof(*grown));

		if (!grown)
			return;
		k->ticking = grown;
		k->ticking_capacity = capacity;
	}
	k->ticking[k->nr_ticking++] = object;
	if (!k->tick)
		k->tick = ub_loop_after(k->loop, TICK_MS, tick, k);
}

void ub_tick_remove(struct ub_object *object)
{
	struct ub_kernel *k = object->kernel;

	for (u32 i = 0; i < k->nr_ticking; i++) {
		if (k->ticking[i] == object) {
			k->ticking[i] = k->ticking[--k->nr_ticking];
			return;
		}
	}
}

static bool can_wait_for(const struct ub_object *object)
{
	return object->kind == UB_KIND_PERF ||
	       (object->kind == UB_KIND_MAP &&
		ub_to_map((struct ub_object *)object)->map.attr.type == BPF_MAP_TYPE_RINGBUF);
}

static s64 epoll_ctl_for(struct ub_caller *c, struct ub_object *object, int epfd, int op, u64 address)
{
	struct epoll_event event = { 0 };
	_cleanup_close_ int set = -1;
	int *fd = eventfd_of(object);
	int err;

	if (op != EPOLL_CTL_DEL) {
		err = c->read(c, address, &event, sizeof(event));
		if (err)
			return err;
	}
	event.events |= EPOLLET;
	set = (int)syscall(__NR_pidfd_getfd, c->pidfd, epfd, 0);
	if (set < 0)
		return errno == EBADF ? -EBADF : -errno;
	if (*fd < 0) {
		*fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (*fd < 0)
			return -errno;
	}
	if (epoll_ctl(set, op, *fd, &event))
		return -errno;
	if (op != EPOLL_CTL_DEL && ub_object_unread(object)) {
		ub_object_wake(object);
		ub_tick_add(object);
	}
	return 0;
}

void ub_epoll_ctl(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		  struct ub_reply *reply)
{
	struct ub_file *file;

	if (ub_file_get(k, c, (s32)call->args[2], &file) || !can_wait_for(file->object)) {
		reply->pass = true;
		return;
	}
	reply->value = epoll_ctl_for(c, file->object, (s32)call->args[0], (s32)call->args[1],
				     call->args[3]);
}

/* --- ring buffers ---------------------------------------------------------------------------------- */

/* The data area is there twice, one after the other, so that a client may map it as the kernel's and
 * read records that wrap around in one piece. Each byte has to be written at both places. */
static void ring_copy(u8 *data, u64 size, u64 at, const void *from, u64 length)
{
	u64 first = length < size - at ? length : size - at;
	const u8 *bytes = from;

	memcpy(data + at, bytes, length);
	memcpy(data + size + at, bytes, first);
	if (first < length)
		memcpy(data, bytes + first, length - first);
}

static void deliver_ring(struct ub_kernel_map *map, const void *data, u32 length)
{
	u64 size = map->map.attr.max_entries;
	u64 total = ub_round_up((u64)length + BPF_RINGBUF_HDR_SZ, 8);
	u64 consumer = ring_consumer(map);
	u64 used = map->producer - consumer;
	u64 at = map->producer & (size - 1);
	u8 *base = map->map.shared + RING_DATA;
	u32 header[2] = { length, 0 };

	/* A consumer that claims to be ahead of us, or further behind than there is room, is not believed. */
	if (length > MAX_RECORD || used > size || total > size - used) {
		map->lost++;
		return;
	}
	header[1] = (u32)((map->producer & (size - 1)) / PAGE_SIZE + RING_DATA / PAGE_SIZE - 1);
	ring_copy(base, size, (at + sizeof(header)) & (size - 1), data, length);
	ring_copy(base, size, at, header, sizeof(header));
	map->producer += total;
	__atomic_store_n((u64 *)(void *)(map->map.shared + PAGE_SIZE), map->producer, __ATOMIC_SEQ_CST);
	/* As the kernel: whoever had read everything before this record may be asleep. */
	if (ring_consumer(map) == map->producer - total)
		ub_object_wake(&map->object);
	if (map->eventfd >= 0)
		ub_tick_add(&map->object);
}

/* --- perf buffers ------------------------------------------------------------------------------------ */

static void perf_copy(struct ub_kperf *event, u64 at, const void *from, u64 length)
{
	u8 *data = event->buffer + PAGE_SIZE;
	u64 offset = at & (event->data_size - 1);
	u64 first = length < event->data_size - offset ? length : event->data_size - offset;

	memcpy(data + offset, from, first);
	memcpy(data, (const u8 *)from + first, length - first);
}

static u64 perf_room(const struct ub_kperf *event)
{
	u64 tail = __atomic_load_n(&perf_page(event)->data_tail, __ATOMIC_ACQUIRE);
	u64 used = event->head - tail;

	return used > event->data_size ? 0 : event->data_size - used;
}

static void perf_publish(struct ub_kperf *event)
{
	__atomic_store_n(&perf_page(event)->data_head, event->head, __ATOMIC_SEQ_CST);
}

/* What was lost is said as soon as there is room to say it: PERF_RECORD_LOST. */
static void perf_say_lost(struct ub_kperf *event, u64 needed)
{
	struct {
		struct perf_event_header header;
		u64 id;
		u64 lost;
	} record = { { PERF_RECORD_LOST, 0, sizeof(record) }, event->object.id, event->lost };

	if (!event->lost || perf_room(event) < sizeof(record) + needed)
		return;
	perf_copy(event, event->head, &record, sizeof(record));
	event->head += sizeof(record);
	event->lost = 0;
}

static void deliver_perf(struct ub_kperf *event, const void *data, u32 length)
{
	struct {
		struct perf_event_header header;
		u32 size;
	} __attribute__((packed)) head;
	u32 raw = ub_round_up(length + (u32)sizeof(head.size), 8) - (u32)sizeof(head.size);
	u64 total = sizeof(head) + raw;
	static const u8 zero[8];

	ub_perf_find_size(event);
	if (!event->buffer || total > MAX_PERF) {
		event->lost++;
		return;
	}
	perf_say_lost(event, total);
	if (event->lost || perf_room(event) < total) {
		event->lost++;
		if (event->eventfd >= 0)
			ub_tick_add(&event->object);
		return;
	}
	head.header = (struct perf_event_header){ PERF_RECORD_SAMPLE, 0, (u16)total };
	head.size = raw;
	perf_copy(event, event->head, &head, sizeof(head));
	perf_copy(event, event->head + sizeof(head), data, length);
	perf_copy(event, event->head + sizeof(head) + length, zero, raw - length);
	event->head += total;
	perf_publish(event);
	ub_object_wake(&event->object);
	if (event->eventfd >= 0)
		ub_tick_add(&event->object);
}

static struct ub_kperf *perf_slot(const struct ub_kernel_map *map, u32 index)
{
	return index < map->nr_slots && map->slots[index] ? ub_to_perf(map->slots[index]) : NULL;
}

void ub_kernel_deliver(struct ub_kernel *k, const struct ub_event *event)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, event->map_id);
	struct ub_kernel_map *map = object ? ub_to_map(object) : NULL;
	struct ub_kperf *perf;

	if (event->kind == UB_EVENT_PRINTK) {
		char text[1024];

		snprintf(text, sizeof(text), "%.*s",
			 event->size < sizeof(text) ? (int)event->size : (int)sizeof(text) - 1,
			 (const char *)event->data);
		if (k->ops->log)
			k->ops->log(k->opaque, 0, text);
		return;
	}
	if (!map)
		return;
	if (event->kind == UB_EVENT_RINGBUF && map->map.attr.type == BPF_MAP_TYPE_RINGBUF) {
		deliver_ring(map, event->data, event->size);
	} else if (event->kind == UB_EVENT_PERF &&
		   map->map.attr.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY) {
		perf = perf_slot(map, event->cpu);
		if (perf)
			deliver_perf(perf, event->data, event->size);
	}
}

void ub_kernel_lost(struct ub_kernel *k, u32 map_id, u64 count)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, map_id);
	struct ub_kernel_map *map = object ? ub_to_map(object) : NULL;

	if (!map)
		return;
	map->lost += count;
	for (u32 i = 0; map->map.attr.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY && i < map->nr_slots; i++) {
		struct ub_kperf *event = perf_slot(map, i);

		if (event && event->memfd >= 0) { /* any of them can say it */
			event->lost += count;
			return;
		}
	}
}
