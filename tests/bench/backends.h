/* SPDX-License-Identifier: MIT */
/*
 * What the two backends cost, side by side.
 */
#ifndef UB_TESTS_BENCH_BACKENDS_H
#define UB_TESTS_BENCH_BACKENDS_H

#include <common/types.h>

#define UB_BENCH_CASES 32

/* One program in one process: calls of a function (entries.c) without and with it. */
struct ub_bench_case {
	const char *program; /* tests/bench/NAME.bpf.o; NULL: none, what a call itself costs */
	const char *entry;   /* bench_ENTRY */
	const char *shown;
	int threads;	  /* that call at once, each as often; 0 = 1 */
	const char *data; /* what is passed to it: stack (default), data, heap */
	int processes;	  /* at once, each with a program of its own; 0 = 1, at most 2 */
};

/* Cases of one program and entry alone, in two threads, and in two processes that share nothing of
 * ours are compared below the table: what the two threads take longer than the two processes is the
 * price of sharing, the rest the machine's. All are pinned, to a CPU each. */

/* A benchmark's main(): rounds as argv[1]. @operations: attach and detach, too. */
int ub_bench_backends(int argc, char **argv, const struct ub_bench_case *cases, u32 nr,
		      bool operations);

#endif
