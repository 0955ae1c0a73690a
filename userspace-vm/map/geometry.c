// SPDX-License-Identifier: MIT
/*
 * Where things lie in a map's shared memory. Hosted: runs in the daemon only, on a checked attr;
 * what it finds goes into the private descriptors of all processes.
 */
#include <map/bloom.h>
#include <map/lpm.h>
#include <map/pool.h>
#include <map/queue.h>
#include <map/task_storage.h>

#define PAGE	  4096ull
#define CPU_ALIGN 128ull /* per-CPU values: two cache lines, for the adjacent-line prefetcher */

static u64 round_up_pow2(u64 x)
{
	u64 p = 1;

	while (p < x)
		p <<= 1;
	return p;
}

u64 ub_pool_layout(struct ub_map *map, u64 nr_new, u64 nr_extra, u64 nr_heads, u64 node_stride)
{
	u64 n = nr_new + nr_extra;
	u64 at = sizeof(struct ub_pool_header) + map->nr_cpus * sizeof(struct ub_pool_cpu);
	u64 words = n;

	map->type_words[UB_W_NR_NODES] = n;
	map->type_words[UB_W_NODE_STRIDE] = node_stride;
	for (u32 level = 0; level < 3; level++) {
		words = (words + 63) / 64;
		map->type_words[UB_W_BITMAP0 + level] = at;
		at += words * 8;
	}
	at = ub_round_up(at, 64);
	map->type_words[UB_W_HEADS] = at;
	at = ub_round_up(at + nr_heads * 8, 64);
	map->type_words[UB_W_NODES] = at;
	return at + n * node_stride;
}

/* Nothing but zeroes is the right format, except for what must not be found free. */
void ub_pool_format(const struct ub_map *map, u32 nr_new)
{
	u64 n = map->type_words[UB_W_NR_NODES], used_from = nr_new, words = n;

	for (u32 level = 0; level < 3; level++) {
		u64 *bits = (u64 *)(map->shared + map->type_words[UB_W_BITMAP0 + level]);

		words = (words + 63) / 64;
		for (u64 i = used_from; i < words * 64; i++)
			bits[i / 64] |= 1ull << i % 64;
		/* A word counts as full above only if it is wholly behind the end. */
		used_from = (used_from + 63) / 64;
	}
	for (u64 i = nr_new; i < n; i++) {
		ub_pool_node(map, (u32)i)->state = UB_NODE_EXTRA;
		ub_pool_hint(map, (u32)i, true, (u32)(i - nr_new) % map->nr_cpus);
	}
	for (u32 cpu = 0; cpu < map->nr_cpus; cpu++)
		ub_pool_cpu(map, cpu)->word = (u32)((nr_new + 63) / 64 * cpu / map->nr_cpus);
}

static void bind_percpu(struct ub_map *map, u64 at, u64 n)
{
	map->elem_stride = ub_round_up((u64)map->attr.value_size, 8);
	map->value_stride = ub_round_up(n * map->elem_stride, CPU_ALIGN);
	map->values_offset = ub_round_up(at, CPU_ALIGN);
	map->shared_size = map->values_offset + map->value_stride * map->nr_cpus;
}

static void bind_array(struct ub_map *map)
{
	map->mask = round_up_pow2(map->attr.max_entries) - 1;
	if (map->attr.type == BPF_MAP_TYPE_PERCPU_ARRAY) {
		bind_percpu(map, 0, map->attr.max_entries);
		return;
	}
	map->elem_stride = ub_round_up((u64)map->attr.value_size, 8);
	map->shared_size = map->elem_stride * map->attr.max_entries;
}

/* Of a hash map of any kind. */
static u32 hash_entries(const struct ub_map *map)
{
	u64 fit;

	if (map->attr.type != BPF_MAP_TYPE_TASK_STORAGE)
		return map->attr.max_entries;
	fit = UB_TASK_STORAGE_BYTES / map->attr.value_size;
	return fit < UB_TASK_STORAGE_MAX ? (u32)fit : UB_TASK_STORAGE_MAX;
}

static void bind_hash(struct ub_map *map)
{
	bool percpu = map->attr.type == BPF_MAP_TYPE_PERCPU_HASH ||
		      map->attr.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	bool lru = map->attr.type == BPF_MAP_TYPE_LRU_HASH ||
		   map->attr.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	u64 head = sizeof(struct ub_node) + ub_round_up((u64)map->key_size, 8);
	u64 value = ub_round_up((u64)map->attr.value_size, 8);
	u64 extra = percpu ? 0 : UB_POOL_EXTRA_PER_CPU * map->nr_cpus;
	u32 entries = hash_entries(map);
	u64 buckets = 2 * round_up_pow2(entries); /* most chains are one long */
	u64 end;

	map->mask = buckets - 1;
	if (!(map->attr.flags & BPF_F_ZERO_SEED))
		map->type_words[UB_W_SEED] = ub_mix64(map->attr.id + 0x9e3779b97f4a7c15ull);
	end = ub_pool_layout(map, entries, extra, buckets,
			     head + (percpu ? 0 : value) + (lru ? 8 : 0));
	if (percpu) {
		bind_percpu(map, end, entries);
		return;
	}
	map->elem_stride = map->type_words[UB_W_NODE_STRIDE];
	map->values_offset = map->type_words[UB_W_NODES] + head;
	map->shared_size = end;
}

