/* SPDX-License-Identifier: MIT */
/*
 * Comparisons of numbers: whether one must come out true or false, and what each outcome teaches of
 * both sides.
 */
#include <verifier/env.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* "jset and no bit set": the opposite of BPF_JSET, which has no opcode. */
#define OP_JNSET (BPF_JSET | BPF_X)

u8 ub_jump_flip(u8 op)
{
	switch (op) {
	case BPF_JGT:
		return BPF_JLT;
	case BPF_JGE:
		return BPF_JLE;
	case BPF_JLT:
		return BPF_JGT;
	case BPF_JLE:
		return BPF_JGE;
	case BPF_JSGT:
		return BPF_JSLT;
	case BPF_JSGE:
		return BPF_JSLE;
	case BPF_JSLT:
		return BPF_JSGT;
	case BPF_JSLE:
		return BPF_JSGE;
	default:
		return op;
	}
}

static u8 opposite(u8 op)
{
	switch (op) {
	case BPF_JEQ:
		return BPF_JNE;
	case BPF_JNE:
		return BPF_JEQ;
	case BPF_JSET:
		return OP_JNSET;
	case OP_JNSET:
		return BPF_JSET;
	case BPF_JGT:
		return BPF_JLE;
	case BPF_JGE:
		return BPF_JLT;
	case BPF_JLT:
		return BPF_JGE;
	case BPF_JLE:
		return BPF_JGT;
	case BPF_JSGT:
		return BPF_JSLE;
	case BPF_JSGE:
		return BPF_JSLT;
	case BPF_JSLT:
		return BPF_JSGE;
	default:
		return BPF_JSGT;
	}
}

static bool disjoint(const struct reg *a, const struct reg *b, bool is32)
{
	if (a->umin32 > b->umax32 || a->umax32 < b->umin32 || a->smin32 > b->smax32 ||
	    a->smax32 < b->smin32)
		return true;
	if (is32) {
		struct tnum x = ub_tnum_subreg(a->var_off), y = ub_tnum_subreg(b->var_off);

		return (x.value ^ y.value) & ~(x.mask | y.mask);
	}
	return a->umin > b->umax || a->umax < b->umin || a->smin > b->smax || a->smax < b->smin ||
	       ((a->var_off.value ^ b->var_off.value) & ~(a->var_off.mask | b->var_off.mask));
}

int ub_scalar_taken(const struct reg *a, const struct reg *b, u8 op, bool is32)
{
	struct tnum x = is32 ? ub_tnum_subreg(a->var_off) : a->var_off;
	struct tnum y = is32 ? ub_tnum_subreg(b->var_off) : b->var_off;
	u64 umin1 = is32 ? a->umin32 : a->umin, umax1 = is32 ? a->umax32 : a->umax;
	u64 umin2 = is32 ? b->umin32 : b->umin, umax2 = is32 ? b->umax32 : b->umax;
	s64 smin1 = is32 ? a->smin32 : a->smin, smax1 = is32 ? a->smax32 : a->smax;
	s64 smin2 = is32 ? b->smin32 : b->smin, smax2 = is32 ? b->smax32 : b->smax;

	switch (op) {
	case BPF_JEQ:
	case BPF_JNE:
		if (ub_tnum_is_const(x) && ub_tnum_is_const(y))
			return (x.value == y.value) == (op == BPF_JEQ);
		if (disjoint(a, b, is32))
			return op == BPF_JNE;
		return -1;
	case BPF_JSET:
		if (!ub_tnum_is_const(y)) {
			struct tnum t = x;

			x = y;
			y = t;
		}
		if (!ub_tnum_is_const(y))
			return -1;
		if (x.value & y.value)
			return 1;
		return (x.mask | x.value) & y.value ? -1 : 0;
	case BPF_JGT:
		return umin1 > umax2 ? 1 : umax1 <= umin2 ? 0 : -1;
	case BPF_JSGT:
		return smin1 > smax2 ? 1 : smax1 <= smin2 ? 0 : -1;
	case BPF_JLT:
		return umax1 < umin2 ? 1 : umin1 >= umax2 ? 0 : -1;
	case BPF_JSLT:
		return smax1 < smin2 ? 1 : smin1 >= smax2 ? 0 : -1;
	case BPF_JGE:
		return umin1 >= umax2 ? 1 : umax1 < umin2 ? 0 : -1;
	case BPF_JSGE:
		return smin1 >= smax2 ? 1 : smax1 < smin2 ? 0 : -1;
	case BPF_JLE:
		return umax1 <= umin2 ? 1 : umin1 > umax2 ? 0 : -1;
	case BPF_JSLE:
		return smax1 <= smin2 ? 1 : smin1 > smax2 ? 0 : -1;
	}
	return -1;
}

