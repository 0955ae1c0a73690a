// SPDX-License-Identifier: MIT
#include <map/iterate.h>

#include <map/array.h>
#include <map/hash.h>

#define MAX_STEPS 8192 /* more than there are nodes: nobody honest has links for that many */

bool ub_map_iterable(const struct ub_map *map)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return true;
	default:
		return false;
	}
}

static bool next_in_hash(struct ub_map *map, struct ub_map_iter *iter, const void **key,
			 void **value, struct ub_run *run)
{
	u32 cpu = map->value_stride ? ub_cpu_slot(ub_run_cpu(run), map->nr_cpus) : 0;
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];

	for (; iter->bucket <= map->mask; iter->bucket++, iter->link = 0) {
		if (!iter->link)
			iter->link = ub_atomic_load(&ub_pool_heads(map)[iter->bucket]);
		while (!ub_link_is_end(iter->link)) {
			u32 index = ub_link_target(iter->link) - 1;

			if (index >= nr_nodes)
				break;
			if (++iter->steps > nr_nodes + MAX_STEPS)
				return false;
			iter->link = ub_atomic_load(&ub_pool_node(map, index)->next);
			if (iter->link & UB_LINK_MARK)
				continue;
			*key = ub_pool_node(map, index)->key;
			*value = ub_pool_value(map, index, cpu);
			return true;
		}
	}
	return false;
}

bool ub_map_iterate(struct ub_map *map, struct ub_map_iter *iter, const void **key, void **value,
		    struct ub_run *run)
{
	u32 cpu = map->value_stride ? ub_cpu_slot(ub_run_cpu(run), map->nr_cpus) : 0;

	if (map->attr.type != BPF_MAP_TYPE_ARRAY && map->attr.type != BPF_MAP_TYPE_PERCPU_ARRAY)
		return next_in_hash(map, iter, key, value, run);
	if (iter->bucket >= map->attr.max_entries)
		return false;
	iter->index = (u32)iter->bucket++;
	*key = &iter->index;
	*value = ub_array_value(map, iter->index, cpu);
	return true;
}
