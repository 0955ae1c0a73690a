// SPDX-License-Identifier: MIT
/*
 * The workload of the tools' tests: waits for a line on its standard input, makes a known number of
 * known calls, says "done", and so on until the input ends.
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A USDT probe with two arguments, in the note format that SystemTap's sys/sdt.h documents. */
#define PROBE2(provider, name, a, b)                                                               \
	__asm__ volatile(                                                                          \
		"990:	nop\n"                                                                       \
		"	.pushsection .note.stapsdt, \"\", \"note\"\n"                                    \
		"	.balign 4\n"                                                                     \
		"	.4byte 992f - 991f, 994f - 993f, 3\n"                                            \
		"991:	.asciz \"stapsdt\"\n"                                                        \
		"992:	.balign 4\n"                                                                 \
		"993:	.8byte 990b, _.stapsdt.base, 0\n"                                            \
		"	.asciz \"" #provider "\"\n"                                                \
		"	.asciz \"" #name "\"\n"                                                    \
		"	.asciz \"8@%0 8@%1\"\n"                                                          \
		"994:	.balign 4\n"                                                                 \
		"	.popsection\n"                                                                   \
		"	.ifndef _.stapsdt.base\n"                                                        \
		"	.pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"       \
		"	.weak _.stapsdt.base\n"                                                          \
		"	.hidden _.stapsdt.base\n"                                                        \
		"_.stapsdt.base: .space 1\n"                                                       \
		"	.size _.stapsdt.base, 1\n"                                                       \
		"	.popsection\n"                                                                   \
		"	.endif\n"                                                                        \
		:                                                                                  \
		: "r"(a), "r"(b))

__attribute__((noinline, used)) long work(const char *text, long n)
{
	PROBE2(victim, step, text, n);
	return n * 2;
}

__attribute__((noinline, used)) long outer(const char *text, long n)
{
	return work(text, n) + 1;
}

__attribute__((noinline, used)) void nap(void)
{
	usleep(70000);
}

int main(int argc, char **argv)
{
	char line[64];
	volatile long sum = 0;
	long calls = argc > 1 ? atol(argv[1]) : 1000;

	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (long i = 0; i < calls; i++)
			sum += outer(i % 2 ? "odd" : "even", i % 10);
		for (int i = 0; i < 5; i++) {
			struct addrinfo *result = NULL;

			if (getaddrinfo("127.0.0.1", NULL, NULL, &result) == 0)
				freeaddrinfo(result);
		}
		for (int i = 0; i < 3; i++)
			nap();
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}
