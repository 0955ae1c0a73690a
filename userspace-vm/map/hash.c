// SPDX-License-Identifier: MIT
/*
 * Hash maps in shared memory that nobody can lock.
 *
 * Each bucket is a singly linked list (Harris 2001, Michael 2002) of nodes from the map's pool. All
 * changes are single compare-and-swaps of a link; links carry a tag that counts their changes, so
 * a thread that was stopped for an hour with an old link in hand fails instead of doing harm.
 *
 *   insert   walk the bucket; the key is not there; node->next = first; CAS head. Since every
 *	      insertion changes the head, success means that nobody inserted the key meanwhile.
 *   delete   CAS node->next to the same link with UB_LINK_MARK: from here on the key is gone, and
 *	      node->next can't be changed any more, so nothing can be linked behind it; then unlink
 *   replace  new->next = old->next; CAS old->next to a marked link to new: in the same instant the
 *	      old value is gone and the new one is there; then unlink the old node
 *   unlink   CAS the predecessor's link from the marked node to its successor. Whoever walks past
 *	      a marked node does it. The one whose CAS succeeds gives the node back to the pool.
 *
 * If a thread dies, or leaves the hit by siglongjmp() out of a signal handler (hold.h tells):
 *   - with a node taken and not linked: the node names its process, or nobody any more;
 *     ub_map_sweep() gives it back
 *   - after marking: the next walk through the bucket unlinks
 *   - after unlinking: the node is marked and unreachable; ub_map_sweep() gives it back. A thread
 *     that was only stopped there finds another state (generation) in the node and leaves it alone.
 * So of each operation it is enough to know of one node that it held: the sweep finds the other.
 *
 * A walk stands on `prev`, the link by which it came to a node. Having read the node's next (and
 * key) it checks that prev still holds the same link: then the node was in this bucket when it was
 * read, and not one that had been recycled for another key. If not, it starts again; after
 * MAX_RESTARTS it gives up with -EBUSY rather than wait.
 *
 * The shared memory is hostile: every index is checked against the private descriptor, and no walk
 * takes more than MAX_STEPS steps, which no honest bucket comes near (the table has at least as
 * many buckets as elements).
 *
 * A pointer that a program got from a lookup stays valid memory for ever. As with the kernel's
 * preallocated hash maps, its element may be deleted and recycled for another key meanwhile.
 *
 * LRU: a lookup sets the reference bit of the element; when no node is left, a clock hand clears
 * bits until it meets a clear one and deletes that element.
 */
#include <map/hash.h>

#include <errno.h>

#include <map/lpm.h>
#include <map/value.h>

#define MAX_STEPS	8192
#define MAX_RESTARTS	128
#define MAX_EVICT_STEPS 256

#define NULL_LINK(bucket) (UB_LINK_END | ((u32)(bucket)&0x7fffffff))

