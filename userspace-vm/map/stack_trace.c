// SPDX-License-Identifier: MIT
/*
 * Stack traces by id. A bucket is a link to a node that is complete before it is linked, so nobody
 * sees half a trace; replacing is one compare-and-swap of the bucket. As Linux's
 * kernel/bpf/stackmap.c.
 */
#include <map/stack_trace.h>

#include <errno.h>

#include <map/pool.h>

_Static_assert(UB_STACK_TRACE_NO_NODE == UB_NO_NODE, "no node");

/* key[] of a node: u32 hash, u32 nr; the value follows. */

static u64 *bucket_at(const struct ub_map *map, u32 id)
{
	return &ub_pool_heads(map)[id];
}

/* The node that the bucket links, or NULL. */
static struct ub_node *node_of(const struct ub_map *map, u64 link)
{
	u32 target = ub_link_target(link);

	if (!target || target > map->type_words[UB_W_NR_NODES])
		return NULL;
	return ub_pool_node(map, target - 1);
}

static bool exchange(struct ub_map *map, u32 id, u64 old, u32 target, struct ub_run *run)
{
	struct ub_node *node = node_of(map, old);
	u64 state = node ? ub_atomic_load(&node->state) : 0;
	u32 hold = node ? ub_hold_new(map, UB_HOLD_NODE(ub_link_target(old) - 1), state, run)
			: UB_NO_HOLD;

	if (!ub_atomic_cas(bucket_at(map, id), old, ub_link_make(old, target, 0))) {
		ub_hold_return(hold, run);
		return false;
	}
	if (node)
		ub_pool_put(map, ub_link_target(old) - 1, state, false, run);
	return true;
}

u64 *ub_stack_trace_take(const struct ub_map *map, struct ub_run *run, u32 *node)
{
	*node = ub_pool_take(map, run);
	return *node == UB_NO_NODE ? NULL : (u64 *)(ub_pool_node(map, *node)->key + 8);
}

static void give_back(struct ub_map *map, u32 index, struct ub_run *run)
{
	if (index != UB_NO_NODE)
		ub_pool_put(map, index, ub_atomic_load(&ub_pool_node(map, index)->state), false,
			    run);
}

/* The id if the trace is there already, 1 + the mask if it is to be stored, or -EEXIST. */
static long find(const struct ub_map *map, u64 link, const u64 *ips, u32 nr, u32 hash, u64 flags)
{
	const struct ub_node *there = node_of(map, link);
	u32 id = hash & (u32)map->mask;

	if (there && ub_load32(there->key) == hash) {
		if (flags & BPF_F_FAST_STACK_CMP)
			return id;
		if (ub_load32(there->key + 4) == nr &&
		    ub_mem_equal(there->key + 8, ips, nr * 8ull) &&
		    ub_atomic_load(bucket_at(map, id)) == link)
			return id;
	}
	return there && !(flags & BPF_F_REUSE_STACKID) ? -EEXIST : (long)map->mask + 1;
}

long ub_stack_trace_put(struct ub_map *map, u32 node, const u64 *ips, u32 nr, u64 flags,
			struct ub_run *run)
{
	u64 mix = ub_hash_bytes(ips, nr * 8, 0), link;
	u32 hash = (u32)(mix ^ mix >> 32), id = hash & (u32)map->mask;
	u32 head[2] = { hash, nr };
	long found = -EFAULT;
	u8 *to;

	link = ub_atomic_load(bucket_at(map, id));
	if (nr)
		found = find(map, link, ips, nr, hash, flags);
	if (found <= (long)map->mask) {
		give_back(map, node, run);
		return found;
	}
	if (node == UB_NO_NODE) {
		node = ub_pool_take(map, run);
		if (node == UB_NO_NODE)
			return -ENOMEM;
		ub_mem_copy(ub_pool_node(map, node)->key + 8, ips, nr * 8ull);
	}
	to = ub_pool_node(map, node)->key;
	ub_mem_copy(to, head, 8);
	ub_mem_zero(to + 8 + nr * 8ull, map->attr.value_size - nr * 8ull);
	if (!ub_pool_may_link(run) || !exchange(map, id, link, node + 1, run)) {
		give_back(map, node, run);
		return -EBUSY;
	}
	ub_pool_linked(map, node, run);
	return id;
}

int ub_stack_trace_copy(struct ub_map *map, u32 id, void *value)
{
	if (id > map->mask)
		return -ENOENT;
	for (u32 tries = 0; tries < 16; tries++) {
		u64 link = ub_atomic_load(bucket_at(map, id));
		const struct ub_node *node = node_of(map, link);

		if (!node)
			return -ENOENT;
		ub_mem_copy(value, node->key + 8, map->attr.value_size);
		ub_fence_acquire();
		if (ub_atomic_load(bucket_at(map, id)) == link)
			return 0;
	}
	return -EBUSY;
}

int ub_stack_trace_delete(struct ub_map *map, u32 id)
{
	if (id > map->mask)
		return -E2BIG;
	for (u32 tries = 0; tries < 64; tries++) {
		u64 link = ub_atomic_load(bucket_at(map, id));

		if (!node_of(map, link))
			return -ENOENT;
		if (exchange(map, id, link, 0, NULL))
			return 0;
	}
	return -EBUSY;
}

int ub_stack_trace_next(struct ub_map *map, u32 id, u32 *next)
{
	for (u64 at = id; at <= map->mask; at++) {
		if (node_of(map, ub_atomic_load(bucket_at(map, (u32)at)))) {
			*next = (u32)at;
			return 0;
		}
	}
	return -ENOENT;
}
