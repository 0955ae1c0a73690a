// SPDX-License-Identifier: MIT
/* The event ring of a RINGBUF map: as full as the kernel's would be, and records as large. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map/client_ring.h>

#include "rings.h"

static bool put(const struct ub_map *map, u64 value, u32 size, struct ub_run *run)
{
	u64 *to = ub_event_reserve_in(map, size, run);

	if (!to)
		return false;
	memset(to, 0, size);
	if (size >= sizeof(value))
		*to = value;
	ub_event_commit(to, false, value % 3, run);
	return true;
}

/* A map's ring is as full as the client's would be in the kernel, whether its records are here or
 * there; and what the client has no room for is read again. */
static void test_ring_of_map(void **state)
{
	struct ub_client_ring client = { 0 };
	struct ub_process process = { 0 };
	struct ub_run run = { .process = &process };
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_event event;
	u64 taken = 0, got = 0, *consumer;
	struct ub_map map;
	u32 size;

	bind_ring(&map, &ring, 4096);
	size = ub_event_ring_data_size(&map.attr);
	reader = ub_event_reader_new(ring, map.attr.max_entries, 9);
	consumer = (u64 *)map.shared;
	/* 255 records of 16 bytes: 4096 bytes are never all used. */
	while (put(&map, taken, 8, &run))
		taken++;
	assert_int_equal(taken, 255);
	assert_int_equal(ub_event_lost(ring), 1);
	for (u32 round = 0; round < 2000; round++) {
		while (ub_event_read(reader, &event, always, NULL) == 1) {
			assert_int_equal(event.map_id, 9);
			assert_int_equal(event.kind, UB_EVENT_RINGBUF);
			assert_int_equal(event.size, 8);
			if (ub_client_ring_append(&map, &client, event.data, event.size, 0)) {
				ub_event_unread(reader);
				break;
			}
			assert_int_equal(*(const u64 *)event.data, got);
			assert_int_equal(event.wakeup, got % 3);
			got++;
		}
		ub_client_ring_publish(&map, &client);
		ub_event_release(reader, client.producer, 0);
		/* Full there, not here. */
		assert_false(put(&map, taken, 8, &run));
		*consumer += 16ull * (round % 5);
		for (u32 i = 0; i < round % 5; i++)
			assert_true(put(&map, taken++, 8, &run));
		assert_false(put(&map, taken, 8, &run));
	}
	/* A client without room: all of it stays, and is read in the end. */
	for (u32 i = 0; i < 3 && ub_event_read(reader, &event, always, NULL) == 1; i++) {
		assert_int_equal(*(const u64 *)event.data, got);
		ub_event_unread(reader);
	}
	while (ub_event_read(reader, &event, always, NULL) == 1)
		got++;
	assert_int_equal(got, taken);
	/* Nonsense in the client's position is nobody's harm. */
	*consumer = 1ull << 50;
	while (put(&map, taken, 8, &run))
		taken++;
	assert_true((taken - got) * 16 <= size);
	ub_event_reader_free(reader);
	unbind_ring(&map, ring);
}

/* The largest record that the kernel would take, from every place in the ring. */
static void test_large_records(void **state)
{
	struct ub_process process = { 0 };
	struct ub_run run = { .process = &process };
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_event event;
	struct ub_map map;
	u64 client = 0;

	bind_ring(&map, &ring, 65536);
	reader = ub_event_reader_new(ring, map.attr.max_entries, 9);
	for (u32 i = 0; i < 200; i++) {
		u32 size = i % 2 ? 65536 - 16 : 8 + i * 8;

		assert_true(put(&map, i, size, &run));
		assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
		assert_int_equal(event.size, size);
		assert_int_equal(*(const u64 *)event.data, i);
		client += size + 8;
		__atomic_store_n((u64 *)map.shared, client, __ATOMIC_RELEASE);
		ub_event_release(reader, client, 0);
	}
	assert_false(put(&map, 0, 65536 - 8, &run));
	ub_event_reader_free(reader);
	unbind_ring(&map, ring);
}

#define MIB (1u << 20)

/* Moves what is there on to the client, who reads it at once: the sizes' sum. */
static u64 move_on(struct ub_map *map, struct ub_event_reader *reader, u64 *client, u64 *number)
{
	struct ub_event event;
	u64 sum = 0;
	int ret;

	while ((ret = ub_event_read(reader, &event, never, NULL)) == 1) {
		const u64 *data = event.data;

		assert_int_equal(data[0], (*number)++);
		if (event.size > MIB / 2)
			assert_int_equal(data[event.size / 8 - 1], ~data[0]);
		*client += ub_round_up((u64)event.size, 8ull) + 8;
		sum += event.size;
	}
	assert_int_equal(ret, 0);
	__atomic_store_n((u64 *)map->shared, *client, __ATOMIC_RELEASE);
	__atomic_store_n((u64 *)(map->shared + 4096), *client, __ATOMIC_RELEASE);
	ub_event_release(reader, *client, 0);
	return sum;
}

static bool put_large(const struct ub_map *map, u64 number, u32 size, struct ub_run *run)
{
	u64 *to = ub_event_reserve_in(map, size, run);

	if (!to)
		return false;
	to[0] = number;
	to[size / 8 - 1] = ~number;
	ub_event_commit(to, false, 0, run);
	return true;
}

/* In rings of a mebibyte and more, too, up to what the kernel takes, among others, and as many at a
 * time. */
