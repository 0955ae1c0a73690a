// SPDX-License-Identifier: MIT
/*
 * Threads on one map at once: made for ThreadSanitizer (preset tsan), run without it too. No
 * increment of a per-CPU or atomic counter is lost; keys that nobody deletes are always found, and
 * found right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sides.h"

#define THREADS 8
#define STEADY	32 /* keys that stay */
#define CHURN	32 /* keys that come and go */

#ifdef __SANITIZE_THREAD__
#define ROUNDS 3000u
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),  cmocka_unit_test(test_percpu_hash),
		cmocka_unit_test(test_lru),   cmocka_unit_test(test_queue),
		cmocka_unit_test(test_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
