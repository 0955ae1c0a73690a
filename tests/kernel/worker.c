// SPDX-License-Identifier: MIT
/* Programs that run without a target: on a clock, and by BPF_PROG_TEST_RUN. */
#include <errno.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"

#define INSN(...) ((struct bpf_insn) { __VA_ARGS__ })
#define EXIT	  INSN(.code = BPF_JMP | BPF_EXIT)

static struct harness h;

static int setup(void **state)
{
	harness_init(&h);
	return h.kernel ? 0 : -1;
}

static int teardown(void **state)
{
	harness_exit(&h);
	return 0;
}

/* value[0] of the array map @fd += 1 */
static int counting_prog(int fd)
{
	const struct bpf_insn insns[] = {
		INSN(.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10),
		INSN(.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4),
		INSN(.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD,
		     .imm = fd),
		INSN(.code = 0),
		INSN(.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem),
		INSN(.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1),
		INSN(.code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = 0, .src_reg = 1,
		     .imm = BPF_ADD),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0),
		EXIT,
	};

	return harness_prog(&h, BPF_PROG_TYPE_PERF_EVENT, 0, insns, ub_array_size(insns));
}

static int map_fd;

static u64 count(void)
{
	u32 key = 0;
	u64 value = 0;

	assert_int_equal(harness_lookup(&h, map_fd, &key, &value), 0);
	return value;
}

static bool counts_to(void *opaque)
{
	return count() >= *(u64 *)opaque;
}

static void on_a_clock(void **state)
{
	struct perf_event_attr attr = { .size = sizeof(attr),
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_CPU_CLOCK,
					.freq = 1,
					.sample_freq = 500 };
	u64 target = 5;
	int prog, event;

	map_fd = harness_map(&h, BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0);
	prog = counting_prog(map_fd);
	assert_true(prog >= 0);
	event = (int)harness_call(&h, SYS_perf_event_open, (u64)&attr, (u64)-1, 0, (u64)-1, 0, 0);
	assert_true(event >= 0);
	assert_int_equal(
		harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_SET_BPF, (u64)prog, 0, 0, 0),
		0);
	assert_true(harness_wait(&h, counts_to, &target));
	assert_int_equal(
		harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_DISABLE, 0, 0, 0, 0), 0);
	/* Disabled is disabled, at once. */
	target = count();
	for (int i = 0; i < 50; i++)
		harness_pump(&h);
	assert_int_equal(count(), target);
	assert_int_equal(harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_ENABLE, 0, 0, 0, 0),
			 0);
	target += 5;
	assert_true(harness_wait(&h, counts_to, &target));
	close(event);
	close(prog);
	close(map_fd);
	assert_true(harness_wait_objects(&h, 0));
}

static s64 test_run(int prog, u64 *ctx, u32 size, u32 *retval)
{
	union bpf_attr attr = {
		.test = { .prog_fd = (u32)prog, .ctx_in = (u64)ctx, .ctx_size_in = size }
	};
	s64 err = harness_bpf(&h, BPF_PROG_TEST_RUN, &attr, sizeof(attr));

	*retval = attr.test.retval;
	return err;
}

static void test_runs(void **state)
{
	const struct bpf_insn adds[] = {
		INSN(.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 0, .src_reg = 1),
		INSN(.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 2, .src_reg = 1, .off = 8),
		INSN(.code = BPF_ALU64 | BPF_ADD | BPF_X, .dst_reg = 0, .src_reg = 2),
		EXIT,
	};
	const struct bpf_insn loops[] = {
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K),
		INSN(.code = BPF_JMP | BPF_JA, .off = -2),
		EXIT,
	};
	const struct bpf_insn crashes[] = {
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 16),
		INSN(.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 0, .src_reg = 1),
		EXIT,
	};
	u64 ctx[2] = { 40, 2 };
	u32 retval;
	int prog = harness_prog(&h, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, adds, 4);
	int loop = harness_prog(&h, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, loops, 3);
	int crash = harness_prog(&h, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, crashes, 3);

	assert_true(prog >= 0 && loop >= 0 && crash >= 0);
	assert_int_equal(test_run(prog, ctx, sizeof(ctx), &retval), 0);
	assert_int_equal(retval, 42);
	assert_int_equal(test_run(prog, ctx, 13 * 8, &retval), -EINVAL);
	/* The stand-in for the verifier lets these through. */
	assert_int_equal(test_run(loop, NULL, 0, &retval), -EINTR);
	assert_int_equal(test_run(crash, NULL, 0, &retval), -EFAULT);
	close(prog);
	close(loop);
	close(crash);
	assert_true(harness_wait_objects(&h, 0));
}

/* By way of a program array, as far as Linux lets it. */
static void tail_calls(void **state)
{
	u64 ctx[1] = { 7 };
	u32 retval, key = 1;
	int array = harness_map(&h, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2, 0);
	const struct bpf_insn calls[] = {
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 6, .src_reg = 1),
		INSN(.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 7, .src_reg = 1),
		INSN(.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 7, .imm = 1),
		INSN(.code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = 1, .src_reg = 7),
		INSN(.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 2, .src_reg = BPF_PSEUDO_MAP_FD,
		     .imm = array),
		INSN(.code = 0),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 1),
		INSN(.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 0, .src_reg = 7),
		EXIT,
	};
	const struct bpf_insn ends[] = {
		INSN(.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 0, .src_reg = 1),
		INSN(.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 0, .imm = 1000),
		EXIT,
	};
	int caller = harness_prog(&h, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, calls, ub_array_size(calls));
	int callee = harness_prog(&h, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, ends, ub_array_size(ends));
	union bpf_attr attr = { .map_fd = (u32)array, .key = (u64)&key, .value = (u64)&callee };

	assert_true(array >= 0 && caller >= 0 && callee >= 0);
	assert_int_equal(test_run(caller, ctx, sizeof(ctx), &retval), 0);
	assert_int_equal(retval, 8);
	assert_int_equal(harness_bpf(&h, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)), 0);
	assert_int_equal(test_run(caller, ctx, sizeof(ctx), &retval), 0);
	assert_int_equal(retval, 1008);
	/* Itself: 33 times more. */
	attr.value = (u64)&caller;
	assert_int_equal(harness_bpf(&h, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)), 0);
	assert_int_equal(test_run(caller, ctx, sizeof(ctx), &retval), 0);
	assert_int_equal(retval, 7 + 34);
	close(caller);
	close(callee);
	close(array);
	assert_true(harness_wait_objects(&h, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(on_a_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(tail_calls, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
