// SPDX-License-Identifier: MIT
/*
 * Queues (Michael and Scott 1996) and stacks (Treiber 1986) over the pool's nodes. Links are
 * tagged, so a thread that was stopped with an old one fails its compare-and-swap. A value is
 * copied before the swap that takes it: the swap succeeds only if the node was not taken, hence not
 * rewritten, meanwhile. So all that is left to do afterwards is to give the node back, and if a
 * thread dies before that, or leaves (hold.h), ub_map_sweep() does it.
 *
 * Nothing counts the elements: a map is full when its nodes are all taken, max_entries of them and
 * one for a queue's dummy. A node that a stopped thread holds is missing meanwhile.
 */
#include <map/queue.h>

#include <errno.h>

#define MAX_TRIES 4096

static bool is_stack(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_STACK;
}

/* The node that @link leads to, or NULL: none, or scribbled on. */
static struct ub_node *node_of(const struct ub_map *map, u64 link)
{
	u32 target = ub_link_target(link);

	if (!target || target > map->type_words[UB_W_NR_NODES])
		return NULL;
	return ub_pool_node(map, target - 1);
}

void ub_queue_format(struct ub_map *map)
{
	u32 dummy;

	if (is_stack(map))
		return;
	dummy = ub_pool_take(map, NULL);
	ub_pool_header(map)->front = dummy + 1;
	ub_pool_header(map)->back = dummy + 1;
}

/*
 * Swings @end, which holds the link @to_node to a node in @state, over to @target and gives the
 * node back. False: it has changed.
 */
static bool take_out(const struct ub_map *map, u64 *end, u64 to_node, u64 state, u32 target,
		     struct ub_run *run)
{
	u32 index = ub_link_target(to_node) - 1;
	u32 hold = ub_hold_new(map, UB_HOLD_NODE(index), state, run);

	/* A forked child could not give back what it took out. */
	if (ub_unlikely(hold == UB_NO_HOLD) && !ub_pool_may_link(run))
		return false;
	if (ub_likely(ub_atomic_cas(end, to_node, ub_link_make(to_node, target, 0)))) {
		ub_pool_put_held(map, index, state, hold, run);
		return true;
	}
	ub_hold_return(hold, run);
	return false;
}

/* False: somebody scribbles on it all the time. */
static bool push_stack(struct ub_map *map, u32 index)
{
	struct ub_node *node = ub_pool_node(map, index);
	u64 *front = &ub_pool_header(map)->front;

	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 top = ub_atomic_load(front);

		__atomic_store_n(&node->next,
				 ub_link_make(ub_atomic_load(&node->next), ub_link_target(top), 0),
				 __ATOMIC_RELEASE);
		if (ub_atomic_cas(front, top, ub_link_make(top, index + 1, 0)))
			return true;
	}
	return false;
}

/* False: the queue is scribbled on. */
static bool push_queue(struct ub_map *map, u32 index)
{
	struct ub_node *node = ub_pool_node(map, index);
	u64 *back = &ub_pool_header(map)->back;

	__atomic_store_n(&node->next, ub_link_make(ub_atomic_load(&node->next), 0, 0),
			 __ATOMIC_RELEASE);
	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 tail = ub_atomic_load(back), next;
		struct ub_node *last = node_of(map, tail);

		if (!last)
			return false;
		next = ub_atomic_load(&last->next);
		if (ub_atomic_load(back) != tail)
			continue;
		if (ub_link_target(next)) {
			ub_atomic_cas(back, tail, ub_link_make(tail, ub_link_target(next), 0));
			continue;
		}
		if (ub_atomic_cas(&last->next, next, ub_link_make(next, index + 1, 0))) {
			ub_atomic_cas(back, tail, ub_link_make(tail, index + 1, 0));
			return true;
		}
	}
	return false;
}

/* 1: took (or, without @remove, saw) a value. 0: empty. -EBUSY. */
static int pop_stack(struct ub_map *map, void *value, bool remove, struct ub_run *run)
{
	u64 *front = &ub_pool_header(map)->front;

	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 top = ub_atomic_load(front), next, state;
		struct ub_node *node = node_of(map, top);

		if (!node)
			return ub_link_target(top) ? -EBUSY : 0;
		next = ub_atomic_load(&node->next);
		state = ub_atomic_load(&node->state);
		if (value)
			ub_mem_copy(value, node->key, map->attr.value_size);
		ub_fence_acquire();
		if (!remove && !(next & UB_LINK_MARK)) {
			if (ub_atomic_load(front) == top)
				return 1;
			continue;
		}
		if (take_out(map, front, top, state, ub_link_target(next), run) &&
		    !(next & UB_LINK_MARK))
			return 1;
	}
	return -EBUSY;
}

bool ub_queue_fence(const struct ub_map *map, u32 index)
{
	u64 *front = &ub_pool_header(map)->front;

	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 top = ub_atomic_load(front);

		if (ub_link_target(top) == index + 1)
			return false;
		if (ub_atomic_cas(front, top, ub_link_make(top, ub_link_target(top), 0)))
			return true;
	}
	return false;
}

/*
 * Takes the marked node @index out from under @node, whose next is @link. Who pops @node at the
 * same time may have read that link already; so the front's tag is changed before the marked node
 * is given back, and the swap of such a thread fails. If it came first, the marked node is now on
 * top, where the next to pop finds it.
 */
