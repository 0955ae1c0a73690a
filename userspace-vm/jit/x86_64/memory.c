// SPDX-License-Identifier: MIT
/*
 * Loads, stores, atomics, 64-bit immediates.
 */
#include <jit/x86_64/compile.h>

/* op [base + disp] of @size bytes, with the prefixes that size and @lock need. @opcode is the one
 * of the 16- to 64-bit form; byte forms are one less. */
static void x_sized(struct bytes *b, u32 size, bool lock, u32 opcode, u8 reg, bool reg_is_operand,
		    u8 base, s32 disp)
{
	if (lock)
		put8(b, 0xf0);
	if (size == 2)
		put8(b, 0x66);
	put_rex(b, size == 8, reg, 0, base, size == 1 && reg_is_operand && reg >= RSP);
	put_opcode(b, size == 1 ? opcode - 1 : opcode);
	put_modrm_mem(b, reg, base, disp);
}

static void x_load(struct bytes *b, u32 size, u8 dst, u8 base, s32 disp)
{
	if (size < 4)
		x_rm(b, false, size == 1 ? 0x0fb6 : 0x0fb7, dst, base, disp);
	else
		x_rm(b, size == 8, 0x8b, dst, base, disp);
}

static void x_load_signed(struct bytes *b, u32 size, u8 dst, u8 base, s32 disp)
{
	x_rm(b, true, size == 1 ? 0x0fbe : size == 2 ? 0x0fbf : 0x63, dst, base, disp);
}

/* dst = low @size bytes of src, zero-extended */
static void x_zero_extend(struct bytes *b, u32 size, u8 dst, u8 src)
{
	if (size >= 4) {
		x_mov_rr(b, size == 8, dst, src);
		return;
	}
	put_rex(b, false, dst, 0, src, size == 1 && src >= RSP);
	put_opcode(b, size == 1 ? 0x0fb6 : 0x0fb7);
	put_modrm_reg(b, dst, src);
}

static void emit_store_imm(struct bytes *b, u32 size, u8 base, s32 disp, s32 imm)
{
	x_sized(b, size, false, 0xc7, 0, false, base, disp);
	if (size == 1)
		put8(b, imm);
	else if (size == 2)
		put16(b, imm);
	else
		put32(b, imm);
}

/*
 * old = *mem; *mem = old op operand, for what x86 has no fetching form of: a compare-exchange loop
 * in rax. Leaves the old value in rax; r0's value, if @keep, in SCRATCH3. The operand is a register
 * or, if @operand is 0xff, @imm. @base and @operand are neither rax nor scratch.
 */
static void emit_fetch_loop(struct compiler *c, u32 size, enum alu op, u8 base, s32 disp,
			    u8 operand, s32 imm)
{
	struct bytes *b = &c->out;
	u8 *again;

	c->clobbers |= 1u << RAX | 1u << SCRATCH;
	x_load(b, size, RAX, base, disp);
	again = b->at;
	x_mov_rr(b, true, SCRATCH, RAX);
	if (operand == 0xff)
		x_alu_ri(b, true, op, SCRATCH, imm);
	else
		x_alu_rr(b, true, op, SCRATCH, operand);
	x_sized(b, size, true, 0x0fb1, SCRATCH, true, base, disp);
	put8(b, 0x70 | CC_NE);
	put8(b, (u8)(again - b->at - 1));
}

static void emit_fetch(struct compiler *c, u32 pc, const struct bpf_insn *insn, u32 size,
		       enum alu op)
{
	struct bytes *b = &c->out;
	u8 base = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg), operand = src;
	bool keep = src != RAX && live_after(c, pc, 0);

	if (base == RAX) {
		clobber(c, SCRATCH2);
		x_mov_rr(b, true, SCRATCH2, RAX);
		base = SCRATCH2;
	}
	if (src == RAX || keep) {
		clobber(c, SCRATCH3);
		x_mov_rr(b, true, SCRATCH3, RAX);
	}
	if (src == RAX)
		operand = SCRATCH3;
	emit_fetch_loop(c, size, op, base, insn->off, operand, 0);
	clobber(c, src);
	if (src != RAX)
		x_mov_rr(b, size == 8, src, RAX);
	if (keep)
		x_mov_rr(b, true, RAX, SCRATCH3);
}

