/* SPDX-License-Identifier: MIT */
/* QUEUE and STACK maps. Internal to map/; freestanding. */
#ifndef UB_MAP_QUEUE_H
#define UB_MAP_QUEUE_H

#include <map/pool.h>

long ub_queue_push(struct ub_map *map, const void *value, u64 flags, struct ub_run *run);
/* Copies the next value to @value, zeroed if there is none; @remove: and takes it out. */
long ub_queue_pop(struct ub_map *map, void *value, bool remove, struct ub_run *run);
/* Of a stack: whoever is about to pop with what it has read so far fails. False: @index is on top.
 * Comes before a node that was taken out from under another is given back. */
bool ub_queue_fence(const struct ub_map *map, u32 index);
/* The creator's: a queue starts with its dummy node. */
void ub_queue_format(struct ub_map *map);

#endif
