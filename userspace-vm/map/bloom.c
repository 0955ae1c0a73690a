// SPDX-License-Identifier: MIT
/* Bloom filters: bits that are only ever set, so there is nothing to lock. As Linux's
 * kernel/bpf/bloom_filter.c. */
#include <map/bloom.h>

#include <errno.h>

#include <map/mem.h>

#define DEFAULT_HASHES 5

static u32 nr_hashes(const struct ub_map *map)
{
	u32 n = map->attr.extra & 0xf;

	return n ? n : DEFAULT_HASHES;
}

/* Bits that hash to one word each: n functions made of two (Kirsch and Mitzenmacher 2006). */
static u64 bit_of(const struct ub_map *map, u64 hash, u32 i)
{
	return (hash + i * (ub_mix64(hash) | 1)) & map->mask;
}

long ub_bloom_push(struct ub_map *map, const void *value, u64 flags)
{
	u64 hash = ub_hash_bytes(value, map->attr.value_size, map->type_words[0]);

	if (flags != BPF_ANY)
		return -EINVAL;
	for (u32 i = 0; i < nr_hashes(map); i++) {
		u64 bit = bit_of(map, hash, i);
		u64 *word = (u64 *)map->shared + bit / 64;

		if (!(__atomic_load_n(word, __ATOMIC_RELAXED) >> bit % 64 & 1))
			__atomic_fetch_or(word, 1ull << bit % 64, __ATOMIC_RELAXED);
	}
	return 0;
}

long ub_bloom_peek(struct ub_map *map, const void *value)
{
	u64 hash = ub_hash_bytes(value, map->attr.value_size, map->type_words[0]);

	for (u32 i = 0; i < nr_hashes(map); i++) {
		u64 bit = bit_of(map, hash, i);

		if (!(__atomic_load_n((u64 *)map->shared + bit / 64, __ATOMIC_RELAXED) >> bit % 64 &
		      1))
			return -ENOENT;
	}
	return 0;
}
