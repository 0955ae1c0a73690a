// SPDX-License-Identifier: MIT
/* The event ring of a process: order, loss, the dead and the hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rings.h"

static void test_order_and_wrapping(void **state)
{
	struct ub_event_ring *ring = make_ring(4096);
	struct ub_event_reader *reader = ub_event_reader_new(ring, 4096, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct ub_event event;
	u8 data[512];
	u32 sent = 0, got = 0;

	for (u32 i = 0; i < 20000; i++) {
		u32 size = 4 + i * 37 % 500;

		memset(data, (int)sent, sizeof(data));
		memcpy(data, &sent, 4);
		if (!send(ring, &run, 7, data, size)) {
			sent++;
			if (i % 3)
				continue;
		}
		while (ub_event_read(reader, &event, always, NULL) == 1) {
			u32 number;

			memcpy(&number, event.data, 4);
			assert_int_equal(number, got);
			assert_int_equal(event.map_id, 7);
			assert_int_equal(event.kind, UB_EVENT_RINGBUF);
			assert_int_equal(event.tid, syscall(SYS_gettid));
			if (event.size > 4)
				assert_int_equal(((const u8 *)event.data)[event.size - 1], (u8)got);
			got++;
		}
	}
	while (ub_event_read(reader, &event, always, NULL) == 1)
		got++;
	assert_int_equal(got, sent);
	assert_int_equal(ub_event_lost(ring) + sent, 20000);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(4096));
}

static void test_uncommitted(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct timespec tick = { .tv_nsec = 5000000 };
	struct ub_event event;
	u64 one = 1, two = 2, three = 3;
	u64 *pending, *dead;
	int ret = 0;

	pending = ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run);
	assert_non_null(pending);
	assert_int_equal(send(ring, &run, 1, &two, 8), 0);
	/* Not out of order at once ... */
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	/* ... but nobody waits for long for one who was stopped. */
	for (u32 i = 0; i < 6000 && !ret; i++) {
		nanosleep(&tick, NULL);
		ret = ub_event_read(reader, &event, always, NULL);
	}
	assert_int_equal(ret, 1);
	assert_int_equal(*(const u64 *)event.data, 2);
	*pending = one;
	ub_event_commit(pending, false, 0, &run);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(*(const u64 *)event.data, 1);
	/* The dead one's is skipped. */
	dead = ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run);
	assert_non_null(dead);
	assert_int_equal(send(ring, &run, 1, &three, 8), 0);
	assert_int_equal(ub_event_read(reader, &event, never, NULL), 1);
	assert_int_equal(*(const u64 *)event.data, 3);
	/* Discarded ones never show. */
	dead = ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run);
	ub_event_commit(dead, true, 0, &run);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

/* Killed between the claim of its record and the step that shows it, with nobody else to make that
 * step. */
static void test_dead_before_position(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	u64 *producer = (u64 *)ring, value = 5;
	struct ub_event event;

	for (u32 i = 0; i < 100; i++) {
		u64 before = *producer;

		assert_non_null(ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8 + i, &run));
		assert_true(*producer > before);
		*producer = before;
		assert_int_equal(ub_event_read(reader, &event, never, NULL), 0);
		assert_int_equal(send(ring, &run, 1, &value, 8), 0);
		assert_int_equal(ub_event_read(reader, &event, never, NULL), 1);
		assert_int_equal(*(const u64 *)event.data, 5);
	}
	assert_int_equal(ub_event_lost(ring), 0);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

static u32 asked;

static bool count_asked(void *opaque, u64 tid)
{
	asked++;
	return false;
}

/* However many records the dead have left, no call takes long, and all are skipped in the end. */
static void test_many_dead(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct ub_event event;
	u64 last = 4711;
	u32 calls = 0;

	for (u32 i = 0; i < 2000; i++)
		assert_non_null(ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run));
	assert_int_equal(send(ring, &run, 1, &last, 8), 0);
	asked = 0;
	while (ub_event_read(reader, &event, count_asked, NULL) == 0) {
		assert_true(asked <= 256);
		assert_true(calls++ < 1000);
		asked = 0;
	}
	assert_int_equal(*(const u64 *)event.data, 4711);
	assert_true(calls > 5);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

