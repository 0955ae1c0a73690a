// SPDX-License-Identifier: MIT
/* Objects live exactly as long as somebody holds them: a file in any process, a pin, another
 * object. */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"

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

static void settle(void)
{
	for (int i = 0; i < 20; i++)
		harness_pump(&h);
}

/* A program of @type that mentions the map @fd. */
static int prog_with(u32 type, int fd)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_IMM | BPF_DW,
		  .dst_reg = 1,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = fd },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return harness_prog(&h, type, 0, insns, 4);
}

/* A child inherits the fd and keeps it when we have closed ours. */
static void held_by_child(int fd)
{
	int gate[2];
	pid_t child;
	char byte;

	assert_true(fd >= 0);
	assert_int_equal(pipe(gate), 0);
	child = fork();
	if (!child) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) != 0);
	}
	assert_true(child > 0);
	close(gate[0]);
	close(fd);
	settle();
	assert_int_equal(ub_kernel_objects(h.kernel), 1);
	close(gate[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(harness_wait_objects(&h, 0));
}

static void in_other_processes(void **state)
{
	held_by_child(harness_map(&h, BPF_MAP_TYPE_HASH, 4, 8, 4, 0));
	held_by_child(harness_map(&h, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_MMAPABLE));
	held_by_child(harness_map(&h, BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0));
	held_by_child(harness_uprobe(&h, "/proc/self/exe", 64, false, -1, 0));
}

static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

/* Closes that follow each other are told as one. */
static void closed_at_once(void **state)
{
	static const u32 flags[] = { BPF_F_RDONLY, 0 };

	for (u32 i = 0; i < ub_array_size(flags); i++) {
		int fd = harness_map(&h, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_MMAPABLE | flags[i]);
		int others[8];

		assert_true(fd >= 0);
		for (u32 o = 0; o < ub_array_size(others); o++) {
			others[o] = reopen(fd, O_RDONLY);
			assert_true(others[o] >= 0);
		}
		for (u32 o = 1; o < ub_array_size(others); o++)
			close(others[o]);
		close(fd);
		settle();
		/* A reader is a holder as good as a writer. */
		assert_int_equal(ub_kernel_objects(h.kernel), 1);
		close(others[0]);
		assert_true(harness_wait_objects(&h, 0));
	}
}

/* Each of its closes is told and asked about, often just when it opens the memory again. */
static void opened_without_end(void **state)
{
	int fd = harness_map(&h, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_MMAPABLE);
	pid_t child;

	assert_true(fd >= 0);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			close(reopen(fd, O_RDWR));
	}
	assert_true(child > 0);
	for (int i = 0; i < 300; i++)
		harness_pump(&h);
	assert_int_equal(ub_kernel_objects(h.kernel), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(fd);
	assert_true(harness_wait_objects(&h, 0));
}

/* A program array that holds a program that uses the array. */
static void circle(void **state)
{
	int array = harness_map(&h, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2, 0);
	int prog = prog_with(BPF_PROG_TYPE_KPROBE, array);
	u32 key = 0;

	assert_true(array >= 0 && prog >= 0);
	assert_int_equal(harness_update(&h, array, &key, &prog, BPF_ANY), 0);
	close(prog);
	settle();
	assert_int_equal(ub_kernel_objects(h.kernel), 2);
	close(array);
	assert_true(harness_wait_objects(&h, 0));
	assert_true(h.nr_map_changes >= 2);
}

/* Each object of a long chain is held by the one before: the end of the first ends all. */
static void chain(void **state)
{
	enum { LENGTH = 60 };
	struct perf_event_attr attr = { .size = sizeof(attr),
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_CPU_CLOCK,
					.sample_period = 1000000000,
					.disabled = 1 };
	int maps[LENGTH + 1];
	u32 key = 0;

	for (u32 i = 0; i <= LENGTH; i++) {
		maps[i] = harness_map(&h, BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 1,
				      BPF_F_PRESERVE_ELEMS);
		assert_true(maps[i] >= 0);
	}
	for (u32 i = 0; i < LENGTH; i++) {
		int prog = prog_with(BPF_PROG_TYPE_PERF_EVENT, maps[i + 1]);
		int event = (int)harness_call(&h, SYS_perf_event_open, (u64)&attr, (u64)-1, 0,
					      (u64)-1, 0, 0);

		assert_true(prog >= 0 && event >= 0);
		assert_int_equal(harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_SET_BPF,
					      (u64)prog, 0, 0, 0),
				 0);
		assert_int_equal(harness_update(&h, maps[i], &key, &event, BPF_ANY), 0);
		close(prog);
		close(event);
	}
	for (u32 i = 1; i <= LENGTH; i++)
		close(maps[i]);
	settle();
	assert_int_equal(ub_kernel_objects(h.kernel), 3 * LENGTH + 1);
	close(maps[0]);
	assert_true(harness_wait_objects(&h, 0));
}

static void pins(void **state)
{
	int fd = harness_map(&h, BPF_MAP_TYPE_HASH, 4, 8, 4, 0);
	union bpf_attr pin = { .pathname = (u64) "/sys/fs/bpf/dir/a", .bpf_fd = (u32)fd };
	union bpf_attr get = { .pathname = (u64) "/sys/fs/bpf//dir/./a" };
	union bpf_attr out = { .pathname = (u64) "/sys/fs/bpf/../a", .bpf_fd = (u32)fd };
	u32 key = 1;
	u64 value = 9;

	assert_int_equal(harness_bpf(&h, BPF_OBJ_PIN, &out, sizeof(out)), -EPERM);
	assert_int_equal(harness_bpf(&h, BPF_OBJ_PIN, &pin, sizeof(pin)), 0);
	assert_int_equal(harness_bpf(&h, BPF_OBJ_PIN, &pin, sizeof(pin)), -EEXIST);
	assert_int_equal(harness_update(&h, fd, &key, &value, BPF_ANY), 0);
	close(fd);
	settle();
	assert_int_equal(ub_kernel_objects(h.kernel), 1);
	fd = (int)harness_bpf(&h, BPF_OBJ_GET, &get, sizeof(get));
	assert_true(fd >= 0);
	value = 0;
	assert_int_equal(harness_lookup(&h, fd, &key, &value), 0);
	assert_int_equal(value, 9);
	ub_kernel_session_end(h.kernel, 2);
	close(fd);
	settle();
	assert_int_equal(ub_kernel_objects(h.kernel), 1);
	ub_kernel_session_end(h.kernel, 1);
	assert_int_equal(ub_kernel_objects(h.kernel), 0);
	assert_int_equal(harness_bpf(&h, BPF_OBJ_GET, &get, sizeof(get)), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(in_other_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(closed_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(opened_without_end, setup, teardown),
		cmocka_unit_test_setup_teardown(circle, setup, teardown),
		cmocka_unit_test_setup_teardown(chain, setup, teardown),
		cmocka_unit_test_setup_teardown(pins, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
