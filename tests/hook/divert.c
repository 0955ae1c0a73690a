// SPDX-License-Identifier: MIT
/*
 * Returns of functions that leave by jumps through registers: the return address is taken over.
 * As many returns as calls, through nesting, threads, conditional jumps, longjmp, forks and looks
 * at the stack.
 */
#include <errno.h>
#include <execinfo.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "apply.h"

#define NR_THREADS 8
#define NR_CALLS   5000

typedef long (*function)(long a, long b, long c, long d, long e, long f, long on_stack, void *next,
			 void *last);

#define TAIL(name, insns)                                                                          \
	__asm__(".text\n.p2align 4\n.type " name ",@function\n" name ":\n.cfi_startproc\n" insns   \
		".cfi_endproc\n.size " name ",.-" name "\n")

/* to_next(..., next, last) goes on in `next`, which may be to_last. Stack arguments stay in
 * place. */
long to_next(long a, long b, long c, long d, long e, long f, long on_stack, void *next, void *last);
long to_last(long a, long b, long c, long d, long e, long f, long on_stack, void *next, void *last);
long if_positive(long a, void (*odd)(void));
TAIL("to_next", "mov 16(%rsp),%rax\njmp *%rax\n");
TAIL("to_last", "mov 24(%rsp),%rax\njmp *%rax\n");
/* A conditional jump to what leaves by a register. */
TAIL("if_positive", "mov %rsi,%rax\ntest %rdi,%rdi\njg through_rax\nxor %eax,%eax\nret\n");
TAIL("through_rax", "jmp *%rax\n");

static long sum(long a, long b, long c, long d, long e, long f, long on_stack, void *next,
		void *last)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * on_stack;
}

static void check_sum(function fn, void *next, void *last)
{
	if (fn(1, 2, 3, 4, 5, 6, 7, next, last) != 140)
		abort();
}

static void call_once(void)
{
	check_sum(to_next, sum, NULL);
}

static void call_nested(void)
{
	check_sum(to_next, to_last, sum);
}

static long recurse(long a, long b, long c, long d, long e, long f, long depth, void *next,
		    void *last)
{
	return depth ? to_next(a, b, c, d, e, f, depth - 1, next, last) + 1 : 0;
}

static void call_deep(void)
{
	if (to_next(1, 2, 3, 4, 5, 6, 30, recurse, NULL) != 30)
		abort();
}

static __thread jmp_buf env;

static long jump_out(long a, long b, long c, long d, long e, long f, long on_stack, void *next,
		     void *last)
{
	longjmp(env, 1);
}

/* Leaves once without a return, then calls again from the same place and from deeper ones. */
static void call_jumping(void)
{
	if (!setjmp(env))
		to_next(1, 2, 3, 4, 5, 6, 7, jump_out, NULL);
	call_once();
}

static void return_42(void)
{
	__asm__ volatile("mov $42,%%eax" ::: "eax");
}

static void call_conditional(void)
{
	if (if_positive(1, return_42) != 42 || if_positive(-1, return_42))
		abort();
}

static long look(long a, long b, long c, long d, long e, long f, long on_stack, void *next,
		 void *last)
{
	void *frames[64];
	int nr = backtrace(frames, 64);

	/* From here through the function's caller to main(). */
	if (nr < 8 - 3)
		abort();
	return sum(a, b, c, d, e, f, on_stack, next, last);
}

static void call_looking(void)
{
	check_sum(to_next, look, NULL);
}

/* A coroutine that enters the function in one thread and looks in another. */
static ucontext_t coroutine, resumer;

static long look_elsewhere(long a, long b, long c, long d, long e, long f, long on_stack,
			   void *next, void *last)
{
	void *frames[8];

	if (swapcontext(&coroutine, &resumer))
		abort();
	/* This, whoever called the function, and where the coroutine begins. */
	if (backtrace(frames, 8) < 3)
		abort();
	return 0;
}

static void enter_coroutine(void)
{
	to_next(1, 2, 3, 4, 5, 6, 7, look_elsewhere, NULL);
}

static void *resume(void *arg)
{
	if (swapcontext(&resumer, &coroutine))
		abort();
	return NULL;
}

