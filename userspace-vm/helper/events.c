// SPDX-License-Identifier: MIT
/*
 * Helpers that send records to the client: ring buffers and perf buffers. They write to the
 * process's event ring; the daemon copies from there. Freestanding.
 */
#include <helper/internal.h>

#include <map/array.h>
#include <map/event_ring.h>

#define MAX_RECORD    (UINT32_MAX / 4) /* RINGBUF_MAX_RECORD_SZ */
#define MAX_PERF_DATA 65000u	       /* a perf record's size is 16 bits */

static struct ub_event_ring *events_of(const struct ub_run *run)
{
	return run->process ? run->process->events : NULL;
}

static void *reserve(const struct ub_map *map, u64 size, struct ub_run *run)
{
	if (size > MAX_RECORD || ub_round_up(size + 8, 8) > map->attr.max_entries)
		return NULL;
	return ub_event_reserve_in(map, (u32)size, run);
}

HELPER(ringbuf_reserve)
{
	if (r3)
		return 0;
	return (u64)reserve((struct ub_map *)r1, r2, run_);
}

HELPER(ringbuf_submit)
{
	if (r1)
		ub_event_commit((void *)r1, false, r2, run_);
	return 0;
}

HELPER(ringbuf_discard)
{
	if (r1)
		ub_event_commit((void *)r1, true, r2, run_);
	return 0;
}

HELPER(ringbuf_output)
{
	void *to;

	if (r4 & ~(u64)(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP))
		return (u64)-EINVAL;
	to = reserve((struct ub_map *)r1, r3, run_);
	if (!to)
		return (u64)-EAGAIN;
	ub_mem_copy(to, (const void *)r2, r3);
	ub_event_commit(to, false, r4, run_);
	return 0;
}

/* Records that are still on their way through the daemon count like those that the client has. */
HELPER(ringbuf_query)
{
	const struct ub_map *map = (const struct ub_map *)r1;
	u64 producer = ub_event_position(map);
	u64 consumer = __atomic_load_n((const u64 *)map->shared, __ATOMIC_ACQUIRE);

	switch (r2) {
	case BPF_RB_AVAIL_DATA:
		return producer - consumer;
	case BPF_RB_RING_SIZE:
		return map->attr.max_entries;
	case BPF_RB_CONS_POS:
		return consumer;
	case BPF_RB_PROD_POS:
		return producer;
	default:
		return 0;
	}
}

HELPER(perf_event_output)
{
	const struct ub_map *map = (const struct ub_map *)r2;
	u64 index = r3 & BPF_F_INDEX_MASK;
	void *to;

	if (r3 & ~BPF_F_INDEX_MASK)
		return (u64)-EINVAL;
	if (index == BPF_F_CURRENT_CPU)
		index = ub_run_cpu(run_);
	if (index >= map->attr.max_entries)
		return (u64)-E2BIG;
	if (!ub_load32(ub_array_value(map, (u32)index, 0)))
		return (u64)-ENOENT;
	if (r5 > MAX_PERF_DATA)
		return (u64)-E2BIG;
	to = ub_event_reserve(events_of(run_), UB_EVENT_PERF, map->attr.id, (u32)index, (u32)r5,
			      run_);
	if (!to)
		return (u64)-ENOSPC;
	ub_mem_copy(to, (const void *)r4, r5);
	ub_event_commit(to, false, 0, run_);
	return 0;
}
