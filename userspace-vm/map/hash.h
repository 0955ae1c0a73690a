/* SPDX-License-Identifier: MIT */
/* Hash maps of all kinds. Internal to map/; freestanding. See the essay in hash.c. */
#ifndef UB_MAP_HASH_H
#define UB_MAP_HASH_H

#include <map/pool.h>

/* Whether maps of @type are hash maps below. */
static inline bool ub_hash_is(u32 type)
{
	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
	case BPF_MAP_TYPE_LPM_TRIE:
	case BPF_MAP_TYPE_TASK_STORAGE:
		return true;
	default:
		return false;
	}
}

/* Where a walk through a bucket stands. */
struct ub_hash_place {
	u64 *prev; /* the link that leads to the node */
	u64 link;  /* its value */
	u64 next;  /* the node's own next */
	u32 index;
};

void *ub_hash_lookup(struct ub_map *map, const void *key, struct ub_run *run);
/* Index of the key's node or UB_NO_NODE. */
u32 ub_hash_find(struct ub_map *map, const void *key);
/* @all_cpus: @value holds round_up(value_size, 8) * nr_cpus bytes, else one value for this CPU.
 * @value NULL: a new element's is zero. */
long ub_hash_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		    bool all_cpus, struct ub_run *run);
long ub_hash_delete(struct ub_map *map, const void *key, struct ub_run *run);
/* Deletes @key if it is there, having copied its value (of all CPUs) to @value; @locked:
 * BPF_F_LOCK. */
int ub_hash_take(struct ub_map *map, const void *key, void *value, bool locked);
int ub_hash_next_key(struct ub_map *map, const void *key, void *next_key);
/* Copies the value of all CPUs to @value, untorn where nobody writes through a pointer. */
int ub_hash_copy(struct ub_map *map, const void *key, void *value, bool locked);
/* Copies the value of node @index, of all CPUs, to somebody's buffer. */
void ub_hash_read(const struct ub_map *map, u32 index, void *value, bool locked);
/* The daemon's walk: finds @key, or the node @wanted in @bucket if @key is NULL. 1 found, 0 not
 * there, -EBUSY. */
int ub_hash_walk(struct ub_map *map, u64 bucket, const void *key, u32 wanted,
		 struct ub_hash_place *place);
u64 ub_hash_bucket(const struct ub_map *map, const void *key);
/* Whether node @index hangs in the bucket of its key: 1, 0, or -EBUSY if that can't be told now. */
int ub_hash_reachable(struct ub_map *map, u32 index);

#endif
