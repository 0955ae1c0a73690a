// SPDX-License-Identifier: MIT
/*
 * Well-formedness of instructions, before anything looks at what they do. The wording follows the
 * kernel's verifier where it has one for the same mistake.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <isa/isa.h>

#define MAX_INSNS     1000000
#define NR_REGS	      11 /* r0 .. r10 */
#define FRAME_POINTER 10

/* What a form uses of the instruction. */
enum {
	USES_DST = 1 << 0,
	USES_SRC = 1 << 1,
	USES_OFF = 1 << 2,
	USES_IMM = 1 << 3,
	WRITES_DST = 1 << 4,
	TELLS_SRC = 1 << 5, /* src_reg says which instruction it is, names no register */
	TELLS_OFF = 1 << 6,
	TELLS_IMM = 1 << 7,
};

static const u8 form_fields[] = {
	[UB_FORM_ALU_REG] = USES_DST | WRITES_DST | USES_SRC | TELLS_OFF,
	[UB_FORM_ALU_IMM] = USES_DST | WRITES_DST | USES_IMM | TELLS_OFF,
	[UB_FORM_NEG] = USES_DST | WRITES_DST,
	[UB_FORM_END] = USES_DST | WRITES_DST | TELLS_IMM,
	[UB_FORM_JA] = USES_OFF,
	[UB_FORM_JA32] = USES_IMM,
	[UB_FORM_JUMP_REG] = USES_DST | USES_SRC | USES_OFF,
	[UB_FORM_JUMP_IMM] = USES_DST | USES_IMM | USES_OFF,
	[UB_FORM_MAY_GOTO] = USES_OFF | TELLS_SRC,
	[UB_FORM_CALL] = USES_IMM | TELLS_SRC,
	[UB_FORM_KFUNC] = USES_IMM | USES_OFF | TELLS_SRC,
	[UB_FORM_EXIT] = 0,
	[UB_FORM_LOAD] = USES_DST | WRITES_DST | USES_SRC | USES_OFF,
	[UB_FORM_STORE_IMM] = USES_DST | USES_OFF | USES_IMM,
	[UB_FORM_STORE] = USES_DST | USES_SRC | USES_OFF,
	[UB_FORM_ATOMIC] = USES_DST | USES_SRC | USES_OFF | TELLS_IMM,
	[UB_FORM_LOAD_ACQ] = USES_DST | WRITES_DST | USES_SRC | USES_OFF | TELLS_IMM,
	[UB_FORM_STORE_REL] = USES_DST | USES_SRC | USES_OFF | TELLS_IMM,
	[UB_FORM_LD_IMM64] = USES_DST | WRITES_DST | USES_IMM | TELLS_SRC,
};

static int check_fields(const struct bpf_insn *insn, u32 pc, enum ub_form form,
			struct ub_reason *why)
{
	u32 fields = form_fields[form];

	if (insn->dst_reg >= NR_REGS && (fields & USES_DST))
		return ub_reason_set(why, -EINVAL, "insn %u: R%d is invalid", pc, insn->dst_reg);
	if (insn->src_reg >= NR_REGS && (fields & USES_SRC))
		return ub_reason_set(why, -EINVAL, "insn %u: R%d is invalid", pc, insn->src_reg);
	if ((!(fields & USES_DST) && insn->dst_reg) ||
	    (!(fields & (USES_SRC | TELLS_SRC)) && insn->src_reg) ||
	    (!(fields & (USES_OFF | TELLS_OFF)) && insn->off) ||
	    (!(fields & (USES_IMM | TELLS_IMM)) && insn->imm))
		return ub_reason_set(why, -EINVAL, "insn %u: opcode %02x uses reserved fields", pc,
				     insn->code);
	if (((fields & WRITES_DST) && insn->dst_reg == FRAME_POINTER) ||
	    (form == UB_FORM_ATOMIC && (insn->imm & BPF_FETCH) && insn->imm != BPF_CMPXCHG &&
	     insn->src_reg == FRAME_POINTER))
		return ub_reason_set(why, -EACCES, "insn %u: frame pointer is read only", pc);
	return 0;
}

static int check_wide(const struct bpf_insn *insn, u32 pc, u32 nr, struct ub_reason *why)
{
	const struct bpf_insn *next = insn + 1;

	if (pc + 1 >= nr || next->code || next->dst_reg || next->src_reg || next->off)
		return ub_reason_set(why, -EINVAL, "insn %u: invalid bpf_ld_imm64 insn", pc);
	return 0;
}

