// SPDX-License-Identifier: MIT
/*
 * Longest prefix match without a trie: a hash map whose keys are prefixes, and for each length a
 * count of the prefixes that have it. A lookup tries the lengths that occur, longest first. A trie
 * would have to change several nodes at once; this inherits all that hash.c promises about the dead
 * and the stopped.
 *
 * A count is raised before its prefix is inserted and lowered after it is deleted, so whoever dies
 * in between leaves it too high: that costs a look in vain, and misses nothing.
 */
#include <map/lpm.h>

#include <errno.h>

#define MAX_KEY 260

static u32 max_prefix(const struct ub_map *map)
{
	return (map->attr.key_size - 4) * 8;
}

static u64 *counts(const struct ub_map *map)
{
	return (u64 *)(map->shared + map->type_words[UB_W_NODES] +
		       map->type_words[UB_W_NR_NODES] * map->type_words[UB_W_NODE_STRIDE]);
}

u64 ub_lpm_hash(const struct ub_map *map, const void *key)
{
	u8 prefix[MAX_KEY];
	u32 bits = ub_load32(key), bytes;

	bits = bits < max_prefix(map) ? bits : max_prefix(map);
	bytes = (bits + 7) / 8;
	ub_mem_copy(prefix, key, 4 + bytes);
	if (bits % 8)
		prefix[4 + bytes - 1] &= (u8)(0xff00 >> bits % 8);
	return ub_hash_bytes(prefix, 4 + bytes, map->type_words[UB_W_SEED]);
}

bool ub_lpm_same(const struct ub_map *map, const void *a, const void *b)
{
	const u8 *x = (const u8 *)a + 4, *y = (const u8 *)b + 4;
	u32 bits = ub_load32(a);

	if (bits != ub_load32(b))
		return false;
	bits = bits < max_prefix(map) ? bits : max_prefix(map);
	if (!ub_mem_equal(x, y, bits / 8))
		return false;
	return !(bits % 8) || !((x[bits / 8] ^ y[bits / 8]) & (u8)(0xff00 >> bits % 8));
}

void *ub_lpm_lookup(struct ub_map *map, const void *key, struct ub_run *run)
{
	u64 copy[(MAX_KEY + 7) / 8];
	u32 bits = ub_load32(key);

	if (bits > max_prefix(map))
		return NULL;
	ub_mem_copy(copy, key, map->attr.key_size);
	for (s64 length = bits; length >= 0; length--) {
		u32 l = (u32)length;
		void *value;

		if (!__atomic_load_n(&counts(map)[l], __ATOMIC_RELAXED))
			continue;
		ub_mem_copy(copy, &l, sizeof(l));
		value = ub_hash_lookup(map, copy, run);
		if (value)
			return value;
	}
	return NULL;
}

long ub_lpm_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		   struct ub_run *run)
{
	u32 bits = ub_load32(key);
	long err;

	if (flags > BPF_EXIST || bits > max_prefix(map))
		return -EINVAL;
	for (u32 tries = 0; tries < 16; tries++) {
		if (flags != BPF_EXIST) {
			__atomic_fetch_add(&counts(map)[bits], 1, __ATOMIC_ACQ_REL);
			err = ub_hash_update(map, key, value, BPF_NOEXIST, false, run);
			if (!err)
				return 0;
			__atomic_fetch_sub(&counts(map)[bits], 1, __ATOMIC_ACQ_REL);
			if (err == -E2BIG)
				return -ENOSPC;
			if (err != -EEXIST || flags == BPF_NOEXIST)
				return err;
		}
		err = ub_hash_update(map, key, value, BPF_EXIST, false, run);
		if (err != -ENOENT || flags == BPF_EXIST)
			return err;
	}
	return -EBUSY;
}

long ub_lpm_delete(struct ub_map *map, const void *key, struct ub_run *run)
{
	u32 bits = ub_load32(key);
	long err;

	if (bits > max_prefix(map))
		return -EINVAL;
	err = ub_hash_delete(map, key, run);
	if (!err)
		__atomic_fetch_sub(&counts(map)[bits], 1, __ATOMIC_ACQ_REL);
	return err;
}

int ub_lpm_copy(struct ub_map *map, const void *key, void *value)
{
	const void *found = ub_lpm_lookup(map, key, NULL);

	if (!found)
		return -ENOENT;
	ub_mem_copy(value, found, map->attr.value_size);
	return 0;
}
