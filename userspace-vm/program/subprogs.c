// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <isa/isa.h>
#include <program/program.h>

static bool is_second_half(const struct bpf_insn *insns, u32 pc)
{
	return pc && insns[pc - 1].code == (BPF_LD | BPF_IMM | BPF_DW) && !insns[pc].code;
}

/* Index of the subprogram that starts at @start, added if need be, or -E2BIG. */
static int add_subprog(struct ub_program *program, u32 start)
{
	struct ub_subprog *sub = program->subprogs;
	u32 at = 0;

	while (at < program->nr_subprogs && sub[at].start < start)
		at++;
	if (at < program->nr_subprogs && sub[at].start == start)
		return at;
	if (program->nr_subprogs == UB_MAX_SUBPROGS)
		return -E2BIG;
	memmove(&sub[at + 1], &sub[at], (program->nr_subprogs - at) * sizeof(*sub));
	sub[at] = (struct ub_subprog) { .start = start, .stack_depth = UB_STACK_SIZE };
	program->nr_subprogs++;
	return at;
}

/* No jump leaves its subprogram, and none runs off its end. */
static int check_bounds(const struct ub_program *program, struct ub_reason *why)
{
	u32 sub = 0;

	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];
		u32 end = program->nr_insns;
		s64 target;

		if (sub + 1 < program->nr_subprogs && program->subprogs[sub + 1].start == pc)
			sub++;
		if (sub + 1 < program->nr_subprogs)
			end = program->subprogs[sub + 1].start;
		if (is_second_half(program->insns, pc))
			continue;
		if (pc + 1 == end && insn->code != (BPF_JMP | BPF_EXIT) &&
		    insn->code != (BPF_JMP | BPF_JA) && insn->code != (BPF_JMP32 | BPF_JA))
			return ub_reason_set(why, -EINVAL,
					     "insn %u: last insn is not an exit or jmp", pc);
		switch (ub_isa_ops[ub_isa_decode(insn)].form) {
		case UB_FORM_JA:
		case UB_FORM_JA32:
		case UB_FORM_JUMP_REG:
		case UB_FORM_JUMP_IMM:
		case UB_FORM_MAY_GOTO:
			target = ub_isa_target(insn, pc);
			if (target < program->subprogs[sub].start || target >= end)
				return ub_reason_set(
					why, -EINVAL,
					"insn %u: jump out of range from insn %u to %lld", pc, pc,
					(long long)target);
			break;
		default:
			break;
		}
	}
	return 0;
}

int ub_program_find_subprogs(struct ub_program *program, struct ub_reason *why)
{
	program->nr_subprogs = 0;
	if (add_subprog(program, 0) < 0)
		return -E2BIG;
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];
		enum ub_op op = ub_isa_decode(insn);
		int sub;

		if (is_second_half(program->insns, pc) ||
		    (op != UB_OP_CALL_LOCAL && op != UB_OP_LD_FUNC))
			continue;
		sub = add_subprog(program, pc + 1 + insn->imm);
		if (sub < 0)
			return ub_reason_set(why, sub, "insn %u: more than %d subprograms", pc,
					     UB_MAX_SUBPROGS);
		if (op == UB_OP_LD_FUNC)
			program->subprogs[sub].is_callback = true;
	}
	for (u32 pc = 0, sub = 0; pc < program->nr_insns; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];

		if (sub + 1 < program->nr_subprogs && program->subprogs[sub + 1].start == pc)
			sub++;
		if (ub_isa_decode(insn) == UB_OP_CALL && insn->imm == BPF_FUNC_tail_call &&
		    !is_second_half(program->insns, pc)) {
			program->subprogs[sub].has_tail_call = true;
			program->uses_tail_call = true;
		}
	}
	return check_bounds(program, why);
}

int ub_program_from_insns(const struct bpf_insn *insns, u32 nr, struct ub_program **out,
			  struct ub_reason *why)
{
	struct ub_program *program;
	int err;

	err = ub_isa_check(insns, nr, why);
	if (err)
		return err;
	program = ub_program_new(nr);
	if (!program)
		return -ENOMEM;
	memcpy(program->insns, insns, nr * sizeof(*insns));
	/* Nobody vouches for it: no facts about its instructions. */
	free(TAKE_PTR(program->aux));
	program->max_call_depth = UB_MAX_CALL_FRAMES;
	err = ub_program_find_subprogs(program, why);
	if (err) {
		ub_program_free(program);
		return err;
	}
	*out = program;
	return 0;
}