static int check_jump(const struct bpf_insn *insns, u32 pc, u32 nr, const u8 *second,
		      struct ub_reason *why)
{
	s64 target = ub_isa_target(&insns[pc], pc);

	if (target < 0 || target >= nr)
		return ub_reason_set(why, -EINVAL,
				     "insn %u: jump out of range from insn %u to %lld", pc, pc,
				     (long long)target);
	if (second[target / 8] & (1 << (target % 8)))
		return ub_reason_set(why, -EINVAL,
				     "insn %u: jump into the middle of ldimm64 insn %lld", pc,
				     (long long)target);
	return 0;
}

/* Jumps and references to functions, once the second halves are known. */
static int check_flow(const struct bpf_insn *insns, u32 pc, u32 nr, const u8 *second, enum ub_op op,
		      struct ub_reason *why)
{
	switch (ub_isa_ops[op].form) {
	case UB_FORM_JA:
	case UB_FORM_JA32:
	case UB_FORM_JUMP_REG:
	case UB_FORM_JUMP_IMM:
	case UB_FORM_MAY_GOTO:
		return check_jump(insns, pc, nr, second, why);
	case UB_FORM_CALL:
		if (op == UB_OP_CALL_LOCAL)
			return check_jump(insns, pc, nr, second, why);
		return 0;
	default:
		break;
	}
	if (op == UB_OP_LD_FUNC) {
		s64 target = (s64)pc + 1 + insns[pc].imm;

		if (target < 0 || target >= nr || second[target / 8] & (1 << (target % 8)))
			return ub_reason_set(why, -EINVAL,
					     "insn %u: invalid insn idx %lld, no function", pc,
					     (long long)target);
		if (insns[pc + 1].imm)
			return ub_reason_set(why, -EINVAL, "insn %u: invalid bpf_ld_imm64 insn",
					     pc);
	}
	return 0;
}

static int check_one(const struct bpf_insn *insns, u32 pc, u32 nr, enum ub_op op,
		     struct ub_reason *why)
{
	const struct bpf_insn *insn = &insns[pc];
	enum ub_form form = ub_isa_ops[op].form;

	switch (form) {
	case UB_FORM_NONE:
		return ub_reason_set(why, -EINVAL, "insn %u: unknown opcode %02x", pc, insn->code);
	case UB_FORM_PACKET:
		return ub_reason_set(why, -EINVAL,
				     "insn %u: BPF_LD_[ABS|IND] instructions not allowed for this "
				     "program type",
				     pc);
	case UB_FORM_KFUNC:
		return ub_reason_set(why, -EACCES,
				     "insn %u: calling kernel function #%d is not allowed", pc,
				     insn->imm);
	case UB_FORM_LD_IMM64:
		if (check_wide(insn, pc, nr, why))
			return -EINVAL;
		break;
	default:
		break;
	}
	return check_fields(insn, pc, form, why);
}

int ub_isa_check(const struct bpf_insn *insns, u32 nr, struct ub_reason *why)
{
	_cleanup_free_ u8 *second = NULL;
	u32 last = 0;
	int err;

	if (!nr)
		return ub_reason_set(why, -EINVAL, "the program has no instructions");
	if (nr > MAX_INSNS)
		return ub_reason_set(why, -E2BIG, "the program has %u instructions, at most %u fit",
				     nr, MAX_INSNS);
	second = calloc((nr + 7) / 8, 1);
	if (!second)
		return -ENOMEM;

	for (u32 pc = 0; pc < nr; pc++) {
		enum ub_op op = ub_isa_decode(&insns[pc]);

		last = pc;
		err = check_one(insns, pc, nr, op, why);
		if (err)
			return err;
		if (ub_isa_ops[op].form == UB_FORM_LD_IMM64) {
			pc++;
			second[pc / 8] |= 1 << (pc % 8);
		}
	}
	for (u32 pc = 0; pc < nr; pc++) {
		if (second[pc / 8] & (1 << (pc % 8)))
			continue;
		err = check_flow(insns, pc, nr, second, ub_isa_decode(&insns[pc]), why);
		if (err)
			return err;
	}
	if (insns[last].code != (BPF_JMP | BPF_EXIT) && insns[last].code != (BPF_JMP | BPF_JA) &&
	    insns[last].code != (BPF_JMP32 | BPF_JA))
		return ub_reason_set(why, -EINVAL, "insn %u: last insn is not an exit or jmp",
				     last);
	return 0;
}
