/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic instructions: pointers moved by numbers, copies and how they stay related, and for the
 * rest what scalar.c makes of the numbers.
 */
#include <verifier/env.h>

static const char *const op_str[] = { "+=",  "-=",  "*=", "/=", "|=", "&=",   "<<=",
				      ">>=", "neg", "%=", "^=", "=",  "s>>=", "endian" };

static const char *alu_str(u8 op)
{
	return op >> 4 < ub_array_size(op_str) ? op_str[op >> 4] : "?";
}

static int sane_offset(struct env *env, const struct reg *reg, u32 type)
{
	s64 value = (s64)reg->var_off.value;

	if (ub_tnum_is_const(reg->var_off) && (value >= MAX_VAR_OFF || value <= -MAX_VAR_OFF))
		return ub_reject(env, -EINVAL, "math between %s pointer and %lld is not allowed\n",
				 ub_type_str(env, type), (long long)value);
	if (reg->off >= MAX_VAR_OFF || reg->off <= -MAX_VAR_OFF)
		return ub_reject(env, -EINVAL, "%s pointer offset %d is not allowed\n",
				 ub_type_str(env, type), reg->off);
	if (reg->smin == S64_MIN)
		return ub_reject(
			env, -EINVAL,
			"math between %s pointer and register with unbounded min value is not allowed\n",
			ub_type_str(env, type));
	if (reg->smin >= MAX_VAR_OFF || reg->smin <= -MAX_VAR_OFF)
		return ub_reject(env, -EINVAL, "value %lld makes %s pointer be out of bounds\n",
				 (long long)reg->smin, ub_type_str(env, type));
	return 0;
}

static int pointer_allows_math(struct env *env, const struct bpf_insn *insn, const struct reg *ptr,
			       const struct reg *off)
{
	u8 op = BPF_OP(insn->code);

	if (ptr->type & PTR_MAYBE_NULL)
		return ub_reject(env, -EACCES,
				 "R%u pointer arithmetic on %s prohibited, null-check it first\n",
				 insn->dst_reg, ub_type_str(env, ptr->type));
	switch (ub_base_type(ptr->type)) {
	case PTR_TO_CTX:
	case PTR_TO_MAP_VALUE:
	case PTR_TO_MAP_KEY:
	case PTR_TO_STACK:
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
	case PTR_TO_MEM:
	case PTR_TO_TASK:
	case PTR_TO_FUNC:
	case CONST_PTR_TO_DYNPTR:
		return 0;
	case CONST_PTR_TO_MAP:
		if (ub_tnum_equals(off->var_off, 0) && op == BPF_ADD)
			return 0;
		break;
	}
	return ub_reject(env, -EACCES, "R%u pointer arithmetic on %s prohibited\n", insn->dst_reg,
			 ub_type_str(env, ptr->type));
}

/* Constants move the fixed part of the distance, everything else the variable part. */
static void pointer_add(struct env *env, struct reg *result, const struct reg *ptr,
			const struct reg *off)
{
	bool o1, o2;

	if (ub_tnum_is_const(off->var_off) && ptr->off + off->smin == (s32)(ptr->off + off->smin)) {
		result->off = (s32)(ptr->off + off->smin);
		return;
	}
	o1 = __builtin_add_overflow(ptr->smin, off->smin, &result->smin);
	o2 = __builtin_add_overflow(ptr->smax, off->smax, &result->smax);
	if (o1 || o2)
		ub_reg_unbounded_s64(result);
	o1 = __builtin_add_overflow(ptr->umin, off->umin, &result->umin);
	o2 = __builtin_add_overflow(ptr->umax, off->umax, &result->umax);
	if (o1 || o2)
		ub_reg_unbounded_u64(result);
	result->var_off = ub_tnum_add(ptr->var_off, off->var_off);
	/* What was learnt of the packet's end held for the old distance. */
	if (ub_is_packet(ptr->type)) {
		result->id = ++env->id_gen;
		result->range = 0;
	}
}

