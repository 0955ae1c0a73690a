// SPDX-License-Identifier: MIT
/*
 * Writers to event rings are killed and stopped at random moments.
 *
 *   events_killed [KILLS]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rings.h"

/* Of every other record. */
static u32 size_of_other(const struct ub_map *map)
{
	return map && map->attr.max_entries > UB_EVENT_RING_SIZE / 2
		       ? 300000 + UB_EVENT_RING_SIZE / 2
		       : 24;
}

/* Writers of their own process: value = number of the writer << 32 | count. */
static void write_for_ever(struct ub_event_ring *ring, const struct ub_map *map, u64 number)
{
	struct ub_process process = { .events = ring, .nr_cpus = 1 };
	struct ub_run run = { .process = &process };

	for (u64 i = 0;; i++) {
		u64 record[3] = { number << 32 | (u32)i, ~(number << 32 | (u32)i), 0 };

		u32 size = i & 1 ? size_of_other(map) : 16;
		void *to;

		if (!map) {
			send(ring, &run, 1, record, size);
			continue;
		}
		to = ub_event_reserve_in(map, size, &run);
		if (to) {
			memcpy(to, record, sizeof(record) < size ? sizeof(record) : size);
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
			assert_true(event.size == 16 || event.size == size_of_other(map));
			assert_int_equal(record[0], ~record[1]);
			assert_true(record[0] >> 32 <= number);
			count = (u32)record[0];
			/* One writer's records come in order, some lost for want of space. */
			assert_true(count >= next[record[0] >> 32]);
			next[record[0] >> 32] = count + 1;
			got++;
			/* As if the client had read it at once. */
			if (got % 16 == 0)
				ub_event_release(reader, 0, 0);
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

static void kill_writers_of_map(u32 max_entries)
{
	struct ub_event_reader *reader;
	struct ub_event_ring *ring;
	struct ub_map map;

	bind_ring(&map, &ring, max_entries);
	reader = ub_event_reader_new(ring, map.attr.max_entries, 9);
	kill_writers(ring, reader, &map);
	ub_event_reader_free(reader);
	unbind_ring(&map, ring);
}

static void test_killed_writers_of_map(void **state)
{
	kill_writers_of_map(32768);
}

/* Some of them with records that are larger than the ring has room for. */
static void test_killed_writers_of_large(void **state)
{
	kill_writers_of_map(UB_EVENT_RING_SIZE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_writers),
		cmocka_unit_test(test_killed_writers_of_map),
		cmocka_unit_test(test_killed_writers_of_large),
	};

	if (argc > 1)
		nr_kills = (u32)strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
