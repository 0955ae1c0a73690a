// SPDX-License-Identifier: MIT
/*
 * Random operations on a map of ours and on the kernel's at the same time: after each step results
 * and errno are equal, and every so often the whole contents are.
 *
 *   fuzz_map_operations [-n STEPS] [-s SEED] [-t TYPE]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../map/sides.h"

#define MAX_VALUE 256
#define MAX_KEY	  64

struct fuzz {
	struct ub_map_attr attr;
	struct ub_map map;
	int kernel;
	u32 keys; /* how many different ones */
	u64 random;
	u64 step;
	u32 value_size; /* as bpf(2) exchanges it */
};

static u32 pick(struct fuzz *fuzz, u32 n)
{
	fuzz->random = fuzz->random * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(fuzz->random >> 33) % n;
}

static int fail(const struct fuzz *fuzz, const char *what, int kernel, int ours)
{
	fprintf(stderr,
		"type %u (key %u value %u entries %u flags %#x) step %llu: %s: kernel %d, ours %d\n",
		fuzz->attr.type, fuzz->attr.key_size, fuzz->attr.value_size, fuzz->attr.max_entries,
		fuzz->attr.flags, (unsigned long long)fuzz->step, what, kernel, ours);
	return 1;
}

static bool is_array(const struct fuzz *fuzz)
{
	return fuzz->attr.type == BPF_MAP_TYPE_ARRAY ||
	       fuzz->attr.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static void make_key(struct fuzz *fuzz, u8 *key)
{
	u32 n = pick(fuzz, fuzz->keys);

	memset(key, 0, MAX_KEY);
	if (fuzz->attr.type == BPF_MAP_TYPE_LPM_TRIE) {
		u32 bits = (fuzz->attr.key_size - 4) * 8;
		u32 length = pick(fuzz, 50) ? pick(fuzz, bits + 1) : bits + 1;

		memcpy(key, &length, 4);
		/* Few different bits, so that prefixes nest. */
		for (u32 i = 4; i < fuzz->attr.key_size; i++)
			key[i] = (u8)(n & 1 ? 0xff : n & 2 ? 0x55 : 0);
		key[4 + pick(fuzz, fuzz->attr.key_size - 4)] = (u8)pick(fuzz, 4);
		return;
	}
	memcpy(key, &n, fuzz->attr.key_size < 4 ? fuzz->attr.key_size : 4);
	if (fuzz->attr.key_size > 8)
		key[fuzz->attr.key_size - 1] = (u8)n;
}

static void make_value(struct fuzz *fuzz, u8 *value)
{
	for (u32 i = 0; i < fuzz->value_size; i++)
		value[i] = (u8)pick(fuzz, 256);
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, MAX_KEY);
}

/* Collects all keys, sorted; their number, or -errno. */
static int collect(struct fuzz *fuzz, bool kernel, u8 (*keys)[MAX_KEY], u32 max)
{
	u8 key[MAX_KEY] = { 0 }, next[MAX_KEY] = { 0 };
	u32 n = 0;
	int err;

	for (;; n++) {
		const void *from = n ? key : NULL;

		err = kernel ? kernel_next_key(fuzz->kernel, from, next)
			     : ub_map_sys_next_key(&fuzz->map, from, next);
		if (err || n == max)
			break;
		memset(keys[n], 0, MAX_KEY);
		memcpy(keys[n], next, fuzz->attr.key_size);
		memcpy(key, next, sizeof(key));
	}
	if (err != -ENOENT)
		return err ? err : -E2BIG;
	qsort(keys, n, MAX_KEY, by_key);
	return (int)n;
}

/* The same values for all CPUs: padding between them is nobody's. */
static bool same_values(const struct fuzz *fuzz, const u8 *a, const u8 *b)
{
	u32 stride = ub_round_up(fuzz->attr.value_size, 8);

	if (fuzz->value_size == fuzz->attr.value_size)
		return !memcmp(a, b, fuzz->value_size);
	for (u32 at = 0; at < fuzz->value_size; at += stride) {
		if (memcmp(a + at, b + at, fuzz->attr.value_size))
			return false;
	}
	return true;
}

static int compare_all(struct fuzz *fuzz)
{
	static u8 ours[4096][MAX_KEY], kernels[4096][MAX_KEY];
	u8 a[MAX_VALUE * 16], b[MAX_VALUE * 16];
	int n = collect(fuzz, true, kernels, 4096), m = collect(fuzz, false, ours, 4096);

	if (n != m)
		return fail(fuzz, "number of keys", n, m);
	for (int i = 0; i < n; i++) {
		int x, y;

		if (memcmp(ours[i], kernels[i], MAX_KEY))
			return fail(fuzz, "keys differ at", i, i);
		x = kernel_lookup(fuzz->kernel, kernels[i], a, 0);
		y = ub_map_sys_lookup(&fuzz->map, ours[i], b, 0);
		if (x != y || (!x && !same_values(fuzz, a, b)))
			return fail(fuzz, "values differ", x, y);
	}
	return 0;
}

