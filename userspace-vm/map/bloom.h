/* SPDX-License-Identifier: MIT */
/* BLOOM_FILTER maps. Internal to map/; freestanding but for the geometry. */
#ifndef UB_MAP_BLOOM_H
#define UB_MAP_BLOOM_H

#include <map/map.h>

long ub_bloom_push(struct ub_map *map, const void *value, u64 flags);
/* 0: probably pushed; -ENOENT: surely not. */
long ub_bloom_peek(struct ub_map *map, const void *value);
/* Bits of a filter of @max_entries values and @hashes hash functions, as Linux sizes it: a power of
 * two. */
u64 ub_bloom_bits(u32 max_entries, u32 hashes);

#endif
