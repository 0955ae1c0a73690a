/* SPDX-License-Identifier: MIT */
/*
 * Nodes of a map's shared memory: who has which. Internal to map/; freestanding.
 *
 * The state word of each node is the truth: used or free, a generation, and the thread that took
 * it. It changes by compare-and-swap only, so a node is taken once and given back once, whatever
 * thread was stopped or killed in between. Everything else that says where free nodes are is a
 * hint: a bitmap with two summary levels, and a few slots per CPU. A lost hint costs a node until
 * ub_map_sweep() finds it again; a wrong hint costs a failed compare-and-swap.
 *
 * Zeroed memory is a pool whose nodes are all free, so a map of ten million entries needs no
 * formatting and no page before it is used.
 *
 * Nodes have one of two roles. max_entries of them are for new elements, so "full" is exact without
 * a counter. A few "extra" ones are for replacing an element by its new value: the new node
 * inherits the role of the element it replaces, and the old one is given back as extra (compare
 * extra_elems in Linux's kernel/bpf/hashtab.c).
 */
#ifndef UB_MAP_POOL_H
#define UB_MAP_POOL_H

#include <map/cpu.h>
#include <map/hold.h>
#include <map/map.h>
#include <map/mem.h>

#define UB_NO_NODE	      0xffffffffu
#define UB_POOL_SLOTS	      8 /* hint slots for extra nodes, per CPU */
#define UB_POOL_EXTRA_PER_CPU 4

/* Indices into ub_map.type_words of pool-based types. */
enum {
	UB_W_HEADS,	  /* offset of the bucket heads */
	UB_W_NODES,	  /* offset of the nodes */
	UB_W_NODE_STRIDE, /* bytes per node */
	UB_W_NR_NODES,
	UB_W_BITMAP0, /* offsets of the three levels of the bitmap */
	UB_W_BITMAP1,
	UB_W_BITMAP2,
	UB_W_SEED,
};

/* Start of the shared memory of a pool-based map. */
struct ub_pool_header {
	u64 hand;   /* LRU: where the clock stands */
	u64 cursor; /* where the search for lost summary bits stands */
	u64 front;  /* queue, stack: link to the first node */
	u64 pad0[5];
	u64 back; /* queue: link to the last node */
	u64 pad1[7];
};

struct ub_pool_cpu {
	u32 word; /* of the lowest bitmap level, where this CPU looks first */
	u32 pad[7];
	u32 extra[UB_POOL_SLOTS]; /* 1 + index of a node that may be free and extra, or 0 */
};

/*
 * A link to a node: in a bucket head, a node's next, a queue's ends.
 *   63    62     61 .. 32   31 .. 0
 *   mark  extra  tag        1 + index; 0: none; from 0x80000000: end of bucket (the rest)
 * The tag counts changes of this very word, so that compare-and-swap notices that it was
 * changed and changed back. mark: the node that holds this next is deleted; extra: the role
 * with which it is to be given back.
 */
#define UB_LINK_MARK	 (1ull << 63)
#define UB_LINK_EXTRA	 (1ull << 62)
#define UB_LINK_END	 0x80000000u
#define UB_LINK_TAG_MASK 0x3fffffff00000000ull

struct ub_node {
	u64 next;  /* link */
	u64 state; /* UB_NODE_* */
	u8 key[];
};

/*
 *   63 .. 52  51 .. 49  48 .. 46  45 .. 24  23 .. 2     1      0
 *   thread    image     hold      process   generation  extra  used
 * Of a used node the upper ones say who took it: see hold.h. Process 0: nobody who may yet link it.
 * Linux has no pids of more than 22 bits (PID_MAX_LIMIT).
 */
#define UB_NODE_USED	       1ull
#define UB_NODE_EXTRA	       2ull
#define UB_NODE_GEN_ONE	       4ull
#define UB_NODE_GEN_MASK       0xfffffcull
#define UB_NODE_TAKER_SHIFT    24
#define UB_NODE_HOLD_SHIFT     46
#define UB_NODE_IMAGE_SHIFT    49
#define UB_NODE_THREAD_SHIFT   52
#define UB_NODE_OWNER(state)   ((u32)((state) >> UB_NODE_TAKER_SHIFT & 0x3fffff))
#define UB_NODE_UNOWNED(state) ((state) & ((1ull << UB_NODE_TAKER_SHIFT) - 1))

