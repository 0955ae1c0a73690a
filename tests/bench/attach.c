// SPDX-License-Identifier: MIT
/*
 * attach [ROUNDS]: ns for each hit of the empty program and of the one that counts calls per
 * process (bpf/malloc.bpf.c), on functions with different first instructions, and the times of
 * attach, pause and detach; on a target with 8 threads that sleep most of the time. Medians, and
 * ratios.
 */
#include "backends.h"

int main(int argc, char **argv)
{
	static const struct ub_bench_case cases[] = {
		{ "empty", "push", "empty, push %rbp" },
		{ "empty", "endbr64", "empty, endbr64" },
		{ "empty", "nop5", "empty, nop5" },
		{ "count", "push", "malloc's, push %rbp" },
		{ "count", "endbr64", "malloc's, endbr64" },
		{ "count", "nop5", "malloc's, nop5" },
	};

	return ub_bench_backends(argc, argv, cases, ub_array_size(cases), true);
}
