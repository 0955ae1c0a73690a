// SPDX-License-Identifier: MIT
/* Hash maps as the bpf(2) surface sees them. Hosted. */
#include <map/hash.h>

#include <errno.h>

#define MAX_FAILED 256 /* tries of one call: each may be a walk through a bucket */

/*
 * Key of the node that *prev, which held @link, leads to in @bucket. As long as it does so that node
 * is in the bucket, and its key is one. 1; 0: the end of the bucket; -EAGAIN: it has changed, or the
 * node was deleted and is out now.
 */
static int key_behind(struct ub_map *map, u64 bucket, const u64 *prev, u64 link, void *key)
{
	u32 index = ub_link_target(link) - 1;
	struct ub_hash_place place;
	struct ub_node *node;

	if (ub_link_is_end(link))
		return 0;
	if (index >= map->type_words[UB_W_NR_NODES])
		return -EBUSY;
	node = ub_pool_node(map, index);
	if (ub_atomic_load(&node->next) & UB_LINK_MARK) {
		int err = ub_hash_walk(map, bucket, NULL, UB_NO_NODE, &place);

		return err < 0 ? err : -EAGAIN;
	}
	ub_mem_copy(key, node->key, map->key_size);
	ub_fence_acquire();
	return ub_atomic_load(prev) == link ? 1 : -EAGAIN;
}

int ub_hash_next_key(struct ub_map *map, const void *key, void *next_key)
{
	u64 bucket = key ? ub_hash_bucket(map, key) : 0;

	for (u32 failed = 0; bucket <= map->mask && failed < MAX_FAILED;) {
		const u64 *prev = &ub_pool_heads(map)[bucket];
		u64 link = ub_atomic_load(prev);
		int found;

		if (key) {
			struct ub_hash_place place;

			found = ub_hash_walk(map, bucket, key, 0, &place);
			if (found < 0)
				return found;
			/* Not there any more: from the beginning, as in the kernel. */
			if (!found) {
				key = NULL;
				bucket = 0;
				continue;
			}
			prev = &ub_pool_node(map, place.index)->next;
			link = place.next;
		}
		found = key_behind(map, bucket, prev, link, next_key);
		if (found == 1)
			return 0;
		if (found == -EBUSY)
			return found;
		if (found == -EAGAIN) {
			failed++;
			continue;
		}
		key = NULL;
		bucket++;
	}
	return bucket > map->mask ? -ENOENT : -EBUSY;
}

int ub_hash_copy(struct ub_map *map, const void *key, void *value, bool locked)
{
	u64 bucket = ub_hash_bucket(map, key);

	for (u32 tries = 0; tries < 16; tries++) {
		struct ub_hash_place place;
		u64 *state, before;
		int found = ub_hash_walk(map, bucket, key, 0, &place);

		if (found <= 0)
			return found < 0 ? found : -ENOENT;
		state = &ub_pool_node(map, place.index)->state;
		before = ub_atomic_load(state);
		/* The key's node: it was when the walk checked it, and is if it was not marked
		 * since. */
		if (ub_atomic_load(&ub_pool_node(map, place.index)->next) != place.next &&
		    ub_atomic_load(&ub_pool_node(map, place.index)->next) & UB_LINK_MARK)
			continue;
		ub_hash_read(map, place.index, value, locked);
		ub_fence_acquire();
		if (ub_atomic_load(state) == before)
			return 0;
	}
	return -EBUSY;
}

int ub_hash_reachable(struct ub_map *map, u32 index)
{
	struct ub_hash_place place;

	return ub_hash_walk(map, ub_hash_bucket(map, ub_pool_node(map, index)->key), NULL, index,
			    &place);
}
