/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic: what is known of a result, given what is known of the operands.
 */
#include <verifier/env.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static const char *const op_str[] = { "+=",  "-=",  "*=", "/=", "|=", "&=",   "<<=",
				      ">>=", "neg", "%=", "^=", "=",  "s>>=", "endian" };

static const char *alu_str(u8 op)
{
	return op >> 4 < ub_array_size(op_str) ? op_str[op >> 4] : "?";
}

static void unbounded_s32(struct reg *d)
{
	d->smin32 = S32_MIN;
	d->smax32 = S32_MAX;
}

static void unbounded_u32(struct reg *d)
{
	d->umin32 = 0;
	d->umax32 = U32_MAX;
}

static void unbounded_s64(struct reg *d)
{
	d->smin = S64_MIN;
	d->smax = S64_MAX;
}

static void unbounded_u64(struct reg *d)
{
	d->umin = 0;
	d->umax = U64_MAX;
}

/* Both ends wrap around or none does: then the range moves as a whole. */
static void add32(struct reg *d, const struct reg *s)
{
	s32 low, high;
	u32 ulow, uhigh;
	bool o1, o2;

	o1 = __builtin_add_overflow(d->smin32, s->smin32, &low);
	o2 = __builtin_add_overflow(d->smax32, s->smax32, &high);
	if (o1 || o2) {
		unbounded_s32(d);
	} else {
		d->smin32 = low;
		d->smax32 = high;
	}
	o1 = __builtin_add_overflow(d->umin32, s->umin32, &ulow);
	o2 = __builtin_add_overflow(d->umax32, s->umax32, &uhigh);
	if (o1 != o2) {
		unbounded_u32(d);
	} else {
		d->umin32 = ulow;
		d->umax32 = uhigh;
	}
}

static void add64(struct reg *d, const struct reg *s)
{
	s64 low, high;
	u64 ulow, uhigh;
	bool o1, o2;

	o1 = __builtin_add_overflow(d->smin, s->smin, &low);
	o2 = __builtin_add_overflow(d->smax, s->smax, &high);
	if (o1 || o2) {
		unbounded_s64(d);
	} else {
		d->smin = low;
		d->smax = high;
	}
	o1 = __builtin_add_overflow(d->umin, s->umin, &ulow);
	o2 = __builtin_add_overflow(d->umax, s->umax, &uhigh);
	if (o1 != o2) {
		unbounded_u64(d);
	} else {
		d->umin = ulow;
		d->umax = uhigh;
	}
}

static void sub32(struct reg *d, const struct reg *s)
{
	s32 low, high;
	u32 ulow, uhigh;
	bool o1, o2;

	o1 = __builtin_sub_overflow(d->smin32, s->smax32, &low);
	o2 = __builtin_sub_overflow(d->smax32, s->smin32, &high);
	if (o1 || o2) {
		unbounded_s32(d);
	} else {
		d->smin32 = low;
		d->smax32 = high;
	}
	o1 = __builtin_sub_overflow(d->umin32, s->umax32, &ulow);
	o2 = __builtin_sub_overflow(d->umax32, s->umin32, &uhigh);
	if (o1 != o2) {
		unbounded_u32(d);
	} else {
		d->umin32 = ulow;
		d->umax32 = uhigh;
	}
}

static void sub64(struct reg *d, const struct reg *s)
{
	s64 low, high;
	u64 ulow, uhigh;
	bool o1, o2;

	o1 = __builtin_sub_overflow(d->smin, s->smax, &low);
	o2 = __builtin_sub_overflow(d->smax, s->smin, &high);
	if (o1 || o2) {
		unbounded_s64(d);
	} else {
		d->smin = low;
		d->smax = high;
	}
	o1 = __builtin_sub_overflow(d->umin, s->umax, &ulow);
	o2 = __builtin_sub_overflow(d->umax, s->umin, &uhigh);
	if (o1 != o2) {
		unbounded_u64(d);
	} else {
		d->umin = ulow;
		d->umax = uhigh;
	}
}

static void mul32(struct reg *d, const struct reg *s)
{
	s64 p[4] = { (s64)d->smin32 * s->smin32, (s64)d->smin32 * s->smax32,
		     (s64)d->smax32 * s->smin32, (s64)d->smax32 * s->smax32 };
	s64 low = p[0], high = p[0];
	u32 ulow, uhigh;

	for (int i = 1; i < 4; i++) {
		low = MIN(low, p[i]);
		high = MAX(high, p[i]);
	}
	if (low < S32_MIN || high > S32_MAX) {
		unbounded_s32(d);
	} else {
		d->smin32 = (s32)low;
		d->smax32 = (s32)high;
	}
	if (__builtin_mul_overflow(d->umax32, s->umax32, &uhigh) ||
	    __builtin_mul_overflow(d->umin32, s->umin32, &ulow)) {
		unbounded_u32(d);
	} else {
		d->umin32 = ulow;
		d->umax32 = uhigh;
	}
}

