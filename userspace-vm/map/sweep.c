// SPDX-License-Identifier: MIT
/* Finding again what the dead, and hits that never end, left lying about. Hosted: the daemon calls it.
 * See pool.h, hash.c and hold.h. */
#include <common/cleanup.h>
#include <map/hash.h>
#include <map/queue.h>
#include <map/user_ring.h>

#define MAX_FAILED 16

static bool is_queue(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_QUEUE || map->attr.type == BPF_MAP_TYPE_STACK;
}

/* Whether the queue or stack or a stack trace's bucket links @index: 1, 0, or -1 if things move too
 * fast to tell. */
static int is_linked(struct ub_map *map, u32 index)
{
	struct ub_pool_header *header = ub_pool_header(map);
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];
	u64 front = ub_atomic_load(&header->front), link = front;

	if (!is_queue(map)) {
		for (u64 i = 0; i <= map->mask; i++) {
			if (ub_link_target(ub_atomic_load(&ub_pool_heads(map)[i])) == index + 1)
				return 1;
		}
		return 0;
	}
	for (u64 i = 0; i <= nr_nodes; i++) {
		u32 target = ub_link_target(link);

		if (!target)
			return ub_atomic_load(&header->front) == front ? 0 : -1;
		if (target > nr_nodes)
			return -1;
		if (target == index + 1)
			return 1;
		link = ub_atomic_load(&ub_pool_node(map, target - 1)->next);
	}
	return -1;
}

/* Sets seen[i] for the nodes that a queue, stack or stack trace map links. */
static void find_linked(struct ub_map *map, u8 *seen)
{
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];
	u64 link = ub_atomic_load(&ub_pool_header(map)->front);

	if (!is_queue(map)) {
		for (u64 i = 0; i <= map->mask; i++) {
			u32 target = ub_link_target(ub_atomic_load(&ub_pool_heads(map)[i]));

			if (target && target <= nr_nodes)
				seen[target - 1] = 1;
		}
		return;
	}
	for (u64 i = 0; i <= nr_nodes && ub_link_target(link); i++) {
		if (ub_link_target(link) > nr_nodes)
			return;
		seen[ub_link_target(link) - 1] = 1;
		link = ub_atomic_load(&ub_pool_node(map, ub_link_target(link) - 1)->next);
	}
}

/* Who lives, as far as has been asked: that costs far more than a node. */
struct owners {
	bool (*is_alive)(void *opaque, u32 tgid);
	void *opaque;
	u32 tgid[16];
	bool alive[16];
};

static bool is_owner_alive(struct owners *owners, u32 tgid)
{
	u32 i = tgid % (u32)ub_array_size(owners->tgid);

	if (owners->tgid[i] != tgid) {
		owners->tgid[i] = tgid;
		owners->alive[i] = owners->is_alive(owners->opaque, tgid);
	}
	return owners->alive[i];
}

static u32 *extra_hint(const struct ub_map *map, u32 i)
{
	return &ub_pool_cpu(map, i / UB_POOL_SLOTS)->extra[i % UB_POOL_SLOTS];
}

/* Extra nodes may have several hints each, until there is no room for that of another. */
static void drop_double_hints(const struct ub_map *map)
{
	for (u32 i = 1; i < map->nr_cpus * UB_POOL_SLOTS; i++) {
		u32 hint = __atomic_load_n(extra_hint(map, i), __ATOMIC_RELAXED), k = 0;

		while (k < i && __atomic_load_n(extra_hint(map, k), __ATOMIC_RELAXED) != hint)
			k++;
		if (hint && k < i)
			__atomic_compare_exchange_n(extra_hint(map, i), &hint, 0, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	}
}

u64 ub_map_sweep(struct ub_map *map, bool (*is_alive)(void *opaque, u32 tgid), void *opaque)
{
	struct owners owners = { .is_alive = is_alive, .opaque = opaque };
	bool hash = ub_hash_is(map->attr.type);
	u32 failed = 0;
	u64 given_back = 0, nr_nodes = map->type_words[UB_W_NR_NODES];
	_cleanup_free_ u8 *seen = NULL;

	if (map->attr.type == BPF_MAP_TYPE_USER_RINGBUF)
		return ub_user_ring_sweep(map, is_alive, opaque);
	if (!hash && !is_queue(map) && map->attr.type != BPF_MAP_TYPE_STACK_TRACE)
		return 0;
	drop_double_hints(map);
	if (!hash) {
		seen = calloc(1, nr_nodes);
		if (!seen)
			return 0;
		find_linked(map, seen);
	}
	for (u64 i = 0; i < nr_nodes; i++) {
		u32 index = (u32)i, owner;
		struct ub_node *node = ub_pool_node(map, index);
		u64 state = ub_atomic_load(&node->state), next;
		int linked;

		if (!(state & UB_NODE_USED)) {
			ub_pool_hint(map, index, state & UB_NODE_EXTRA, index % map->nr_cpus);
			continue;
		}
		next = ub_atomic_load(&node->next);
		owner = UB_NODE_OWNER(state);
		/*
		 * Marked: whoever unlinks it has only the state left to change, so it makes no
		 * difference whether that thread still lives. Not marked: its taker may yet link
		 * it, unless that is this very process, which is busy sweeping, or has been known
		 * to have left it (ub_pool_disown()).
		 */
		if (!(hash && next & UB_LINK_MARK) && owner && is_owner_alive(&owners, owner))
			continue;
		/* What was linked before the look around is left for the next time. */
		if (seen && seen[i])
			continue;
		if (map->attr.type == BPF_MAP_TYPE_STACK && !ub_queue_fence(map, index))
			continue;
		linked = hash ? ub_hash_reachable(map, index) : is_linked(map, index);
		/* Busy or scribbled on: another time, rather than walk in circles for each node. */
		if (linked < 0 && ++failed > MAX_FAILED)
			break;
		if (linked)
			continue;
		given_back += ub_pool_put(map, index, state,
					  next & UB_LINK_MARK ? !!(next & UB_LINK_EXTRA)
							      : !!(state & UB_NODE_EXTRA),
					  NULL);
	}
	return given_back;
}
