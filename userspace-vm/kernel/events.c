// SPDX-License-Identifier: MIT
/*
 * Events: from a target's own ring, through us, into the client's ring buffer or perf buffer
 * (map/client_ring.h), and the waking of who waits for them.
 *
 * The files that clients hold can't be made readable by us (a memfd always is, which epoll
 * refuses), so an eventfd is put into the client's epoll set in their place, edge-triggered because
 * the client will never read it. A kernel's ring is level-triggered: a reader that goes back to
 * sleep with records unread is woken again. That is what the tick is for.
 */
#include <kernel/kinds.h>

#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define TICK_MS	 10
#define MAX_LATE (16u << 20) /* bytes of records that wait for room in one ring buffer */

static bool deliver_late(struct ub_kernel_map *map);

static bool has_late(struct ub_object *object)
{
	return object->kind == UB_KIND_MAP && ub_to_map(object)->late;
}

/* --- waking --------------------------------------------------------------------------------------
 */

static int *eventfd_of(struct ub_object *object)
{
	return object->kind == UB_KIND_MAP ? &ub_to_map(object)->eventfd
					   : &ub_to_perf(object)->eventfd;
}

void ub_object_wake(struct ub_object *object)
{
	u64 one = 1;
	int fd = *eventfd_of(object);

	ub_poll_level(object);

	/* Full means that a reader has been told very often already. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EAGAIN) {
		u64 all;

		if (read(fd, &all, sizeof(all)) == sizeof(all) && write(fd, &one, sizeof(one)) < 0)
			return;
	}
}

bool ub_object_unread(struct ub_object *object)
{
	/* A USER_RINGBUF is the client's to write. */
	if (object->kind == UB_KIND_MAP &&
	    ub_to_map(object)->map.attr.type == BPF_MAP_TYPE_USER_RINGBUF)
		return false;
	if (object->kind == UB_KIND_MAP)
		return ub_client_ring_available(&ub_to_map(object)->map, &ub_to_map(object)->ring);
	return ub_to_perf(object)->page.base && ub_perf_page_available(&ub_to_perf(object)->page);
}

static void tick(void *opaque)
{
	struct ub_kernel *k = opaque;

	k->tick = NULL;
	for (u32 i = 0; i < k->nr_ticking;) {
		struct ub_object *object = k->ticking[i];

		if (has_late(object)) {
			deliver_late(ub_to_map(object));
			ub_kernel_delivered(k);
		}
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

bool ub_object_can_wait(const struct ub_object *object)
{
	u32 type;

	if (object->kind != UB_KIND_MAP)
		return object->kind == UB_KIND_PERF;
	type = ub_to_map((struct ub_object *)object)->map.attr.type;
	return type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_USER_RINGBUF;
}

static int take_file(const struct ub_caller *c, int fd)
{
	int taken = (int)syscall(__NR_pidfd_getfd, c->pidfd, fd, 0);

	return taken < 0 ? -errno : taken;
}

static s64 epoll_ctl_for(struct ub_caller *c, struct ub_object *object, int epfd, int op,
			 u64 address)
{
	struct epoll_event event = { 0 };
	_cleanup_close_ int set = -1;
	int *fd = eventfd_of(object);
	u64 wakings;
	int err;

	if (op != EPOLL_CTL_DEL) {
		err = c->read(c, address, &event, sizeof(event));
		if (err)
			return err;
	}
	event.events |= EPOLLET;
	set = c->epoll_file ? c->epoll_file(c) : take_file(c, epfd);
	if (set < 0)
		return set;
	if (*fd < 0) {
		*fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (*fd < 0)
			return -errno;
	}
	/* Nobody has read the wakings of what is read by now. */
	if (!ub_object_unread(object) && read(*fd, &wakings, sizeof(wakings)) < 0 &&
	    errno != EAGAIN)
		return -errno;
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

	if (ub_file_get(k, c, (s32)call->args[2], &file) || !ub_object_can_wait(file->object)) {
		reply->pass = true;
		return;
	}
	reply->value = epoll_ctl_for(c, file->object, (s32)call->args[0], (s32)call->args[1],
				     call->args[3]);
}

/* --- delivery
 * -------------------------------------------------------------------------------------- */

/* Records are shown to a client many at once: it and we would else wait for the same cache line at
 * each. */
#define PUBLISH_AT 4096u /* bytes */

void ub_kernel_delivered(struct ub_kernel *k)
{
	struct ub_kernel_map *map = k->unpublished;

	k->unpublished = NULL;
	if (map && ub_client_ring_publish(&map->map, &map->ring))
		ub_object_wake(&map->object);
}

static bool append(struct ub_kernel_map *map, const struct ub_event *event)
{
	struct ub_kernel *k = map->object.kernel;
	int err;

	if (k->unpublished && k->unpublished != map)
		ub_kernel_delivered(k);
	err = ub_client_ring_append(&map->map, &map->ring, event->data, event->size, event->wakeup);
	if (err) {
		ub_kernel_delivered(k);
		ub_tick_add(&map->object);
		return err != -EAGAIN;
	}
	k->unpublished = map;
	if (map->ring.producer - map->ring.published >= PUBLISH_AT)
		ub_kernel_delivered(k);
	if (map->eventfd >= 0 && !(event->wakeup & BPF_RB_NO_WAKEUP))
		ub_tick_add(&map->object);
	return true;
}

/* A record whose process is gone, or has another image: it waits here for room. */
struct ub_late {
	struct ub_late *next;
	struct ub_event event;
	u8 data[];
};

/* False: some still wait. */
static bool deliver_late(struct ub_kernel_map *map)
{
	while (map->late) {
		struct ub_late *late = map->late;

		if (!append(map, &late->event))
			return false;
		map->late = late->next;
		map->late_bytes -= sizeof(*late) + late->event.size;
		free(late);
	}
	return true;
}

void ub_kmap_free_late(struct ub_kernel_map *map)
{
	while (map->late) {
		struct ub_late *late = map->late;

		map->late = late->next;
		free(late);
	}
}

static bool deliver_ring(struct ub_kernel_map *map, const struct ub_event *event)
{
	return deliver_late(map) && append(map, event);
}

void ub_kernel_deliver_later(struct ub_kernel *k, const struct ub_event *event)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, event->map_id);
	struct ub_kernel_map *map = object ? ub_to_map(object) : NULL;
	u64 bytes = sizeof(struct ub_late) + event->size;
	struct ub_late *late;

	if (!map || ub_kernel_deliver(k, event))
		return;
	late = map->late_bytes + bytes <= MAX_LATE ? malloc(bytes) : NULL;
	if (!late) {
		map->lost++;
		return;
	}
	*late = (struct ub_late) { .event = *event };
	late->event.data = late->data;
	memcpy(late->data, event->data, event->size);
	if (!map->late)
		map->late_end = &map->late;
	*map->late_end = late;
	map->late_end = &late->next;
	map->late_bytes += bytes;
}

