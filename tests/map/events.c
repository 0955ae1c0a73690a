// SPDX-License-Identifier: MIT
/* The event ring, in which processes give their records to the daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <map/client_ring.h>
#include <map/cpu.h>
#include <map/event_ring.h>

#include "sides.h"

#define DATA_SIZE 65536u

static bool always(void *opaque, u64 tid)
{
	return true;
}

static bool never(void *opaque, u64 tid)
{
	return false;
}

static bool by_kill(void *opaque, u64 tid)
{
	return kill((pid_t)tid, 0) == 0;
}

static struct ub_event_ring *make_ring(u32 data_size)
{
	struct ub_event_ring *ring =
		mmap(NULL, ub_event_ring_size(data_size), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(ring, MAP_FAILED);
	ub_event_ring_format(ring, data_size);
	return ring;
}

static int send(struct ub_event_ring *ring, struct ub_run *run, u32 map_id, const void *data,
		u32 size)
{
	void *to = ub_event_reserve(ring, UB_EVENT_RINGBUF, map_id, 0, size, run);

	if (!to)
		return -ENOSPC;
	memcpy(to, data, size);
	ub_event_commit(to, false, 0, run);
	return 0;
}

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

/* The ring of a RINGBUF map, as one process has it. */
static void bind_ring(struct ub_map *map, struct ub_event_ring **ring, u32 max_entries)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_RINGBUF,
				    .max_entries = max_entries,
				    .id = 9 };

	our_map_create(map, &attr);
	*ring = make_ring(ub_event_ring_data_size(&attr));
	map->type_words[UB_W_EVENTS] = (u64)*ring;
}

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
	reader = ub_event_reader_new(ring, size, 9);
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
		ub_event_release(reader, client.producer);
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
	munmap(ring, ub_event_ring_size(size));
	our_map_destroy(&map);
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
	reader = ub_event_reader_new(ring, ub_event_ring_data_size(&map.attr), 9);
	for (u32 i = 0; i < 200; i++) {
		u32 size = i % 2 ? 65536 - 16 : 8 + i * 8;

		assert_true(put(&map, i, size, &run));
		assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
		assert_int_equal(event.size, size);
		assert_int_equal(*(const u64 *)event.data, i);
		client += size + 8;
		__atomic_store_n((u64 *)map.shared, client, __ATOMIC_RELEASE);
		ub_event_release(reader, client);
	}
	assert_false(put(&map, 0, 65536 - 8, &run));
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(ub_event_ring_data_size(&map.attr)));
	our_map_destroy(&map);
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