static void pointer_sub(struct env *env, struct reg *result, const struct reg *ptr,
			const struct reg *off)
{
	bool o1, o2;

	if (ub_tnum_is_const(off->var_off) && ptr->off - off->smin == (s32)(ptr->off - off->smin)) {
		result->off = (s32)(ptr->off - off->smin);
		return;
	}
	o1 = __builtin_sub_overflow(ptr->smin, off->smax, &result->smin);
	o2 = __builtin_sub_overflow(ptr->smax, off->smin, &result->smax);
	if (o1 || o2)
		ub_reg_unbounded_s64(result);
	if (ptr->umin < off->umax) {
		ub_reg_unbounded_u64(result);
	} else {
		result->umin = ptr->umin - off->umax;
		result->umax = ptr->umax - off->umin;
	}
	result->var_off = ub_tnum_sub(ptr->var_off, off->var_off);
	if (ub_is_packet(ptr->type)) {
		result->id = ++env->id_gen;
		if (off->smin < 0)
			result->range = 0;
	}
}

/* @dst becomes @ptr +- @off; one of the two is @dst's present content. */
static int pointer_op(struct env *env, const struct bpf_insn *insn, struct reg *dst,
		      const struct reg *ptr_reg, const struct reg *off_reg)
{
	const struct reg ptr = *ptr_reg, off = *off_reg;
	bool off_is_dst = off_reg == dst;
	bool known = ub_tnum_is_const(off.var_off);
	u8 op = BPF_OP(insn->code);
	struct reg result = ptr;
	int err;

	if ((known && (off.smin != off.smax || off.umin != off.umax)) || off.smin > off.smax ||
	    off.umin > off.umax) {
		ub_reg_mark_unknown(dst);
		return 0;
	}
	if (BPF_CLASS(insn->code) != BPF_ALU64) {
		if (op == BPF_SUB) {
			ub_reg_mark_unknown(dst);
			return 0;
		}
		return ub_reject(env, -EACCES, "R%u 32-bit pointer arithmetic prohibited\n",
				 insn->dst_reg);
	}
	err = pointer_allows_math(env, insn, &ptr, &off);
	if (!err)
		err = sane_offset(env, &off, ptr.type);
	if (!err)
		err = sane_offset(env, &ptr, ptr.type);
	if (err)
		return err;
	ub_reg_unbounded32(&result);
	switch (op) {
	case BPF_ADD:
		pointer_add(env, &result, &ptr, &off);
		break;
	case BPF_SUB:
		if (off_is_dst)
			return ub_reject(env, -EACCES,
					 "R%u tried to subtract pointer from scalar\n",
					 insn->dst_reg);
		if (ptr.type == PTR_TO_STACK)
			return ub_reject(env, -EACCES,
					 "R%u subtraction from stack pointer prohibited\n",
					 insn->dst_reg);
		pointer_sub(env, &result, &ptr, &off);
		break;
	case BPF_AND:
	case BPF_OR:
	case BPF_XOR:
		return ub_reject(env, -EACCES, "R%u bitwise operator %s on pointer prohibited\n",
				 insn->dst_reg, alu_str(op));
	default:
		return ub_reject(env, -EACCES,
				 "R%u pointer arithmetic with %s operator prohibited\n",
				 insn->dst_reg, alu_str(op));
	}
	err = sane_offset(env, &result, ptr.type);
	if (err)
		return err;
	ub_range_sync(&result);
	*dst = result;
	return 0;
}

static int binary_op(struct env *env, const struct bpf_insn *insn)
{
	struct reg *regs = ub_cur_regs(env);
	struct reg *dst = &regs[insn->dst_reg], *src, imm;
	u8 op = BPF_OP(insn->code);
	int err = 0;

	if (BPF_SRC(insn->code) == BPF_X) {
		src = &regs[insn->src_reg];
		if (ub_is_pointer(src)) {
			if (ub_is_pointer(dst)) {
				if (op != BPF_SUB)
					return ub_reject(env, -EACCES,
							 "R%u pointer %s pointer prohibited\n",
							 insn->dst_reg, alu_str(op));
				ub_reg_mark_unknown(dst);
				return 0;
			}
			err = ub_mark_precise(env, insn->dst_reg);
			return err ?: pointer_op(env, insn, dst, src, dst);
		}
		if (ub_is_pointer(dst)) {
			err = ub_mark_precise(env, insn->src_reg);
			return err ?: pointer_op(env, insn, dst, dst, src);
		}
		if (dst->precise) {
			err = ub_mark_precise(env, insn->src_reg);
			if (err)
				return err;
		}
	} else {
		ub_reg_mark_known(&imm, (u64)(s64)insn->imm);
		src = &imm;
		if (ub_is_pointer(dst))
			return pointer_op(env, insn, dst, dst, src);
	}
	if (dst->id && BPF_CLASS(insn->code) == BPF_ALU64 && op == BPF_ADD &&
	    ub_reg_is_const(src, false)) {
		u64 value = ub_reg_value(src, false);

		ub_scalar_op(insn, dst, src);
		/* Remember the relation: this is (what had the id) + value. */
		if (dst->id & ID_ADD_CONST || value > S32_MAX) {
			dst->off = 0;
			dst->id = 0;
		} else {
			dst->id |= ID_ADD_CONST;
			dst->off = (s32)value;
		}
		return 0;
	}
	ub_scalar_op(insn, dst, src);
	if (dst->id & ID_ADD_CONST)
		dst->off = 0;
	dst->id = 0;
	return 0;
}

