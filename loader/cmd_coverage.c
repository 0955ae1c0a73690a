// SPDX-License-Identifier: MIT
/*
 * ubpf-run doctor --coverage FILE: how many functions, instructions and returns of a binary can be
 * hooked on the userspace backend, and how.
 */
#include "cmd_coverage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/coverage.h>

static void print_line(const char *what, u64 n, u64 of)
{
	printf("  %9" PRIu64 " %6.2f %%  %s\n", n, of ? 100.0 * (double)n / (double)of : 0.0, what);
}

static void print_counts(const char *title, const struct ub_coverage_counts *counts)
{
	printf("%s: %" PRIu64 "\n", title, counts->total);
	print_line("can be hooked", counts->hooked, counts->total);
	for (u32 i = 1; i < UB_NR_TACTICS; i++)
		if (counts->tactics[i])
			print_line(ub_tactic_name(i), counts->tactics[i], counts->total);
	for (u32 i = 1; i < UB_NR_REFUSALS; i++) {
		char text[128];

		if (!counts->refusals[i])
			continue;
		snprintf(text, sizeof(text), "refused: %s", ub_refusal_text(i));
		print_line(text, counts->refusals[i], counts->total);
	}
}

static void print_returns(const struct ub_coverage *coverage)
{
	const u64 others = coverage->returning - coverage->returns - coverage->tail_jumps;

	printf("functions that return: %" PRIu64 "\n", coverage->returning);
	print_line("can be probed", coverage->returns, coverage->returning);
	if (coverage->diverted)
		print_line("of these leave by jumps that only a process tells, or are taken over",
			   coverage->diverted, coverage->returning);
	if (coverage->tail_jumps)
		print_line("refused: leaves by a jump that can't be followed", coverage->tail_jumps,
			   coverage->returning);
	if (others)
		print_line("refused: an instruction that leaves it can't be hooked", others,
			   coverage->returning);
}

int ub_cmd_coverage(const char *file)
{
	_cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct ub_coverage coverage;
	struct ub_reason why = {};
	int err;

	if (fd < 0) {
		fprintf(stderr, "ubpf-run: %s: %s\n", file, strerror(errno));
		return 1;
	}
	err = ub_coverage_measure(fd, &coverage, &why);
	if (err) {
		fprintf(stderr, "ubpf-run: %s: %s\n", file,
			why.text[0] ? why.text : strerror(-err));
		return 1;
	}
	print_counts("function entries", &coverage.entries);
	print_counts("instructions", &coverage.offsets);
	print_returns(&coverage);
	return 0;
}
