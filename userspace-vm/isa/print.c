// SPDX-License-Identifier: MIT
/*
 * The disassembler. Its form is that of the kernel's log (kernel/bpf/disasm.c), which tools and
 * people compare with, down to the spaces.
 */
#include <isa/isa.h>

static const char *const helper_names[] = {
#define NAME(x) [BPF_FUNC_##x] = "bpf_" #x
	__BPF_FUNC_MAPPER(NAME)
};

static const char *const alu_text[16] = {
	"+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=",
};

static const char *const atomic_text[16] = {
	[BPF_ADD >> 4] = "add",
	[BPF_OR >> 4] = "or",
	[BPF_AND >> 4] = "and",
	[BPF_XOR >> 4] = "xor",
};

static const char *const jump_text[16] = {
	[BPF_JEQ >> 4] = "==",	 [BPF_JGT >> 4] = ">",	  [BPF_JGE >> 4] = ">=",
	[BPF_JSET >> 4] = "&",	 [BPF_JNE >> 4] = "!=",	  [BPF_JSGT >> 4] = "s>",
	[BPF_JSGE >> 4] = "s>=", [BPF_JLT >> 4] = "<",	  [BPF_JLE >> 4] = "<=",
	[BPF_JSLT >> 4] = "s<",	 [BPF_JSLE >> 4] = "s<=",
};

static const char *size_text(const struct bpf_insn *insn)
{
	static const char *const unsigned_text[] = { "u32", "u16", "u8", "u64" };
	static const char *const signed_text[] = { "s32", "s16", "s8", "s64" };

	if (BPF_CLASS(insn->code) == BPF_LDX && BPF_MODE(insn->code) == BPF_MEMSX)
		return signed_text[BPF_SIZE(insn->code) >> 3];
	return unsigned_text[BPF_SIZE(insn->code) >> 3];
}

static char reg_letter(const struct bpf_insn *insn)
{
	return BPF_CLASS(insn->code) == BPF_ALU || BPF_CLASS(insn->code) == BPF_JMP32 ? 'w' : 'r';
}

static const char *alu_operator(const struct bpf_insn *insn)
{
	if (BPF_OP(insn->code) == BPF_DIV && insn->off == 1)
		return "s/=";
	if (BPF_OP(insn->code) == BPF_MOD && insn->off == 1)
		return "s%=";
	return alu_text[BPF_OP(insn->code) >> 4];
}

static const char *movsx_cast(const struct bpf_insn *insn)
{
	if (BPF_OP(insn->code) != BPF_MOV)
		return "";
	switch (insn->off) {
	case 8:
		return "(s8)";
	case 16:
		return "(s16)";
	case 32:
		return "(s32)";
	default:
		return "";
	}
}

static void print_end(const struct bpf_insn *insn, char *out, size_t size)
{
	const char *name = "bswap";

	if (BPF_CLASS(insn->code) == BPF_ALU)
		name = BPF_SRC(insn->code) == BPF_TO_BE ? "be" : "le";
	snprintf(out, size, "(%02x) r%d = %s%d r%d", insn->code, insn->dst_reg, name, insn->imm,
		 insn->dst_reg);
}

static void print_atomic(const struct bpf_insn *insn, char *out, size_t size)
{
	const char *wide = BPF_SIZE(insn->code) == BPF_DW ? "64" : "";
	const char *type = size_text(insn);

	if (insn->imm == BPF_CMPXCHG)
		snprintf(out, size, "(%02x) r0 = atomic%s_cmpxchg((%s *)(r%d %+d), r0, r%d)",
			 insn->code, wide, type, insn->dst_reg, insn->off, insn->src_reg);
	else if (insn->imm == BPF_XCHG)
		snprintf(out, size, "(%02x) r%d = atomic%s_xchg((%s *)(r%d %+d), r%d)", insn->code,
			 insn->src_reg, wide, type, insn->dst_reg, insn->off, insn->src_reg);
	else if (insn->imm & BPF_FETCH)
		snprintf(out, size, "(%02x) r%d = atomic%s_fetch_%s((%s *)(r%d %+d), r%d)",
			 insn->code, insn->src_reg, wide, atomic_text[BPF_OP(insn->imm) >> 4], type,
			 insn->dst_reg, insn->off, insn->src_reg);
	else
		snprintf(out, size, "(%02x) lock *(%s *)(r%d %+d) %s r%d", insn->code, type,
			 insn->dst_reg, insn->off, alu_text[BPF_OP(insn->imm) >> 4], insn->src_reg);
}

/* "bpf_map_lookup_elem", or NULL. */
static const char *helper_name(u32 id)
{
	return id && id < ub_array_size(helper_names) ? helper_names[id] : NULL;
}

