// SPDX-License-Identifier: MIT
/*
 * altstack: a signal handler on the smallest alternate stack that Linux promises room on, calls a
 * probed function: what the probe takes must find room there. Below the stack is memory that nobody
 * may touch. For each line of input a signal; answers how many bytes of the stack were ever used,
 * beyond what the kernel's frame takes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define ROOM  2048 /* what MINSIGSTKSZ was when frames were small */
#define PAINT 0xa5

static unsigned char *stack;
static unsigned long size, at_entry;
static volatile long sink;

__attribute__((noinline)) long probed_on_altstack(const char *text, long n)
{
	sink = n;
	return n + 1;
}

static void on_signal(int signo)
{
	at_entry = (unsigned long)__builtin_frame_address(0);
	if (probed_on_altstack("some text of the program's own", signo) != signo + 1)
		_exit(3);
}

/* Bytes below the handler's frame that do not look as they did. */
static unsigned long used(void)
{
	unsigned long untouched = 0;

	while (untouched < size && stack[untouched] == PAINT)
		untouched++;
	return at_entry - (unsigned long)(stack + untouched);
}

int main(void)
{
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	const unsigned long frame = getauxval(AT_MINSIGSTKSZ), page = 4096;
	unsigned long mapped;
	char line[64];
	stack_t alternate;

	size = ((frame ? frame : 2048) + ROOM + 15) & -16ul;
	mapped = (size + page - 1) & -page;
	stack = mmap(NULL, mapped + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE))
		return 2;
	stack += page;
	memset(stack, PAINT, mapped);
	alternate = (stack_t) { .ss_sp = stack, .ss_size = size };
	if (sigaltstack(&alternate, NULL) || sigaction(SIGUSR1, &action, NULL))
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		raise(SIGUSR1);
		printf("used %lu of %d\n", used(), ROOM);
	}
	return 0;
}