static void test_sleep(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct ub_process process = { .events = ring };
	struct ub_run run = { .process = &process };
	struct ub_event event;
	u64 one = 1;

	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	ub_event_prepare_sleep(ring);
	assert_false(ub_event_ready(ring));
	assert_int_equal(*ub_event_futex(ring), 1);
	assert_int_equal(send(ring, &run, 1, &one, 8), 0);
	assert_int_equal(*ub_event_futex(ring), 0);
	ub_event_prepare_sleep(ring);
	assert_true(ub_event_ready(ring));
	ub_event_awake(ring);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	ub_event_prepare_sleep(ring);
	assert_false(ub_event_ready(ring));
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

/* What the daemon finds out about a target: where a thread's own id stands in its TCB. */
static bool find_tid(struct ub_process *process)
{
	u32 tid = (u32)syscall(SYS_gettid);
	u64 base;

	process->has_fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
	base = ub_fs_base(process);
	for (s64 offset = 0; base && offset < 1024; offset += 4) {
		if (*(const u32 *)(base + (u64)offset) == tid) {
			process->tid_offset = offset;
			return true;
		}
	}
	return false;
}

/* Under seccomp's strict mode any system call but exit is the producer's death. */
static void produce_strictly(struct ub_event_ring *ring)
{
	struct ub_process process = { .events = ring, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };
	u64 failed = 0;

	if (!find_tid(&process))
		_exit(77);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
		_exit(77);
	for (u64 i = 0; i < 100000; i++)
		failed += send(ring, &run, 1, &i, 8) != 0;
	syscall(SYS_exit, failed == 100000);
}

/* While the daemon is awake, producers make no system call; and the one that wakes it makes one. */
static void test_no_system_call(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);
	struct timespec tick = { .tv_nsec = 1000000 };
	struct ub_event event;
	int status = 0, gone = 0;

	for (u32 asleep = 0; asleep < 2; asleep++) {
		pid_t child;

		if (asleep)
			ub_event_prepare_sleep(ring);
		child = fork();
		if (!child)
			produce_strictly(ring);
		for (u32 i = 0; i < 60000 && !(gone = waitpid(child, &status, WNOHANG)); i++) {
			while (ub_event_read(reader, &event, always, NULL) == 1)
				;
			nanosleep(&tick, NULL);
		}
		assert_int_equal(gone, child);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			break;
		if (asleep)
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		else
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

/* Writers of their own process: value = number of the writer << 32 | count. */
static void write_for_ever(struct ub_event_ring *ring, const struct ub_map *map, u64 number)
{
	struct ub_process process = { .events = ring, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };

	for (u64 i = 0;; i++) {
		u64 record[3] = { number << 32 | (u32)i, ~(number << 32 | (u32)i), 0 };

		u32 size = 16 + 8 * (i & 1);
		void *to;

		if (!map) {
			send(ring, &run, 1, record, size);
			continue;
		}
		to = ub_event_reserve_in(map, size, &run);
		if (to) {
			memcpy(to, record, size);
			ub_event_commit(to, false, 0, &run);
		}
	}
}

static u32 nr_kills = 120; /* the first argument */

/* @map: whose ring it is, or NULL. Some are stopped for a while before they are killed. */
static void kill_writers(struct ub_event_ring *ring, struct ub_event_reader *reader,
			 const struct ub_map *map)
{
	u64 *next = calloc(nr_kills, sizeof(*next)), got = 0;
	pid_t writers[3] = { 0 };
	struct ub_event event;

	assert_non_null(next);
	for (u32 number = 0; number < nr_kills; number++) {
		pid_t *writer = &writers[number % 3];
		pid_t other = number % 4 == 1 ? writers[(number + 1) % 3] : 0;
		u64 until = got + 300;

		if (*writer) {
			kill(*writer, SIGKILL);
			waitpid(*writer, NULL, 0);
		}
		*writer = fork();
		assert_true(*writer >= 0);
		if (!*writer) {
			/* Whatever becomes of the test, this ends. */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			alarm(120);
			write_for_ever(ring, map, number);
		}
		for (u32 idle = 0; got < until;) {
			int ret = ub_event_read(reader, &event, by_kill, NULL);
			const u64 *record = event.data;
			u64 count;

			assert_true(ret >= 0);
			if (!ret) {
				struct timespec tick = { .tv_nsec = 1000000 };

				assert_true(idle++ < 60000);
				nanosleep(&tick, NULL);
				continue;
			}
			idle = 0;
			assert_true(event.size == 16 || event.size == 24);
			assert_int_equal(record[0], ~record[1]);
			assert_true(record[0] >> 32 <= number);
			count = (u32)record[0];
			/* One writer's records come in order, some lost for want of space. */
			assert_true(count >= next[record[0] >> 32]);
			next[record[0] >> 32] = count + 1;
			got++;
			/* As if the client had read it at once. */
			if (got % 16 == 0)
				ub_event_release(reader, 0);
			if (other && got == until - 200)
				kill(other, SIGSTOP);
			if (other && got == until - 50)
				kill(other, SIGCONT);
		}
	}
	for (u32 i = 0; i < 3; i++) {
		kill(writers[i], SIGKILL);
		waitpid(writers[i], NULL, 0);
	}
	free(next);
}

static void test_killed_writers(void **state)
{
	struct ub_event_ring *ring = make_ring(DATA_SIZE);
	struct ub_event_reader *reader = ub_event_reader_new(ring, DATA_SIZE, 0);

	kill_writers(ring, reader, NULL);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(DATA_SIZE));
}

static void test_killed_writers_of_map(void **state)
{
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_map map;
	u32 size;

	bind_ring(&map, &ring, 32768);
	size = ub_event_ring_data_size(&map.attr);
	reader = ub_event_reader_new(ring, size, 9);
	kill_writers(ring, reader, &map);
	ub_event_reader_free(reader);
	munmap(ring, ub_event_ring_size(size));
	our_map_destroy(&map);
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

/* events [KILLS] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_wrapping),
		cmocka_unit_test(test_uncommitted),
		cmocka_unit_test(test_ring_of_map),
		cmocka_unit_test(test_large_records),
		cmocka_unit_test(test_dead_before_position),
		cmocka_unit_test(test_many_dead),
		cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_no_system_call),
		cmocka_unit_test(test_killed_writers),
		cmocka_unit_test(test_killed_writers_of_map),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_scribbling),
	};

	if (argc > 1)
		nr_kills = (u32)strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
