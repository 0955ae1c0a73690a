// SPDX-License-Identifier: MIT
/*
 * hooks [ROUNDS]: what each kind of hook, and what a program mostly does in one, costs a hit more
 * than the bare call, on both backends; medians, and ratios. With two threads the slower one
 * counts. Times are the threads' own CPU time: what else runs on the machine is no cost of a hit.
 */
#include "backends.h"

int main(int argc, char **argv)
{
	static const struct ub_bench_case cases[] = {
		{ "empty", "push", "empty, push %rbp" },
		{ "empty", "endbr64", "empty, endbr64" },
		{ "empty", "nop5", "empty, nop5" },
		{ "return", "push", "return" },
		{ "both", "push", "entry and return" },
		{ "return", "tail", "return, by a taken address" },
		{ "hash", "push", "hash[pid]++" },
		{ "percpu", "push", "per-CPU array ++" },
		{ "read", "push", "16-byte read, stack", 1, "stack" },
		{ "read", "push", "16-byte read, data", 1, "data" },
		{ "read", "push", "16-byte read, heap", 1, "heap" },
		{ "empty", "push", "2 threads: empty", 2 },
		{ "percpu", "push", "2 threads: per-CPU array ++", 2 },
		{ "empty", "push", "2 processes: empty", 1, NULL, 2 },
		{ "percpu", "push", "2 processes: per-CPU ++", 1, NULL, 2 },
		{ NULL, "push", "no program: the call" },
		{ NULL, "push", "2 threads: the call", 2 },
		{ NULL, "push", "2 processes: the call", 1, NULL, 2 },
	};

	return ub_bench_backends(argc, argv, cases, ub_array_size(cases), false);
}
