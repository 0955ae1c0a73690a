/* SPDX-License-Identifier: MIT */
/*
 * TASK_STORAGE maps: a value for each thread, in a hash map whose key is what
 * bpf_get_current_pid_tgid() returns for it. Linux has no limit on their number (max_entries is 0);
 * here it is UB_TASK_STORAGE_MAX, less for large values. Freestanding.
 *
 * Storage of threads that have died is deleted by the daemon (kernel/task_storage.c).
 */
#ifndef UB_MAP_TASK_STORAGE_H
#define UB_MAP_TASK_STORAGE_H

#include <map/map.h>

#define UB_TASK_STORAGE_MAX   32768u
#define UB_TASK_STORAGE_BYTES (256ull << 20) /* of all values together */

/*
 * bpf_task_storage_get() for the current thread: its value or NULL. With
 * BPF_LOCAL_STORAGE_GET_F_CREATE in @flags one is made if there is none, like @value (NULL:
 * zeroes). NULL for other flags too.
 */
void *ub_task_storage_get(struct ub_map *map, u64 pid_tgid, const void *value, u64 flags,
			  struct ub_run *run);
/* 0 or -ENOENT. */
long ub_task_storage_delete(struct ub_map *map, u64 pid_tgid, struct ub_run *run);

#endif