/* Its thread lives and writes others, but does not come back to it: siglongjmp() out of a
 * handler. */
static void test_abandoned(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct timespec tick = { .tv_nsec = 10000000 };
	struct ub_event event;
	u64 number = 0, read = 0;
	u64 *abandoned;
	bool room = false;

	abandoned = ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run);
	assert_non_null(abandoned);
	while (!send(ring, &run, 1, &number, 8))
		number++;
	/* Nothing has room until it is given up. */
	for (u32 i = 0; i < 6000 && !room; i++) {
		nanosleep(&tick, NULL);
		while (ub_event_read(reader, &event, always, NULL) == 1)
			assert_int_equal(*(const u64 *)event.data, read++);
		room = !send(ring, &run, 1, &number, 8);
	}
	assert_true(room);
	number++;
	while (ub_event_read(reader, &event, always, NULL) == 1)
		assert_int_equal(*(const u64 *)event.data, read++);
	assert_int_equal(read, number);
	assert_true(ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run) != NULL);
	/* Should its thread come back after all, it harms nobody. */
	ub_event_commit(abandoned, false, 0, &run);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

#define THREADS	   4
#define PER_THREAD 50000

static void *write_many(void *ring)
{
	struct ub_process process = { .events = ring, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };
	u64 failed = 0;

	for (u64 i = 0; i < PER_THREAD; i++)
		failed += send(ring, &run, 1, &i, 8) != 0;
	return (void *)failed;
}

/* Nothing is lost that was not counted as lost. */
static void test_counts(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	pthread_t threads[THREADS];
	struct ub_event event;
	u64 got = 0, failed = 0, count;
	u32 map_id, done = 0;

	for (u32 i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, ring), 0);
	while (done < THREADS) {
		void *result;

		while (ub_event_read(reader, &event, always, NULL) == 1)
			got++;
		while (done < THREADS && !pthread_tryjoin_np(threads[done], &result)) {
			failed += (u64)result;
			done++;
		}
	}
	while (ub_event_read(reader, &event, always, NULL) == 1)
		got++;
	assert_int_equal(ub_event_lost(ring), failed);
	assert_int_equal(got + failed, (u64)THREADS * PER_THREAD);
	if (failed) {
		assert_true(ub_event_lost_of(ring, 0, &map_id, &count));
		assert_int_equal(map_id, 1);
		assert_int_equal(count, failed);
	}
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

/* Garbage in the ring, its positions and its size: the reader survives and goes on. */
static void test_scribbling(void **state)
{
	u64 size = ub_event_ring_size(4096);
	struct ub_event_ring *ring = make_ring(4096);
	struct ub_event_reader *reader = ub_event_reader_new(ring, 4096, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct ub_event event;
	u64 bad = 0, one = 1;

	srandom(1);
	for (u32 round = 0; round < 3000; round++) {
		u8 *bytes = (u8 *)ring;

		/* The size is the process's own harm: it would write anywhere, as it could anyway.
		 */
		((u64 *)ring)[17] = 4095;
		for (u32 i = 0; i < 5; i++)
			send(ring, &run, 1, &one, 8);
		for (u32 i = 0; i < 1 + round % 40; i++)
			bytes[(u64)random() % (round % 2 ? 128 : size)] = (u8)random();
		for (u32 i = 0; i < 600; i++) {
			int ret = ub_event_read(reader, &event, never, NULL);

			assert_true(ret >= 0 || ret == -EBADMSG);
			bad += ret < 0;
			if (ret == 1)
				assert_true(event.size <= 4096);
			if (!ret)
				break;
		}
		ub_event_prepare_sleep(ring);
		/* The producers of that process may find nothing sensible, but don't hang. */
		if (round % 50 == 49)
			ub_event_ring_format(ring, 4096);
		if (round % 50 == 49) {
			ub_event_reader_free(reader);
			reader = ub_event_reader_new(ring, 4096, 0);
		}
	}
	assert_true(bad > 0);
	ub_event_reader_free(reader);
	munmap(ring, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_wrapping),
		cmocka_unit_test(test_uncommitted),
		cmocka_unit_test(test_dead_before_position),
		cmocka_unit_test(test_many_dead),
		cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_scribbling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