static void mul64(struct reg *d, const struct reg *s)
{
	s64 p[4], low, high;
	u64 ulow, uhigh;

	if (__builtin_mul_overflow(d->smin, s->smin, &p[0]) ||
	    __builtin_mul_overflow(d->smin, s->smax, &p[1]) ||
	    __builtin_mul_overflow(d->smax, s->smin, &p[2]) ||
	    __builtin_mul_overflow(d->smax, s->smax, &p[3])) {
		unbounded_s64(d);
	} else {
		low = high = p[0];
		for (int i = 1; i < 4; i++) {
			low = MIN(low, p[i]);
			high = MAX(high, p[i]);
		}
		d->smin = low;
		d->smax = high;
	}
	if (__builtin_mul_overflow(d->umax, s->umax, &uhigh) ||
	    __builtin_mul_overflow(d->umin, s->umin, &ulow)) {
		unbounded_u64(d);
	} else {
		d->umin = ulow;
		d->umax = uhigh;
	}
}

/* Of bitwise operations: unsigned ranges that stay within one half are signed ranges too. */
static void signed_from_unsigned(struct reg *d)
{
	if ((s32)d->umin32 <= (s32)d->umax32) {
		d->smin32 = (s32)d->umin32;
		d->smax32 = (s32)d->umax32;
	} else {
		unbounded_s32(d);
	}
	if ((s64)d->umin <= (s64)d->umax) {
		d->smin = (s64)d->umin;
		d->smax = (s64)d->umax;
	} else {
		unbounded_s64(d);
	}
}

static void bitwise(struct reg *d, const struct reg *s, u8 op)
{
	struct tnum v32;

	if (op == BPF_AND)
		d->var_off = ub_tnum_and(d->var_off, s->var_off);
	else if (op == BPF_OR)
		d->var_off = ub_tnum_or(d->var_off, s->var_off);
	else
		d->var_off = ub_tnum_xor(d->var_off, s->var_off);
	v32 = ub_tnum_subreg(d->var_off);
	switch (op) {
	case BPF_AND:
		/* No more than either operand. */
		d->umin32 = (u32)v32.value;
		d->umax32 = MIN(d->umax32, s->umax32);
		d->umin = d->var_off.value;
		d->umax = MIN(d->umax, s->umax);
		break;
	case BPF_OR:
		/* No less than either operand. */
		d->umin32 = MAX(d->umin32, s->umin32);
		d->umax32 = (u32)(v32.value | v32.mask);
		d->umin = MAX(d->umin, s->umin);
		d->umax = d->var_off.value | d->var_off.mask;
		break;
	default:
		d->umin32 = (u32)v32.value;
		d->umax32 = (u32)(v32.value | v32.mask);
		d->umin = d->var_off.value;
		d->umax = d->var_off.value | d->var_off.mask;
	}
	signed_from_unsigned(d);
}

/* Shifts by a known amount smaller than the width. */
static void shift32(struct reg *d, u8 op, u32 by)
{
	struct tnum v = ub_tnum_subreg(d->var_off);

	switch (op) {
	case BPF_LSH:
		if (d->umax32 > 1ull << (31 - by)) {
			unbounded_u32(d);
		} else {
			d->umin32 <<= by;
			d->umax32 <<= by;
		}
		unbounded_s32(d);
		d->var_off = ub_tnum_subreg(ub_tnum_lsh(v, by));
		break;
	case BPF_RSH:
		unbounded_s32(d);
		d->umin32 >>= by;
		d->umax32 >>= by;
		d->var_off = ub_tnum_rsh(v, by);
		break;
	default:
		d->smin32 >>= by;
		d->smax32 >>= by;
		unbounded_u32(d);
		d->var_off = ub_tnum_arsh(v, by, 32);
	}
	unbounded_s64(d);
	unbounded_u64(d);
}

static void shift64(struct reg *d, u8 op, u32 by)
{
	switch (op) {
	case BPF_LSH:
		if (by == 32) {
			d->smin = (s64)((u64)(s64)d->smin32 << 32);
			d->smax = (s64)((u64)(s64)d->smax32 << 32);
		} else {
			unbounded_s64(d);
		}
		if (d->umax > 1ull << (63 - by)) {
			unbounded_u64(d);
		} else {
			d->umin <<= by;
			d->umax <<= by;
		}
		d->var_off = ub_tnum_lsh(d->var_off, by);
		break;
	case BPF_RSH:
		unbounded_s64(d);
		d->umin >>= by;
		d->umax >>= by;
		d->var_off = ub_tnum_rsh(d->var_off, by);
		break;
	default:
		d->smin >>= by;
		d->smax >>= by;
		unbounded_u64(d);
		d->var_off = ub_tnum_arsh(d->var_off, by, 64);
	}
	unbounded_s32(d);
	unbounded_u32(d);
}

