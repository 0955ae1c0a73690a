/* SPDX-License-Identifier: MIT */
/* Event rings in this process. For tests. */
#ifndef UB_TESTS_MAP_RINGS_H
#define UB_TESTS_MAP_RINGS_H

#include <map/event_ring.h>

#include "sides.h"

#define DATA_SIZE 65536u

/* For ub_event_read(): who lives. */
bool always(void *opaque, u64 tid);
bool never(void *opaque, u64 tid);
bool by_kill(void *opaque, u64 tid);

/* A process's ring: to be unmapped. */
struct ub_event_ring *make_ring(u32 data_size);
/* A record for map @map_id: 0 or -ENOSPC. */
int send(struct ub_event_ring *ring, struct ub_run *run, u32 map_id, const void *data, u32 size);

/* A RINGBUF map, id 9, and its ring as one process has it. */
void bind_ring(struct ub_map *map, struct ub_event_ring **ring, u32 max_entries);
void unbind_ring(struct ub_map *map, struct ub_event_ring *ring);

#endif
