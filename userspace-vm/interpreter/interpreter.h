/* SPDX-License-Identifier: MIT */
/*
 * The reference interpreter: what an instruction means, in C. The JIT and the kernel are compared
 * with it.
 */
#ifndef UB_INTERPRETER_INTERPRETER_H
#define UB_INTERPRETER_INTERPRETER_H

#include <common/reason.h>
#include <program/program.h>
#include <run/run.h>

/* Memory that a checked run may touch besides its stack, its context and its maps. */
struct ub_memory {
	u64 start;
	u64 size;
	bool writable;
};

struct ub_interpret_options {
	bool check; /* check every access at run time; the run fails with -EFAULT */
	const struct ub_memory *memory; /* for check */
	u32 nr_memory;
	u64 max_insns;		     /* stop with -ETIMEDOUT after so many; 0 = no limit */
	const ub_helper_fn *helpers; /* by helper id, UB_MAX_HELPER entries; NULL entries fail */
	/* Called before each instruction when set, with all eleven registers: soundness oracle. */
	void (*observe)(void *opaque, u32 pc, u32 frame, const u64 *regs, const u8 *fp);
	void *observe_opaque;
};

/* What a PROG_ARRAY's table (struct ub_map.inner) points to where programs are interpreted. */
struct ub_interpret_target {
	const struct ub_program *program;
	struct ub_map **maps;
};

/* Runs @program with r1 = @ctx, r2 = @r2 (the size, for the vm command and conformance tests). 0
 * and *result, or -errno and @why, naming the instruction. */
int __must_check ub_interpret(const struct ub_program *program, void *ctx, u64 r2,
			      struct ub_run *run, const struct ub_interpret_options *options,
			      u64 *result, struct ub_reason *why);

#endif