static inline u64 ub_link_make(u64 old, u32 target, u64 bits)
{
	return (((old & UB_LINK_TAG_MASK) + (1ull << 32)) & UB_LINK_TAG_MASK) | target | bits;
}

static inline u32 ub_link_target(u64 link)
{
	return (u32)link;
}

static inline bool ub_link_is_end(u64 link)
{
	return (u32)link == 0 || (u32)link >= UB_LINK_END;
}

static inline u64 ub_atomic_load(const u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline bool ub_atomic_cas(u64 *p, u64 old, u64 new)
{
	return __atomic_compare_exchange_n(p, &old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static inline struct ub_pool_header *ub_pool_header(const struct ub_map *map)
{
	return (struct ub_pool_header *)map->shared;
}

static inline struct ub_pool_cpu *ub_pool_cpu(const struct ub_map *map, u32 cpu)
{
	struct ub_pool_cpu *cpus = (void *)(map->shared + sizeof(struct ub_pool_header));

	return &cpus[ub_cpu_slot(cpu, map->nr_cpus)];
}

static inline u64 *ub_pool_heads(const struct ub_map *map)
{
	return (u64 *)(map->shared + map->type_words[UB_W_HEADS]);
}

static inline struct ub_node *ub_pool_node(const struct ub_map *map, u32 index)
{
	return (struct ub_node *)(map->shared + map->type_words[UB_W_NODES] +
				  index * map->type_words[UB_W_NODE_STRIDE]);
}

static inline u8 *ub_pool_value(const struct ub_map *map, u32 index, u32 cpu)
{
	return map->shared + map->values_offset + index * map->elem_stride +
	       (u64)cpu * map->value_stride;
}

/* Takes a free node for the process of @run (NULL: the daemon). UB_NO_NODE: none left. */
u32 ub_pool_take(const struct ub_map *map, struct ub_run *run);
/* The same, but @index if it is free: for who knows where the next free node is. Its hint is left
 * as it is, wrong, until somebody stumbles over it or it is free again. */
u32 ub_pool_take_near(const struct ub_map *map, u64 index, struct ub_run *run);
/* The same of the extra ones. */
u32 ub_pool_take_extra(const struct ub_map *map, struct ub_run *run);
/* Whether what @run has taken is its own to link. */
static inline bool ub_pool_may_link(const struct ub_run *run)
{
	return !ub_hold_inherited(run);
}

/* The node @index, which was taken, has been linked. */
static inline void ub_pool_linked(const struct ub_map *map, u32 index, struct ub_run *run)
{
	ub_hold_drop(map, UB_HOLD_NODE(index), run);
}

/* Whoever took @index, which is in @state if it came to that, will not link it: ub_map_sweep() may
 * have it if nobody has. */
void ub_pool_disown(const struct ub_map *map, u32 index, u64 state);
/* Gives @index back if its state still is @state (what it was while the caller knew that nobody
 * else could give it back), to the role @extra. */
bool ub_pool_put(const struct ub_map *map, u32 index, u64 state, bool extra, struct ub_run *run);
/* The same of a node that is not extra, by who has noted it with @hold (or UB_NO_HOLD). */
void ub_pool_put_held(const struct ub_map *map, u32 index, u64 state, u32 hold, struct ub_run *run);
/* Makes a free node findable again; harmless where it is. */
void ub_pool_hint(const struct ub_map *map, u32 index, bool extra, u32 cpu);

/* Geometry (hosted): lays the pool out from offset 0 for @nr_new + @nr_extra nodes and @nr_heads
 * bucket heads; node bytes without the value region. Returns the offset behind it, or 0 if it is
 * too large. */
u64 ub_pool_layout(struct ub_map *map, u64 nr_new, u64 nr_extra, u64 nr_heads, u64 node_stride);
void ub_pool_format(const struct ub_map *map, u32 nr_new);

#endif
