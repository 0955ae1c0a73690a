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

/* The x86 operation of one of the instructions that jit_is_change() knows. */
static enum alu change_op(const struct bpf_insn *insn)
{
	switch (BPF_OP(insn->code)) {
	case BPF_ADD:
		return X_ADD;
	case BPF_SUB:
		return X_SUB;
	case BPF_OR:
		return X_OR;
	case BPF_AND:
		return X_AND;
	default:
		return X_XOR;
	}
}

/* lock op [base + off], operand of @change */
static void emit_locked(struct compiler *c, const struct bpf_insn *store,
			const struct bpf_insn *change)
{
	struct bytes *b = &c->out;
	u32 size = ub_isa_access_size(store);
	u8 base = hw_reg(store->dst_reg);
	enum alu op = change_op(change);

	if (BPF_SRC(change->code) == BPF_X) {
		x_sized(b, size, true, op << 3 | 1, hw_reg(change->src_reg), true, base,
			store->off);
		return;
	}
	/* 80 /op ib, 83 /op ib, 81 /op iw or id */
	x_sized(b, size, true, size == 1 || !fits8(change->imm) ? 0x81 : 0x83, op, false, base,
		store->off);
	if (size == 1 || fits8(change->imm))
		put8(b, change->imm);
	else if (size == 2)
		put16(b, change->imm);
	else
		put32(b, change->imm);
}

/* The same where the new value is needed as well: r = *p op= x. */
static void emit_locked_fetch(struct compiler *c, const struct bpf_insn *store,
			      const struct bpf_insn *change)
{
	struct bytes *b = &c->out;
	u32 size = ub_isa_access_size(store);
	u8 dst = hw_reg(store->src_reg), base = hw_reg(store->dst_reg),
	   src = hw_reg(change->src_reg);
	bool by_reg = BPF_SRC(change->code) == BPF_X;
	bool wide = BPF_CLASS(change->code) == BPF_ALU64;
	enum alu op = change_op(change);

	clobber(c, SCRATCH);
	clobber(c, dst);
	if (op == X_ADD || op == X_SUB) {
		if (by_reg)
			x_mov_rr(b, true, SCRATCH, src);
		else
			x_mov_ri(b, SCRATCH, (u64)(s64)change->imm);
		if (op == X_SUB)
			x_neg(b, true, SCRATCH);
		x_sized(b, size, true, 0x0fc1, SCRATCH, true, base, store->off);
		x_zero_extend(b, size, dst, SCRATCH);
	} else {
		c->clobbers |= 1u << SCRATCH2 | 1u << SCRATCH3;
		/* rax is about to be used: what is there moves away. */
		x_mov_rr(b, true, SCRATCH3, RAX);
		if (base == RAX) {
			x_mov_rr(b, true, SCRATCH2, RAX);
			base = SCRATCH2;
		}
		if (src == RAX)
			src = SCRATCH3;
		emit_fetch_loop(c, size, op, base, store->off, by_reg ? src : 0xff, change->imm);
		x_zero_extend(b, size, dst, RAX);
		if (dst != RAX)
			x_mov_rr(b, true, RAX, SCRATCH3);
	}
	if (by_reg)
		x_alu_rr(b, wide, op, dst, src);
	else
		x_alu_ri(b, wide, op, dst, change->imm);
}

/* A store that ends a read-modify-write of a per-CPU value: see find_fused() in analysis.c. */
static void emit_fused_store(struct compiler *c, u32 pc, const struct bpf_insn *store)
{
	u32 load = pc - c->facts[pc].fused;
	bool fetch = live_after(c, pc, store->src_reg) && c->facts[load].flags & FACT_DEAD;

	for (u32 i = load + 1; i < pc; i++) {
		const struct bpf_insn *insn = &c->program->insns[i];

		if (!jit_is_change(insn, &c->facts[i], store->src_reg))
			continue;
		if (fetch)
			emit_locked_fetch(c, store, insn);
		else
			emit_locked(c, store, insn);
	}
}

static int emit_load(struct compiler *c, const struct bpf_insn *insn)
{
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);
	u32 size = ub_isa_access_size(insn);

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
		return emit_load(c, insn);
	case UB_FORM_STORE_IMM:
		emit_store_imm(&c->out, size, dst, insn->off, insn->imm);
		return 1;
	case UB_FORM_STORE:
		if (c->facts[pc].fused) {
			emit_fused_store(c, pc, insn);
			return 1;
		}
		/* fall through */
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
