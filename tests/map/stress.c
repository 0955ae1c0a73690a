// SPDX-License-Identifier: MIT
/*
 * Threads on one map at once: made for ThreadSanitizer, run without it too. No
 * increment of a per-CPU or atomic counter is lost; keys that nobody deletes are always found, and
 * found right. Threads note what they hold, as in a target, and somebody sweeps all the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <map/client_ring.h>
#include <map/event_ring.h>
#include <map/hold.h>
#include <map/stack_trace.h>
#include <map/task_storage.h>
#include <map/user_ring.h>

#include "sides.h"

#define THREADS 8
#define STEADY	32 /* keys that stay */
#define CHURN	32 /* keys that come and go */

#ifdef __SANITIZE_THREAD__
#define ROUNDS 10000u
#else
#define ROUNDS 100000u
#endif

struct job {
	struct ub_map *map;
	u32 number;
	u64 pushed, popped, sum;
	const char *error;
};

static u32 next_random(u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(*state >> 33);
}

static void run_jobs(struct ub_map *map, void *(*fn)(void *), struct job *jobs)
{
	pthread_t threads[THREADS];

	for (u32 i = 0; i < THREADS; i++) {
		jobs[i] = (struct job) { .map = map, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &jobs[i]), 0);
	}
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (u32 i = 0; i < THREADS; i++) {
		if (jobs[i].error)
			fail_msg("%s", jobs[i].error);
	}
}

static void *hash_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_process process = { .tgid_pid = 1000 + job->number };
	struct ub_run run = { .process = &process, .cpu = job->number % job->map->nr_cpus };
	bool lru = job->map->attr.type == BPF_MAP_TYPE_LRU_HASH;
	u64 random = job->number;

	for (u32 i = 0; i < ROUNDS; i++) {
		u64 steady = next_random(&random) % STEADY, *found;
		u64 churn = STEADY + next_random(&random) % CHURN, value = churn * 3;
		long err;

		found = ub_map_lookup(job->map, &steady, &run);
		if (found)
			__atomic_fetch_add(found, 1, __ATOMIC_RELAXED);
		else if (!lru)
			job->error = "a key that nobody deleted was not found";
		if (next_random(&random) % 2)
			err = ub_map_update(job->map, &churn, &value, next_random(&random) % 3,
					    &run);
		else
			err = ub_map_delete(job->map, &churn, &run);
		if (err && err != -ENOENT && err != -EEXIST && err != -E2BIG && err != -EBUSY &&
		    err != -ENOMEM)
			job->error = "update or delete failed";
	}
	return NULL;
}

static void stress_hash(u32 type, u32 max_entries)
{
	struct ub_map_attr attr = {
		.type = type, .key_size = 8, .value_size = 8, .max_entries = max_entries
	};
	struct job jobs[THREADS];
	struct ub_map map;
	u64 sum = 0, zero = 0;

	our_map_create(&map, &attr);
	for (u64 key = 0; key < STEADY; key++)
		assert_int_equal(ub_map_update(&map, &key, &zero, 0, NULL), 0);
	run_jobs(&map, hash_job, jobs);
	for (u64 key = 0; type != BPF_MAP_TYPE_LRU_HASH && key < STEADY; key++) {
		for (u32 cpu = 0; cpu < (map.value_stride ? map.nr_cpus : 1); cpu++) {
			u64 *found = type == BPF_MAP_TYPE_PERCPU_HASH
					     ? ub_map_lookup_percpu(&map, &key, cpu)
					     : ub_map_lookup(&map, &key, NULL);

			assert_non_null(found);
			sum += *found;
		}
	}
	if (type != BPF_MAP_TYPE_LRU_HASH)
		assert_int_equal(sum, (u64)THREADS * ROUNDS);
	our_map_destroy(&map);
}

static void test_hash(void **state)
{
	stress_hash(BPF_MAP_TYPE_HASH, STEADY + CHURN / 2);
}

static void test_percpu_hash(void **state)
{
	stress_hash(BPF_MAP_TYPE_PERCPU_HASH, STEADY + CHURN);
}

static void test_lru(void **state)
{
	stress_hash(BPF_MAP_TYPE_LRU_HASH, STEADY);
}