static void emit_atomic(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	struct bytes *b = &c->out;
	u32 size = ub_isa_access_size(insn);
	u8 base = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);

	switch (insn->imm) {
	case BPF_ADD:
		x_sized(b, size, true, X_ADD << 3 | 1, src, true, base, insn->off);
		return;
	case BPF_OR:
		x_sized(b, size, true, X_OR << 3 | 1, src, true, base, insn->off);
		return;
	case BPF_AND:
		x_sized(b, size, true, X_AND << 3 | 1, src, true, base, insn->off);
		return;
	case BPF_XOR:
		x_sized(b, size, true, X_XOR << 3 | 1, src, true, base, insn->off);
		return;
	case BPF_ADD | BPF_FETCH:
		clobber(c, src);
		x_sized(b, size, true, 0x0fc1, src, true, base, insn->off);
		return;
	case BPF_OR | BPF_FETCH:
		emit_fetch(c, pc, insn, size, X_OR);
		return;
	case BPF_AND | BPF_FETCH:
		emit_fetch(c, pc, insn, size, X_AND);
		return;
	case BPF_XOR | BPF_FETCH:
		emit_fetch(c, pc, insn, size, X_XOR);
		return;
	case BPF_XCHG: /* locked by itself */
		clobber(c, src);
		x_sized(b, size, false, 0x87, src, true, base, insn->off);
		return;
	default: /* BPF_CMPXCHG: r0 is rax already */
		clobber(c, RAX);
		x_sized(b, size, true, 0x0fb1, src, true, base, insn->off);
		/* When it succeeds eax is not written, nor its upper half cleared. */
		if (size == 4)
			x_mov_rr(b, false, RAX, RAX);
		return;
	}
}

/* The x86 operation of an instruction that can be applied to memory, or -1. */
static int fusible(const struct compiler *c, const struct bpf_insn *insn, enum ub_op op)
{
	enum ub_form form = ub_isa_ops[op].form;

	if (form != UB_FORM_ALU_IMM && form != UB_FORM_ALU_REG)
		return -1;
	switch (BPF_OP(insn->code)) {
	case BPF_ADD:
		return X_ADD;
	case BPF_SUB:
		return X_SUB;
	case BPF_OR:
		return X_OR;
	case BPF_AND:
		return X_AND;
	case BPF_XOR:
		return X_XOR;
	default:
		return -1;
	}
}

static bool is_percpu(const struct compiler *c, u32 pc)
{
	return c->program->aux && c->program->aux[pc].flags & UB_INSN_PERCPU;
}

/* The old value is needed as well: rA = *mem op= X. */
static void emit_fused_fetch(struct compiler *c, u32 pc, enum alu op, u32 size)
{
	const struct bpf_insn *load = &c->program->insns[pc], *alu = load + 1;
	struct bytes *b = &c->out;
	u8 dst = hw_reg(load->dst_reg), base = hw_reg(load->src_reg), src = hw_reg(alu->src_reg);
	bool by_reg = BPF_SRC(alu->code) == BPF_X;
	bool wide = BPF_CLASS(alu->code) == BPF_ALU64;
	bool keep;

	clobber(c, SCRATCH);
	if (op == X_ADD || op == X_SUB) {
		if (by_reg)
			x_mov_rr(b, true, SCRATCH, src);
		else
			x_mov_ri(b, SCRATCH, (u64)(s64)alu->imm);
		if (op == X_SUB) {
			put_rex(b, true, 0, 0, SCRATCH, false);
			put8(b, 0xf7);
			put_modrm_reg(b, 3, SCRATCH);
		}
		x_sized(b, size, true, 0x0fc1, SCRATCH, true, base, load->off);
		x_zero_extend(b, size, dst, SCRATCH);
	} else {
		keep = dst != RAX && live_after(c, pc + 2, 0);
		c->clobbers |= 1u << SCRATCH2 | 1u << SCRATCH3;
		/* rax is about to be used: what is there moves away. */
		x_mov_rr(b, true, SCRATCH3, RAX);
		if (base == RAX) {
			x_mov_rr(b, true, SCRATCH2, RAX);
			base = SCRATCH2;
		}
		if (src == RAX)
			src = SCRATCH3;
		emit_fetch_loop(c, size, op, base, load->off, by_reg ? src : 0xff, alu->imm);
		x_zero_extend(b, size, dst, RAX);
		if (keep)
			x_mov_rr(b, true, RAX, SCRATCH3);
	}
	if (by_reg)
		x_alu_rr(b, wide, op, dst, src);
	else
		x_alu_ri(b, wide, op, dst, alu->imm);
}

/*
 * rA = *mem; rA op= X; *mem = rA on a per-CPU value, in one locked instruction: in the kernel
 * nothing runs on that CPU in between, here another thread may. Returns the instructions covered,
 * or 0: not of that shape.
 */
