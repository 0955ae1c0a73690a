/* SPDX-License-Identifier: MIT */
/* Arrays, per-CPU arrays and arrays of things with ids. Internal to map/; freestanding. */
#ifndef UB_MAP_ARRAY_H
#define UB_MAP_ARRAY_H

#include <map/cpu.h>
#include <map/map.h>
#include <map/mem.h>

/* Values start at offset 0 and are 8-byte aligned: what Linux gives to mmap(2) of a BPF_F_MMAPABLE
 * array. */
static inline u8 *ub_array_value(const struct ub_map *map, u32 index, u32 cpu)
{
	return map->shared + map->values_offset + index * map->elem_stride +
	       (u64)cpu * map->value_stride;
}

static inline void *ub_array_lookup(const struct ub_map *map, const void *key, struct ub_run *run)
{
	u32 index = ub_load32(key);

	if (ub_unlikely(index >= map->attr.max_entries))
		return NULL;
	return ub_array_value(map, index,
			      map->value_stride ? ub_cpu_slot(ub_run_cpu(run), map->nr_cpus) : 0);
}

/* @all_cpus: @value holds the values of all CPUs. */
long ub_array_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		     bool all_cpus, struct ub_run *run);

#endif
