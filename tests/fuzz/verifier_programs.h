/* SPDX-License-Identifier: MIT */
/*
 * Random programs for the verifier: of a shape that has a fair chance to be accepted, and that goes
 * to the edges of what is allowed - ranges learnt from comparisons, pointers moved by them, spills
 * of all sizes, loops, subprograms.
 */
#ifndef TESTS_FUZZ_VERIFIER_PROGRAMS_H
#define TESTS_FUZZ_VERIFIER_PROGRAMS_H

#include <linux/bpf.h>

#include <common/types.h>

#define PROGRAM_MAX	   512
#define PROGRAM_VALUE_SIZE 64

struct random_program {
	struct bpf_insn insns[PROGRAM_MAX];
	u32 nr;
	u32 flags;	/* of the load */
	bool unbounded; /* has may_goto: only pruning ends its verification */
};

struct random_state {
	u64 s;
};

u64 random_next(struct random_state *r);
u64 random_value(struct random_state *r); /* often an interesting one */

/* A BPF_PROG_TYPE_KPROBE program with one map, an array of one PROGRAM_VALUE_SIZE value, as
 * @map_fd. */
void random_program(struct random_program *p, u64 seed, int map_fd);

#endif
