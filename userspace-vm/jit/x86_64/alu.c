// SPDX-License-Identifier: MIT
/*
 * Arithmetic. 32-bit operations clear the upper half, on both machines; shift counts are masked, on
 * both machines. Only division differs: see emit_div().
 */
#include <jit/x86_64/compile.h>

static bool is_wide(const struct bpf_insn *insn)
{
	return BPF_CLASS(insn->code) == BPF_ALU64;
}

static bool by_register(const struct bpf_insn *insn)
{
	return BPF_SRC(insn->code) == BPF_X;
}

/* dst op= src with a plain x86 counterpart. */
static void emit_simple(struct compiler *c, const struct bpf_insn *insn, enum alu op)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn);
	u8 dst = hw_reg(insn->dst_reg);

	if (by_register(insn)) {
		x_alu_rr(b, wide, op, dst, hw_reg(insn->src_reg));
		return;
	}
	if (op == X_AND && (insn->imm == 0xff || insn->imm == 0xffff)) {
		put_rex(b, false, dst, 0, dst, insn->imm == 0xff && dst >= RSP);
		put_opcode(b, insn->imm == 0xff ? 0x0fb6 : 0x0fb7);
		put_modrm_reg(b, dst, dst);
		return;
	}
	/* A non-negative mask clears the upper half anyway. */
	if (op == X_AND && insn->imm >= 0)
		wide = false;
	x_alu_ri(b, wide, op, dst, insn->imm);
}

static void emit_mul(struct compiler *c, const struct bpf_insn *insn)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn);
	u8 dst = hw_reg(insn->dst_reg);
	s32 imm = insn->imm;

	if (by_register(insn)) {
		x_rr(b, wide, 0x0faf, dst, hw_reg(insn->src_reg));
	} else if (!imm) {
		x_mov_ri(b, dst, 0);
	} else if (imm > 1 && !(imm & (imm - 1))) {
		x_shift_ri(b, wide, X_SHL, dst, __builtin_ctz(imm));
	} else if (imm == 3 || imm == 5 || imm == 9) {
		x_rmx(b, wide, 0x8d, dst, dst, dst, imm == 3 ? 1 : imm == 5 ? 2 : 3);
	} else if (fits8(imm)) {
		x_rr(b, wide, 0x6b, dst, dst);
		put8(b, imm);
	} else {
		x_rr(b, wide, 0x69, dst, dst);
		put32(b, imm);
	}
}

static void emit_shift(struct compiler *c, u32 pc, const struct bpf_insn *insn, enum shift op)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn);
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);

	if (!by_register(insn)) {
		u8 count = insn->imm & (wide ? 63 : 31);

		if (count)
			x_shift_ri(b, wide, op, dst, count);
		else if (!wide)
			x_mov_rr(b, false, dst, dst);
		return;
	}
	if (c->bmi2) {
		x_shiftx(b, wide, op, dst, dst, src);
		return;
	}
	/* The count must be in cl; rcx is r4. */
	if (src == RCX) {
		x_shift_cl(b, wide, op, dst);
	} else if (dst == RCX) {
		clobber(c, SCRATCH);
		x_mov_rr(b, true, SCRATCH, RCX);
		x_mov_rr(b, false, RCX, src);
		x_shift_cl(b, wide, op, SCRATCH);
		x_mov_rr(b, wide, RCX, SCRATCH);
	} else {
		bool save = live_after(c, pc, 4);

		clobber(c, RCX);
		if (save) {
			clobber(c, SCRATCH);
			x_mov_rr(b, true, SCRATCH, RCX);
		}
		x_mov_rr(b, false, RCX, src);
		x_shift_cl(b, wide, op, dst);
		if (save)
			x_mov_rr(b, true, RCX, SCRATCH);
	}
}

/* Division by a constant that needs no division. False: it does. */
static bool emit_div_by_constant(struct compiler *c, const struct bpf_insn *insn, bool is_mod)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn), is_signed = insn->off == 1;
	u8 dst = hw_reg(insn->dst_reg);
	s32 imm = insn->imm;

	if (imm == 0 || (imm == 1 && is_mod) || (is_signed && imm == -1 && is_mod)) {
		/* x / 0 == 0, x % 0 == x, x % 1 == 0, x % -1 == 0 */
		if (imm == 0 && is_mod) {
			if (!wide)
				x_mov_rr(b, false, dst, dst);
		} else {
			x_mov_ri(b, dst, 0);
		}
		return true;
	}
	if (imm == 1) {
		if (!wide)
			x_mov_rr(b, false, dst, dst);
		return true;
	}
	if (is_signed && imm == -1) {
		x_neg(b, wide, dst);
		return true;
	}
	if (!is_signed && imm > 0 && !(imm & (imm - 1))) {
		if (is_mod)
			x_alu_ri(b, false, X_AND, dst, imm - 1);
		else
			x_shift_ri(b, wide, X_SHR, dst, __builtin_ctz(imm));
		return true;
	}
	return false;
}

