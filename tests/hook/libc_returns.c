// SPDX-License-Identifier: MIT
/*
 * Return probes on functions of libc that leave by tail jumps, within libc and through its PLT: as
 * many returns as calls, with 8 threads at once, and with exceptions of control flow on top
 * (longjmp).
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "apply.h"

#define NR_THREADS 8
#define NR_CALLS   20000

static __thread void *volatile sink;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void call_calloc(void)
{
	sink = calloc(1, 40);
	free(sink);
}

static void call_calloc_large(void)
{
	sink = calloc(100, 400);
	free(sink);
}

static void call_realloc(void)
{
	void *volatile nothing = NULL; /* else the compiler calls malloc */

	sink = realloc(nothing, 100);
	sink = realloc(sink, 200);
	free(sink);
}

static void call_qsort(void)
{
	int numbers[] = { 3, 1, 2 };

	qsort(numbers, 3, sizeof(int), compare_ints);
	if (numbers[0] != 1)
		abort();
}

static void call_lock(void)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
}

static int compare_jumping(const void *a, const void *b)
{
	longjmp(*(jmp_buf *)sink, 1);
}

/* Leaves qsort without its return, then calls it again at the same place of the stack. */
static void call_qsort_jumping(void)
{
	int numbers[] = { 3, 1, 2 };
	static __thread jmp_buf env;

	if (!setjmp(env)) {
		sink = &env;
		qsort(numbers, 3, sizeof(int), compare_jumping);
	}
	qsort(numbers, 3, sizeof(int), compare_ints);
}

static const struct {
	const char *name;
	void *function;
	void (*call)(void);
	u32 returns; /* per call */
	u32 threads;
} cases[] = {
	{ "calloc", calloc, call_calloc, 1, NR_THREADS },
	{ "calloc, large", calloc, call_calloc_large, 1, NR_THREADS },
	{ "realloc", realloc, call_realloc, 2, NR_THREADS },
	{ "malloc", malloc, call_calloc, 0, NR_THREADS },
	{ "qsort", qsort, call_qsort, 1, NR_THREADS },
	{ "qsort and longjmp", qsort, call_qsort_jumping, 1, 1 },
	{ "pthread_mutex_lock", pthread_mutex_lock, call_lock, 1, NR_THREADS },
};

struct run {
	u32 number;
	const struct ub_program *program;
	const struct ub_code *code;
};

/* Hooks, calls, compares. 0 = all is well. */
static int run_case(void *opaque)
{
	const struct run *run = opaque;
	const u32 number = run->number;
	const struct ub_image_link link = {
		.point = point_of(cases[number].function, UB_POINT_RETURN),
		.link_id = 1,
		.program = run->program,
		.code = run->code,
	};
	const struct ub_image_request request = {
		.pid = getpid(), .nr_links = 1, .links = &link, .nr_cpus = 64
	};
	struct ub_image *image = NULL;
	u64 hits, misses, expected;
	int err = build_and_apply(&request, &image);

	if (err)
		return err == -EBUSY ? CHILD_BUSY : 1;
	if (call_in_threads(cases[number].call, NR_CALLS, cases[number].threads))
		return 2;
	ub_image_enable(image, false);
	remove_image(image);
	ub_image_counters(image, 1, &hits, &misses);
	expected = (u64)cases[number].returns * cases[number].threads * NR_CALLS;
	/* Others call these functions, too (threads are made by calloc and locks). */
	if (misses || hits < expected || hits > expected + 20ull * NR_THREADS) {
		dprintf(2, "%s: %lu hits, %lu misses, %lu calls\n", cases[number].name,
			(unsigned long)hits, (unsigned long)misses, (unsigned long)expected);
		return 3;
	}
	return 0;
}

static void test_returns(void **state)
{
	struct ub_program *program = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	for (u32 i = 0; i < ub_array_size(cases); i++) {
		struct run run = { i, program, &code };
		int status = run_in_child(run_case, &run);

		if (status)
			fail_msg("%s: status 0x%x", cases[i].name, status);
	}
	ub_code_free(&code);
	ub_program_free(program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_returns),
	};

	return end_of_tests(cmocka_run_group_tests(tests, NULL, NULL));
}
