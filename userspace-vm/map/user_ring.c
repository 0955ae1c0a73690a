// SPDX-License-Identifier: MIT
#include <map/user_ring.h>

#include <errno.h>

#include <map/event_ring.h>
#include <map/hold.h>
#include <map/mem.h>

#define PAGE	    4096u
#define HEADER	    8u
#define MAX_SAMPLES (128u * 1024)     /* BPF_MAX_USER_RINGBUF_SAMPLES */
#define MAX_DYNPTR  ((1u << 24) - 1u) /* DYNPTR_MAX_SIZE */

static u64 *consumer_position(const struct ub_map *map)
{
	return (u64 *)map->shared;
}

static u64 *producer_position(const struct ub_map *map)
{
	return (u64 *)(map->shared + PAGE);
}

/* Behind the consumer position, which nothing else shares the page with: who drains the ring, as
 * 1 << 63 | image << 48 | hold << 44 | thread (ub_hold_number()) << 32 | tgid; 0: nobody. */
static u64 *drainer(const struct ub_map *map)
{
	return (u64 *)map->shared + 1;
}

struct sample {
	void *data;
	u32 size;
	u64 end; /* the consumer position behind it */
};

/* 0: *sample; -ENODATA: nothing more; -EAGAIN: one was discarded; -EINVAL, -E2BIG. */
static int next_sample(const struct ub_map *map, struct sample *sample)
{
	u64 producer = __atomic_load_n(producer_position(map), __ATOMIC_ACQUIRE);
	u64 consumer = __atomic_load_n(consumer_position(map), __ATOMIC_ACQUIRE), total;
	u8 *base = map->shared + map->values_offset;
	u32 header, size;

	/* The consumer's is ours, but the client can write there too. */
	if (producer % 8 || consumer % 8)
		return -EINVAL;
	if (consumer >= producer)
		return -ENODATA;
	header = __atomic_load_n((u32 *)(base + (consumer & map->mask)), __ATOMIC_ACQUIRE);
	size = header & ~(u32)(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
	total = ub_round_up((u64)size + HEADER, 8);
	if (total > producer - consumer)
		return -EINVAL;
	if (total > map->attr.max_entries || size > MAX_DYNPTR)
		return -E2BIG;
	if (header & BPF_RINGBUF_DISCARD_BIT) {
		__atomic_store_n(consumer_position(map), consumer + total, __ATOMIC_RELEASE);
		return -EAGAIN;
	}
	if (header & BPF_RINGBUF_BUSY_BIT)
		return -ENODATA;
	*sample = (struct sample) { .data = base + ((consumer + HEADER) & map->mask),
				    .size = size,
				    .end = consumer + total };
	return 0;
}

/* Tells the daemon, which wakes a client that waits for room. */
static void tell_drained(const struct ub_map *map, struct ub_run *run)
{
	struct ub_event_ring *events = run && run->process ? run->process->events : NULL;

	(void)ub_event_tell(events, UB_EVENT_DRAINED, map->attr.id, run);
}

long ub_user_ring_drain(struct ub_map *map, u64 flags, ub_user_sample_fn each, void *opaque,
			struct ub_run *run)
{
	u64 nobody = 0, me;
	u32 samples = 0, discarded = 0, hold;
	long ret = 0;
	int err = 0;

	if (flags & ~(u64)(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP))
		return -EINVAL;
	hold = ub_hold_take(run);
	me = 1ull << 63 | (u64)ub_hold_image(run) << 48 | (u64)hold << 44 |
	     (u64)ub_hold_number(run) << 32 |
	     (run && run->process ? (u32)run->process->tgid_pid : 0);
	ub_hold_note(hold, NULL, UB_HOLD_DRAIN(drainer(map)), me, run);
	if (!__atomic_compare_exchange_n(drainer(map), &nobody, me, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED)) {
		ub_hold_return(hold, run);
		return -EBUSY;
	}
	for (; samples < MAX_SAMPLES && !ret; samples++) {
		struct sample sample;

		err = next_sample(map, &sample);
		if (err == -EAGAIN) {
			discarded++;
			continue;
		}
		if (err)
			break;
		ret = each(opaque, sample.data, sample.size);
		/* As it was checked, whatever the client has written there since. */
		__atomic_store_n(consumer_position(map), sample.end, __ATOMIC_RELEASE);
	}
	/* Not if it was taken away, as from the dead; nor if the child of a fork goes on here. */
	if (!ub_hold_inherited(run))
		__atomic_compare_exchange_n(drainer(map), &me, 0, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED);
	ub_hold_return(hold, run);
	if (flags & BPF_RB_FORCE_WAKEUP || (!(flags & BPF_RB_NO_WAKEUP) && samples))
		tell_drained(map, run);
	if (err && err != -ENODATA && err != -EAGAIN)
		return err;
	return (long)samples - discarded;
}

bool ub_user_ring_has_room(const struct ub_map *map)
{
	return __atomic_load_n(producer_position(map), __ATOMIC_ACQUIRE) -
		       __atomic_load_n(consumer_position(map), __ATOMIC_ACQUIRE) <
	       map->attr.max_entries;
}

bool ub_user_ring_sweep(struct ub_map *map, bool (*is_alive)(void *opaque, u32 tgid), void *opaque)
{
	u64 owner = __atomic_load_n(drainer(map), __ATOMIC_ACQUIRE);

	if (!owner || is_alive(opaque, (u32)owner))
		return false;
	return __atomic_compare_exchange_n(drainer(map), &owner, 0, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}
