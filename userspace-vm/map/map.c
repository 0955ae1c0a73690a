// SPDX-License-Identifier: MIT
/* What programs call: by type to the implementations. Freestanding. */
#include <errno.h>

#include <map/array.h>
#include <map/bloom.h>
#include <map/hash.h>
#include <map/lpm.h>
#include <map/queue.h>

void *ub_map_lookup(struct ub_map *map, const void *key, struct ub_run *run)
{
	const u32 *id;

	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return ub_hash_lookup(map, key, run);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return ub_array_lookup(map, key, run);
	case BPF_MAP_TYPE_LPM_TRIE:
		return ub_lpm_lookup(map, key, run);
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		id = ub_array_lookup(map, key, run);
		return id ? ub_map_inner_find(map->inner, map->nr_inner, *id) : NULL;
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		id = ub_hash_lookup(map, key, run);
		return id ? ub_map_inner_find(map->inner, map->nr_inner, *id) : NULL;
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
	case BPF_MAP_TYPE_LPM_TRIE:
		return ub_lpm_update(map, key, value, flags, run);
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return -EINVAL;
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
	case BPF_MAP_TYPE_LPM_TRIE:
		return ub_lpm_delete(map, key, run);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
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

long ub_map_push_run(struct ub_map *map, const void *value, u64 flags, struct ub_run *run)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return ub_queue_push(map, value, flags, run);
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return ub_bloom_push(map, value, flags);
	default:
		return -EOPNOTSUPP;
	}
}

long ub_map_push(struct ub_map *map, const void *value, u64 flags)
{
	return ub_map_push_run(map, value, flags, NULL);
}

long ub_map_pop_run(struct ub_map *map, void *value, struct ub_run *run)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return ub_queue_pop(map, value, true, run);
	default:
		return -EOPNOTSUPP;
	}
}

long ub_map_pop(struct ub_map *map, void *value)
{
	return ub_map_pop_run(map, value, NULL);
}

long ub_map_peek(struct ub_map *map, void *value)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return ub_queue_pop(map, value, false, NULL);
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return ub_bloom_peek(map, value);
	default:
		return -EOPNOTSUPP;
	}
}
