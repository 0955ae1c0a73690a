// SPDX-License-Identifier: MIT
/* Hash maps as the bpf(2) surface sees them. Hosted. */
#include <map/hash.h>

#include <errno.h>

/* First node at or behind @link that is not deleted, or UB_NO_NODE at the end of the bucket. */
static u32 first_live(const struct ub_map *map, u64 link, u64 *budget)
{
	while (!ub_link_is_end(link) && *budget) {
		u32 index = ub_link_target(link) - 1;

		if (index >= map->type_words[UB_W_NR_NODES])
			return UB_NO_NODE;
		--*budget;
		link = ub_atomic_load(&ub_pool_node(map, index)->next);
		if (!(link & UB_LINK_MARK))
			return index;
	}
	return UB_NO_NODE;
}

int ub_hash_next_key(struct ub_map *map, const void *key, void *next_key)
{
	/* More steps than there are nodes, over all buckets, is walking in circles. */
	u64 budget = map->type_words[UB_W_NR_NODES] + 8192, bucket = 0;
	struct ub_hash_place place;
	u32 index = UB_NO_NODE;

	if (key) {
		bucket = ub_hash_bucket(map, key);
		if (ub_hash_walk(map, bucket, key, 0, &place) == 1) {
			index = first_live(map, place.next, &budget);
			bucket++;
		} else {
			bucket = 0;
		}
	}
	for (; index == UB_NO_NODE && bucket <= map->mask && budget; bucket++)
		index = first_live(map, ub_atomic_load(&ub_pool_heads(map)[bucket]), &budget);
	if (index == UB_NO_NODE)
		return budget ? -ENOENT : -EBUSY;
	ub_mem_copy(next_key, ub_pool_node(map, index)->key, map->key_size);
	return 0;
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
