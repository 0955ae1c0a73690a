// SPDX-License-Identifier: MIT
/* Finding again what the dead, and hits that never end, left lying about. Hosted: the daemon calls
 * it. See pool.h, hash.c and hold.h. */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <common/clock.h>
#include <map/hash.h>
#include <map/queue.h>
#include <map/user_ring.h>

#define MAX_FAILED    16
#define MAX_WALKED_NS 200000000ull /* of one sweep, which others wait for */

static bool is_queue(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_QUEUE || map->attr.type == BPF_MAP_TYPE_STACK;
}

/*
 * Sets seen[i] for the nodes that a queue, stack or stack trace map links. 0; -EBUSY: it changed
 * meanwhile, so that one may be missing which is linked all the same; -EBADMSG: it is scribbled on.
 */
static int find_linked(const struct ub_map *map, u8 *seen)
{
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];
	u64 front = ub_atomic_load(&ub_pool_header(map)->front), link = front;

	/* Here a node never goes from bucket to bucket. */
	if (!is_queue(map)) {
		for (u64 i = 0; i <= map->mask; i++) {
			u32 target = ub_link_target(ub_atomic_load(&ub_pool_heads(map)[i]));

			if (target && target <= nr_nodes)
				seen[target - 1] = 1;
		}
		return 0;
	}
	for (u64 i = 0; i <= nr_nodes; i++) {
		u32 target = ub_link_target(link);

		if (!target)
			return ub_atomic_load(&ub_pool_header(map)->front) == front ? 0 : -EBUSY;
		if (target > nr_nodes)
			return -EBADMSG;
		seen[target - 1] = 1;
		link = ub_atomic_load(&ub_pool_node(map, target - 1)->next);
	}
	return -EBADMSG;
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

/* Nodes that nobody may link any more, and that the queue, stack or stack trace map did not link
 * when it was looked through; they are looked for together. */
struct batch {
	u32 nr;
	struct {
		u32 index;
		u64 state;
	} node[1024];
};

/* Gives those of @batch back that are not linked. Once *walked_ns, for all batches, is too much, or
 * things move too fast to tell, it is nothing until another time. */
static u64 put_batch(const struct ub_map *map, struct batch *batch, u8 *seen, u64 *walked_ns)
{
	const bool stack = map->attr.type == BPF_MAP_TYPE_STACK;
	const u64 since_ns = ub_now_ns();
	u64 given_back = 0;
	int err = -EBUSY;

	for (u32 tries = 0; batch->nr && tries < MAX_FAILED && err == -EBUSY; tries++) {
		if (*walked_ns + ub_now_ns() - since_ns > MAX_WALKED_NS)
			break;
		/* Who is about to pop an element may have read a link to one of them: he fails. */
		if (stack && !ub_queue_fence(map, UB_NO_NODE - 1))
			break;
		err = find_linked(map, seen);
	}
	for (u32 i = 0; !err && i < batch->nr; i++)
		if (!seen[batch->node[i].index])
			given_back += ub_pool_put(map, batch->node[i].index, batch->node[i].state,
						  batch->node[i].state & UB_NODE_EXTRA, NULL);
	batch->nr = 0;
	*walked_ns = err ? MAX_WALKED_NS : *walked_ns + ub_now_ns() - since_ns;
	return given_back;
}

/* Of a queue, stack or stack trace map: whether its node @index, in @state, may be linked yet. */
static bool is_left_behind(struct owners *owners, u64 state)
{
	u32 owner = UB_NODE_OWNER(state);

	return state & UB_NODE_USED && !(owner && is_owner_alive(owners, owner));
}

static u64 sweep_linked(struct ub_map *map, struct owners *owners)
{
	u64 given_back = 0, nr_nodes = map->type_words[UB_W_NR_NODES], walked_ns = 0;
	_cleanup_free_ struct batch *batch = calloc(1, sizeof(*batch));
	_cleanup_free_ u8 *seen = calloc(1, nr_nodes);

	if (!seen || !batch)
		return 0;
	/* What was linked before the look around is left for the next time. */
	(void)find_linked(map, seen);
	for (u64 i = 0; i < nr_nodes && walked_ns < MAX_WALKED_NS; i++) {
		u64 state = ub_atomic_load(&ub_pool_node(map, (u32)i)->state);

		if (!(state & UB_NODE_USED))
			ub_pool_hint(map, (u32)i, state & UB_NODE_EXTRA, (u32)i % map->nr_cpus);
		if (seen[i] || !is_left_behind(owners, state))
			continue;
		batch->node[batch->nr].index = (u32)i;
		batch->node[batch->nr++].state = state;
		if (batch->nr == ub_array_size(batch->node))
			given_back += put_batch(map, batch, seen, &walked_ns);
	}
	return given_back + put_batch(map, batch, seen, &walked_ns);
}

static u64 sweep_hash(struct ub_map *map, struct owners *owners)
{
	u64 given_back = 0, nr_nodes = map->type_words[UB_W_NR_NODES], walked_ns = 0;
	u32 failed = 0;

	for (u64 i = 0; i < nr_nodes; i++) {
		u32 index = (u32)i, owner;
		struct ub_node *node = ub_pool_node(map, index);
		u64 state = ub_atomic_load(&node->state), next, since_ns;
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
		if (!(next & UB_LINK_MARK) && owner && is_owner_alive(owners, owner))
			continue;
		since_ns = ub_now_ns();
		linked = ub_hash_reachable(map, index);
		walked_ns += ub_now_ns() - since_ns;
		/* Busy or scribbled on: another time, rather than walk in circles for each node. */
		if ((linked < 0 && ++failed > MAX_FAILED) || walked_ns > MAX_WALKED_NS)
			break;
		if (linked)
			continue;
		/* Once more: it may have been marked since, with the role that it gave its successor. */
		next = ub_atomic_load(&node->next);
		given_back += ub_pool_put(map, index, state,
					  next & UB_LINK_MARK ? !!(next & UB_LINK_EXTRA)
							      : !!(state & UB_NODE_EXTRA),
					  NULL);
	}
	return given_back;
}

u64 ub_map_sweep(struct ub_map *map, bool (*is_alive)(void *opaque, u32 tgid), void *opaque)
{
	struct owners owners = { .is_alive = is_alive, .opaque = opaque };

	if (map->attr.type == BPF_MAP_TYPE_USER_RINGBUF)
		return ub_user_ring_sweep(map, is_alive, opaque);
	if (!ub_hash_is(map->attr.type) && !is_queue(map) &&
	    map->attr.type != BPF_MAP_TYPE_STACK_TRACE)
		return 0;
	drop_double_hints(map);
	return ub_hash_is(map->attr.type) ? sweep_hash(map, &owners) : sweep_linked(map, &owners);
}