static int step(struct fuzz *fuzz)
{
	static const u64 flags_of[] = { BPF_ANY,   BPF_ANY, BPF_ANY,   BPF_NOEXIST,
					BPF_EXIST, 3,	    BPF_F_LOCK };
	u8 key[MAX_KEY], value[MAX_VALUE * 16], a[MAX_VALUE * 16], b[MAX_VALUE * 16];
	u64 flags = flags_of[pick(fuzz, 7)];
	u32 op = pick(fuzz, 10);
	int x, y;

	make_key(fuzz, key);
	make_value(fuzz, value);
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	switch (op) {
	case 0:
	case 1:
	case 2:
	case 3:
		x = kernel_update(fuzz->kernel, fuzz->attr.key_size ? key : NULL, value, flags);
		y = ub_map_sys_update(&fuzz->map, key, value, flags);
		return x == y ? 0 : fail(fuzz, "update", x, y);
	case 4:
	case 5:
		x = kernel_delete(fuzz->kernel, fuzz->attr.key_size ? key : NULL);
		y = ub_map_sys_delete(&fuzz->map, key);
		return x == y ? 0 : fail(fuzz, "delete", x, y);
	case 6:
	case 7:
		flags = pick(fuzz, 20) ? 0 : BPF_EXIST;
		x = kernel_lookup(fuzz->kernel, fuzz->attr.key_size ? key : NULL, a, flags);
		y = ub_map_sys_lookup(&fuzz->map, key, b, flags);
		if (x == y && !x && !same_values(fuzz, a, b))
			return fail(fuzz, "looked-up values differ", x, y);
		return x == y ? 0 : fail(fuzz, "lookup", x, y);
	case 8:
		x = kernel_take(fuzz->kernel, fuzz->attr.key_size ? key : NULL, a, 0);
		y = ub_map_sys_lookup_and_delete(&fuzz->map, key, b, 0);
		if (x == y && !x && !same_values(fuzz, a, b))
			return fail(fuzz, "taken values differ", x, y);
		return x == y ? 0 : fail(fuzz, "lookup and delete", x, y);
	default:
		if (!fuzz->attr.key_size)
			return 0;
		/* Which key comes next is the hash function's business, that there is one is not.
		 */
		x = kernel_next_key(fuzz->kernel, NULL, a);
		y = ub_map_sys_next_key(&fuzz->map, NULL, b);
		if (x == y && is_array(fuzz)) {
			x = kernel_next_key(fuzz->kernel, key, a);
			y = ub_map_sys_next_key(&fuzz->map, key, b);
			if (x == y && !x && memcmp(a, b, 4))
				return fail(fuzz, "next keys differ", x, y);
		}
		return x == y ? 0 : fail(fuzz, "next key", x, y);
	}
}

static int fuzz_one(const struct ub_map_attr *attr, u64 steps, u64 seed)
{
	struct fuzz fuzz = { .attr = *attr, .random = seed, .keys = attr->max_entries * 2 };
	int bad = 0;

	fuzz.kernel = kernel_map_create(attr);
	if (fuzz.kernel < 0)
		return fail(&fuzz, "create", fuzz.kernel, 0);
	our_map_create(&fuzz.map, attr);
	fuzz.value_size = ub_map_user_value_size(&fuzz.map);
	for (; !bad && fuzz.step < steps; fuzz.step++) {
		bad = step(&fuzz);
		if (!bad && attr->key_size && fuzz.step % 64 == 63)
			bad = compare_all(&fuzz);
	}
	close(fuzz.kernel);
	our_map_destroy(&fuzz.map);
	return bad;
}

int main(int argc, char **argv)
{
	static const struct ub_map_attr shapes[] = {
		{ BPF_MAP_TYPE_HASH, 4, 8, 50, 0 },
		{ BPF_MAP_TYPE_HASH, 8, 12, 50, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_HASH, 13, 3, 7, 0 },
		{ BPF_MAP_TYPE_HASH, 1, 1, 1, BPF_F_ZERO_SEED },
		{ BPF_MAP_TYPE_HASH, 36, 200, 500, 0 },
		{ BPF_MAP_TYPE_ARRAY, 4, 8, 20, 0 },
		{ BPF_MAP_TYPE_ARRAY, 4, 5, 20, 0 },
		{ BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 30, 0 },
		{ BPF_MAP_TYPE_PERCPU_HASH, 10, 13, 30, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 10, 0 },
		{ BPF_MAP_TYPE_PERCPU_ARRAY, 4, 11, 10, 0 },
		{ BPF_MAP_TYPE_LPM_TRIE, 8, 8, 40, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_LPM_TRIE, 20, 4, 40, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_LPM_TRIE, 7, 1, 10, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_QUEUE, 0, 8, 10, 0 },
		{ BPF_MAP_TYPE_QUEUE, 0, 5, 1, 0 },
		{ BPF_MAP_TYPE_STACK, 0, 8, 10, 0 },
		{ BPF_MAP_TYPE_STACK, 0, 24, 3, 0 },
	};
	u64 steps = 4000, seed = (u64)time(NULL);
	u32 type = 0;
	int bad = 0, option;

	while ((option = getopt(argc, argv, "n:s:t:")) != -1) {
		switch (option) {
		case 'n':
			steps = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			type = (u32)strtoul(optarg, NULL, 0);
			break;
		default:
			return 2;
		}
	}
	if (!kernel_comparable())
		return 77;
	if (possible_cpus() > 16) {
		printf("skip: more than 16 CPUs\n");
		return 77;
	}
	printf("seed %llu\n", (unsigned long long)seed);
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		if (!type || shapes[i].type == type)
			bad |= fuzz_one(&shapes[i], steps, seed + i);
	}
	return bad;
}
