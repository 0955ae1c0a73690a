// SPDX-License-Identifier: MIT
/*
 * Hits that are left for good: a signal handler interrupts a program in the middle of an operation
 * on a map and leaves by siglongjmp(). Each operation is left before each single instruction of it,
 * and nothing is lost: the thread's next hit knows what was left.
 *
 * And hits that are only interrupted, at each instruction, by a handler that goes on elsewhere, on
 * another stack, and comes back: nothing is taken from them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <ucontext.h>

#include <cmocka.h>

#include <map/event_ring.h>
#include <map/pool.h>
#include <map/user_ring.h>

#include "instants.h"
#include "sides.h"

static void leave_everywhere(const struct ub_map_attr *attr, operation op)
{
	struct ub_map map;
	u32 left = 0;

	make(&map, attr);
	learn(&map, op);
	for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
		left += hit_until(&map, op, 64, at, NULL);
		/* The thread's next hit, as deep as that one. */
		deep_hit(&map, op, 64);
		sweep(&map);
		check_no_holds();
	}
	assert_true(left > 50);
	if (is_of_nodes(&map)) {
		check_whole(&map);
	} else {
		struct ub_run run = { .process = &process };

		drain(&map, &run);
		assert_true(*(u64 *)map.shared == *(u64 *)(map.shared + 4096));
	}
	our_map_destroy(&map);
}

static void test_left(void **state)
{
	for (u32 i = 0; i < nr_kinds; i++)
		leave_everywhere(&kinds[i].attr, kinds[i].op);
}

/* Left at many depths in turn, where at first nothing tells that the frames are gone. */
static void test_left_at_depths(void **state)
{
	struct ub_map map;
	u32 i = 0;

	make(&map, &kinds[0].attr);
	learn(&map, change_hash);
	for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
		hit_until(&map, change_hash, 64 + i++ * 1117 % 32 * 1024, at, NULL);
		sweep(&map);
		/* Whoever looks may find all places taken, but no more than those. */
		assert_true(nr_used(&map) <= 2 * UB_HOLDS + 2);
	}
	for (i = 0; i < 32; i++)
		deep_hit(&map, change_hash, 64 + i * 1024);
	sweep(&map);
	check_whole(&map);
	our_map_destroy(&map);
}

/* --- only interrupted ----------------------------------------------------------------------- */

static ucontext_t back, elsewhere;
static struct ub_map *map_elsewhere;
static operation op_elsewhere;

static void go_on_elsewhere(void)
{
	for (u32 i = 0; i < 3; i++) {
		deep_hit(map_elsewhere, op_elsewhere, 64 + i * 128);
		sweep(map_elsewhere);
	}
}

static void on_this_stack(void)
{
	go_on_elsewhere();
}

static void on_another_stack(void)
{
	swapcontext(&back, &elsewhere);
}

static void interrupt_everywhere(const struct ub_map_attr *attr, operation op, bool other_stack)
{
	u8 *volatile at;
	static char stack[65536];
	struct ub_map map;
	u32 times = 0;

	make(&map, attr);
	map_elsewhere = &map;
	op_elsewhere = op;
	learn(&map, op);
	for (at = first_instruction(); at; at = next_instruction(at + 1)) {
		getcontext(&elsewhere);
		elsewhere.uc_stack.ss_sp = stack;
		elsewhere.uc_stack.ss_size = sizeof(stack);
		elsewhere.uc_link = &back;
		makecontext(&elsewhere, go_on_elsewhere, 0);
		times +=
			hit_until(&map, op, 64, at, other_stack ? on_another_stack : on_this_stack);
		check_no_holds();
	}
	assert_true(times > 50);
	sweep(&map);
	if (is_of_nodes(&map))
		check_whole(&map);
	our_map_destroy(&map);
}

static void test_interrupted(void **state)
{
	for (u32 i = 0; i < nr_kinds; i++) {
		interrupt_everywhere(&kinds[i].attr, kinds[i].op, false);
		interrupt_everywhere(&kinds[i].attr, kinds[i].op, true);
	}
}

/* --- records -------------------------------------------------------------------------------- */

static void test_left_records(void **state)
{
	struct ub_map map;
	u32 left = 0;

	make_ring(&map);
	for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
		left += hit_until(&map, write_records, 64, at, NULL);
		deep_hit(&map, write_records, 64);
		/* That one's at least, and nothing is in its way. */
		assert_in_range(read_records(), 1, 2);
		check_no_holds();
	}
	assert_true(left > 50);
	destroy_ring(&map);
}

/* --- forged ---------------------------------------------------------------------------------- */

/* Half of the nodes are linked, and each of the others would have to be looked for among them: that
 * takes no time to speak of, all at once. */
static void test_forged_sweep(void **state)
{
	static const u32 types[] = { BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK };
	const u32 n = 1u << 19;

	for (u32 i = 0; i < ub_array_size(types); i++) {
		const struct ub_map_attr attr = { types[i], 0, 8, n };
		struct ub_map map;

		our_map_create(&map, &attr);
		for (u32 k = 0; k < n; k++) {
			struct ub_node *node = ub_pool_node(&map, k);

			node->state = UB_NODE_USED;
			node->next = k + 1 < n / 2 ? k + 2 : 0;
		}
		ub_pool_header(&map)->front = 1;
		ub_pool_header(&map)->back = n / 2;
		assert_true(nr_used(&map) >= n);
		sweep(&map);
		sweep(&map);
		assert_in_range(nr_used(&map), n / 2, n - 1);
		our_map_destroy(&map);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_left),	     cmocka_unit_test(test_left_at_depths),
		cmocka_unit_test(test_interrupted),  cmocka_unit_test(test_left_records),
		cmocka_unit_test(test_forged_sweep),
	};

	if (!instants_start(false))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
