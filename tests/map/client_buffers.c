// SPDX-License-Identifier: MIT
/* The rings that the daemon writes for clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include <map/client_ring.h>

#include "sides.h"

/* Reads as libbpf's ring_buffer does. */
static u32 consume(struct ub_map *map, u32 *sizes, u32 max)
{
	u64 *consumer = (u64 *)map->shared, *producer = (u64 *)(map->shared + 4096);
	u8 *data = map->shared + 8192;
	u32 n = 0;

	while (*consumer < *producer && n < max) {
		u32 *header = (u32 *)(data + (*consumer & map->mask));
		u8 *sample = (u8 *)(header + 2);

		for (u32 i = 0; i < *header; i++)
			assert_int_equal(sample[i], (u8)(*header + i));
		sizes[n++] = *header;
		*consumer += (*header + 8 + 7) / 8 * 8;
	}
	return n;
}

/* One record, at once visible. */
static int append(struct ub_map *map, struct ub_client_ring *ring, const void *data, u32 size,
		  u64 flags, bool *wake)
{
	int err = ub_client_ring_append(map, ring, data, size, flags);

	*wake = ub_client_ring_publish(map, ring);
	return err;
}

static void test_client_ring(void **state)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_RINGBUF, .max_entries = 4096 };
	struct ub_client_ring ring = { 0 };
	struct ub_map map;
	u8 data[4096];
	u32 sizes[64];
	bool wake;
	int err = 0;

	our_map_create(&map, &attr);
	assert_int_equal(append(&map, &ring, data, 4089, 0, &wake), -E2BIG);
	for (u32 i = 0; i < 5000; i++) {
		u32 size = i * 31 % 700;

		for (u32 k = 0; k < size; k++)
			data[k] = (u8)(size + k);
		assert_int_equal(append(&map, &ring, data, size, 0, &wake), 0);
		assert_true(wake);
		assert_int_equal(consume(&map, sizes, 64), 1);
		assert_int_equal(sizes[0], size);
	}
	assert_int_equal(append(&map, &ring, data, 8, 0, &wake), 0);
	assert_int_equal(append(&map, &ring, data, 8, 0, &wake), 0);
	assert_false(wake);
	assert_int_equal(append(&map, &ring, data, 8, BPF_RB_FORCE_WAKEUP, &wake), 0);
	assert_true(wake);
	/* A consumer position from nowhere: full, once it has to be looked at. */
	*(u64 *)map.shared = 0x123456789abcdefull;
	for (u32 i = 0; i <= 4096 / 16 && !err; i++)
		err = append(&map, &ring, data, 8, 0, &wake);
	assert_int_equal(err, -EAGAIN);
	our_map_destroy(&map);
}

static void test_perf_page(void **state)
{
	u64 size = 3 * 4096;
	struct perf_event_mmap_page *page = aligned_alloc(4096, size);
	struct ub_perf_page perf;
	u64 got = 0, lost = 0, sent = 0;
	u8 data[100];

	assert_non_null(page);
	memset(page, 0, size);
	assert_int_equal(ub_perf_page_init(&perf, page, 4096, 1), -EINVAL);
	assert_int_equal(ub_perf_page_init(&perf, page, 4 * 4096, 1), -EINVAL);
	assert_int_equal(ub_perf_page_init(&perf, page, size, 1), 0);
	for (u32 i = 0; i < 3000; i++) {
		u8 copy[512];

		memset(data, (int)i, sizeof(data));
		sent++;
		if (ub_perf_page_sample(&perf, data, 4 + i % 90) != -ENOSPC && i % 7)
			continue;
		while (page->data_tail < page->data_head) {
			const struct perf_event_header *header = (void *)copy;

			for (u32 k = 0; k < sizeof(copy); k++)
				copy[k] = ((u8 *)page)[4096 + ((page->data_tail + k) & 8191)];
			if (header->type == PERF_RECORD_LOST) {
				lost += *(u64 *)(copy + 16);
			} else {
				assert_int_equal(header->type, PERF_RECORD_SAMPLE);
				assert_int_equal(*(u32 *)(copy + 8) + 12, header->size);
				assert_int_equal(copy[12], copy[15]);
				got++;
			}
			page->data_tail += header->size;
		}
	}
	lost += perf.lost;
	assert_true(got + lost <= sent && got + lost + 100 > sent);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_ring),
		cmocka_unit_test(test_perf_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
