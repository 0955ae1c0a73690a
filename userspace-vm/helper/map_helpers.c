// SPDX-License-Identifier: MIT
/* Helpers on maps. Freestanding. */
#include <helper/internal.h>

#include <map/iterate.h>
#include <map/lock.h>
#include <map/task_storage.h>

HELPER(map_lookup_elem)
{
	return (u64)ub_map_lookup((struct ub_map *)r1, (const void *)r2, run_);
}

HELPER(map_update_elem)
{
	return (u64)ub_map_update((struct ub_map *)r1, (const void *)r2, (const void *)r3, r4,
				  run_);
}

HELPER(map_delete_elem)
{
	return (u64)ub_map_delete((struct ub_map *)r1, (const void *)r2, run_);
}

HELPER(map_push_elem)
{
	return (u64)ub_map_push_run((struct ub_map *)r1, (const void *)r2, r3, run_);
}

HELPER(map_pop_elem)
{
	return (u64)ub_map_pop_run((struct ub_map *)r1, (void *)r2, run_);
}

HELPER(map_peek_elem)
{
	return (u64)ub_map_peek((struct ub_map *)r1, (void *)r2);
}

HELPER(map_lookup_percpu_elem)
{
	return (u64)ub_map_lookup_percpu((struct ub_map *)r1, (const void *)r2, (u32)r3);
}

HELPER(for_each_map_elem)
{
	struct ub_map *map = (struct ub_map *)r1;
	struct ub_map_iter iter = { 0 };
	u64 visited = 0;
	const void *key;
	void *value;

	if (r4)
		return (u64)-EINVAL;
	if (!ub_map_iterable(map))
		return (u64)-EINVAL;
	while (ub_map_iterate(map, &iter, &key, &value, run_)) {
		visited++;
		if (ub_run_callback(run_, r2, r1, (u64)key, (u64)value, r3))
			break;
	}
	return visited;
}

HELPER(spin_lock)
{
	ub_lock_acquire((u32 *)r1, run_);
	return 0;
}

HELPER(spin_unlock)
{
	ub_lock_release((u32 *)r1, run_);
	return 0;
}

/* The only task that a program gets hold of is the one that runs it. */
HELPER(task_storage_get)
{
	u64 pid_tgid = ub_helper_get_current_pid_tgid(0, 0, 0, 0, 0, run_);

	if (!r2)
		return 0;
	return (u64)ub_task_storage_get((struct ub_map *)r1, pid_tgid, (const void *)r3, r4, run_);
}

HELPER(task_storage_delete)
{
	u64 pid_tgid = ub_helper_get_current_pid_tgid(0, 0, 0, 0, 0, run_);

	if (!r2)
		return (u64)-EINVAL;
	return (u64)ub_task_storage_delete((struct ub_map *)r1, pid_tgid, run_);
}
