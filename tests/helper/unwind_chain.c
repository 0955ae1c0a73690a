// SPDX-License-Identifier: MIT
/* Compiled with -O2 -fomit-frame-pointer, whatever the rest is compiled with. */
#include "unwind_chain.h"

#include <alloca.h>
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define REGULAR __attribute__((noinline, noclone))
#define DEPTH	64

/* Keeps a call from becoming a jump. */
#define AFTER_CALL() __asm__ volatile("" : : : "memory")

static chain_fn current;

/* Its caller's registers: rbp, rip and rsp, where struct pt_regs has them. */
void unwind_capture(u64 *regs);
__asm__(".type unwind_capture, @function\n"
	"unwind_capture:\n"
	".cfi_startproc\n"
	"mov %rbp, 32(%rdi)\n"
	"mov (%rsp), %rax\n"
	"mov %rax, 128(%rdi)\n"
	"lea 8(%rsp), %rax\n"
	"mov %rax, 152(%rdi)\n"
	"ret\n"
	".cfi_endproc\n"
	".size unwind_capture, . - unwind_capture\n");

REGULAR static void last(void)
{
	u64 regs[21] = { 0 };
	void *expected[DEPTH];
	int nr = backtrace(expected, DEPTH);

	unwind_capture(regs);
	current(regs, expected, nr);
	AFTER_CALL();
}

REGULAR static u64 middle(u64 a, u64 b)
{
	volatile u64 kept[5] = { a, b };

	last();
	AFTER_CALL();
	return kept[0] + kept[1];
}

REGULAR static u64 first(u64 a)
{
	u64 sum = middle(a, a + 1);

	AFTER_CALL();
	return sum + 1;
}

void unwind_chain_plain(chain_fn fn)
{
	current = fn;
	first(3);
	AFTER_CALL();
}

void unwind_chain_large(chain_fn fn)
{
	volatile char large[100000];

	large[0] = large[99999] = 1;
	current = fn;
	first((u64)large[0]);
	AFTER_CALL();
}

void unwind_chain_alloca(chain_fn fn, u32 size)
{
	volatile char *some = alloca(size);

	some[0] = 1;
	current = fn;
	first((u64)some[0]);
	AFTER_CALL();
}

/* Aligns its stack and has more of it than it knows: the CFA is in memory then. */
void unwind_chain_aligned(chain_fn fn, u32 size)
{
	volatile char block[64] __attribute__((aligned(64)));
	volatile char *some = alloca(size);

	some[0] = block[1] = 1;
	current = fn;
	first((u64)some[0] + (u64)block[1]);
	AFTER_CALL();
}

REGULAR static int compare(const void *a, const void *b)
{
	const chain_fn fn = current;

	if (fn) {
		first(1);
		current = NULL;
	}
	return *(const int *)a - *(const int *)b;
}

void unwind_chain_qsort(chain_fn fn)
{
	int numbers[] = { 5, 2, 8, 1, 9, 3, 7 };

	current = fn;
	qsort(numbers, sizeof(numbers) / sizeof(numbers[0]), sizeof(numbers[0]), compare);
	AFTER_CALL();
}

static void handler(int signal)
{
	first((u64)signal);
	AFTER_CALL();
}

void unwind_chain_signal(chain_fn fn, bool own_stack)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = own_stack ? SA_ONSTACK : 0 };
	stack_t stack = { .ss_sp = malloc(1 << 18), .ss_size = 1 << 18 };
	struct sigaction before;

	current = fn;
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, &before);
	raise(SIGUSR1);
	sigaction(SIGUSR1, &before, NULL);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	free(stack.ss_sp);
}