/* Goes through all keys while others come and go: each that stays is met, and none that never was. */
static void *iterate_job(void *opaque)
{
	struct job *job = opaque;

	for (u32 pass = 0; pass < ROUNDS / 100; pass++) {
		u64 key, next, met = 0;
		int err;

		for (u32 n = 0; n < 1000; n++) {
			err = ub_map_sys_next_key(job->map, n ? &key : NULL, &next);
			if (err)
				break;
			if (next >= STEADY + CHURN)
				job->error = "a key that never was";
			met |= next < STEADY ? 1ull << next : 0;
			key = next;
		}
		/* Otherwise it began anew all the time, at keys that were deleted. */
		if (err == -ENOENT && met != (1ull << STEADY) - 1)
			job->error = "a key that stays was not met";
		else if (err && err != -ENOENT && err != -EBUSY)
			job->error = "iterating failed";
		job->sum += err == -ENOENT;
	}
	return NULL;
}

static void *hash_or_iterate_job(void *opaque)
{
	struct job *job = opaque;

	return job->number % 2 ? hash_job(job) : iterate_job(job);
}

static void test_iterating(void **state)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_HASH,
				    .key_size = 8,
				    .value_size = 8,
				    .max_entries = STEADY + CHURN };
	struct job jobs[THREADS];
	struct ub_map map;
	u64 zero = 0, passes = 0;

	our_map_create(&map, &attr);
	for (u64 key = 0; key < STEADY; key++)
		assert_int_equal(ub_map_update(&map, &key, &zero, 0, NULL), 0);
	run_jobs(&map, hash_or_iterate_job, jobs);
	for (u32 i = 0; i < THREADS; i += 2)
		passes += jobs[i].sum;
	assert_true(passes > 0);
	our_map_destroy(&map);
}

static void *queue_job(void *opaque)
{
	struct job *job = opaque;
	u64 random = job->number + 1;

	for (u32 i = 0; i < ROUNDS; i++) {
		u64 value[2] = { next_random(&random), 0 };

		value[1] = ~value[0];
		if (next_random(&random) % 2) {
			if (!ub_map_push(job->map, value, 0)) {
				job->pushed++;
				job->sum += value[0];
			}
		} else if (!ub_map_pop(job->map, value)) {
			job->popped++;
			job->sum -= value[0];
			if (value[1] != ~value[0])
				job->error = "a value was torn";
		}
	}
	return NULL;
}

static void stress_queue(u32 type)
{
	struct ub_map_attr attr = { .type = type, .value_size = 16, .max_entries = 50 };
	struct job jobs[THREADS];
	u64 pushed = 0, popped = 0, sum = 0, value[2];
	struct ub_map map;

	our_map_create(&map, &attr);
	run_jobs(&map, queue_job, jobs);
	for (u32 i = 0; i < THREADS; i++) {
		pushed += jobs[i].pushed;
		popped += jobs[i].popped;
		sum += jobs[i].sum;
	}
	while (!ub_map_pop(&map, value)) {
		popped++;
		sum -= value[0];
	}
	assert_int_equal(pushed, popped);
	assert_int_equal(sum, 0);
	our_map_destroy(&map);
}

static void test_queue(void **state)
{
	stress_queue(BPF_MAP_TYPE_QUEUE);
}

static void test_stack(void **state)
{
	stress_queue(BPF_MAP_TYPE_STACK);
}

/* Values written under their locks are never seen half written. */
static void *locked_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_process process = { .tgid_pid = 1000 + job->number, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };
	u64 random = job->number;

	for (u32 i = 0; i < ROUNDS / 10; i++) {
		u32 key = next_random(&random) % 2;
		u64 value[3] = { random, ~random, 0 };

		if (next_random(&random) % 2) {
			if (ub_map_update(job->map, &key, value, BPF_F_LOCK, &run))
				job->error = "a locked update failed";
		} else if (ub_map_sys_lookup(job->map, &key, value, BPF_F_LOCK)) {
			job->error = "a locked lookup failed";
		} else if (value[0] != ~value[1]) {
			job->error = "a locked value was seen half written";
		}
	}
	return NULL;
}

static void stress_locked(u32 type)
{
	struct ub_map_attr attr = {
		.type = type, .key_size = 4, .value_size = 24, .max_entries = 2, .lock = 17
	};
	u64 value[3] = { 0, ~0ull, 0 };
	struct job jobs[THREADS];
	struct ub_map map;

	our_map_create(&map, &attr);
	for (u32 key = 0; key < 2; key++)
		assert_int_equal(ub_map_sys_update(&map, &key, value, BPF_ANY), 0);
	run_jobs(&map, locked_job, jobs);
	our_map_destroy(&map);
}