static void remove_dropped(struct ub_map *map, struct ub_node *node, u64 link, u32 index, u32 below,
			   struct ub_run *run)
{
	u64 state = ub_atomic_load(&ub_pool_node(map, index)->state);
	u32 hold = ub_hold_new(map, UB_HOLD_NODE(index), state, run);

	if (ub_atomic_cas(&node->next, link, ub_link_make(link, below, 0)) &&
	    ub_queue_fence(map, index))
		ub_pool_put(map, index, state, false, run);
	else
		ub_hold_return(hold, run);
}

/* Drops the lowest, oldest element of a stack: marks it, then takes it out. 1: dropped one. 0:
 * empty. -EBUSY. */
static int drop_oldest(struct ub_map *map, struct ub_run *run)
{
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];

	for (u32 tries = 0; tries < 64; tries++) {
		u64 link = ub_atomic_load(&ub_pool_header(map)->front), into = link, next = 0;
		struct ub_node *node = node_of(map, link), *above = NULL;

		if (!node)
			return 0;
		for (u64 steps = 0; steps <= nr_nodes; steps++) {
			struct ub_node *below;

			next = ub_atomic_load(&node->next);
			below = node_of(map, next);
			/* Those that are marked already don't count. */
			if (!below || ub_atomic_load(&below->next) & UB_LINK_MARK)
				break;
			above = node;
			into = next;
			node = below;
		}
		if (next & UB_LINK_MARK) {
			u64 state = ub_atomic_load(&node->state);

			/* It was the only one when it was dropped, and is on top now: nothing else
			 * is there. */
			if (!above && take_out(map, &ub_pool_header(map)->front, link, state,
					       ub_link_target(next), run))
				return 1;
			continue;
		}
		if (ub_link_target(next)) {
			struct ub_node *below = node_of(map, next);

			if (below)
				remove_dropped(map, node, next, ub_link_target(next) - 1,
					       ub_link_target(ub_atomic_load(&below->next)), run);
			continue;
		}
		if (!ub_atomic_cas(&node->next, next, ub_link_make(next, 0, UB_LINK_MARK)))
			continue;
		if (above)
			remove_dropped(map, above, into, ub_link_target(into) - 1, 0, run);
		return 1;
	}
	return -EBUSY;
}

static int pop_queue(struct ub_map *map, void *value, bool remove, struct ub_run *run)
{
	struct ub_pool_header *header = ub_pool_header(map);

	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 first = ub_atomic_load(&header->front), tail, next, state;
		struct ub_node *dummy = node_of(map, first), *node;

		if (!dummy)
			return -EBUSY;
		tail = ub_atomic_load(&header->back);
		next = ub_atomic_load(&dummy->next);
		state = ub_atomic_load(&dummy->state);
		node = node_of(map, next);
		/* None; or the dummy is another's by now. Else it is the last swap that tells. */
		if (ub_unlikely(!node)) {
			if (ub_atomic_load(&header->front) != first)
				continue;
			return ub_link_target(next) ? -EBUSY : 0;
		}
		if (ub_link_target(first) == ub_link_target(tail)) {
			ub_atomic_cas(&header->back, tail,
				      ub_link_make(tail, ub_link_target(next), 0));
			continue;
		}
		if (value)
			ub_mem_copy(value, node->key, map->attr.value_size);
		ub_fence_acquire();
		if (!remove) {
			if (ub_atomic_load(&header->front) == first)
				return 1;
			continue;
		}
		if (take_out(map, &header->front, first, state, ub_link_target(next), run))
			return 1;
	}
	return -EBUSY;
}

/* In a queue the node behind the last one is free longest; in a stack the one behind the top is the
 * one that was popped last. */
static u32 take(const struct ub_map *map, struct ub_run *run)
{
	struct ub_pool_header *header = ub_pool_header(map);
	u64 last = ub_atomic_load(is_stack(map) ? &header->front : &header->back);

	return ub_pool_take_near(map, ub_link_target(last), run);
}

static void put_unused(struct ub_map *map, u32 index, struct ub_run *run)
{
	ub_pool_put(map, index, ub_atomic_load(&ub_pool_node(map, index)->state), false, run);
}

long ub_queue_push(struct ub_map *map, const void *value, u64 flags, struct ub_run *run)
{
	bool replace = flags & BPF_EXIST;
	u32 index;

	if (flags & BPF_NOEXIST || flags > BPF_EXIST)
		return -EINVAL;
	for (u32 tries = 0; tries < 64; tries++) {
		index = take(map, run);
		if (index != UB_NO_NODE) {
			ub_mem_copy(ub_pool_node(map, index)->key, value, map->attr.value_size);
			if (ub_pool_may_link(run) &&
			    (is_stack(map) ? push_stack(map, index) : push_queue(map, index))) {
				ub_pool_linked(map, index, run);
				return 0;
			}
			put_unused(map, index, run);
			return -EBUSY;
		}
		if (!replace)
			return -E2BIG;
		if (!ub_pool_may_link(run))
			return -EBUSY;
		if ((is_stack(map) ? drop_oldest(map, run) : pop_queue(map, NULL, true, run)) < 0)
			return -EBUSY;
	}
	return -EBUSY;
}

long ub_queue_pop(struct ub_map *map, void *value, bool remove, struct ub_run *run)
{
	int ret = is_stack(map) ? pop_stack(map, value, remove, run)
				: pop_queue(map, value, remove, run);

	if (ret == 1)
		return 0;
	ub_mem_zero(value, map->attr.value_size);
	return ret ? ret : -ENOENT;
}