static void test_larger_records(void **state)
{
	for (u32 entries = MIB; entries <= 16 * MIB; entries *= 16) {
		struct ub_process process = { 0 };
		struct ub_run run = { .process = &process };
		u64 client = 0, sent = 0, got = 0;
		struct ub_event_reader *reader;
		struct ub_event_ring *ring;
		struct ub_map map;

		bind_ring(&map, &ring, entries);
		reader = ub_event_reader_new(ring, entries, 9);
		for (u32 i = 0; i < 100; i++) {
			u32 size = MIB / 2 - 16 + i % 50 * ((entries - MIB / 2) / 49) / 8 * 8;

			assert_true(put_large(&map, sent++, size, &run));
			assert_int_equal(ub_event_position(&map), client + size + 8);
			if (size < entries / 2)
				assert_true(put(&map, sent++, 8 + i % 3, &run));
			assert_true(move_on(&map, reader, &client, &got) >= size);
			assert_int_equal(ub_event_position(&map), client);
			assert_int_equal(got, sent);
		}
		assert_int_equal(ub_event_lost(ring), 0);
		assert_null(ub_event_reserve_in(&map, entries - 8, &run));
		assert_null(ub_event_reserve_in(&map, entries, &run));
		assert_null(ub_event_reserve_in(&map, UINT32_MAX / 4, &run));
		/* As many as have room for the client; here a unit each may be more. */
		for (u32 room = entries - 1, size = MIB / 2 + 64; size + 8 <= room;
		     room -= size + 8) {
			bool taken = put_large(&map, sent, size, &run);

			sent += taken;
			assert_true(taken || room < entries / 8);
			if (!taken)
				break;
		}
		assert_false(put_large(&map, sent, MIB / 2 + 64, &run));
		move_on(&map, reader, &client, &got);
		assert_int_equal(got, sent);
		assert_true(put_large(&map, sent++, entries - 16, &run));
		/* Nor is there room for a small one beside it. */
		assert_false(put(&map, sent, 8, &run));
		move_on(&map, reader, &client, &got);
		assert_int_equal(got, sent);
		ub_event_reader_free(reader);
		unbind_ring(&map, ring);
	}
}

/* Discarded ones, and those of the dead, take no memory for good; and who comes back to one that has
 * been given up harms nobody. */
static void test_larger_left(void **state)
{
	struct ub_process process = { 0 };
	struct ub_run run = { .process = &process };
	u64 client = 0, sent = 0, got = 0;
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_map map;
	u64 *late, *dead;

	bind_ring(&map, &ring, MIB);
	reader = ub_event_reader_new(ring, MIB, 9);
	late = ub_event_reserve_in(&map, MIB - 16, &run);
	assert_non_null(late);
	for (u32 i = 0; i < 50; i++) {
		u64 *discarded;

		/* never() says that whoever has not committed is dead. */
		assert_null(ub_event_reserve_in(&map, MIB - 16, &run));
		assert_int_equal(move_on(&map, reader, &client, &got), 0);
		discarded = ub_event_reserve_in(&map, MIB - 16, &run);
		assert_non_null(discarded);
		discarded[0] = 77;
		ub_event_commit(discarded, true, 0, &run);
		assert_int_equal(move_on(&map, reader, &client, &got), 0);
		assert_true(put_large(&map, sent++, MIB / 2 + 8 * i, &run));
		assert_true(move_on(&map, reader, &client, &got) > 0);
		if (i == 25)
			ub_event_commit(late, false, 0, &run);
		assert_int_equal(move_on(&map, reader, &client, &got), 0);
		dead = ub_event_reserve_in(&map, MIB - 16, &run);
		assert_non_null(dead);
	}
	assert_int_equal(got, sent);
	ub_event_reader_free(reader);
	unbind_ring(&map, ring);
}

/* Garbage in what says where large records are: the reader never looks outside the ring. */
static void test_larger_scribbled(void **state)
{
	struct ub_process process = { 0 };
	struct ub_run run = { .process = &process };
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_event event;
	u64 bad = 0, size, sum = 0;
	struct ub_map map;

	bind_ring(&map, &ring, MIB);
	size = ub_event_ring_size_of(&map.attr);
	reader = ub_event_reader_new(ring, MIB, 9);
	srandom(1);
	for (u32 round = 0; round < 2000; round++) {
		u64 at = *(u64 *)ring, *words = (u64 *)ring;
		int ret;

		(void)!put_large(&map, round, MIB / 2 + 8 * (u32)(random() % 1000), &run);
		/* Where it says so, whose the units are, and what is before the data. */
		for (u32 i = 0; i < 3; i++) {
			u64 *what = (u64 *)((u8 *)ring + size - 257 * (MIB / 256) - 257 * 8 - MIB +
					    (at & (MIB - 1)) % (MIB - 64));

			what[random() % 8 - 4] = round % 2 ? (u64)random() : (u64)random() << 32;
			words[(size - 257 * (MIB / 256)) / 8 - (u64)random() % 257] = (u64)random();
		}
		while ((ret = ub_event_read(reader, &event, never, NULL))) {
			bad += ret < 0;
			if (ret < 0)
				continue;
			assert_true((u8 *)event.data >= (u8 *)ring);
			assert_true((u8 *)event.data + event.size <= (u8 *)ring + size);
			sum += event.size ? ((const u8 *)event.data)[event.size - 1] : 0;
		}
		ub_event_release(reader, 0, 0);
	}
	assert_true(bad > 0 && sum != 1);
	ub_event_reader_free(reader);
	unbind_ring(&map, ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_of_map),	 cmocka_unit_test(test_large_records),
		cmocka_unit_test(test_larger_records),	 cmocka_unit_test(test_larger_left),
		cmocka_unit_test(test_larger_scribbled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
