// SPDX-License-Identifier: MIT
/* What programs call: by type to the implementations. Freestanding. */
#include <map/array.h>
#include <map/hash.h>

#include <errno.h>

void *ub_map_lookup(struct ub_map *map, const void *key, struct ub_run *run)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return ub_hash_lookup(map, key, run);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return ub_array_lookup(map, key, run);
	default:
		return NULL;
	}
}

long ub_map_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		   struct ub_run *run)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return ub_hash_update(map, key, value, flags, false, run);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return ub_array_update(map, key, value, flags, false, run);
	default:
		return -EOPNOTSUPP;
	}
}

long ub_map_delete(struct ub_map *map, const void *key, struct ub_run *run)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return ub_hash_delete(map, key, run);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return -EINVAL;
	default:
		return -EOPNOTSUPP;
	}
}

void *ub_map_lookup_percpu(struct ub_map *map, const void *key, u32 cpu)
{
	if (cpu >= map->nr_cpus)
		return NULL;
	switch (map->attr.type) {
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH: {
		u32 index = ub_hash_find(map, key);

		return index == UB_NO_NODE ? NULL : ub_pool_value(map, index, cpu);
	}
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		if (ub_load32(key) >= map->attr.max_entries)
			return NULL;
		return ub_array_value(map, ub_load32(key), cpu);
	default:
		return NULL;
	}
}

long ub_map_push(struct ub_map *map, const void *value, u64 flags)
{
	return -EOPNOTSUPP;
}

long ub_map_pop(struct ub_map *map, void *value)
{
	return -EOPNOTSUPP;
}

long ub_map_peek(struct ub_map *map, void *value)
{
	return -EOPNOTSUPP;
}