/* A queue's first node is a dummy. */
static u64 queue_nodes(const struct ub_map *map)
{
	return map->attr.max_entries + (map->attr.type == BPF_MAP_TYPE_QUEUE ? 1ull : 0);
}

static void bind_queue(struct ub_map *map)
{
	map->shared_size =
		ub_pool_layout(map, queue_nodes(map), 0, 0,
			       sizeof(struct ub_node) + ub_round_up((u64)map->attr.value_size, 8));
	map->elem_stride = map->type_words[UB_W_NODE_STRIDE];
	map->values_offset = map->type_words[UB_W_NODES] + sizeof(struct ub_node);
}

static void bind_lpm(struct ub_map *map)
{
	bind_hash(map);
	map->shared_size += ub_lpm_counts_size(map->attr.key_size);
}

/* Nodes: one per bucket, and some for traces on their way in. */
static u64 stack_trace_nodes(const struct ub_map *map)
{
	return map->mask + 1 + UB_POOL_EXTRA_PER_CPU * map->nr_cpus;
}

static void bind_stack_trace(struct ub_map *map)
{
	map->mask = round_up_pow2(map->attr.max_entries) - 1;
	map->shared_size = ub_pool_layout(map, stack_trace_nodes(map), 0, map->mask + 1,
					  sizeof(struct ub_node) + 8 + map->attr.value_size);
	map->elem_stride = map->type_words[UB_W_NODE_STRIDE];
	map->values_offset = map->type_words[UB_W_NODES] + sizeof(struct ub_node) + 8;
}

static void bind_bloom(struct ub_map *map)
{
	u32 hashes = map->attr.extra & 0xf ? map->attr.extra & 0xf : 5;
	u64 bits = ub_bloom_bits(map->attr.max_entries, hashes);

	map->mask = bits - 1;
	map->shared_size = bits / 8;
	if (!(map->attr.flags & BPF_F_ZERO_SEED))
		map->type_words[0] = ub_mix64(map->attr.id + 0x9e3779b97f4a7c15ull);
}

/* max_entries * hashes / ln 2, rounded up to a power of two, at least a word, at most 2^32. */
u64 ub_bloom_bits(u32 max_entries, u32 hashes)
{
	u64 bits = (u64)max_entries * hashes / 5 * 7;

	bits = round_up_pow2(bits ? bits : 1);
	if (bits > 1ull << 32)
		return 1ull << 32;
	return bits < 64 ? 64 : bits;
}

static void bind_ring(struct ub_map *map)
{
	map->mask = map->attr.max_entries - 1;
	map->values_offset = 2 * PAGE;
	map->shared_size = 2 * PAGE + 2ull * map->attr.max_entries;
}

void ub_map_bind(struct ub_map *map, const struct ub_map_attr *attr, u32 nr_cpus, void *shared)
{
	*map = (struct ub_map) { .attr = *attr,
				 .nr_cpus = nr_cpus,
				 .shared = shared,
				 .nr_inner = attr->max_entries,
				 .key_size = attr->type == BPF_MAP_TYPE_TASK_STORAGE
						     ? sizeof(u64)
						     : attr->key_size };
	switch (attr->type) {
	case BPF_MAP_TYPE_LPM_TRIE:
		bind_lpm(map);
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		bind_queue(map);
		break;
	case BPF_MAP_TYPE_STACK_TRACE:
		bind_stack_trace(map);
		break;
	case BPF_MAP_TYPE_BLOOM_FILTER:
		bind_bloom(map);
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		bind_ring(map);
		break;
	default:
		if (ub_hash_is(attr->type))
			bind_hash(map);
		else
			bind_array(map);
		break;
	}
	map->shared_size = ub_round_up(map->shared_size, PAGE);
}

u64 ub_map_shared_size(const struct ub_map_attr *attr, u32 nr_cpus)
{
	struct ub_map map;

	ub_map_bind(&map, attr, nr_cpus, NULL);
	return map.shared_size;
}

void ub_map_format(struct ub_map *map)
{
	if (ub_hash_is(map->attr.type)) {
		ub_pool_format(map, hash_entries(map));
		return;
	}
	switch (map->attr.type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		ub_pool_format(map, (u32)queue_nodes(map));
		ub_queue_format(map);
		break;
	case BPF_MAP_TYPE_STACK_TRACE:
		ub_pool_format(map, (u32)stack_trace_nodes(map));
		break;
	default:
		break;
	}
}
