// SPDX-License-Identifier: MIT
/*
 * Random operations on a map of ours and on the kernel's at the same time: after each step results
 * and errno are equal, and after each so many (1: each) the whole contents are. Of LRU maps, bloom
 * filters and stack traces what must hold is checked.
 *
 *   fuzz_map_operations [-n STEPS] [-c COMPARE] [-s SEED] [-t TYPE]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/btf.h>

#include <map/stack_trace.h>

#include "../map/sides.h"

#define MAX_VALUE 256
#define MAX_KEY	  64

#define LOCKED_SIZE 24
#define LOCK_AT	    8
#define LRU_KEYS    60

struct fuzz {
	struct ub_map_attr attr;
	struct ub_map map;
	int kernel;
	int btf;  /* of the kernel's map, where it has locks */
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

/* All that a queue or stack holds: taken out, then put back in the order in which it was put in. */
static int compare_lists(struct fuzz *fuzz)
{
	static u8 ours[16][MAX_VALUE], kernels[16][MAX_VALUE];
	bool stack = fuzz->attr.type == BPF_MAP_TYPE_STACK;
	u32 n = 0;
	int x, y;

	for (;; n++) {
		memset(kernels[n], 0, MAX_VALUE);
		memset(ours[n], 0, MAX_VALUE);
		x = kernel_take(fuzz->kernel, NULL, kernels[n], 0);
		y = ub_map_sys_lookup_and_delete(&fuzz->map, NULL, ours[n], 0);
		if (x != y)
			return fail(fuzz, "number of elements: taking one", x, y);
		if (x)
			break;
		if (memcmp(ours[n], kernels[n], MAX_VALUE))
			return fail(fuzz, "elements differ at", (int)n, (int)n);
	}
	for (u32 i = 0; i < n; i++) {
		const u8 *value = ours[stack ? n - 1 - i : i];

		x = kernel_update(fuzz->kernel, NULL, value, 0);
		y = ub_map_sys_update(&fuzz->map, NULL, value, 0);
		if (x || y)
			return fail(fuzz, "putting back", x, y);
	}
	return 0;
}

