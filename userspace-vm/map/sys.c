// SPDX-License-Identifier: MIT
/* Maps as bpf(2) serves them: values of all CPUs, iteration, errno as in kernel/bpf/syscall.c.
 * Hosted. */
#include <errno.h>

#include <map/array.h>
#include <map/hash.h>
#include <map/lpm.h>
#include <map/stack_trace.h>
#include <map/value.h>

#define ENOTSUPP 524 /* Linux's own, not in errno.h: what bpf(2) answers */

enum family { ARRAY, FD_ARRAY, HASH, TASK, LPM, QUEUE, BLOOM, STACK_TRACE, RING, NO_FAMILY };

static enum family family_of(const struct ub_map *map)
{
	switch (map->attr.type) {
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return ARRAY;
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return FD_ARRAY;
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		return HASH;
	case BPF_MAP_TYPE_TASK_STORAGE:
		return TASK;
	case BPF_MAP_TYPE_LPM_TRIE:
		return LPM;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return QUEUE;
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return BLOOM;
	case BPF_MAP_TYPE_STACK_TRACE:
		return STACK_TRACE;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		return RING;
	default:
		return NO_FAMILY;
	}
}

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

static int array_copy(const struct ub_map *map, const void *key, void *value, bool locked)
{
	u32 index = ub_load32(key);

	if (index >= map->attr.max_entries)
		return -ENOENT;
	if (locked) {
		ub_value_copy_locked(map, value, ub_array_value(map, index, 0), true, NULL);
		return 0;
	}
	for (u32 cpu = 0; cpu < (map->value_stride ? map->nr_cpus : 1); cpu++)
		ub_value_get(map, (u8 *)value + cpu * map->elem_stride,
			     ub_array_value(map, index, cpu));
	return 0;
}

/* Ids of programs and maps can be asked for; perf events and cgroups not. */
static int fd_array_copy(const struct ub_map *map, const void *key, void *value)
{
	u32 id;

	if (map->attr.type != BPF_MAP_TYPE_PROG_ARRAY &&
	    map->attr.type != BPF_MAP_TYPE_ARRAY_OF_MAPS)
		return -ENOTSUPP;
	if (ub_load32(key) >= map->attr.max_entries)
		return -ENOENT;
	id = ub_load32(ub_array_value(map, ub_load32(key), 0));
	if (!id)
		return -ENOENT;
	ub_mem_copy(value, &id, sizeof(id));
	return 0;
}

static int fd_array_set(const struct ub_map *map, const void *key, u32 id, bool delete)
{
	u32 *at, old;

	if (ub_load32(key) >= map->attr.max_entries)
		return -E2BIG;
	at = (u32 *)ub_array_value(map, ub_load32(key), 0);
	old = __atomic_exchange_n(at, id, __ATOMIC_ACQ_REL);
	return delete &&!old ? -ENOENT : 0;
}

/* Lookups may only ask for the value's lock, where there is one. */
static bool lookup_flags_ok(const struct ub_map *map, u64 flags)
{
	return !flags || (flags == BPF_F_LOCK && map->attr.lock);
}

int ub_map_sys_lookup(struct ub_map *map, const void *key, void *value, u64 flags)
{
	if (!lookup_flags_ok(map, flags))
		return -EINVAL;
	switch (family_of(map)) {
	case ARRAY:
		return array_copy(map, key, value, flags);
	case FD_ARRAY:
		return fd_array_copy(map, key, value);
	case HASH:
	case TASK:
		return ub_hash_copy(map, key, value, flags);
	case LPM:
		return ub_lpm_copy(map, key, value);
	case QUEUE:
	case BLOOM:
		return (int)ub_map_peek(map, value);
	case STACK_TRACE:
		return ub_stack_trace_copy(map, ub_load32(key), value);
	default:
		return -ENOTSUPP;
	}
}

int ub_map_sys_update(struct ub_map *map, const void *key, const void *value, u64 flags)
{
	if (flags & BPF_F_LOCK && !map->attr.lock)
		return -EINVAL;
	switch (family_of(map)) {
	case ARRAY:
		return (int)ub_array_update(map, key, value, flags, true, NULL);
	case FD_ARRAY:
		return flags ? -EINVAL : fd_array_set(map, key, ub_load32(value), false);
	case HASH:
	case TASK:
		return (int)ub_hash_update(map, key, value, flags, true, NULL);
	case LPM:
		return (int)ub_lpm_update(map, key, value, flags, NULL);
	case QUEUE:
	case BLOOM:
		return (int)ub_map_push(map, value, flags);
	case STACK_TRACE:
		return -EINVAL;
	default:
		return -ENOTSUPP;
	}
}

int ub_map_sys_delete(struct ub_map *map, const void *key)
{
	switch (family_of(map)) {
	case FD_ARRAY:
		return fd_array_set(map, key, 0, true);
	case HASH:
	case TASK:
		return (int)ub_hash_delete(map, key, NULL);
	case LPM:
		return (int)ub_lpm_delete(map, key, NULL);
	case STACK_TRACE:
		return ub_stack_trace_delete(map, ub_load32(key));
	case BLOOM:
		return -EOPNOTSUPP;
	case ARRAY:
	case QUEUE:
		return -EINVAL;
	default:
		return -ENOTSUPP;
	}
}

int ub_map_sys_lookup_and_delete(struct ub_map *map, const void *key, void *value, u64 flags)
{
	int err;

	if (!lookup_flags_ok(map, flags))
		return -EINVAL;
	switch (family_of(map)) {
	case HASH:
		return map->attr.type == BPF_MAP_TYPE_HASH_OF_MAPS
			       ? -ENOTSUPP
			       : ub_hash_take(map, key, value, flags);
	case QUEUE:
		return (int)ub_map_pop(map, value);
	case STACK_TRACE:
		err = ub_stack_trace_copy(map, ub_load32(key), value);
		return err ? err : ub_stack_trace_delete(map, ub_load32(key));
	default:
		return -ENOTSUPP;
	}
}

static int stack_trace_next_key(struct ub_map *map, const void *key, void *next_key)
{
	u32 id = key ? ub_load32(key) : 0, next;
	int err;

	/* An id that is not in use starts from the beginning, as in the kernel. */
	if (key && (id > map->mask || ub_stack_trace_next(map, id, &next) || next != id))
		id = 0;
	else if (key)
		id++;
	err = ub_stack_trace_next(map, id, &next);
	if (!err)
		ub_mem_copy(next_key, &next, sizeof(next));
	return err;
}

int ub_map_sys_next_key(struct ub_map *map, const void *key, void *next_key)
{
	u32 index;

	switch (family_of(map)) {
	case ARRAY:
	case FD_ARRAY:
		index = key ? ub_load32(key) : UINT32_MAX;
		if (index == map->attr.max_entries - 1)
			return -ENOENT;
		index = index >= map->attr.max_entries ? 0 : index + 1;
		ub_mem_copy(next_key, &index, 4);
		return 0;
	case HASH:
	case TASK:
	case LPM:
		return ub_hash_next_key(map, key, next_key);
	case STACK_TRACE:
		return stack_trace_next_key(map, key, next_key);
	case QUEUE:
		return -EINVAL;
	case BLOOM:
		return -EOPNOTSUPP;
	default:
		return -ENOTSUPP;
	}
}
