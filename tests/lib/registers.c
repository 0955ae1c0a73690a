/* SPDX-License-Identifier: MIT */
/*
 * Notices when any of its registers, its signal mask or its alternate stack changes, and exits.
 *
 *   ubpf-registers 1: one thread that looks at its registers; 2: one that looks at what system
 * calls tell; 0: three threads, of both kinds
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned char vectors[16][32] __asm__("ub_test_vectors") __attribute__((aligned(32), used));

/* Fills every register, spins, and compares. Never returns unless something changed. */
static __attribute__((noinline, target("avx"))) int spin_avx(unsigned long seed)
{
	int wrong;

	__asm__ volatile(
		"vmovdqa ub_test_vectors+0(%%rip), %%ymm0\n vmovdqa ub_test_vectors+32(%%rip), %%ymm1\n vmovdqa ub_test_vectors+224(%%rip), %%ymm7\n"
		"vmovdqa ub_test_vectors+256(%%rip), %%ymm8\n vmovdqa ub_test_vectors+480(%%rip), %%ymm15\n"
		"fninit\n fldpi\n fldl2e\n"
		"lea 1(%[s]), %%rax\n lea 2(%[s]), %%rbx\n lea 3(%[s]), %%rcx\n lea 4(%[s]), %%rdx\n"
		"lea 5(%[s]), %%r8\n lea 6(%[s]), %%r9\n lea 7(%[s]), %%r10\n lea 8(%[s]), %%r11\n"
		"lea 9(%[s]), %%r12\n lea 10(%[s]), %%r13\n lea 11(%[s]), %%r14\n lea 12(%[s]), %%r15\n"
		"1:\n"
		"stc\n"
		"jnc 2f\n"
		"mov %%rax, -120(%%rsp)\n" /* the red zone */
		"cmp -120(%%rsp), %%rax\n jne 2f\n"
		"sub %[s], %%rax\n cmp $1, %%rax\n jne 2f\n add %[s], %%rax\n"
		"sub %[s], %%rbx\n cmp $2, %%rbx\n jne 2f\n add %[s], %%rbx\n"
		"sub %[s], %%rcx\n cmp $3, %%rcx\n jne 2f\n add %[s], %%rcx\n"
		"sub %[s], %%rdx\n cmp $4, %%rdx\n jne 2f\n add %[s], %%rdx\n"
		"sub %[s], %%r8\n cmp $5, %%r8\n jne 2f\n add %[s], %%r8\n"
		"sub %[s], %%r9\n cmp $6, %%r9\n jne 2f\n add %[s], %%r9\n"
		"sub %[s], %%r10\n cmp $7, %%r10\n jne 2f\n add %[s], %%r10\n"
		"sub %[s], %%r11\n cmp $8, %%r11\n jne 2f\n add %[s], %%r11\n"
		"sub %[s], %%r12\n cmp $9, %%r12\n jne 2f\n add %[s], %%r12\n"
		"sub %[s], %%r13\n cmp $10, %%r13\n jne 2f\n add %[s], %%r13\n"
		"sub %[s], %%r14\n cmp $11, %%r14\n jne 2f\n add %[s], %%r14\n"
		"sub %[s], %%r15\n cmp $12, %%r15\n jne 2f\n add %[s], %%r15\n"
		"vpcmpeqb ub_test_vectors+0(%%rip), %%xmm0, %%xmm2\n vpmovmskb %%xmm2, %%esi\n cmp $0xffff, %%esi\n jne 2f\n"
		"vextractf128 $1, %%ymm15, %%xmm3\n vpcmpeqb ub_test_vectors+496(%%rip), %%xmm3, %%xmm3\n"
		"vpmovmskb %%xmm3, %%esi\n cmp $0xffff, %%esi\n jne 2f\n"
		"vextractf128 $1, %%ymm7, %%xmm3\n vpcmpeqb ub_test_vectors+240(%%rip), %%xmm3, %%xmm3\n"
		"vpmovmskb %%xmm3, %%esi\n cmp $0xffff, %%esi\n jne 2f\n"
		"fldl2e\n fcomip %%st(1), %%st\n jne 2f\n jp 2f\n"
		"jmp 1b\n"
		"2: mov $1, %%esi\n"
		: "=&S"(wrong)
		: [s] "D"(seed)
		: "memory", "cc", "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12",
		  "r13", "r14", "r15");
	return wrong;
}

static int nr_there; /* threads that are up and running */

static void *spinner(void *opaque)
{
	__atomic_fetch_add(&nr_there, 1, __ATOMIC_SEQ_CST);
	_exit(spin_avx((unsigned long)opaque) ? 3 : 4);
}

/* Checks what system calls can see: the mask and the alternate stack. */
static void *looker(void *opaque)
{
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) }, now;
	sigset_t mask, seen;
	bool there = false;

	sigaltstack(&ss, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGWINCH);
	sigaddset(&mask, SIGRTMIN + 3);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	for (;;) {
		pthread_sigmask(SIG_SETMASK, NULL, &seen);
		sigaltstack(NULL, &now);
		if (memcmp(&seen, &mask, 8) || now.ss_sp != stack || now.ss_size != sizeof(stack) ||
		    now.ss_flags)
			_exit(5);
		free(malloc(10));
		if (!there)
			__atomic_fetch_add(&nr_there, 1, __ATOMIC_SEQ_CST);
		there = true;
	}
	return NULL;
}

static void run(long kind)
{
	pthread_t t;

	for (unsigned int i = 0; i < sizeof(vectors); i++)
		((unsigned char *)vectors)[i] = i * 7 + 1;
	if (kind) { /* one thread only: it is the one that makes our system calls */
		dprintf(STDOUT_FILENO, "ready\n");
		if (kind == 1)
			spinner((void *)0x1234567);
		looker(NULL);
	}
	pthread_create(&t, NULL, spinner, (void *)0x3333333300000000);
	pthread_create(&t, NULL, looker, NULL);
	/* Signals are blocked in a thread that is being born, and malloc() maps memory for it. */
	while (__atomic_load_n(&nr_there, __ATOMIC_SEQ_CST) < 2)
		usleep(1000);
	dprintf(STDOUT_FILENO, "ready\n");
	spinner((void *)0x77777777);
}

int main(int argc, char **argv)
{
	if (argc != 2 || !__builtin_cpu_supports("avx"))
		return 2;
	run(atol(argv[1]));
	return 0;
}
