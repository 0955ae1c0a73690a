/* SPDX-License-Identifier: MIT */
/* LPM_TRIE maps. Internal to map/; freestanding. See the essay in lpm.c. */
#ifndef UB_MAP_LPM_H
#define UB_MAP_LPM_H

#include <map/hash.h>

void *ub_lpm_lookup(struct ub_map *map, const void *key, struct ub_run *run);
long ub_lpm_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		   struct ub_run *run);
long ub_lpm_delete(struct ub_map *map, const void *key, struct ub_run *run);
/* Copies the best match's value to @value. */
int ub_lpm_copy(struct ub_map *map, const void *key, void *value);

/* Of the prefix alone: the bits behind it don't matter. */
u64 ub_lpm_hash(const struct ub_map *map, const void *key);
bool ub_lpm_same(const struct ub_map *map, const void *a, const void *b);

/* Bytes for the counts of prefixes by length. */
static inline u64 ub_lpm_counts_size(u32 key_size)
{
	return ((key_size - 4ull) * 8 + 1) * sizeof(u64);
}

#endif