static int emit_fused(struct compiler *c, u32 pc)
{
	const struct bpf_insn *load = &c->program->insns[pc], *alu, *store;
	struct bytes *b = &c->out;
	u32 size = ub_isa_access_size(load);
	u8 base = hw_reg(load->src_reg);
	bool by_reg;
	int op;

	if (!is_percpu(c, pc) || !straight(c, pc, 2) || !is_percpu(c, pc + 2))
		return 0;
	alu = load + 1;
	store = load + 2;
	op = fusible(c, alu, c->facts[pc + 1].op);
	by_reg = BPF_SRC(alu->code) == BPF_X;
	/* A 32-bit operation would clear the upper half of 64 bits in memory. */
	if (op < 0 || (size == 8 && BPF_CLASS(alu->code) == BPF_ALU) ||
	    ub_isa_ops[c->facts[pc + 2].op].form != UB_FORM_STORE ||
	    BPF_MODE(load->code) != BPF_MEM || alu->dst_reg != load->dst_reg ||
	    (by_reg && alu->src_reg == load->dst_reg) || store->src_reg != load->dst_reg ||
	    store->dst_reg != load->src_reg || load->dst_reg == load->src_reg ||
	    store->off != load->off || BPF_SIZE(store->code) != BPF_SIZE(load->code))
		return 0;
	if (live_after(c, pc + 2, load->dst_reg)) {
		clobber(c, hw_reg(load->dst_reg));
		emit_fused_fetch(c, pc, op, size);
		return 3;
	}
	if (by_reg) {
		x_sized(b, size, true, op << 3 | 1, hw_reg(alu->src_reg), true, base, load->off);
		return 3;
	}
	/* 80 /op ib, 83 /op ib, 81 /op iw or id */
	x_sized(b, size, true, size == 1 || !fits8(alu->imm) ? 0x81 : 0x83, op, false, base,
		load->off);
	if (size == 1 || fits8(alu->imm))
		put8(b, alu->imm);
	else if (size == 2)
		put16(b, alu->imm);
	else
		put32(b, alu->imm);
	return 3;
}

static int emit_load(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);
	u32 size = ub_isa_access_size(insn);
	int covered = emit_fused(c, pc);

	if (covered)
		return covered;
	clobber(c, dst);
	if (BPF_MODE(insn->code) == BPF_MEMSX)
		x_load_signed(&c->out, size, dst, src, insn->off);
	else
		x_load(&c->out, size, dst, src, insn->off);
	return 1;
}

static int emit_imm64(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	u8 dst = hw_reg(insn->dst_reg);
	int err;

	clobber(c, dst);
	if (c->facts[pc].op == UB_OP_LD_IMM64) {
		x_mov_ri(&c->out, dst, (u64)(u32)insn[1].imm << 32 | (u32)insn->imm);
		return 2;
	}
	x_mov_ri64(&c->out, dst, 0);
	switch (c->facts[pc].op) {
	case UB_OP_LD_MAP_FD:
		err = add_reloc(c, UB_RELOC_MAP, insn->imm, 0, code_len(c) - 8);
		break;
	case UB_OP_LD_MAP_VALUE:
		err = add_reloc(c, UB_RELOC_MAP_VALUE, insn->imm, (u32)insn[1].imm,
				code_len(c) - 8);
		break;
	default: /* LD_FUNC; the addend is the instruction until the code has its final place */
		err = add_reloc(c, UB_RELOC_CODE, 0, (s64)pc + 1 + insn->imm, code_len(c) - 8);
		break;
	}
	return err ? err : 2;
}

int emit_memory(struct compiler *c, u32 pc)
{
	const struct bpf_insn *insn = &c->program->insns[pc];
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);
	u32 size = ub_isa_access_size(insn);

	switch (ub_isa_ops[c->facts[pc].op].form) {
	case UB_FORM_LOAD:
		return emit_load(c, pc, insn);
	case UB_FORM_STORE_IMM:
		emit_store_imm(&c->out, size, dst, insn->off, insn->imm);
		return 1;
	case UB_FORM_STORE:
	case UB_FORM_STORE_REL: /* every x86 store is a release */
		x_sized(&c->out, size, false, 0x89, src, true, dst, insn->off);
		return 1;
	case UB_FORM_LOAD_ACQ: /* every x86 load is an acquire */
		clobber(c, dst);
		x_load(&c->out, size, dst, src, insn->off);
		return 1;
	case UB_FORM_ATOMIC:
		emit_atomic(c, pc, insn);
		return 1;
	default:
		return emit_imm64(c, pc, insn);
	}
}