static void scalar_op(const struct bpf_insn *insn, struct reg *d, const struct reg *src)
{
	bool alu32 = BPF_CLASS(insn->code) == BPF_ALU;
	u8 op = BPF_OP(insn->code);
	struct reg s = *src, old;
	u64 by;

	switch (op) {
	case BPF_ADD:
		add32(d, &s);
		add64(d, &s);
		d->var_off = ub_tnum_add(d->var_off, s.var_off);
		break;
	case BPF_SUB:
		sub32(d, &s);
		sub64(d, &s);
		d->var_off = ub_tnum_sub(d->var_off, s.var_off);
		break;
	case BPF_NEG:
		old = *d;
		ub_reg_const(d, 0);
		sub32(d, &old);
		sub64(d, &old);
		d->var_off = ub_tnum_sub(ub_tnum_const(0), old.var_off);
		break;
	case BPF_MUL:
		mul32(d, &s);
		mul64(d, &s);
		d->var_off = ub_tnum_mul(d->var_off, s.var_off);
		break;
	case BPF_AND:
	case BPF_OR:
	case BPF_XOR:
		bitwise(d, &s, op);
		break;
	case BPF_LSH:
	case BPF_RSH:
	case BPF_ARSH:
		by = ub_reg_value(&s, alu32);
		if (!ub_reg_is_const(&s, alu32) || by >= (alu32 ? 32 : 64)) {
			ub_reg_mark_unknown(d);
			return;
		}
		if (alu32)
			shift32(d, op, by);
		else
			shift64(d, op, by);
		break;
	default: /* division: no bounds are kept */
		ub_reg_mark_unknown(d);
		return;
	}
	if (alu32)
		ub_range_zext32(d);
	else
		ub_range_sync(d);
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

/* @dst becomes @ptr +- @off; one of the two is @dst's present content. */
static int pointer_op(struct env *env, const struct bpf_insn *insn, struct reg *dst,
		      const struct reg *ptr_reg, const struct reg *off_reg)
{
	const struct reg ptr = *ptr_reg, off = *off_reg;
	bool off_is_dst = off_reg == dst;
	bool known = ub_tnum_is_const(off.var_off);
	u8 op = BPF_OP(insn->code);
	struct reg result = ptr;
	bool o1, o2;
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
	unbounded_s32(&result);
	unbounded_u32(&result);
	switch (op) {
	case BPF_ADD:
		if (known && ptr.off + off.smin == (s32)(ptr.off + off.smin)) {
			result.off = (s32)(ptr.off + off.smin);
			break;
		}
		o1 = __builtin_add_overflow(ptr.smin, off.smin, &result.smin);
		o2 = __builtin_add_overflow(ptr.smax, off.smax, &result.smax);
		if (o1 || o2)
			unbounded_s64(&result);
		o1 = __builtin_add_overflow(ptr.umin, off.umin, &result.umin);
		o2 = __builtin_add_overflow(ptr.umax, off.umax, &result.umax);
		if (o1 || o2)
			unbounded_u64(&result);
		result.var_off = ub_tnum_add(ptr.var_off, off.var_off);
		if (ub_is_packet(ptr.type)) {
			result.id = ++env->id_gen;
			result.range = 0;
		}
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
		if (known && ptr.off - off.smin == (s32)(ptr.off - off.smin)) {
			result.off = (s32)(ptr.off - off.smin);
			break;
		}
		o1 = __builtin_sub_overflow(ptr.smin, off.smax, &result.smin);
		o2 = __builtin_sub_overflow(ptr.smax, off.smin, &result.smax);
		if (o1 || o2)
			unbounded_s64(&result);
		if (ptr.umin < off.umax) {
			unbounded_u64(&result);
		} else {
			result.umin = ptr.umin - off.umax;
			result.umax = ptr.umax - off.umin;
		}
		result.var_off = ub_tnum_sub(ptr.var_off, off.var_off);
		if (ub_is_packet(ptr.type)) {
			result.id = ++env->id_gen;
			if (off.smin < 0)
				result.range = 0;
		}
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

		scalar_op(insn, dst, src);
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
	scalar_op(insn, dst, src);
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
			scalar_op(insn, dst, dst);
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
		add32(reg, &delta);
		add64(reg, &delta);
		reg->var_off = ub_tnum_add(reg->var_off, delta.var_off);
		ub_range_sync(reg);
	}
}
