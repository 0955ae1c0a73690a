// SPDX-License-Identifier: MIT
/*
 * A return through an address that was taken over, interrupted after every instruction by a signal
 * whose handler looks at the stack, and whose entry somebody else takes then: it goes where it
 * should, and counts either as hit or as missed.
 */
#include <errno.h>
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include <agent/data.h>

#include "apply.h"

#define TRAP_FLAG 0x100

/* Leaves by a jump through a register; flags and all registers but rax are the caller's. */
long interrupted_leave(long (*to)(void));
__asm__(".text\n.p2align 4\n.type interrupted_leave,@function\ninterrupted_leave:\n.cfi_startproc\n"
	"mov %rdi,%rax\njmp *%rax\n.cfi_endproc\n.size interrupted_leave,.-interrupted_leave\n");

extern const u8 interrupted_back[]; /* in call() */

static struct ub_diverts *diverts;
static volatile u64 steps, at; /* instructions so far; where the handler looks at the stack */

static long answer(void)
{
	return 42;
}

static void handler(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	void *frames[16];

	if (regs[REG_RIP] != (greg_t)(uintptr_t)interrupted_back && steps++ != at)
		return;
	regs[REG_EFL] &= ~TRAP_FLAG;
	if (regs[REG_RIP] == (greg_t)(uintptr_t)interrupted_back)
		return;
	backtrace(frames, 16);
	for (u32 i = 0; diverts && i < UB_MAX_DIVERTS; i++)
		if (!diverts->entries[i].place)
			diverts->entries[i].original = diverts->entries[i].continuation = 8;
}

/* From the call on each instruction is followed by a signal, until the handler looked. */
static __attribute__((noinline, noclone)) long call(void)
{
	long result;

	__asm__ volatile("pushfq; orq %[flag], (%%rsp); popfq; call interrupted_leave;"
			 "interrupted_back:"
			 : "=a"(result)
			 : [flag] "i"(TRAP_FLAG), "D"(answer)
			 : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

struct run {
	const struct ub_program *program;
	const struct ub_code *code;
};

/* 0 = all is well. */
static int interrupt_everywhere(void *opaque)
{
	const struct run *run = opaque;
	const struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	const struct ub_image_link link = {
		.point = point_of(interrupted_leave, UB_POINT_RETURN),
		.link_id = 1,
		.program = run->program,
		.code = run->code,
	};
	const struct ub_image_request request = {
		.pid = getpid(), .nr_links = 1, .links = &link, .nr_cpus = 64
	};
	struct ub_image *image = NULL;
	u64 hits, misses, calls = 0;
	void *frames[4];
	int err;

	backtrace(frames, 4); /* loads what it needs */
	if (sigaction(SIGTRAP, &action, NULL))
		return 1;
	err = build_and_apply(&request, &image);
	if (err)
		return err == -EBUSY ? CHILD_BUSY : 1;
	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_DIVERTS)
			diverts = (struct ub_diverts *)(uintptr_t)image->parts[i].address;
	if (!diverts)
		return 2;
	do {
		steps = 0;
		if (call() != 42)
			return 3;
		calls++;
	} while (steps > at && ++at);
	ub_image_enable(image, false);
	remove_image(image);
	ub_image_counters(image, 1, &hits, &misses);
	dprintf(1, "%lu calls, %lu hits, %lu misses\n", (unsigned long)calls, (unsigned long)hits,
		(unsigned long)misses);
	return !hits || !misses || hits + misses != calls;
}

static void test_interrupted_returns(void **state)
{
	struct ub_program *program = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	assert_int_equal(run_in_child(interrupt_everywhere, &(struct run) { program, &code }), 0);
	ub_code_free(&code);
	ub_program_free(program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interrupted_returns),
	};

	return end_of_tests(cmocka_run_group_tests(tests, NULL, NULL));
}
