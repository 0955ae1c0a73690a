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

#include "../../lib/usdt.h"

__attribute__((noinline, used)) long work(const char *text, long n)
{
	USDT_PLAIN_PROBE2(victim, step, text, n);
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
