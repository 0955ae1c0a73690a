// SPDX-License-Identifier: MIT
/* Ten million entries, values of a mebibyte, a single entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sides.h"

static void test_ten_million(void **state)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_HASH,
				    .key_size = 8,
				    .value_size = 8,
				    .max_entries = 10000000,
				    .flags = BPF_F_NO_PREALLOC };
	struct ub_map map;

	our_map_create(&map, &attr);
	for (u64 i = 0; i < 20000; i++) {
		u64 key = i * 0x10001, value = i;

		assert_int_equal(ub_map_update(&map, &key, &value, BPF_NOEXIST, NULL), 0);
	}
	for (u64 i = 0; i < 20000; i++) {
		u64 key = i * 0x10001, *value = ub_map_lookup(&map, &key, NULL);

		assert_non_null(value);
		assert_int_equal(*value, i);
		assert_int_equal(ub_map_delete(&map, &key, NULL), 0);
		assert_null(ub_map_lookup(&map, &key, NULL));
	}
	our_map_destroy(&map);
}

static void large_values(u32 type)
{
	struct ub_map_attr attr = {
		.type = type, .key_size = 4, .value_size = 1u << 20, .max_entries = 3
	};
	u8 *value = malloc(attr.value_size), *got = malloc(attr.value_size);
	struct ub_map map;

	assert_non_null(value);
	assert_non_null(got);
	our_map_create(&map, &attr);
	for (u32 round = 0; round < 3; round++) {
		for (u32 key = 0; key < 3; key++) {
			memset(value, (int)(round * 3 + key), attr.value_size);
			assert_int_equal(ub_map_sys_update(&map, &key, value, BPF_ANY), 0);
		}
		for (u32 key = 0; key < 3; key++) {
			memset(value, (int)(round * 3 + key), attr.value_size);
			assert_int_equal(ub_map_sys_lookup(&map, &key, got, 0), 0);
			assert_memory_equal(value, got, attr.value_size);
		}
	}
	our_map_destroy(&map);
	free(value);
	free(got);
}

static void test_large_values(void **state)
{
	large_values(BPF_MAP_TYPE_HASH);
	large_values(BPF_MAP_TYPE_ARRAY);
	large_values(BPF_MAP_TYPE_LRU_HASH);
}

static void test_single_entry(void **state)
{
	static const u32 types[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH,
				     BPF_MAP_TYPE_LRU_HASH };

	for (u32 t = 0; t < ub_array_size(types); t++) {
		struct ub_map_attr attr = {
			.type = types[t], .key_size = 4, .value_size = 4, .max_entries = 1
		};
		bool lru = types[t] == BPF_MAP_TYPE_LRU_HASH;
		u32 one = 1, two = 2, key, next;
		struct ub_map map;

		our_map_create(&map, &attr);
		for (u32 i = 0; i < 1000; i++)
			assert_int_equal(ub_map_update(&map, &one, &i, BPF_ANY, NULL), 0);
		assert_int_equal(ub_map_update(&map, &two, &two, BPF_ANY, NULL), lru ? 0 : -E2BIG);
		assert_int_equal(ub_map_sys_next_key(&map, NULL, &key), 0);
		assert_int_equal(key, lru ? 2 : 1);
		assert_int_equal(ub_map_sys_next_key(&map, &key, &next), -ENOENT);
		our_map_destroy(&map);
	}
}

/* What was used stays, when there is something that was not. */
static void test_lru_order(void **state)
{
	struct ub_map_attr attr = {
		.type = BPF_MAP_TYPE_LRU_HASH, .key_size = 4, .value_size = 4, .max_entries = 64
	};
	struct ub_map map;
	u32 kept = 0, held = 0, key, next;

	our_map_create(&map, &attr);
	for (u32 i = 0; i < 64; i++)
		assert_int_equal(ub_map_update(&map, &i, &i, BPF_ANY, NULL), 0);
	for (u32 i = 64; i < 96; i++) {
		for (u32 used = 0; used < 8; used++)
			ub_map_lookup(&map, &used, NULL);
		assert_int_equal(ub_map_update(&map, &i, &i, BPF_ANY, NULL), 0);
	}
	for (u32 used = 0; used < 8; used++)
		kept += ub_map_lookup(&map, &used, NULL) != NULL;
	assert_int_equal(kept, 8);
	for (; !ub_map_sys_next_key(&map, held ? &key : NULL, &next); key = next)
		held++;
	assert_int_equal(held, 64);
	our_map_destroy(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ten_million),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_single_entry),
		cmocka_unit_test(test_lru_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
