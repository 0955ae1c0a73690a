/* SPDX-License-Identifier: MIT */
/*
 * How much of a binary can be hooked, and how: each point planned alone.
 */
#ifndef UB_HOOK_COVERAGE_H
#define UB_HOOK_COVERAGE_H

#include <hook/plan.h>

struct ub_coverage_counts {
	u64 total;
	u64 hooked;
	u64 tactics[UB_NR_TACTICS];
	u64 refusals[UB_NR_REFUSALS];
};

struct ub_coverage {
	struct ub_coverage_counts entries; /* functions' first instructions */
	struct ub_coverage_counts offsets; /* every instruction of every function */
	u64 returning;			   /* functions that return or jump away */
	u64 returns;			   /* those whose every return can be probed */
	u64 diverted;	/* of those, by taking over the return address, as far as the file tells */
	u64 tail_jumps; /* those that leave by a jump that can't be followed */
};

int __must_check ub_coverage_measure(int fd, struct ub_coverage *coverage, struct ub_reason *why);

#endif