static int step(struct fuzz *fuzz)
{
	static const u64 flags_of[] = { BPF_ANY,   BPF_ANY, BPF_ANY,	BPF_NOEXIST,
					BPF_EXIST, 3,	    BPF_F_LOCK, BPF_F_LOCK | BPF_EXIST };
	u8 key[MAX_KEY], value[MAX_VALUE * 16], a[MAX_VALUE * 16], b[MAX_VALUE * 16];
	u64 flags = flags_of[pick(fuzz, 8)];
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
		flags = pick(fuzz, 8) ? 0 : pick(fuzz, 2) ? BPF_EXIST : BPF_F_LOCK;
		x = kernel_lookup(fuzz->kernel, fuzz->attr.key_size ? key : NULL, a, flags);
		y = ub_map_sys_lookup(&fuzz->map, key, b, flags);
		if (x == y && !x && !same_values(fuzz, a, b))
			return fail(fuzz, "looked-up values differ", x, y);
		return x == y ? 0 : fail(fuzz, "lookup", x, y);
	case 8:
		x = kernel_take(fuzz->kernel, fuzz->attr.key_size ? key : NULL, a,
				flags & BPF_F_LOCK);
		y = ub_map_sys_lookup_and_delete(&fuzz->map, key, b, flags & BPF_F_LOCK);
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

/* The value of maps with locks: struct bpf_spin_lock at LOCK_AT, the rest is data. */
static int lock_btf(void)
{
	struct btf *btf = btf__new_empty();
	union bpf_attr attr = { 0 };
	int fd = -ENOMEM;
	u32 size;

	if (!btf)
		return fd;
	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	btf__add_int(btf, "long", 8, 0);
	btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", 1, 0, 0);
	btf__add_struct(btf, "value", LOCKED_SIZE);
	btf__add_field(btf, "first", 2, 0, 0);
	btf__add_field(btf, "lock", 3, 8 * LOCK_AT, 0);
	btf__add_field(btf, "second", 1, 96, 0);
	btf__add_field(btf, "third", 2, 128, 0);
	attr.btf = (u64)btf__raw_data(btf, &size);
	attr.btf_size = size;
	if (attr.btf)
		fd = (int)kernel_bpf(BPF_BTF_LOAD, &attr);
	btf__free(btf);
	return fd;
}

static int create_in_kernel(struct fuzz *fuzz)
{
	const struct ub_map_attr *attr = &fuzz->attr;
	union bpf_attr create = { .map_type = attr->type,
				  .key_size = attr->key_size,
				  .value_size = attr->value_size,
				  .max_entries = attr->max_entries,
				  .map_flags = attr->flags,
				  .btf_key_type_id = 1,
				  .btf_value_type_id = 4 };

	fuzz->btf = -1;
	if (!attr->lock)
		return kernel_map_create(attr);
	fuzz->btf = lock_btf();
	if (fuzz->btf < 0)
		return fuzz->btf;
	create.btf_fd = (u32)fuzz->btf;
	return (int)kernel_bpf(BPF_MAP_CREATE, &create);
}

static bool is_lru(const struct ub_map_attr *attr)
{
	return attr->type == BPF_MAP_TYPE_LRU_HASH || attr->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static int fuzz_one(const struct ub_map_attr *attr, u64 steps, u64 compare, u64 seed)
{
	/* LRU maps: as many keys as they hold without having to choose. */
	struct fuzz fuzz = { .attr = *attr,
			     .random = seed,
			     .keys = is_lru(attr) ? LRU_KEYS : attr->max_entries * 2 };
	int bad = 0;

	fuzz.kernel = create_in_kernel(&fuzz);
	if (fuzz.kernel < 0)
		return fail(&fuzz, "create", fuzz.kernel, 0);
	our_map_create(&fuzz.map, attr);
	fuzz.value_size = ub_map_user_value_size(&fuzz.map);
	for (; !bad && fuzz.step < steps; fuzz.step++) {
		bad = step(&fuzz);
		if (!bad && fuzz.step % compare == compare - 1)
			bad = attr->key_size ? compare_all(&fuzz) : compare_lists(&fuzz);
	}
	close(fuzz.kernel);
	if (fuzz.btf >= 0)
		close(fuzz.btf);
	our_map_destroy(&fuzz.map);
	return bad;
}

/* --- what no kernel can be asked about: which elements go, which bits are set --------------------
 */

/* An LRU map that is too small never refuses, never holds more than it may, and what it holds is
 * right. */
static int lru_invariants(u64 steps, u64 seed)
{
	struct ub_map_attr attr = { BPF_MAP_TYPE_LRU_HASH, 4, 8, 100 };
	struct fuzz fuzz = { .attr = attr, .random = seed };
	u64 model[400] = { 0 };
	int bad = 0;

	our_map_create(&fuzz.map, &attr);
	for (; !bad && fuzz.step < steps; fuzz.step++) {
		u32 key = pick(&fuzz, 400), met, next, n = 0;
		u64 value = fuzz.step + 1, *found;

		if (pick(&fuzz, 2)) {
			if (ub_map_update(&fuzz.map, &key, &value, BPF_ANY, NULL))
				bad = fail(&fuzz, "LRU update", 0, 1);
			model[key] = value;
		}
		found = ub_map_lookup(&fuzz.map, &key, NULL);
		if (found && *found != model[key])
			bad = fail(&fuzz, "LRU holds an old value", 0, 1);
		if (model[key] == value && !found)
			bad = fail(&fuzz, "LRU lost what came last", 0, 1);
		while (fuzz.step % 256 == 0 &&
		       !ub_map_sys_next_key(&fuzz.map, n ? &met : NULL, &next)) {
			met = next;
			n++;
		}
		if (n > attr.max_entries)
			bad = fail(&fuzz, "LRU holds too many", (int)attr.max_entries, (int)n);
	}
	our_map_destroy(&fuzz.map);
	return bad;
}

/* What was pushed is found; of the rest not much is. */
static int bloom_invariants(u64 steps, u64 seed)
{
	struct ub_map_attr attr = { BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 1000 };
	struct fuzz fuzz = { .attr = attr, .random = seed };
	u32 found = 0, asked = 0;
	int bad = 0;

	our_map_create(&fuzz.map, &attr);
	for (u64 i = 0; i < attr.max_entries; i++) {
		if (ub_map_push(&fuzz.map, &i, BPF_ANY))
			bad = fail(&fuzz, "bloom push", 0, 1);
	}
	for (; !bad && fuzz.step < steps; fuzz.step++) {
		u64 value = pick(&fuzz, 1000), other = 1000000 + pick(&fuzz, UINT32_MAX);

		if (ub_map_peek(&fuzz.map, &value))
			bad = fail(&fuzz, "bloom lost a value", 0, 1);
		asked++;
		found += !ub_map_peek(&fuzz.map, &other);
	}
	/* With five functions and the bits that Linux gives it about one in thirty. */
	if (found > asked / 8 + 10)
		bad = fail(&fuzz, "bloom finds what never was in it", (int)asked, (int)found);
	our_map_destroy(&fuzz.map);
	return bad;
}

/* The same trace has the same id, and under an id stands a trace that was put there. */
static int stack_trace_invariants(u64 steps, u64 seed)
{
	struct ub_map_attr attr = { BPF_MAP_TYPE_STACK_TRACE, 4, 64, 256 };
	struct fuzz fuzz = { .attr = attr, .random = seed };
	int bad = 0;

	our_map_create(&fuzz.map, &attr);
	for (; !bad && fuzz.step < steps; fuzz.step++) {
		u64 trace[8] = { 0 }, got[8];
		u32 nr = 1 + pick(&fuzz, 8), kind = pick(&fuzz, 400);
		long id, again;

		for (u32 i = 0; i < nr; i++)
			trace[i] = kind * 1000 + i + 1;
		id = ub_stack_trace_put(&fuzz.map, UB_STACK_TRACE_NO_NODE, trace, nr,
					pick(&fuzz, 2) ? BPF_F_REUSE_STACKID : 0, NULL);
		if (id == -EEXIST)
			continue;
		again = ub_stack_trace_put(&fuzz.map, UB_STACK_TRACE_NO_NODE, trace, nr, 0, NULL);
		if (id < 0 || again != id || id > 255)
			bad = fail(&fuzz, "stack trace id", (int)id, (int)again);
		else if (ub_map_sys_lookup(&fuzz.map, &id, got, 0) ||
			 memcmp(got, trace, sizeof(trace)))
			bad = fail(&fuzz, "stack trace", 0, 1);
		if (!bad && !pick(&fuzz, 4) && ub_map_sys_delete(&fuzz.map, &id))
			bad = fail(&fuzz, "stack trace delete", 0, 1);
	}
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
		{ BPF_MAP_TYPE_HASH, 4, LOCKED_SIZE, 50, 0, 0, 0, LOCK_AT + 1 },
		{ BPF_MAP_TYPE_ARRAY, 4, LOCKED_SIZE, 20, 0, 0, 0, LOCK_AT + 1 },
		{ BPF_MAP_TYPE_LRU_HASH, 4, 8, 4096, 0 },
		{ BPF_MAP_TYPE_LRU_HASH, 4, 8, 4096, BPF_F_NO_COMMON_LRU },
		{ BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 13, 4096, 0 },
	};
	u64 steps = 4000, compare = 64, seed = (u64)time(NULL);
	u32 type = 0;
	int bad = 0, option;

	while ((option = getopt(argc, argv, "n:c:s:t:")) != -1) {
		switch (option) {
		case 'n':
			steps = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			compare = strtoull(optarg, NULL, 0);
			compare = compare ? compare : 1;
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
			bad |= fuzz_one(&shapes[i], steps, compare, seed + i);
	}
	if (!type || type == BPF_MAP_TYPE_LRU_HASH)
		bad |= lru_invariants(steps, seed);
	if (!type || type == BPF_MAP_TYPE_BLOOM_FILTER)
		bad |= bloom_invariants(steps, seed);
	if (!type || type == BPF_MAP_TYPE_STACK_TRACE)
		bad |= stack_trace_invariants(steps, seed);
	return bad;
}
