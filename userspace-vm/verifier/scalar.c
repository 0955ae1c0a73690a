/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic on numbers: what is known of the result's bits and ranges, given what is known of the
 * operands'. Every rule here must hold for all pairs of values that the operands can have.
 */
#include <verifier/env.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

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
		ub_reg_unbounded_s64(d);
	} else {
		d->smin = low;
		d->smax = high;
	}
	o1 = __builtin_add_overflow(d->umin, s->umin, &ulow);
	o2 = __builtin_add_overflow(d->umax, s->umax, &uhigh);
	if (o1 != o2) {
		ub_reg_unbounded_u64(d);
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
		ub_reg_unbounded_s64(d);
	} else {
		d->smin = low;
		d->smax = high;
	}
	o1 = __builtin_sub_overflow(d->umin, s->umax, &ulow);
	o2 = __builtin_sub_overflow(d->umax, s->umin, &uhigh);
	if (o1 != o2) {
		ub_reg_unbounded_u64(d);
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
		ub_reg_unbounded_s64(d);
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
		ub_reg_unbounded_u64(d);
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
		ub_reg_unbounded_s64(d);
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
	ub_reg_unbounded_s64(d);
	ub_reg_unbounded_u64(d);
}

static void shift64(struct reg *d, u8 op, u32 by)
{
	switch (op) {
	case BPF_LSH:
		if (by == 32) {
			d->smin = (s64)((u64)(s64)d->smin32 << 32);
			d->smax = (s64)((u64)(s64)d->smax32 << 32);
		} else {
			ub_reg_unbounded_s64(d);
		}
		if (d->umax > 1ull << (63 - by)) {
			ub_reg_unbounded_u64(d);
		} else {
			d->umin <<= by;
			d->umax <<= by;
		}
		d->var_off = ub_tnum_lsh(d->var_off, by);
		break;
	case BPF_RSH:
		ub_reg_unbounded_s64(d);
		d->umin >>= by;
		d->umax >>= by;
		d->var_off = ub_tnum_rsh(d->var_off, by);
		break;
	default:
		d->smin >>= by;
		d->smax >>= by;
		ub_reg_unbounded_u64(d);
		d->var_off = ub_tnum_arsh(d->var_off, by, 64);
	}
	unbounded_s32(d);
	unbounded_u32(d);
}

void ub_scalar_op(const struct bpf_insn *insn, struct reg *d, const struct reg *src)
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
