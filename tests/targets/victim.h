/* SPDX-License-Identifier: MIT */
/*
 * What all target programs have in common: they do rounds of work by request, and count themselves
 * how often their probed functions are entered and return. They abort when a result is wrong.
 *
 *   N\n   does N rounds; answers "entered returned\n" for these
 *	   (and a third number: so many of them may be entered again)
 *   0\n   works until the next line comes; answers likewise
 */
#ifndef UB_TESTS_TARGETS_VICTIM_H
#define UB_TESTS_TARGETS_VICTIM_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

static long victim_entered, victim_returned;

/* A call of a probed function that returns, or that never does. */
#define RETURNS()                                                                                  \
	__atomic_fetch_add(&victim_entered, 1, __ATOMIC_RELAXED),                                  \
		__atomic_fetch_add(&victim_returned, 1, __ATOMIC_RELAXED)
#define LEAVES() __atomic_fetch_add(&victim_entered, 1, __ATOMIC_RELAXED)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition);        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static int victim_main(void (*work)(void))
{
	struct pollfd input = { 0, POLLIN, 0 };
	char line[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		long rounds = strtol(line, NULL, 10);

		victim_entered = victim_returned = 0;
		if (rounds) {
			while (rounds--)
				work();
		} else {
			while (poll(&input, 1, 0) != 1)
				work();
			if (!fgets(line, sizeof(line), stdin))
				return 1;
		}
		printf("%ld %ld\n", victim_entered, victim_returned);
	}
	return 0;
}

#endif
