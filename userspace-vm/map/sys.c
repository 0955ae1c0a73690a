// SPDX-License-Identifier: MIT
/* Maps as bpf(2) serves them: values of all CPUs, iteration. Hosted. */
#include <map/array.h>
#include <map/hash.h>

#include <errno.h>

u32 ub_map_user_value_size(const struct ub_map *map)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return ub_round_up(map->attr.value_size, 8) * map->nr_cpus;
	default:
		return map->attr.value_size;
	}
}

static bool is_hash(const struct ub_map *map)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		return true;
	default:
		return false;
	}
}

static int array_copy(const struct ub_map *map, const void *key, void *value)
{
	u32 index = ub_load32(key);

	if (index >= map->attr.max_entries)
		return -ENOENT;
	for (u32 cpu = 0; cpu < (map->value_stride ? map->nr_cpus : 1); cpu++)
		ub_mem_copy((u8 *)value + cpu * map->elem_stride, ub_array_value(map, index, cpu),
			    map->attr.value_size);
	return 0;
}

int ub_map_sys_lookup(struct ub_map *map, const void *key, void *value, u64 flags)
{
	if (flags)
		return -EINVAL;
	if (is_hash(map))
		return ub_hash_copy(map, key, value);
	return array_copy(map, key, value);
}

int ub_map_sys_update(struct ub_map *map, const void *key, const void *value, u64 flags)
{
	if (is_hash(map))
		return (int)ub_hash_update(map, key, value, flags, true, NULL);
	return (int)ub_array_update(map, key, value, flags, true, NULL);
}

int ub_map_sys_delete(struct ub_map *map, const void *key)
{
	if (is_hash(map))
		return (int)ub_hash_delete(map, key, NULL);
	return -EINVAL;
}

int ub_map_sys_lookup_and_delete(struct ub_map *map, const void *key, void *value, u64 flags)
{
	if (flags)
		return -EINVAL;
	if (is_hash(map))
		return ub_hash_take(map, key, value);
	return -EOPNOTSUPP;
}

int ub_map_sys_next_key(struct ub_map *map, const void *key, void *next_key)
{
	u32 index = key ? ub_load32(key) : UINT32_MAX;

	if (is_hash(map))
		return ub_hash_next_key(map, key, next_key);
	if (index == map->attr.max_entries - 1)
		return -ENOENT;
	index = index >= map->attr.max_entries ? 0 : index + 1;
	ub_mem_copy(next_key, &index, 4);
	return 0;
}
