// SPDX-License-Identifier: MIT
#include <map/task_storage.h>

#include <errno.h>

#include <map/hash.h>

void *ub_task_storage_get(struct ub_map *map, u64 pid_tgid, const void *value, u64 flags,
			  struct ub_run *run)
{
	void *found;
	long err;

	if (flags & ~(u64)BPF_LOCAL_STORAGE_GET_F_CREATE)
		return NULL;
	found = ub_hash_lookup(map, &pid_tgid, run);
	if (found || !(flags & BPF_LOCAL_STORAGE_GET_F_CREATE))
		return found;
	err = ub_hash_update(map, &pid_tgid, value, BPF_NOEXIST, false, run);
	/* Made meanwhile by the same thread, in a signal handler. */
	return err && err != -EEXIST ? NULL : ub_hash_lookup(map, &pid_tgid, run);
}

long ub_task_storage_delete(struct ub_map *map, u64 pid_tgid, struct ub_run *run)
{
	return ub_hash_delete(map, &pid_tgid, run);
}
