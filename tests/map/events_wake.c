// SPDX-License-Identifier: MIT
/* The event ring's reader sleeps: who wakes it, and who makes no system call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <linux/seccomp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <map/cpu.h>

#include "rings.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_no_system_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
