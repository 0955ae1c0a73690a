// SPDX-License-Identifier: MIT
/*
 * Records that targets produce. Each target writes a ring of its own; here it is read, each record
 * checked and handed to the kernel, which alone writes the clients' buffers.
 *
 * A target's ring is hostile memory: the reader (map/event_ring.h) copies a record before it is looked
 * at, and a record may only name a map that the target's image holds.
 */
#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <hook/image.h>
#include <map/event_ring.h>

#define BUSY_MS	  2  /* between looks while records keep coming */
#define QUIET_MS  20 /* while none do */
#define MAX_ROUND 4096 /* records of one target before the others get their turn */

struct events {
	struct targets *targets;
	struct ub_timer *timer;
	u32 quiet_rounds;
};


static bool is_alive(void *opaque, u64 tid)
{
	const struct target *target = opaque;

	return tid > 0 && tid <= INT32_MAX &&
	       syscall(SYS_tgkill, target->pid, (pid_t)tid, 0) == 0;
}

static bool holds_map(const struct target *target, u32 map_id)
{
	for (const struct link *link = target->targets->links; link; link = link->next) {
		if (!target_has(target, link->id))
			continue;
		for (u32 i = 0; i < link->nr_maps; i++) {
			if (ub_kernel_map_id(link->maps[i]) == map_id)
				return true;
		}
	}
	return false;
}

/* Losses are counted per ring: told to whatever buffer the target's programs write to. */
static void tell_lost(struct target *target)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	u64 lost = ub_event_lost(target->ring);
	u64 more = lost - target->lost;

	if (lost <= target->lost)
		return;
	target->lost = lost;
	for (const struct link *link = target->targets->links; link; link = link->next) {
		if (!target_has(target, link->id))
			continue;
		for (u32 i = 0; i < link->nr_maps; i++) {
			u32 type = ub_kernel_map_attr(link->maps[i])->type;

			if (type != BPF_MAP_TYPE_RINGBUF &&
			    type != BPF_MAP_TYPE_PERF_EVENT_ARRAY)
				continue;
			ub_kernel_lost(kernel, ub_kernel_map_id(link->maps[i]), more);
			return;
		}
	}
}

/* Number of records read. */
static u32 read_ring(struct target *target)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	struct ub_event event;
	u32 nr = 0;

	if (!target->reader)
		return 0;
	while (nr < MAX_ROUND) {
		int got = ub_event_read(target->reader, &event, is_alive, target);

		if (got <= 0)
			break;
		nr++;
		if (event.kind == UB_EVENT_PRINTK || holds_map(target, event.map_id))
			ub_kernel_deliver(kernel, &event);
	}
	tell_lost(target);
	return nr;
}

static void on_timer(void *opaque)
{
	struct events *events = opaque;
	bool any = false;
	u32 nr = 0;

	events->timer = NULL;
	for (struct target *target = events->targets->list; target; target = target->next) {
		any |= target->reader != NULL;
		nr += read_ring(target);
	}
	events->quiet_rounds = nr ? 0 : events->quiet_rounds + 1;
	if (any)
		events->timer = ub_loop_after(events->targets->daemon->loop,
					      events->quiet_rounds < 50 ? BUSY_MS : QUIET_MS,
					      on_timer, events);
}

void events_target_drain(struct events *events, struct target *target)
{
	while (read_ring(target) == MAX_ROUND)
		;
	ub_event_reader_free(target->reader);
	target->reader = NULL;
	target->ring = NULL;
	target->lost = 0;
}

/* Only programs with somewhere to send records to have any. */
static bool produces(const struct target *target)
{
	for (const struct link *link = target->targets->links; link; link = link->next) {
		if (!target_has(target, link->id))
			continue;
		for (u32 i = 0; i < link->nr_maps; i++) {
			u32 type = ub_kernel_map_attr(link->maps[i])->type;

			if (type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_PERF_EVENT_ARRAY)
				return true;
		}
	}
	return false;
}

void events_target_changed(struct events *events, struct target *target)
{
	struct ub_event_ring *ring;
	u32 size = 0;

	if (!target->image || target->reader || !produces(target))
		return;
	ring = ub_image_events(target->image, &size);
	if (!ring)
		return;
	target->reader = ub_event_reader_new(ring, size);
	if (!target->reader)
		return;
	target->ring = ring;
	target->lost = 0;
	events->quiet_rounds = 0;
	if (!events->timer)
		events->timer =
			ub_loop_after(events->targets->daemon->loop, BUSY_MS, on_timer, events);
}

struct events *events_new(struct targets *targets)
{
	struct events *events = calloc(1, sizeof(*events));

	if (events)
		events->targets = targets;
	return events;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	ub_timer_remove(events->timer);
	free(events);
}