static void test_locked(void **state)
{
	stress_locked(BPF_MAP_TYPE_ARRAY);
	stress_locked(BPF_MAP_TYPE_HASH);
}

/* --- the other types ------------------------------------------------------------------------ */

static bool is_anybody_alive(void *opaque, u32 tgid)
{
	return true;
}

static const char *change_array(struct ub_map *map, u64 random, struct ub_run *run)
{
	u32 key = random % 4;
	u64 value = random, *found = ub_map_lookup(map, &key, run);

	if (!found)
		return "an element of an array was not found";
	if (!key)
		__atomic_fetch_add(found, 1, __ATOMIC_RELAXED);
	else if (ub_map_update(map, &key, &value, BPF_ANY, run))
		return "an element of an array can't be written";
	return NULL;
}

static const char *change_prefixes(struct ub_map *map, u64 random, struct ub_run *run)
{
	u32 key[2] = { 1 + random % 32, (u32)(random >> 8) % 4 };
	u64 value = random;
	long err = 0;

	if (random >> 32 & 1)
		err = ub_map_update(map, key, &value, BPF_ANY, run);
	else if (random >> 33 & 1)
		err = ub_map_delete(map, key, run);
	else
		(void)ub_map_lookup(map, key, run);
	return err && err != -ENOENT && err != -ENOSPC && err != -EBUSY ? "a prefix failed" : NULL;
}

static const char *change_lru_percpu(struct ub_map *map, u64 random, struct ub_run *run)
{
	u64 key = random % (2 * STEADY), value = 1, *found = ub_map_lookup(map, &key, run);
	long err = 0;

	if (found)
		__atomic_fetch_add(found, 1, __ATOMIC_RELAXED);
	else
		err = ub_map_update(map, &key, &value, BPF_ANY, run);
	if (random >> 32 & 1)
		ub_map_delete(map, &key, run);
	return err && err != -EBUSY && err != -ENOMEM ? "an update failed" : NULL;
}

static const char *change_traces(struct ub_map *map, u64 random, struct ub_run *run)
{
	u64 ips[2] = { random | 1, ~(random | 1) }, copy[8];
	u32 node;
	u64 *to = ub_stack_trace_take(map, run, &node);
	long id;

	if (to)
		memcpy(to, ips, sizeof(ips));
	id = ub_stack_trace_put(map, node, to ? to : ips, 2, BPF_F_REUSE_STACKID, run);
	if (id >= 0 && !ub_stack_trace_copy(map, (u32)id, copy) && copy[1] != ~copy[0])
		return "a stack trace was torn";
	return NULL;
}

static const char *change_bloom(struct ub_map *map, u64 random, struct ub_run *run)
{
	u64 value = random % 1024;

	if (ub_map_push_run(map, &value, BPF_ANY, run))
		return "a value can't be pushed";
	return ub_map_peek(map, &value) ? "a value that was pushed is not there" : NULL;
}

static const char *change_storage(struct ub_map *map, u64 random, struct ub_run *run)
{
	u64 value = 7, task = random % STEADY;
	u64 *found = ub_task_storage_get(map, task, &value, BPF_LOCAL_STORAGE_GET_F_CREATE, run);

	if (found)
		__atomic_fetch_add(found, 1, __ATOMIC_RELAXED);
	if (random >> 32 & 1)
		(void)ub_task_storage_delete(map, task, run);
	return NULL;
}

static const struct {
	struct ub_map_attr attr;
	const char *(*change)(struct ub_map *map, u64 random, struct ub_run *run);
} others[] = {
	{ { BPF_MAP_TYPE_ARRAY, 4, 8, 4 }, change_array },
	{ { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 4 }, change_array },
	{ { BPF_MAP_TYPE_LPM_TRIE, 8, 8, 64, BPF_F_NO_PREALLOC }, change_prefixes },
	{ { BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 8, STEADY }, change_lru_percpu },
	{ { BPF_MAP_TYPE_STACK_TRACE, 4, 64, 16 }, change_traces },
	{ { BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 1024 }, change_bloom },
	{ { BPF_MAP_TYPE_TASK_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC }, change_storage },
};

