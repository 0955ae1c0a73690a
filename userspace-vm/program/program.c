// SPDX-License-Identifier: MIT
#include <program/program.h>

#include <stdlib.h>

struct ub_program *ub_program_new(u32 nr_insns)
{
	struct ub_program *program = calloc(1, sizeof(*program));

	if (!program)
		return NULL;
	program->nr_insns = nr_insns;
	program->insns = calloc(nr_insns ? nr_insns : 1, sizeof(*program->insns));
	program->aux = calloc(nr_insns ? nr_insns : 1, sizeof(*program->aux));
	program->subprogs = calloc(UB_MAX_SUBPROGS, sizeof(*program->subprogs));
	program->nr_subprogs = 1;
	if (!program->insns || !program->aux || !program->subprogs) {
		ub_program_free(program);
		return NULL;
	}
	return program;
}

void ub_program_free(struct ub_program *program)
{
	if (!program)
		return;
	free(program->insns);
	free(program->aux);
	free(program->subprogs);
	free(program);
}
