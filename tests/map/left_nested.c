// SPDX-License-Identifier: MIT
/*
 * A hit is interrupted, and the handler's hit is left for good (left.c) while the first one goes on
 * afterwards. What the second one has left is not the first one's, however alike they are: both do
 * the same to the same map, and stand before the same node.
 *
 * Whose it was is found out by the hits of another handler, at another instant of the first, and
 * then the map is swept. Instants of the first are all there are, the other two by chance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <map/event_ring.h>

#include "instants.h"
#include "sides.h"

static struct ub_map *map_of_all;
static operation op_of_all;
static u8 *second, *third; /* where the handler's hit is left, and the first is looked at again */
static u32 nr_left, nr_looked, nr_hits;

/* About as deep as what was left. */
static void look(u32 times)
{
	for (u32 i = 0; i < times; i++) {
		deep_hit(map_of_all, op_of_all, 64 + i * 192);
		nr_hits++;
	}
	sweep(map_of_all);
}

static void look_again(void)
{
	look(3);
	nr_looked++;
}

/* Wherever it was. */
static void look_everywhere(void)
{
	look(12);
}

static void leave_another(void)
{
	nr_left += hit_until(map_of_all, op_of_all, 64, second, NULL);
	/* At once, where the first is as it was then; or later. */
	if (rand() % 4 == 0) // NOLINT: the same each time
		look(3);
	plant(third, look_again, NULL);
}

/* @op is interrupted at each instant, @times times; @check after each. */
static void leave_nested(struct ub_map *map, operation op, u32 times, void (*check)(void))
{
	map_of_all = map;
	op_of_all = op;
	nr_left = nr_looked = 0;
	srand(1);
	for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
		for (u32 i = 0; i < times; i++) {
			second = some_instruction();
			third = some_instruction();
			nr_hits = 0;
			plant(at, leave_another, NULL);
			deep_hit(map, op, 4096);
			unplant();
			/* What is left is found by a handler's hits, at the first instant of all. */
			plant((u8 *)op, look_everywhere, NULL);
			deep_hit(map, op, 4096);
			assert_false(unplant());
			check_no_holds();
			check();
		}
	}
	assert_true(nr_left > 50 && nr_looked > 50);
}

static void check_map(void)
{
	if (is_of_nodes(map_of_all))
		check_linked(map_of_all);
}

static u32 thoroughness = 2;

static void test_nodes(void **state)
{
	for (u32 i = 0; i < nr_kinds; i++) {
		struct ub_map map;

		make(&map, &kinds[i].attr);
		learn(&map, kinds[i].op);
		leave_nested(&map, kinds[i].op, sanitized() ? 1 : thoroughness, check_map);
		if (is_of_nodes(&map))
			check_whole(&map);
		our_map_destroy(&map);
	}
}

static void check_records(void)
{
	assert_in_range(read_records(), nr_hits + 2, nr_hits + 3);
}

static void test_records(void **state)
{
	struct ub_map map;

	make_ring(&map);
	leave_nested(&map, write_records, sanitized() ? 1 : thoroughness, check_records);
	destroy_ring(&map);
}

/* --- forked amid a hit ---------------------------------------------------------------------- */

static sigjmp_buf out_of_here;
static pid_t child;

static void fork_here(void)
{
	int status;

	child = fork();
	if (!child)
		siglongjmp(out_of_here, 1);
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_int_equal(status, 0);
}

/* A child leaves the hit that its parent goes on with, and hits where the frame was. The memory of
 * the parent's holds is the child's, too. */
static void fork_everywhere(struct ub_map *map, operation op, u32 step)
{
	volatile u32 forked = 0, i = 0;

	for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
		i = i + 1;
		if (i % step)
			continue;
		plant(at, fork_here, NULL);
		if (sigsetjmp(out_of_here, 1)) {
			for (u32 depth = 64; depth < 6144; depth += 128)
				deep_hit(map, op, depth);
			sweep(map);
			_exit(0);
		}
		deep_hit(map, op, 4096);
		forked = forked + !unplant();
		check_no_holds();
		if (is_of_nodes(map))
			check_linked(map);
	}
	assert_true(forked > 0);
	sweep(map);
}

static void test_forked(void **state)
{
	for (u32 i = 0; i < nr_kinds; i++) {
		struct ub_map map;

		make(&map, &kinds[i].attr);
		learn(&map, kinds[i].op);
		fork_everywhere(&map, kinds[i].op, sanitized() ? 29 : 7);
		if (is_of_nodes(&map))
			check_whole(&map);
		our_map_destroy(&map);
	}
}

/* A child that goes on with its parent's hit takes nothing that it could neither link nor give back. */
static void test_child_goes_on(void **state)
{
	for (u32 i = 0; i < nr_kinds; i++) {
		struct ub_map map;

		make(&map, &kinds[i].attr);
		for (u32 hits = 0; hits < 3; hits++)
			deep_hit(&map, kinds[i].op, 64);
		*(u64 *)process.fork_page = 0;
		for (u32 hits = 0; hits < 500; hits++) {
			struct ub_run run = { .process = &process, .holds = holds, .held = 1 };

			kinds[i].op(&map, &run);
		}
		*(u64 *)process.fork_page = 1;
		sweep(&map);
		if (is_of_nodes(&map)) {
			check_linked(&map);
			check_whole(&map);
		}
		our_map_destroy(&map);
	}
}

/* Usage: [instants of the other two for each of the first] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_records),
	};
	const struct CMUnitTest forked[] = { cmocka_unit_test(test_forked),
					     cmocka_unit_test(test_child_goes_on) };
	int failed;

	if (argc > 1)
		thoroughness = (u32)atoi(argv[1]);
	if (!instants_start(true))
		return 1;
	failed = cmocka_run_group_tests_name("on another stack", tests, NULL, NULL);
	failed += cmocka_run_group_tests_name("forked", forked, NULL, NULL);
	instants_start(false);
	return failed + cmocka_run_group_tests_name("on the same stack", tests, NULL, NULL);
}