/* Who waits for room in a USER_RINGBUF waits for EPOLLOUT, which an eventfd tells when it is
 * read. */
static void wake_writers(struct ub_kernel_map *map)
{
	u64 count;

	ub_object_wake(&map->object);
	if (map->eventfd >= 0 && read(map->eventfd, &count, sizeof(count)) < 0)
		return; /* somebody else has read it, with the same effect */
}

static void deliver_perf(struct ub_kperf *event, const void *data, u32 size)
{
	ub_perf_find_size(event);
	if (!event->page.base) {
		event->lost++;
		return;
	}
	if (event->lost) {
		ub_perf_page_lost(&event->page, event->lost);
		event->lost = 0;
	}
	if (!ub_perf_page_sample(&event->page, data, size))
		ub_object_wake(&event->object);
	if (event->eventfd >= 0)
		ub_tick_add(&event->object);
}

static struct ub_kperf *perf_slot(const struct ub_kernel_map *map, u32 index)
{
	return index < map->nr_slots && map->slots[index] ? ub_to_perf(map->slots[index]) : NULL;
}

bool ub_kernel_deliver(struct ub_kernel *k, const struct ub_event *event)
{
	struct ub_object *object;
	struct ub_kernel_map *map;
	struct ub_kperf *perf;

	/* Most come after others for the same map. */
	if (k->unpublished && event->kind == UB_EVENT_RINGBUF &&
	    k->unpublished->object.id == event->map_id)
		return deliver_ring(k->unpublished, event);
	object = ub_object_by_id(k, UB_KIND_MAP, event->map_id);
	map = object ? ub_to_map(object) : NULL;

	if (event->kind == UB_EVENT_PRINTK) {
		if (k->ops->trace)
			k->ops->trace(k->opaque, event->data, event->size);
		return true;
	}
	if (!map)
		return true;
	if (event->kind == UB_EVENT_RINGBUF && map->map.attr.type == BPF_MAP_TYPE_RINGBUF) {
		return deliver_ring(map, event);
	} else if (event->kind == UB_EVENT_PERF &&
		   map->map.attr.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY) {
		perf = perf_slot(map, event->cpu);
		if (perf)
			deliver_perf(perf, event->data, event->size);
	} else if (event->kind == UB_EVENT_DRAINED &&
		   map->map.attr.type == BPF_MAP_TYPE_USER_RINGBUF) {
		wake_writers(map);
	} else if (event->kind == UB_EVENT_LEFT) {
		ub_kmap_sweep_left(map);
	}
	return true;
}

u64 ub_kernel_ring_unread(struct ub_kernel *k, u32 map_id)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, map_id);

	return object ? ub_client_ring_available(&ub_to_map(object)->map, &ub_to_map(object)->ring)
		      : 0;
}

u64 ub_kernel_ring_position(struct ub_kernel *k, u32 map_id)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, map_id);

	return object ? ub_to_map(object)->ring.producer : 0;
}

u64 ub_kernel_lost_of(struct ub_kernel *k, u32 map_id)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, map_id);

	return object ? ub_to_map(object)->lost : 0;
}

void ub_kernel_lost(struct ub_kernel *k, u32 map_id, u64 count)
{
	struct ub_object *object = ub_object_by_id(k, UB_KIND_MAP, map_id);
	struct ub_kernel_map *map = object ? ub_to_map(object) : NULL;

	if (!map)
		return;
	map->lost += count;
	for (u32 i = 0; map->map.attr.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY && i < map->nr_slots;
	     i++) {
		struct ub_kperf *event = perf_slot(map, i);

		if (event && event->memfd >= 0) { /* any of them can say it */
			event->lost += count;
			return;
		}
	}
}