static bool is_lru(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_LRU_HASH ||
	       map->attr.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static bool is_percpu(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_PERCPU_HASH ||
	       map->attr.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static bool is_lpm(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_LPM_TRIE;
}

static u64 bucket_of(const struct ub_map *map, const void *key)
{
	u32 size = map->key_size;
	u64 seed = map->type_words[UB_W_SEED];

	if (ub_unlikely(is_lpm(map)))
		return ub_lpm_hash(map, key) & map->mask;
	if (ub_likely(size == 8))
		return ub_mix64(ub_load64(key) ^ seed) & map->mask;
	if (size == 4)
		return ub_mix64(ub_load32(key) ^ seed) & map->mask;
	return ub_hash_bytes(key, size, seed) & map->mask;
}

static bool same_key(const struct ub_map *map, const struct ub_node *node, const void *key)
{
	u32 size = map->key_size;

	if (ub_unlikely(is_lpm(map)))
		return ub_lpm_same(map, node->key, key);
	if (ub_likely(size == 8))
		return ub_load64(node->key) == ub_load64(key);
	if (size == 4)
		return ub_load32(node->key) == ub_load32(key);
	return ub_mem_equal(node->key, key, size);
}

/*
 * Unlinks the marked node at @place, so that @place->prev leads to its successor. False: somebody
 * changed something, start again.
 */
static bool unlink_node(const struct ub_map *map, struct ub_hash_place *place, struct ub_run *run)
{
	struct ub_node *node = ub_pool_node(map, place->index);
	u64 state = ub_atomic_load(&node->state);
	u64 link = ub_link_make(place->link, ub_link_target(place->next), 0);
	u32 hold = ub_hold_covers(map, run)
			   ? UB_NO_HOLD
			   : ub_hold_new(map, UB_HOLD_NODE(place->index), state, run);

	if (!ub_atomic_cas(place->prev, place->link, link)) {
		ub_hold_return(hold, run);
		return false;
	}
	ub_pool_put(map, place->index, state, place->next & UB_LINK_EXTRA, run);
	place->link = link;
	return true;
}

/*
 * Finds @key, or the node @wanted if @key is NULL, in @bucket. 1: found, at *place. 0: not there;
 * place->prev and link are those of the end. -EBUSY: could not be told. *head: the bucket's head
 * when the walk began. With @help, marked nodes met on the way are unlinked (needs writable
 * memory).
 */
static int walk(const struct ub_map *map, u64 bucket, const void *key, u32 wanted, bool help,
		struct ub_hash_place *place, u64 *head, struct ub_run *run)
{
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];
	u32 steps = 0;

	for (u32 restarts = 0; restarts < MAX_RESTARTS; restarts++) {
		place->prev = &ub_pool_heads(map)[bucket];
		place->link = ub_atomic_load(place->prev);
		*head = place->link;
		for (;;) {
			struct ub_node *node;
			bool match;

			if (ub_link_is_end(place->link)) {
				if (ub_likely(!ub_link_target(place->link) ||
					      ub_link_target(place->link) == NULL_LINK(bucket)))
					return 0;
				break;
			}
			place->index = ub_link_target(place->link) - 1;
			if (ub_unlikely(place->index >= nr_nodes || ++steps > MAX_STEPS))
				return -EBUSY;
			node = ub_pool_node(map, place->index);
			place->next = ub_atomic_load(&node->next);
			match = key ? same_key(map, node, key) : place->index == wanted;
			ub_fence_acquire();
			if (ub_unlikely(ub_atomic_load(place->prev) != place->link))
				break;
			if (ub_unlikely(place->next & UB_LINK_MARK)) {
				if (help) {
					if (!unlink_node(map, place, run))
						break;
					continue;
				}
			} else if (match) {
				return 1;
			}
			place->prev = &node->next;
			place->link = place->next;
		}
	}
	return -EBUSY;
}

static bool may_write(const struct ub_map *map, const struct ub_run *run)
{
	return !run || !(map->attr.flags & BPF_F_RDONLY_PROG);
}

static void touch(const struct ub_map *map, u32 index)
{
	u32 *ref = (u32 *)(map->shared + map->type_words[UB_W_NODES] +
			   index * map->type_words[UB_W_NODE_STRIDE] +
			   map->type_words[UB_W_NODE_STRIDE] - 8);

	if (!__atomic_load_n(ref, __ATOMIC_RELAXED))
		__atomic_store_n(ref, 1, __ATOMIC_RELAXED);
}

static bool test_and_clear_touched(const struct ub_map *map, u32 index)
{
	u32 *ref = (u32 *)(map->shared + map->type_words[UB_W_NODES] +
			   index * map->type_words[UB_W_NODE_STRIDE] +
			   map->type_words[UB_W_NODE_STRIDE] - 8);

	if (!__atomic_load_n(ref, __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(ref, 0, __ATOMIC_RELAXED);
	return true;
}

void *ub_hash_lookup(struct ub_map *map, const void *key, struct ub_run *run)
{
	struct ub_hash_place place;
	u64 head;

	if (walk(map, bucket_of(map, key), key, 0, may_write(map, run), &place, &head, run) != 1)
		return NULL;
	if (is_lru(map))
		touch(map, place.index);
	return ub_pool_value(map, place.index,
			     map->value_stride ? ub_cpu_slot(ub_run_cpu(run), map->nr_cpus) : 0);
}

u32 ub_hash_find(struct ub_map *map, const void *key)
{
	struct ub_hash_place place;
	u64 head;

	if (walk(map, bucket_of(map, key), key, 0, true, &place, &head, NULL) != 1)
		return UB_NO_NODE;
	return place.index;
}

/* The value of a node that is ours alone; @value NULL: zeroes. */
static void set_value(const struct ub_map *map, u32 index, const void *value, bool all_cpus,
		      struct ub_run *run)
{
	u32 size = map->attr.value_size;

	if (!value) {
		ub_mem_zero(ub_pool_value(map, index, 0), size);
		return;
	}
	if (!is_percpu(map)) {
		ub_value_get(map, ub_pool_value(map, index, 0), value);
		return;
	}
	for (u32 cpu = 0; cpu < map->nr_cpus; cpu++) {
		u8 *to = ub_pool_value(map, index, cpu);

		if (all_cpus)
			ub_mem_copy(to, (const u8 *)value + (u64)cpu * map->elem_stride, size);
		else if (cpu == ub_cpu_slot(ub_run_cpu(run), map->nr_cpus))
			ub_mem_copy(to, value, size);
		else
			ub_mem_zero(to, size);
	}
}

static void set_percpu_in_place(const struct ub_map *map, u32 index, const void *value,
				bool all_cpus, struct ub_run *run)
{
	u32 size = map->attr.value_size;

	if (!all_cpus) {
		ub_mem_copy(ub_pool_value(map, index, ub_cpu_slot(ub_run_cpu(run), map->nr_cpus)),
			    value, size);
		return;
	}
	for (u32 cpu = 0; cpu < map->nr_cpus; cpu++)
		ub_mem_copy(ub_pool_value(map, index, cpu),
			    (const u8 *)value + (u64)cpu * map->elem_stride, size);
}

/* Marks the node at @place deleted: finish_delete() is to follow. */
static bool mark(const struct ub_map *map, const struct ub_hash_place *place, struct ub_run *run)
{
	struct ub_node *node = ub_pool_node(map, place->index);
	u32 hold = ub_hold_new(map, UB_HOLD_NODE(place->index), ub_atomic_load(&node->state), run);

	if (ub_atomic_cas(&node->next, place->next,
			  ub_link_make(place->next, ub_link_target(place->next), UB_LINK_MARK)))
		return true;
	ub_hold_return(hold, run);
	return false;
}

/* Having marked the node at @place: takes it out, or leaves that to whoever comes next. */
static void finish_delete(struct ub_map *map, u64 bucket, const struct ub_hash_place *place,
			  struct ub_run *run)
{
	struct ub_hash_place again = *place;
	u64 head;

	again.next = ub_atomic_load(&ub_pool_node(map, place->index)->next);
	/* If the predecessor has changed, walk to the end once, which unlinks all that is
	 * marked. */
	if (!(again.next & UB_LINK_MARK) || !unlink_node(map, &again, run))
		(void)walk(map, bucket, NULL, UB_NO_NODE, true, &again, &head, run);
	ub_hold_drop(map, UB_HOLD_NODE(place->index), run);
}

/* LRU: deletes some element that was not used lately. False: found none in a bounded search. */
static bool evict(struct ub_map *map, struct ub_run *run)
{
	u64 nr_nodes = map->type_words[UB_W_NR_NODES];
	u64 *hand = &ub_pool_header(map)->hand;
	u32 failed = 0;

	for (u32 i = 0; i < MAX_EVICT_STEPS; i++) {
		u32 index = (u32)(__atomic_fetch_add(hand, 1, __ATOMIC_RELAXED) % nr_nodes);
		struct ub_node *node = ub_pool_node(map, index);
		struct ub_hash_place place;
		u64 head, bucket;
		int found;

		if (!(ub_atomic_load(&node->state) & UB_NODE_USED))
			continue;
		if (test_and_clear_touched(map, index) && i < MAX_EVICT_STEPS / 2)
			continue;
		bucket = bucket_of(map, node->key);
		found = walk(map, bucket, NULL, index, true, &place, &head, run);
		/* Scribbled on: don't walk in circles in bucket after bucket. */
		if (found < 0 && ++failed > 2)
			return false;
		if (found != 1)
			continue;
		if (!mark(map, &place, run))
			continue;
		finish_delete(map, bucket, &place, run);
		return true;
	}
	return false;
}

static u32 take_new(struct ub_map *map, struct ub_run *run)
{
	u32 index = ub_pool_take(map, run);

	if (!is_lru(map) || !ub_pool_may_link(run))
		return index;
	for (u32 i = 0; index == UB_NO_NODE && i < 16; i++) {
		if (!evict(map, run))
			break;
		index = ub_pool_take(map, run);
	}
	return index;
}

static void put_unused(struct ub_map *map, u32 index, bool extra, struct ub_run *run)
{
	ub_pool_put(map, index, ub_atomic_load(&ub_pool_node(map, index)->state), extra, run);
}

static void fill(struct ub_map *map, u32 index, const void *key, const void *value, bool all_cpus,
		 struct ub_run *run)
{
	ub_mem_copy(ub_pool_node(map, index)->key, key, map->key_size);
	set_value(map, index, value, all_cpus, run);
	if (is_lru(map))
		test_and_clear_touched(map, index);
}

/* Replaces the element at @place by a new node. 0; -EAGAIN: it has changed; -EBUSY. */
static long replace(struct ub_map *map, u64 bucket, const struct ub_hash_place *place,
		    const void *key, const void *value, struct ub_run *run)
{
	u32 index = ub_pool_take_extra(map, run);
	bool extra = true;
	struct ub_node *node;
	u64 link;

	if (index == UB_NO_NODE) {
		extra = false;
		index = ub_pool_take(map, run);
	}
	/* Stopped threads hold all spare nodes: better a value that may be seen half written. */
	if (index == UB_NO_NODE) {
		ub_value_set(map, ub_pool_value(map, place->index, 0), value);
		return 0;
	}
	node = ub_pool_node(map, index);
	fill(map, index, key, value, false, run);
	if (ub_unlikely(!ub_pool_may_link(run)))
		return -EBUSY;
	link = ub_atomic_load(&node->next);
	__atomic_store_n(&node->next, ub_link_make(link, ub_link_target(place->next), 0),
			 __ATOMIC_RELEASE);
	link = ub_link_make(place->next, index + 1, UB_LINK_MARK | (extra ? UB_LINK_EXTRA : 0));
	if (!ub_atomic_cas(&ub_pool_node(map, place->index)->next, place->next, link)) {
		put_unused(map, index, extra, run);
		return -EAGAIN;
	}
	finish_delete(map, bucket, place, run);
	ub_pool_linked(map, index, run);
	return 0;
}

static long insert(struct ub_map *map, u64 bucket, u64 head, u32 index, struct ub_run *run)
{
	struct ub_node *node = ub_pool_node(map, index);
	u32 first = ub_link_target(head);
	u64 link = ub_atomic_load(&node->next);

	/* Nor touched: its parent may have linked it since. */
	if (ub_unlikely(!ub_pool_may_link(run)))
		return -EBUSY;
	link = ub_link_make(link, ub_link_is_end(head) ? NULL_LINK(bucket) : first, 0);
	__atomic_store_n(&node->next, link, __ATOMIC_RELEASE);
	if (!ub_atomic_cas(&ub_pool_heads(map)[bucket], head, ub_link_make(head, index + 1, 0)))
		return -EAGAIN;
	ub_pool_linked(map, index, run);
	return 0;
}

long ub_hash_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		    bool all_cpus, struct ub_run *run)
{
	u64 bucket = bucket_of(map, key);
	bool locked = flags & BPF_F_LOCK;
	u32 index = UB_NO_NODE;
	long err = -EBUSY;

	flags &= ~(u64)BPF_F_LOCK;
	if (ub_unlikely(flags > BPF_EXIST || (locked && !map->attr.lock)))
		return -EINVAL;
	for (u32 tries = 0; tries < MAX_RESTARTS; tries++) {
		struct ub_hash_place place;
		u64 head;
		int found = walk(map, bucket, key, 0, true, &place, &head, run);

		err = -EBUSY;
		if (found < 0)
			break;
		if (found) {
			err = -EEXIST;
			if (flags == BPF_NOEXIST)
				break;
			err = 0;
			if (locked) {
				ub_value_copy_locked(map, ub_pool_value(map, place.index, 0), value,
						     false, run);
				break;
			}
			if (is_percpu(map)) {
				set_percpu_in_place(map, place.index, value, all_cpus, run);
				if (is_lru(map))
					touch(map, place.index);
				break;
			}
			err = replace(map, bucket, &place, key, value, run);
		} else {
			err = -ENOENT;
			if (flags == BPF_EXIST)
				break;
			if (index == UB_NO_NODE) {
				index = take_new(map, run);
				err = is_lru(map) ? -ENOMEM : -E2BIG;
				if (index == UB_NO_NODE)
					break;
				fill(map, index, key, value, all_cpus, run);
				/* An eviction may have changed this bucket. */
				if (is_lru(map)) {
					err = -EBUSY;
					continue;
				}
			}
			err = insert(map, bucket, head, index, run);
			if (!err)
				return 0;
		}
		if (err != -EAGAIN)
			break;
		err = -EBUSY;
	}
	if (index != UB_NO_NODE)
		put_unused(map, index, false, run);
	return err;
}

void ub_hash_read(const struct ub_map *map, u32 index, void *value, bool locked)
{
	if (locked) {
		ub_value_copy_locked(map, value, ub_pool_value(map, index, 0), true, NULL);
		return;
	}
	for (u32 cpu = 0; cpu < (map->value_stride ? map->nr_cpus : 1); cpu++)
		ub_value_get(map, (u8 *)value + (u64)cpu * map->elem_stride,
			     ub_pool_value(map, index, cpu));
}

static long delete_found(struct ub_map *map, const void *key, void *value, bool locked,
			 struct ub_run *run)
{
	u64 bucket = bucket_of(map, key);

	for (u32 tries = 0; tries < MAX_RESTARTS; tries++) {
		struct ub_hash_place place;
		u64 head;
		int found = walk(map, bucket, key, 0, true, &place, &head, run);

		if (found < 0)
			return found;
		if (!found)
			return -ENOENT;
		if (value)
			ub_hash_read(map, place.index, value, locked);
		if (!mark(map, &place, run))
			continue;
		finish_delete(map, bucket, &place, run);
		return 0;
	}
	return -EBUSY;
}

long ub_hash_delete(struct ub_map *map, const void *key, struct ub_run *run)
{
	return delete_found(map, key, NULL, false, run);
}

int ub_hash_take(struct ub_map *map, const void *key, void *value, bool locked)
{
	return (int)delete_found(map, key, value, locked, NULL);
}

int ub_hash_walk(struct ub_map *map, u64 bucket, const void *key, u32 wanted,
		 struct ub_hash_place *place)
{
	u64 head;

	return walk(map, bucket, key, wanted, true, place, &head, NULL);
}

u64 ub_hash_bucket(const struct ub_map *map, const void *key)
{
	return bucket_of(map, key);
}