static void *other_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_holds *holds = aligned_alloc(UB_HOLDS_SIZE, sizeof(*holds));
	struct ub_process process = { .tgid_pid = 1000, .nr_cpus = job->map->nr_cpus };
	struct ub_run run = { .process = &process,
			      .holds = memset(holds, 0, sizeof(*holds)),
			      .cpu = job->number % job->map->nr_cpus };
	u64 random = job->number;

	for (u32 i = 0; i < ROUNDS / 4 && !job->error; i++) {
		next_random(&random);
		for (u32 k = 0; k < ub_array_size(others); k++)
			if (others[k].attr.type == job->map->attr.type)
				job->error = others[k].change(job->map, random >> 16, &run);
		/* As the daemon does. */
		if (!job->number && i % 128 == 0)
			ub_map_sweep(job->map, is_anybody_alive, NULL);
	}
	if (run.held)
		job->error = "something is held still";
	free(holds);
	return NULL;
}

static void test_others(void **state)
{
	for (u32 i = 0; i < ub_array_size(others); i++) {
		struct job jobs[THREADS];
		struct ub_map map;

		our_map_create(&map, &others[i].attr);
		run_jobs(&map, other_job, jobs);
		our_map_destroy(&map);
	}
}

#define SAMPLES (ROUNDS / 10)

static long add_up(void *opaque, void *data, u32 size)
{
	struct job *job = opaque;

	job->popped++;
	job->sum += *(u64 *)data;
	return 0;
}

/* The first thread writes samples, the others drain them. */
static void *user_ring_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_map *map = job->map;
	struct ub_process process = { .tgid_pid = 1000 + job->number, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };
	u64 *consumer = (u64 *)map->shared, *producer = (u64 *)(map->shared + 4096), at = 0;
	u8 *data = map->shared + map->values_offset;

	for (u64 i = 0; job->number == 0 && i < SAMPLES;) {
		if (at + 16 - __atomic_load_n(consumer, __ATOMIC_ACQUIRE) > map->attr.max_entries) {
			sched_yield();
			continue;
		}
		__atomic_store_n((u32 *)(data + (at & map->mask)), 8, __ATOMIC_RELAXED);
		memcpy(data + ((at + 8) & map->mask), &i, sizeof(i));
		at += 16;
		__atomic_store_n(producer, at, __ATOMIC_RELEASE);
		i++;
	}
	while (job->number && __atomic_load_n(consumer, __ATOMIC_ACQUIRE) < 16ull * SAMPLES) {
		long n = ub_user_ring_drain(map, 0, add_up, job, &run);

		if (n < 0 && n != -EBUSY)
			job->error = "draining failed";
		if (n <= 0)
			sched_yield();
	}
	return NULL;
}

static void test_user_ring(void **state)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_USER_RINGBUF, .max_entries = 4096 };
	struct job jobs[THREADS];
	u64 drained = 0, sum = 0;
	struct ub_map map;

	our_map_create(&map, &attr);
	run_jobs(&map, user_ring_job, jobs);
	for (u32 i = 0; i < THREADS; i++) {
		drained += jobs[i].popped;
		sum += jobs[i].sum;
	}
	assert_int_equal(drained, SAMPLES);
	assert_int_equal(sum, (u64)SAMPLES * (SAMPLES - 1) / 2);
	our_map_destroy(&map);
}

static void *event_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_process process = { .tgid_pid = 1000 + job->number, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };
	struct ub_event_ring *ring = (struct ub_event_ring *)job->map;

	process.events = ring;
	for (u64 i = 0; i < SAMPLES; i++) {
		u64 *to = ub_event_reserve(ring, UB_EVENT_RINGBUF, 1, 0, 8, &run);

		if (!to)
			continue;
		*to = i;
		ub_event_commit(to, i % 7 == 0, 0, &run);
		job->pushed += i % 7 != 0;
	}
	return NULL;
}

static bool alive(void *opaque, u64 tid)
{
	return true;
}

/* A RINGBUF map's own ring: eight threads write, one moves it on to the client's, and reads
 * that. */
