// SPDX-License-Identifier: MIT
/* Per-process tables of inner maps: open addressing by id, so that no slot need be agreed on.
 * Freestanding. */
#include <map/map.h>

#include <errno.h>

int ub_map_inner_add(struct ub_map **table, u32 n, struct ub_map *inner)
{
	u32 start = n ? inner->attr.id % n : 0;

	for (u32 i = 0; i < n; i++) {
		struct ub_map **slot = &table[(start + i) % n];

		if (*slot && (*slot)->attr.id != inner->attr.id)
			continue;
		__atomic_store_n(slot, inner, __ATOMIC_RELEASE);
		return 0;
	}
	return -ENOSPC;
}

struct ub_map *ub_map_inner_find(struct ub_map *const *table, u32 n, u32 id)
{
	u32 start = n ? id % n : 0;

	if (!table || !id)
		return NULL;
	/* A table that somebody filled by index rather than by id has gaps: look everywhere. */
	for (u32 i = 0; i < n; i++) {
		struct ub_map *map = __atomic_load_n(&table[(start + i) % n], __ATOMIC_ACQUIRE);

		if (map && map->attr.id == id)
			return map;
	}
	return NULL;
}