static void id_before_mov(struct env *env, struct reg *src)
{
	if (src->type != SCALAR_VALUE)
		return;
	if (src->id & ID_ADD_CONST) {
		/* Only one step of relation is remembered. */
		src->id = 0;
		src->off = 0;
	}
	if (!src->id && !ub_tnum_is_const(src->var_off))
		src->id = ++env->id_gen;
}

static void drop_id(struct reg *reg)
{
	if (reg->id & ID_ADD_CONST)
		reg->off = 0;
	reg->id = 0;
}

static int mov(struct env *env, const struct bpf_insn *insn)
{
	struct reg *regs = ub_cur_regs(env);
	struct reg *dst = &regs[insn->dst_reg], *src = &regs[insn->src_reg];
	bool alu64 = BPF_CLASS(insn->code) == BPF_ALU64;
	bool fits;
	int err;

	if (BPF_SRC(insn->code) == BPF_K) {
		if (insn->src_reg || insn->off)
			return ub_reject(env, -EINVAL, "BPF_MOV uses reserved fields\n");
		err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
		if (!err)
			ub_reg_mark_known(dst, alu64 ? (u64)(s64)insn->imm : (u32)insn->imm);
		return err;
	}
	if (insn->imm ||
	    (insn->off != 0 && insn->off != 8 && insn->off != 16 && (!alu64 || insn->off != 32)))
		return ub_reject(env, -EINVAL, "BPF_MOV uses reserved fields\n");
	err = ub_check_reg(env, insn->src_reg, USE_SRC);
	if (!err)
		err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
	if (err)
		return err;
	if (alu64 && !insn->off) {
		id_before_mov(env, src);
		*dst = *src;
		return 0;
	}
	if (src->type != SCALAR_VALUE) {
		ub_reg_mark_unknown(dst);
		if (!alu64)
			ub_range_zext32(dst);
		return 0;
	}
	fits = insn->off ? src->umax < 1ull << (insn->off - 1) : src->umax <= U32_MAX;
	if (fits)
		id_before_mov(env, src);
	*dst = *src;
	if (!fits)
		drop_id(dst);
	if (alu64) {
		ub_range_coerce_size_sx(dst, insn->off >> 3);
		return 0;
	}
	if (insn->off)
		ub_range_coerce_subreg_sx(dst, insn->off >> 3);
	ub_range_zext32(dst);
	return 0;
}

static u64 swap_bytes(u64 v, u32 bits)
{
	switch (bits) {
	case 16:
		return __builtin_bswap16((u16)v);
	case 32:
		return __builtin_bswap32((u32)v);
	default:
		return __builtin_bswap64(v);
	}
}

/* Known bits move with their bytes; "to little endian" only cuts off, on this machine. */
static void byte_swap(const struct bpf_insn *insn, struct reg *d)
{
	bool swap = BPF_CLASS(insn->code) == BPF_ALU64 || BPF_SRC(insn->code) == BPF_TO_BE;
	u32 bits = insn->imm;

	if (swap)
		d->var_off = ub_tnum(swap_bytes(d->var_off.value, bits),
				     swap_bytes(d->var_off.mask, bits));
	else
		d->var_off = ub_tnum_cast(d->var_off, bits / 8);
	ub_reg_unbounded(d);
	ub_range_sync(d);
}