static void *ring_job(void *opaque)
{
	struct job *job = opaque;
	struct ub_holds *holds = aligned_alloc(UB_HOLDS_SIZE, sizeof(*holds));
	struct ub_process process = { .tgid_pid = 1000, .nr_cpus = 1 };
	struct ub_run run = { .process = &process, .holds = memset(holds, 0, sizeof(*holds)) };

	for (u64 i = 0; i < SAMPLES; i++) {
		u64 *to = ub_event_reserve_in(job->map, 8 + i % 5 * 8, &run);

		if (!to) {
			sched_yield();
			continue;
		}
		*to = i;
		ub_event_commit(to, i % 7 == 0, 0, &run);
		if (i % 7) {
			job->pushed++;
			job->sum += i;
		}
	}
	free(holds);
	return NULL;
}

static u64 move_on(struct ub_map *map, struct ub_event_reader *reader,
		   struct ub_client_ring *client, u64 *sum)
{
	struct ub_event event;
	u64 n = 0;

	while (ub_event_read(reader, &event, alive, NULL) == 1) {
		if (ub_client_ring_append(map, client, event.data, event.size, event.wakeup)) {
			ub_event_unread(reader);
			break;
		}
		*sum += *(const u64 *)event.data;
		n++;
	}
	ub_event_release(reader, client->producer, 0);
	ub_client_ring_publish(map, client);
	/* The client has read all. */
	__atomic_store_n((u64 *)map->shared, client->producer, __ATOMIC_RELEASE);
	return n;
}

static void test_map_ring(void **state)
{
	const struct ub_map_attr attr = { .type = BPF_MAP_TYPE_RINGBUF, .max_entries = 65536 };
	u32 size = ub_event_ring_data_size(&attr), done = 0;
	struct ub_event_ring *ring = aligned_alloc(4096, ub_event_ring_size(size));
	struct ub_client_ring client = {};
	struct ub_event_reader *reader;
	pthread_t threads[THREADS];
	struct job jobs[THREADS];
	u64 pushed = 0, got = 0, sum = 0, sum_got = 0;
	struct ub_map map;

	assert_non_null(ring);
	our_map_create(&map, &attr);
	ub_event_ring_format(ring, size);
	map.type_words[UB_W_EVENTS] = (u64)ring;
	reader = ub_event_reader_new(ring, attr.max_entries, 1);
	assert_non_null(reader);
	for (u32 i = 0; i < THREADS; i++) {
		jobs[i] = (struct job) { .map = &map, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, ring_job, &jobs[i]), 0);
	}
	while (done < THREADS) {
		got += move_on(&map, reader, &client, &sum_got);
		done += !pthread_tryjoin_np(threads[done], NULL);
	}
	for (u32 i = 0; i < 16; i++)
		got += move_on(&map, reader, &client, &sum_got);
	for (u32 i = 0; i < THREADS; i++) {
		pushed += jobs[i].pushed;
		sum += jobs[i].sum;
	}
	assert_int_equal(got, pushed);
	assert_int_equal(sum_got, sum);
	ub_event_reader_free(reader);
	our_map_destroy(&map);
	free(ring);
}

static void test_event_ring(void **state)
{
	struct ub_event_ring *ring = aligned_alloc(4096, ub_event_ring_size(1u << 16));
	struct ub_event_reader *reader;
	struct job jobs[THREADS];
	pthread_t threads[THREADS];
	u64 pushed = 0, got = 0;
	struct ub_event event;
	u32 done = 0;

	assert_non_null(ring);
	ub_event_ring_format(ring, 1u << 16);
	reader = ub_event_reader_new(ring, 1u << 16, 0);
	assert_non_null(reader);
	for (u32 i = 0; i < THREADS; i++) {
		jobs[i] = (struct job) { .map = (struct ub_map *)ring, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, event_job, &jobs[i]), 0);
	}
	while (done < THREADS) {
		while (ub_event_read(reader, &event, alive, NULL) == 1)
			got++;
		done += !pthread_tryjoin_np(threads[done], NULL);
	}
	while (ub_event_read(reader, &event, alive, NULL) == 1)
		got++;
	for (u32 i = 0; i < THREADS; i++)
		pushed += jobs[i].pushed;
	assert_int_equal(got, pushed);
	ub_event_reader_free(reader);
	free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),	   cmocka_unit_test(test_percpu_hash),
		cmocka_unit_test(test_lru),	   cmocka_unit_test(test_iterating),
		cmocka_unit_test(test_queue),	   cmocka_unit_test(test_stack),
		cmocka_unit_test(test_locked),	   cmocka_unit_test(test_user_ring),
		cmocka_unit_test(test_event_ring), cmocka_unit_test(test_others),
		cmocka_unit_test(test_map_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
