/* SPDX-License-Identifier: MIT */
/* Calls that block for a while: what attach and detach must not be noticed by. For victims. */
#ifndef UB_TEST_BLOCKING_H
#define UB_TEST_BLOCKING_H

#include <stdbool.h>

struct blocking_call {
	const char *name;
	/* Blocks for @ms. 0: it returned what it should have; else not, or with errno. */
	long (*call)(unsigned int ms);
	/* It is continued after a stop, and not made again for as long. */
	bool goes_on;
};

enum { NR_BLOCKING_CALLS = 20 };

extern const struct blocking_call blocking_calls[NR_BLOCKING_CALLS];

/* Before any thread is made: signals that the calls need, and IPC that goes with the process. */
void blocking_prepare(void);
unsigned long blocking_now_ns(void);

#endif
