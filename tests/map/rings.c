// SPDX-License-Identifier: MIT
#include "rings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

bool always(void *opaque, u64 tid)
{
	return true;
}

bool never(void *opaque, u64 tid)
{
	return false;
}

bool by_kill(void *opaque, u64 tid)
{
	return kill((pid_t)tid, 0) == 0;
}

struct ub_event_ring *make_ring(u32 data_size)
{
	struct ub_event_ring *ring =
		mmap(NULL, ub_event_ring_size(data_size), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(ring, MAP_FAILED);
	ub_event_ring_format(ring, data_size);
	return ring;
}

int send(struct ub_event_ring *ring, struct ub_run *run, u32 map_id, const void *data, u32 size)
{
	void *to = ub_event_reserve(ring, UB_EVENT_RINGBUF, map_id, 0, size, run);

	if (!to)
		return -ENOSPC;
	memcpy(to, data, size);
	ub_event_commit(to, false, 0, run);
	return 0;
}

void bind_ring(struct ub_map *map, struct ub_event_ring **ring, u32 max_entries)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_RINGBUF,
				    .max_entries = max_entries,
				    .id = 9 };

	our_map_create(map, &attr);
	*ring = mmap(NULL, ub_event_ring_size_of(&attr), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(*ring, MAP_FAILED);
	ub_event_ring_format(*ring, ub_event_ring_data_size(&attr));
	map->type_words[UB_W_EVENTS] = (u64)*ring;
}

void unbind_ring(struct ub_map *map, struct ub_event_ring *ring)
{
	munmap(ring, ub_event_ring_size_of(&map->attr));
	our_map_destroy(map);
}
