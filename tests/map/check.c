// SPDX-License-Identifier: MIT
/* Which maps can be created, and with which errno not: compared with the kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "sides.h"

static const u32 types[] = {
	BPF_MAP_TYPE_HASH,
	BPF_MAP_TYPE_ARRAY,
	BPF_MAP_TYPE_PROG_ARRAY,
	BPF_MAP_TYPE_PERCPU_HASH,
	BPF_MAP_TYPE_PERCPU_ARRAY,
	BPF_MAP_TYPE_STACK_TRACE,
	BPF_MAP_TYPE_CGROUP_ARRAY,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY,
	BPF_MAP_TYPE_LRU_HASH,
	BPF_MAP_TYPE_LPM_TRIE,
	BPF_MAP_TYPE_LRU_PERCPU_HASH,
	BPF_MAP_TYPE_QUEUE,
	BPF_MAP_TYPE_STACK,
	BPF_MAP_TYPE_RINGBUF,
	BPF_MAP_TYPE_BLOOM_FILTER,
	BPF_MAP_TYPE_USER_RINGBUF,
};

static int compare(const struct ub_map_attr *attr)
{
	int kernel = kernel_map_create(attr), ours = ub_map_check(attr, possible_cpus());

	if (kernel >= 0) {
		close(kernel);
		kernel = 0;
	}
	if (kernel == ours)
		return 0;
	printf("type %u key %u value %u entries %u flags %#x extra %llu: kernel %d, ours %d\n",
	       attr->type, attr->key_size, attr->value_size, attr->max_entries, attr->flags,
	       (unsigned long long)attr->extra, kernel, ours);
	return 1;
}

static struct ub_map_attr sane(u32 type)
{
	struct ub_map_attr attr = {
		.type = type, .key_size = 4, .value_size = 8, .max_entries = 16
	};

	switch (type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
		attr.value_size = 4;
		break;
	case BPF_MAP_TYPE_LPM_TRIE:
		attr.key_size = 8;
		attr.flags = BPF_F_NO_PREALLOC;
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
	case BPF_MAP_TYPE_BLOOM_FILTER:
		attr.key_size = 0;
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		attr.key_size = 0;
		attr.value_size = 0;
		attr.max_entries = 4096;
		break;
	default:
		break;
	}
	return attr;
}

static void test_sizes(void **state)
{
	static const u32 keys[] = {
		0, 1, 3, 4, 5, 8, 260, 261, 512, 513, 4096, 1u << 22, UINT32_MAX
	};
	static const u32 values[] = { 0,
				      1,
				      4,
				      7,
				      8,
				      24,
				      1016,
				      1024,
				      32768,
				      32769,
				      1u << 20,
				      1u << 22,
				      (1u << 22) - 300,
				      1u << 31,
				      UINT32_MAX };
	static const u32 entries[] = { 0, 1, 3, 4095, 4096, 8192, 12288, 65536 };
	int bad = 0;

	for (u32 t = 0; t < ub_array_size(types); t++) {
		struct ub_map_attr attr = sane(types[t]);

		bad += compare(&attr);
		for (u32 i = 0; i < ub_array_size(keys); i++) {
			attr = sane(types[t]);
			attr.key_size = keys[i];
			bad += compare(&attr);
		}
		for (u32 i = 0; i < ub_array_size(values); i++) {
			attr = sane(types[t]);
			attr.value_size = values[i];
			attr.max_entries = attr.max_entries > 16 ? attr.max_entries : 1;
			bad += compare(&attr);
		}
		for (u32 i = 0; i < ub_array_size(entries); i++) {
			attr = sane(types[t]);
			attr.max_entries = entries[i];
			bad += compare(&attr);
		}
	}
	assert_int_equal(bad, 0);
}

/* Far beyond what there may be; only types that the kernel refuses before it allocates. */
static void test_too_large(void **state)
{
	static const u32 refused[] = { BPF_MAP_TYPE_HASH,	 BPF_MAP_TYPE_PERCPU_HASH,
				       BPF_MAP_TYPE_LRU_HASH,	 BPF_MAP_TYPE_LRU_PERCPU_HASH,
				       BPF_MAP_TYPE_STACK_TRACE, BPF_MAP_TYPE_RINGBUF };
	int bad = 0;

	for (u32 t = 0; t < ub_array_size(refused); t++) {
		struct ub_map_attr attr = sane(refused[t]);

		attr.max_entries = UINT32_MAX;
		bad += compare(&attr);
		attr.max_entries = (1u << 31) + 1;
		bad += compare(&attr);
	}
	assert_int_equal(bad, 0);
}

static void test_flags(void **state)
{
	int bad = 0;

	for (u32 t = 0; t < ub_array_size(types); t++) {
		for (u32 bit = 0; bit < 32; bit++) {
			struct ub_map_attr attr = sane(types[t]);

			/* Of kinds that there are not here, or that want more than a flag. */
			if (1u << bit == BPF_F_NUMA_NODE || bit >= 13)
				continue;
			attr.flags ^= 1u << bit;
			bad += compare(&attr);
			for (u32 second = 0; second < bit; second++) {
				struct ub_map_attr both = attr;

				if (1u << second == BPF_F_NUMA_NODE)
					continue;
				both.flags ^= 1u << second;
				bad += compare(&both);
			}
		}
	}
	assert_int_equal(bad, 0);
}

static void test_extra(void **state)
{
	int bad = 0;

	for (u32 t = 0; t < ub_array_size(types); t++) {
		for (u64 extra = 1; extra < 40; extra += 5) {
			struct ub_map_attr attr = sane(types[t]);

			attr.extra = extra;
			bad += compare(&attr);
		}
	}
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_extra),
	};

	if (!kernel_comparable())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