static int unary(struct env *env, const struct bpf_insn *insn)
{
	struct reg *dst = &ub_cur_regs(env)[insn->dst_reg];
	bool alu64 = BPF_CLASS(insn->code) == BPF_ALU64;
	int err;

	if (BPF_OP(insn->code) == BPF_NEG) {
		if (BPF_SRC(insn->code) != BPF_K || insn->src_reg || insn->off || insn->imm)
			return ub_reject(env, -EINVAL, "BPF_NEG uses reserved fields\n");
	} else if (insn->src_reg || insn->off ||
		   (insn->imm != 16 && insn->imm != 32 && insn->imm != 64) ||
		   (alu64 && BPF_SRC(insn->code) != BPF_TO_LE)) {
		return ub_reject(env, -EINVAL, "BPF_END uses reserved fields\n");
	}
	err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (err)
		return err;
	if (dst->type == SCALAR_VALUE) {
		err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
		if (err)
			return err;
		drop_id(dst);
		if (BPF_OP(insn->code) == BPF_NEG)
			ub_scalar_op(insn, dst, dst);
		else
			byte_swap(insn, dst);
		return ub_range_check(env, dst, "alu");
	}
	return ub_check_reg(env, insn->dst_reg, USE_DST);
}

int ub_check_alu(struct env *env, const struct bpf_insn *insn)
{
	u8 op = BPF_OP(insn->code);
	bool reserved;
	int err;

	if (op == BPF_END || op == BPF_NEG)
		return unary(env, insn);
	if (op == BPF_MOV)
		return mov(env, insn);
	if (op > BPF_END)
		return ub_reject(env, -EINVAL, "invalid BPF_ALU opcode %x\n", op);
	/* off == 1: the signed form of division */
	reserved = insn->off != 0 && (insn->off != 1 || (op != BPF_DIV && op != BPF_MOD));
	if (BPF_SRC(insn->code) == BPF_X) {
		if (insn->imm || reserved)
			return ub_reject(env, -EINVAL, "BPF_ALU uses reserved fields\n");
		err = ub_check_reg(env, insn->src_reg, USE_SRC);
		if (err)
			return err;
	} else if (insn->src_reg || reserved) {
		return ub_reject(env, -EINVAL, "BPF_ALU uses reserved fields\n");
	}
	err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (err)
		return err;
	if ((op == BPF_MOD || op == BPF_DIV) && BPF_SRC(insn->code) == BPF_K && !insn->imm)
		return ub_reject(env, -EINVAL, "div by zero\n");
	if ((op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH) && BPF_SRC(insn->code) == BPF_K) {
		s32 width = BPF_CLASS(insn->code) == BPF_ALU64 ? 64 : 32;

		if (insn->imm < 0 || insn->imm >= width)
			return ub_reject(env, -EINVAL, "invalid shift %d\n", insn->imm);
	}
	err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
	if (!err)
		err = binary_op(env, insn);
	if (!err)
		err = ub_range_check(env, &ub_cur_regs(env)[insn->dst_reg], "alu");
	return err;
}

/* @linked registers are @known plus a constant each: what was learnt of one holds for all. */
void ub_linked_refresh(struct env *env, struct state *state, const struct reg *known, u64 linked)
{
	const struct bpf_insn add = { .code = BPF_ALU64 | BPF_ADD | BPF_X };
	const struct reg base = *known;

	for (u32 i = 0, n = linked & 0xf; i < n; i++) {
		u32 entry = linked >> (4 + i * 10) & 0x3ff;
		struct frame *frame = state->frame[entry & 7];
		u32 at = entry >> 3 & 0x3f;
		struct reg *reg = entry >> 9 ? &frame->regs[at] : &frame->stack[at].reg;
		struct reg delta;
		s32 off;
		u32 id;

		if (reg->type != SCALAR_VALUE || reg == known)
			continue;
		if ((reg->id & ~ID_ADD_CONST) != (base.id & ~ID_ADD_CONST))
			continue;
		if ((!(reg->id & ID_ADD_CONST) && !(base.id & ID_ADD_CONST)) ||
		    reg->off == base.off) {
			*reg = base;
			continue;
		}
		off = reg->off;
		id = reg->id;
		ub_reg_mark_known(&delta, (u64)((s64)off - base.off));
		*reg = base;
		reg->off = off;
		reg->id = id;
		ub_scalar_op(&add, reg, &delta);
	}
}