static void refine_equal(struct reg *a, struct reg *b, bool is32)
{
	struct tnum t;

	a->umin32 = b->umin32 = MAX(a->umin32, b->umin32);
	a->umax32 = b->umax32 = MIN(a->umax32, b->umax32);
	a->smin32 = b->smin32 = MAX(a->smin32, b->smin32);
	a->smax32 = b->smax32 = MIN(a->smax32, b->smax32);
	if (is32) {
		t = ub_tnum_intersect(ub_tnum_subreg(a->var_off), ub_tnum_subreg(b->var_off));
		a->var_off = ub_tnum_with_subreg(a->var_off, t);
		b->var_off = ub_tnum_with_subreg(b->var_off, t);
		return;
	}
	a->umin = b->umin = MAX(a->umin, b->umin);
	a->umax = b->umax = MIN(a->umax, b->umax);
	a->smin = b->smin = MAX(a->smin, b->smin);
	a->smax = b->smax = MIN(a->smax, b->smax);
	a->var_off = b->var_off = ub_tnum_intersect(a->var_off, b->var_off);
}

/* A value that is not at the edge of the range moves the edge. */
static void refine_not(struct reg *a, u64 value, bool is32)
{
	if (is32) {
		if (a->umin32 == (u32)value)
			a->umin32++;
		if (a->umax32 == (u32)value)
			a->umax32--;
		if (a->smin32 == (s32)value)
			a->smin32++;
		if (a->smax32 == (s32)value)
			a->smax32--;
	} else {
		if (a->umin == value)
			a->umin++;
		if (a->umax == value)
			a->umax--;
		if (a->smin == (s64)value)
			a->smin++;
		if (a->smax == (s64)value)
			a->smax--;
	}
}

/* Applies "a op b is true" to both. */
static void refine(struct reg *a, struct reg *b, u8 op, bool is32)
{
	struct tnum t;
	u64 value;

	switch (op) {
	case BPF_JGE:
	case BPF_JGT:
	case BPF_JSGE:
	case BPF_JSGT: {
		struct reg *x = a;

		a = b;
		b = x;
		op = ub_jump_flip(op);
		break;
	}
	case BPF_JNE:
	case BPF_JSET:
	case OP_JNSET:
		if (!ub_reg_is_const(b, is32)) {
			struct reg *x = a;

			a = b;
			b = x;
		}
		if (!ub_reg_is_const(b, is32))
			return;
		break;
	}
	switch (op) {
	case BPF_JEQ:
		refine_equal(a, b, is32);
		break;
	case BPF_JNE:
		refine_not(a, ub_reg_value(b, is32), is32);
		break;
	case BPF_JSET:
		value = ub_reg_value(b, is32);
		if (!value || value & (value - 1))
			break;
		if (is32) {
			t = ub_tnum_or(ub_tnum_subreg(a->var_off), ub_tnum_const(value));
			a->var_off = ub_tnum_with_subreg(a->var_off, t);
		} else {
			a->var_off = ub_tnum_or(a->var_off, ub_tnum_const(value));
		}
		break;
	case OP_JNSET:
		value = ub_reg_value(b, is32);
		if (is32) {
			t = ub_tnum_and(ub_tnum_subreg(a->var_off), ub_tnum_const((u32)~value));
			a->var_off = ub_tnum_with_subreg(a->var_off, t);
		} else {
			a->var_off = ub_tnum_and(a->var_off, ub_tnum_const(~value));
		}
		break;
	case BPF_JLE:
		if (is32) {
			a->umax32 = MIN(a->umax32, b->umax32);
			b->umin32 = MAX(a->umin32, b->umin32);
		} else {
			a->umax = MIN(a->umax, b->umax);
			b->umin = MAX(a->umin, b->umin);
		}
		break;
	case BPF_JLT:
		if (is32) {
			a->umax32 = MIN(a->umax32, b->umax32 - 1);
			b->umin32 = MAX(a->umin32 + 1, b->umin32);
		} else {
			a->umax = MIN(a->umax, b->umax - 1);
			b->umin = MAX(a->umin + 1, b->umin);
		}
		break;
	case BPF_JSLE:
		if (is32) {
			a->smax32 = MIN(a->smax32, b->smax32);
			b->smin32 = MAX(a->smin32, b->smin32);
		} else {
			a->smax = MIN(a->smax, b->smax);
			b->smin = MAX(a->smin, b->smin);
		}
		break;
	case BPF_JSLT:
		if (is32) {
			a->smax32 = MIN(a->smax32, (s32)((u32)b->smax32 - 1));
			b->smin32 = MAX((s32)((u32)a->smin32 + 1), b->smin32);
		} else {
			a->smax = MIN(a->smax, (s64)((u64)b->smax - 1));
			b->smin = MAX((s64)((u64)a->smin + 1), b->smin);
		}
		break;
	}
}

int ub_scalar_learn(struct env *env, struct reg *true_a, struct reg *true_b, struct reg *false_a,
		    struct reg *false_b, u8 op, bool is32)
{
	int err;

	if (false_a->type != SCALAR_VALUE || false_b->type != SCALAR_VALUE)
		return 0;
	/* A register compared with itself teaches nothing of its value. */
	if (false_a == false_b)
		return 0;
	refine(false_a, false_b, opposite(op), is32);
	ub_range_sync(false_a);
	ub_range_sync(false_b);
	refine(true_a, true_b, op, is32);
	ub_range_sync(true_a);
	ub_range_sync(true_b);
	err = ub_range_check(env, true_a, "true_reg1");
	err = err ?: ub_range_check(env, true_b, "true_reg2");
	err = err ?: ub_range_check(env, false_a, "false_reg1");
	return err ?: ub_range_check(env, false_b, "false_reg2");
}