/* quotient and remainder of rdx:rax, which rax is extended to, by @divisor */
static void x_divide(struct bytes *b, bool wide, bool is_signed, u8 divisor)
{
	if (is_signed) {
		put_rex(b, wide, 0, 0, 0, false);
		put8(b, 0x99); /* cdq, cqo */
	} else {
		x_alu_rr(b, false, X_XOR, RDX, RDX);
	}
	put_rex(b, wide, 0, 0, divisor, false);
	put8(b, 0xf7);
	put_modrm_reg(b, is_signed ? 7 : 6, divisor);
}

/* dst /= divisor or dst %= divisor, where x86 does not trap. What is in rax and rdx and needed
 * later waits in scratch registers. */
static void emit_division(struct compiler *c, u32 pc, const struct bpf_insn *insn, u8 divisor,
			  bool is_mod)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn);
	u8 dst = hw_reg(insn->dst_reg), want = is_mod ? RDX : RAX;
	bool save_rax = dst != RAX && live_after(c, pc, 0);
	bool save_rdx = dst != RDX && live_after(c, pc, 3);

	if (save_rax)
		x_mov_rr(b, true, SCRATCH3, RAX);
	if (save_rdx)
		x_mov_rr(b, true, SCRATCH2, RDX);
	if (dst != RAX)
		x_mov_rr(b, wide, RAX, dst);
	x_divide(b, wide, insn->off == 1, divisor);
	if (dst != want)
		x_mov_rr(b, wide, dst, want);
	if (save_rax)
		x_mov_rr(b, true, RAX, SCRATCH3);
	if (save_rdx)
		x_mov_rr(b, true, RDX, SCRATCH2);
}

/* dst divided by 0: quotient 0, remainder the dividend. */
static void emit_division_by_zero(struct bytes *b, bool wide, u8 dst, bool is_mod)
{
	if (!is_mod)
		x_mov_ri(b, dst, 0);
	else if (!wide)
		x_mov_rr(b, false, dst, dst);
}

/* dst divided by -1: its negation, which wraps around for INT_MIN, and 0. */
static void emit_division_by_minus_one(struct bytes *b, bool wide, u8 dst, bool is_mod)
{
	if (is_mod) {
		x_mov_ri(b, dst, 0);
		return;
	}
	x_neg(b, wide, dst);
}

/*
 * x86 divides rdx:rax, which are r3 and r0, and traps where BPF does not: by zero and INT_MIN by
 * -1. Those two divisors take ways of their own.
 */
static void emit_div(struct compiler *c, u32 pc, const struct bpf_insn *insn, bool is_mod)
{
	struct bytes *b = &c->out;
	bool wide = is_wide(insn), is_signed = insn->off == 1;
	u8 dst = hw_reg(insn->dst_reg), divisor = hw_reg(insn->src_reg);
	u8 *zero, *minus_one = NULL, *end, *end2 = NULL;

	if (!by_register(insn) && emit_div_by_constant(c, insn, is_mod))
		return;
	c->clobbers |= 1u << RAX | 1u << RDX | 1u << SCRATCH | 1u << SCRATCH2 | 1u << SCRATCH3;
	if (!by_register(insn)) {
		x_mov_ri(b, SCRATCH, wide ? (u64)(s64)insn->imm : (u32)insn->imm);
		emit_division(c, pc, insn, SCRATCH, is_mod);
		return;
	}
	if (divisor == RAX || divisor == RDX) {
		x_mov_rr(b, wide, SCRATCH, divisor);
		divisor = SCRATCH;
	}
	x_rr(b, wide, 0x85, divisor, divisor);
	zero = x_jcc_short(b, CC_E);
	if (is_signed) {
		x_alu_ri(b, wide, X_CMP, divisor, -1);
		minus_one = x_jcc_short(b, CC_E);
	}
	emit_division(c, pc, insn, divisor, is_mod);
	if (is_mod && wide && !minus_one) { /* by zero: the dividend is in its place */
		x_land(b, zero);
		return;
	}
	end = x_jmp_short(b);
	if (minus_one) {
		x_land(b, minus_one);
		emit_division_by_minus_one(b, wide, dst, is_mod);
		end2 = x_jmp_short(b);
	}
	x_land(b, zero);
	emit_division_by_zero(b, wide, dst, is_mod);
	x_land(b, end);
	if (end2)
		x_land(b, end2);
}