static void print_call(const struct bpf_insn *insn, char *out, size_t size)
{
	const char *name = "unknown", *id_name = helper_name((u32)insn->imm);

	if (insn->src_reg == BPF_PSEUDO_CALL) {
		snprintf(out, size, "(%02x) call pc%+d", insn->code, insn->imm);
		return;
	}
	if (!insn->src_reg && id_name)
		name = id_name;
	else if (insn->src_reg == BPF_PSEUDO_KFUNC_CALL)
		name = "kernel-function";
	snprintf(out, size, "(%02x) call %s#%d", insn->code, name, insn->imm);
}

static void print_packet(const struct bpf_insn *insn, char *out, size_t size)
{
	if (BPF_MODE(insn->code) == BPF_ABS)
		snprintf(out, size, "(%02x) r0 = *(%s *)skb[%d]", insn->code, size_text(insn),
			 insn->imm);
	else
		snprintf(out, size, "(%02x) r0 = *(%s *)skb[r%d + %d]", insn->code, size_text(insn),
			 insn->src_reg, insn->imm);
}

void ub_isa_print(const struct bpf_insn *insn, char *out, size_t size)
{
	u8 code = insn->code;

	switch (ub_isa_ops[ub_isa_decode(insn)].form) {
	case UB_FORM_ALU_REG:
		snprintf(out, size, "(%02x) %c%d %s %s%c%d", code, reg_letter(insn), insn->dst_reg,
			 alu_operator(insn), movsx_cast(insn), reg_letter(insn), insn->src_reg);
		break;
	case UB_FORM_ALU_IMM:
		snprintf(out, size, "(%02x) %c%d %s %d", code, reg_letter(insn), insn->dst_reg,
			 alu_operator(insn), insn->imm);
		break;
	case UB_FORM_NEG:
		snprintf(out, size, "(%02x) %c%d = -%c%d", code, reg_letter(insn), insn->dst_reg,
			 reg_letter(insn), insn->dst_reg);
		break;
	case UB_FORM_END:
		print_end(insn, out, size);
		break;
	case UB_FORM_JA:
		snprintf(out, size, "(%02x) goto pc%+d", code, insn->off);
		break;
	case UB_FORM_JA32:
		snprintf(out, size, "(%02x) gotol pc%+d", code, insn->imm);
		break;
	case UB_FORM_JUMP_REG:
		snprintf(out, size, "(%02x) if %c%d %s %c%d goto pc%+d", code, reg_letter(insn),
			 insn->dst_reg, jump_text[BPF_OP(code) >> 4], reg_letter(insn),
			 insn->src_reg, insn->off);
		break;
	case UB_FORM_JUMP_IMM:
		snprintf(out, size, "(%02x) if %c%d %s 0x%x goto pc%+d", code, reg_letter(insn),
			 insn->dst_reg, jump_text[BPF_OP(code) >> 4], (u32)insn->imm, insn->off);
		break;
	case UB_FORM_MAY_GOTO:
		snprintf(out, size, "(%02x) may_goto pc%+d", code, insn->off);
		break;
	case UB_FORM_CALL:
	case UB_FORM_KFUNC:
		print_call(insn, out, size);
		break;
	case UB_FORM_EXIT:
		snprintf(out, size, "(%02x) exit", code);
		break;
	case UB_FORM_LOAD:
		snprintf(out, size, "(%02x) r%d = *(%s *)(r%d %+d)", code, insn->dst_reg,
			 size_text(insn), insn->src_reg, insn->off);
		break;
	case UB_FORM_STORE_IMM:
		snprintf(out, size, "(%02x) *(%s *)(r%d %+d) = %d", code, size_text(insn),
			 insn->dst_reg, insn->off, insn->imm);
		break;
	case UB_FORM_STORE:
		snprintf(out, size, "(%02x) *(%s *)(r%d %+d) = r%d", code, size_text(insn),
			 insn->dst_reg, insn->off, insn->src_reg);
		break;
	case UB_FORM_ATOMIC:
		print_atomic(insn, out, size);
		break;
	case UB_FORM_LOAD_ACQ:
		snprintf(out, size, "(%02x) r%d = load_acquire((%s *)(r%d %+d))", code,
			 insn->dst_reg, size_text(insn), insn->src_reg, insn->off);
		break;
	case UB_FORM_STORE_REL:
		snprintf(out, size, "(%02x) store_release((%s *)(r%d %+d), r%d)", code,
			 size_text(insn), insn->dst_reg, insn->off, insn->src_reg);
		break;
	case UB_FORM_LD_IMM64:
		snprintf(out, size, "(%02x) r%d = 0x%llx", code, insn->dst_reg,
			 (unsigned long long)((u64)(u32)insn[1].imm << 32 | (u32)insn->imm));
		break;
	case UB_FORM_PACKET:
		print_packet(insn, out, size);
		break;
	default:
		snprintf(out, size, "BUG_%02x", code);
		break;
	}
}