static void call_migrating(void)
{
	static char stack[1 << 16];
	pthread_t other;

	if (getcontext(&coroutine))
		abort();
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = sizeof(stack);
	coroutine.uc_link = &resumer;
	makecontext(&coroutine, enter_coroutine, 0);
	resume(NULL);
	if (pthread_create(&other, NULL, resume, NULL) || pthread_join(other, NULL))
		abort();
}

static long fork_child(long a, long b, long c, long d, long e, long f, long on_stack, void *next,
		       void *last)
{
	pid_t pid = fork();
	int status;

	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
		abort();
	return pid;
}

static void call_forking(void)
{
	if (!to_next(1, 2, 3, 4, 5, 6, 7, fork_child, NULL)) {
		/* Back over its own copy of the stack, then again. */
		call_once();
		_exit(0);
	}
}

static const struct {
	const char *name;
	const void *function;
	void (*call)(void);
	u32 calls;
	u32 threads;
	u32 returns; /* per call */
	u32 misses;
} cases[] = {
	{ "one", to_next, call_once, NR_CALLS, NR_THREADS, 1, 0 },
	{ "two in one place", to_next, call_nested, NR_CALLS, NR_THREADS, 1, 0 },
	{ "deep", to_next, call_deep, NR_CALLS / 10, NR_THREADS, 31, 0 },
	{ "longjmp", to_next, call_jumping, NR_CALLS, NR_THREADS, 1, 0 },
	{ "conditional", if_positive, call_conditional, NR_CALLS, NR_THREADS, 2, 0 },
	{ "backtrace", to_next, call_looking, 50, 1, 0, 1 },
	{ "another thread", to_next, call_migrating, 50, 1, 0, 1 },
	{ "fork", to_next, call_forking, 50, 1, 1, 0 },
};

/* Whoever asks the kernel what stands on a stack is killed. */
static int forbid_asking(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ub_array_size(filter), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

struct run {
	u32 number;
	bool filtered; /* no system call may be made there */
	const struct ub_program *program;
	const struct ub_code *code;
};

/* Hooks, calls, compares. 0 = all is well. */
static int run_case(void *opaque)
{
	const struct run *run = opaque;
	const struct ub_program *program = run->program;
	const struct ub_code *code = run->code;
	const u32 number = run->number;
	const struct ub_image_link links[] = {
		{ .point = point_of(cases[number].function, UB_POINT_RETURN),
		  .link_id = 1,
		  .program = program,
		  .code = code },
		{ .point = point_of(cases[number].function, UB_POINT_RETURN),
		  .link_id = 2,
		  .program = program,
		  .code = code },
		{ .point = point_of(to_last, UB_POINT_RETURN),
		  .link_id = 3,
		  .program = program,
		  .code = code },
	};
	const struct ub_image_request request = {
		.pid = getpid(), .nr_links = ub_array_size(links), .links = links, .nr_cpus = 64
	};
	const u64 all = (u64)cases[number].calls * cases[number].threads;
	struct ub_image *image = NULL;
	int err = build_and_apply(&request, &image), failed = 0;

	if (err)
		return err == -EBUSY ? CHILD_BUSY : 1;
	if (run->filtered) {
		ub_image_forbid_syscalls(image, true);
		if (forbid_asking())
			return 4;
	}
	if (call_in_threads(cases[number].call, cases[number].calls, cases[number].threads))
		return 2;
	ub_image_enable(image, false);
	remove_image(image);
	for (u32 link = 1; link <= 2; link++) {
		u64 hits, misses;

		ub_image_counters(image, link, &hits, &misses);
		if (hits != all * cases[number].returns || misses != all * cases[number].misses) {
			dprintf(2, "%s: %lu hits, %lu misses, %lu calls\n", cases[number].name,
				(unsigned long)hits, (unsigned long)misses, (unsigned long)all);
			failed = 3;
		}
	}
	return failed;
}

static void test_returns(void **state)
{
	struct ub_program *program = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	for (u32 i = 0; i < 2 * ub_array_size(cases); i++) {
		const u32 number = i / 2;
		struct run run = { number, i % 2, program, &code };
		int status = run_in_child(run_case, &run);

		if (status)
			fail_msg("%s%s: status 0x%x", cases[number].name, i % 2 ? ", filtered" : "",
				 status);
	}
	ub_code_free(&code);
	ub_program_free(program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_returns),
	};

	/* Loads the unwinder. */
	backtrace((void *[1]) {}, 1);
	return end_of_tests(cmocka_run_group_tests(tests, NULL, NULL));
}
