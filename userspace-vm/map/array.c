// SPDX-License-Identifier: MIT
#include <map/array.h>

#include <errno.h>

#include <map/value.h>

long ub_array_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		     bool all_cpus, struct ub_run *run)
{
	u32 index = ub_load32(key), size = map->attr.value_size;

	bool locked = flags & BPF_F_LOCK;

	flags &= ~(u64)BPF_F_LOCK;
	if (ub_unlikely(flags > BPF_EXIST))
		return -EINVAL;
	if (ub_unlikely(index >= map->attr.max_entries))
		return -E2BIG;
	if (ub_unlikely(flags == BPF_NOEXIST))
		return -EEXIST;
	if (ub_unlikely(locked)) {
		if (!map->attr.lock)
			return -EINVAL;
		ub_value_copy_locked(map, ub_array_value(map, index, 0), value, false, run);
	} else if (!map->value_stride) {
		ub_value_set(map, ub_array_value(map, index, 0), value);
	} else if (!all_cpus) {
		ub_mem_copy(ub_array_value(map, index, ub_cpu_slot(ub_run_cpu(run), map->nr_cpus)),
			    value, size);
	} else {
		for (u32 cpu = 0; cpu < map->nr_cpus; cpu++)
			ub_mem_copy(ub_array_value(map, index, cpu),
				    (const u8 *)value + cpu * map->elem_stride, size);
	}
	return 0;
}
