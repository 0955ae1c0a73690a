// SPDX-License-Identifier: MIT
#include <isa/isa.h>

const struct ub_op_info ub_isa_ops[UB_NR_OPS] = {
	[UB_OP_INVALID] = { .name = "INVALID", .form = UB_FORM_NONE },
#define UB_OP(op, opcode, discriminator, kind)                                                     \
	[UB_OP_##op] = {                                                                           \
		.name = #op, .code = (opcode), .sub = (discriminator), .form = UB_FORM_##kind      \
	},
#include <isa/opcodes.def>
};

/* The first row with an opcode byte; 0 = none. */
static const u8 first_op[256] = {
#define UB_OP(op, opcode, discriminator, kind) [(opcode)] = UB_OP_##op,
#define UB_OP_SUB(op, opcode, discriminator, kind)
#include <isa/opcodes.def>
};

_Static_assert(UB_NR_OPS <= 256, "an instruction's number fits a byte");

static s32 discriminator(const struct bpf_insn *insn, enum ub_form form)
{
	switch (form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_ALU_IMM:
		return insn->off;
	case UB_FORM_END:
	case UB_FORM_ATOMIC:
	case UB_FORM_LOAD_ACQ:
	case UB_FORM_STORE_REL:
		return insn->imm;
	case UB_FORM_CALL:
	case UB_FORM_KFUNC:
	case UB_FORM_LD_IMM64:
	case UB_FORM_MAY_GOTO:
		return insn->src_reg;
	default:
		return 0;
	}
}

enum ub_op ub_isa_decode(const struct bpf_insn *insn)
{
	u32 op = first_op[insn->code];

	if (!op)
		return UB_OP_INVALID;
	if (ub_likely(ub_isa_ops[op].sub == discriminator(insn, ub_isa_ops[op].form)))
		return op;
	for (op++; op < UB_NR_OPS && ub_isa_ops[op].code == insn->code; op++) {
		if (ub_isa_ops[op].sub == discriminator(insn, ub_isa_ops[op].form))
			return op;
	}
	return UB_OP_INVALID;
}

u32 ub_isa_access_size(const struct bpf_insn *insn)
{
	switch (BPF_SIZE(insn->code)) {
	case BPF_B:
		return 1;
	case BPF_H:
		return 2;
	case BPF_W:
		return 4;
	default:
		return 8;
	}
}

s64 ub_isa_target(const struct bpf_insn *insn, u32 pc)
{
	bool far = insn->code == (BPF_JMP32 | BPF_JA) || insn->code == (BPF_JMP | BPF_CALL);

	return (s64)pc + 1 + (far ? insn->imm : insn->off);
}
