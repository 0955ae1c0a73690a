/* SPDX-License-Identifier: MIT */
/*
 * Copying values whose fields are not all data: a bpf_spin_lock or a bpf_timer in a value belongs
 * to the element, so copies leave it alone (in the map) or zero (outside), as Linux's
 * copy_map_value(). Internal to map/; freestanding.
 */
#ifndef UB_MAP_VALUE_H
#define UB_MAP_VALUE_H

#include <map/lock.h>
#include <map/map.h>
#include <map/mem.h>

#define UB_SPIN_LOCK_SIZE 4u
#define UB_TIMER_SIZE	  16u

static inline bool ub_value_is_plain(const struct ub_map *map)
{
	return ub_likely(!(map->attr.lock | map->attr.timer));
}

void ub_value_copy_around(const struct ub_map *map, u8 *to, const u8 *from);
void ub_value_zero_fields(const struct ub_map *map, u8 *value);
/* Under the value's lock: @out: from the map, else into it. */
void ub_value_copy_locked(const struct ub_map *map, u8 *to, const u8 *from, bool out,
			  struct ub_run *run);

/* Into an element that is there. */
static inline void ub_value_set(const struct ub_map *map, void *to, const void *from)
{
	if (ub_value_is_plain(map))
		ub_mem_copy(to, from, map->attr.value_size);
	else
		ub_value_copy_around(map, to, from);
}

/* To somebody's buffer, or into a new element. */
static inline void ub_value_get(const struct ub_map *map, void *to, const void *from)
{
	ub_value_set(map, to, from);
	if (!ub_value_is_plain(map))
		ub_value_zero_fields(map, to);
}

#endif
