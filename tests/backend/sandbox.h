/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* What sandbox.bpf.c counts and says. */
#ifndef UB_TESTS_BACKEND_SANDBOX_H
#define UB_TESTS_BACKEND_SANDBOX_H

enum { HITS, STACK_READ, HEAP_READ, HEAP_REFUSED, NAMED, TIMED, TO_RING, TO_PERF, NR_COUNTS };

struct record {
	unsigned long long id; /* tgid << 32 | tid */
	unsigned long long ns;
};

#endif