static void emit_bswap(struct compiler *c, u8 dst, u32 width)
{
	struct bytes *b = &c->out;

	if (width == 16) {
		put8(b, 0x66); /* ror $8, %r16 */
		put_rex(b, false, 0, 0, dst, false);
		put8(b, 0xc1);
		put_modrm_reg(b, 1, dst);
		put8(b, 8);
		x_rr(b, false, 0x0fb7, dst, dst);
		return;
	}
	put_rex(b, width == 64, 0, 0, dst, false);
	put8(b, 0x0f);
	put8(b, 0xc8 | (dst & 7));
}

static void emit_end(struct compiler *c, const struct bpf_insn *insn)
{
	u8 dst = hw_reg(insn->dst_reg);

	if (BPF_CLASS(insn->code) == BPF_ALU64 || BPF_SRC(insn->code) == BPF_TO_BE)
		emit_bswap(c, dst, insn->imm);
	else if (insn->imm == 16)
		x_rr(&c->out, false, 0x0fb7, dst, dst);
	else if (insn->imm == 32)
		x_mov_rr(&c->out, false, dst, dst);
}

/* mov and sign-extending mov from a register; a constant added next becomes part of a lea. */
static int emit_mov_reg(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	struct bytes *b = &c->out;
	const struct bpf_insn *next = insn + 1;
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);
	bool wide = is_wide(insn);

	switch (insn->off) {
	case 8:
		put_rex(b, wide, dst, 0, src, src >= RSP);
		put_opcode(b, 0x0fbe);
		put_modrm_reg(b, dst, src);
		return 1;
	case 16:
		x_rr(b, wide, 0x0fbf, dst, src);
		return 1;
	case 32:
		x_rr(b, true, 0x63, dst, src);
		return 1;
	default:
		break;
	}
	if (straight(c, pc, 1) && next->dst_reg == insn->dst_reg && dst != src) {
		enum ub_op op = c->facts[pc + 1].op;

		if (wide && op == UB_OP_ADD64_IMM) {
			x_rm(b, true, 0x8d, dst, src, next->imm);
			return 2;
		}
		if (wide && op == UB_OP_ADD64_REG && next->src_reg != insn->dst_reg) {
			x_rmx(b, true, 0x8d, dst, src, hw_reg(next->src_reg), 0);
			return 2;
		}
	}
	if (!wide || dst != src)
		x_mov_rr(b, wide, dst, src);
	return 1;
}

/* r <<= 32; r >>= 32: how older compilers extend 32 bits to 64. */
static bool emit_extension(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	const struct bpf_insn *next = insn + 1;
	u8 dst = hw_reg(insn->dst_reg);
	enum ub_op op;

	if (insn->imm != 32 || !straight(c, pc, 1) || next->dst_reg != insn->dst_reg ||
	    next->imm != 32)
		return false;
	op = c->facts[pc + 1].op;
	if (op == UB_OP_RSH64_IMM)
		x_mov_rr(&c->out, false, dst, dst);
	else if (op == UB_OP_ARSH64_IMM)
		x_rr(&c->out, true, 0x63, dst, dst);
	else
		return false;
	return true;
}

int emit_alu(struct compiler *c, u32 pc)
{
	const struct bpf_insn *insn = &c->program->insns[pc];
	struct bytes *b = &c->out;
	u8 dst = hw_reg(insn->dst_reg);

	clobber(c, dst);
	switch (BPF_OP(insn->code)) {
	case BPF_ADD:
		emit_simple(c, insn, X_ADD);
		return 1;
	case BPF_SUB:
		emit_simple(c, insn, X_SUB);
		return 1;
	case BPF_OR:
		emit_simple(c, insn, X_OR);
		return 1;
	case BPF_AND:
		emit_simple(c, insn, X_AND);
		return 1;
	case BPF_XOR:
		emit_simple(c, insn, X_XOR);
		return 1;
	case BPF_MUL:
		emit_mul(c, insn);
		return 1;
	case BPF_DIV:
		emit_div(c, pc, insn, false);
		return 1;
	case BPF_MOD:
		emit_div(c, pc, insn, true);
		return 1;
	case BPF_LSH:
		if (c->facts[pc].op == UB_OP_LSH64_IMM && emit_extension(c, pc, insn))
			return 2;
		emit_shift(c, pc, insn, X_SHL);
		return 1;
	case BPF_RSH:
		emit_shift(c, pc, insn, X_SHR);
		return 1;
	case BPF_ARSH:
		emit_shift(c, pc, insn, X_SAR);
		return 1;
	case BPF_NEG:
		x_neg(b, is_wide(insn), dst);
		return 1;
	case BPF_END:
		emit_end(c, insn);
		return 1;
	default: /* BPF_MOV */
		if (by_register(insn))
			return emit_mov_reg(c, pc, insn);
		x_mov_ri(b, dst, is_wide(insn) ? (u64)(s64)insn->imm : (u32)insn->imm);
		return 1;
	}
}
