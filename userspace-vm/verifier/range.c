/* SPDX-License-Identifier: MIT */
/*
 * The five views of a scalar - known bits and the ranges s64, u64, s32, u32 - and how each sharpens
 * the others. After any change of one of them, ub_range_sync() brings them in step.
 */
#include <verifier/env.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

void ub_reg_const(struct reg *reg, u64 value)
{
	reg->var_off = ub_tnum_const(value);
	reg->smin = reg->smax = (s64)value;
	reg->umin = reg->umax = value;
	reg->smin32 = reg->smax32 = (s32)value;
	reg->umin32 = reg->umax32 = (u32)value;
}

void ub_reg_unbounded32(struct reg *reg)
{
	reg->smin32 = S32_MIN;
	reg->smax32 = S32_MAX;
	reg->umin32 = 0;
	reg->umax32 = U32_MAX;
}

static void unbounded64(struct reg *reg)
{
	reg->smin = S64_MIN;
	reg->smax = S64_MAX;
	reg->umin = 0;
	reg->umax = U64_MAX;
}

void ub_reg_unbounded(struct reg *reg)
{
	unbounded64(reg);
	ub_reg_unbounded32(reg);
}

void ub_reg_mark_unknown(struct reg *reg)
{
	memset(reg, 0, sizeof(*reg));
	reg->type = SCALAR_VALUE;
	reg->map = -1;
	reg->var_off = ub_tnum_unknown;
	ub_reg_unbounded(reg);
}

void ub_reg_mark_not_init(struct reg *reg)
{
	ub_reg_mark_unknown(reg);
	reg->type = NOT_INIT;
}

void ub_reg_mark_known(struct reg *reg, u64 value)
{
	memset(reg, 0, sizeof(*reg));
	reg->type = SCALAR_VALUE;
	reg->map = -1;
	ub_reg_const(reg, value);
}

void ub_reg_mark_known_zero(struct reg *reg)
{
	ub_reg_const(reg, 0);
}

void ub_range_update_from_tnum(struct reg *reg)
{
	struct tnum v32 = ub_tnum_subreg(reg->var_off);
	struct tnum v = reg->var_off;

	reg->smin32 = MAX(reg->smin32, (s32)(v32.value | (v32.mask & S32_MIN)));
	reg->smax32 = MIN(reg->smax32, (s32)(v32.value | (v32.mask & S32_MAX)));
	reg->umin32 = MAX(reg->umin32, (u32)v32.value);
	reg->umax32 = MIN(reg->umax32, (u32)(v32.value | v32.mask));

	reg->smin = MAX(reg->smin, (s64)(v.value | (v.mask & S64_MIN)));
	reg->smax = MIN(reg->smax, (s64)(v.value | (v.mask & S64_MAX)));
	reg->umin = MAX(reg->umin, v.value);
	reg->umax = MIN(reg->umax, v.value | v.mask);
}

static void deduce32(struct reg *reg)
{
	/* High halves equal: the low half counts up from the one bound to the other. */
	if (reg->umin >> 32 == reg->umax >> 32) {
		reg->umin32 = MAX(reg->umin32, (u32)reg->umin);
		reg->umax32 = MIN(reg->umax32, (u32)reg->umax);
		if ((s32)reg->umin <= (s32)reg->umax) {
			reg->smin32 = MAX(reg->smin32, (s32)reg->umin);
			reg->smax32 = MIN(reg->smax32, (s32)reg->umax);
		}
	}
	if (reg->smin >> 32 == reg->smax >> 32) {
		if ((u32)reg->smin <= (u32)reg->smax) {
			reg->umin32 = MAX(reg->umin32, (u32)reg->smin);
			reg->umax32 = MIN(reg->umax32, (u32)reg->smax);
		}
		if ((s32)reg->smin <= (s32)reg->smax) {
			reg->smin32 = MAX(reg->smin32, (s32)reg->smin);
			reg->smax32 = MIN(reg->smax32, (s32)reg->smax);
		}
	}
	/* High halves one apart: from a small negative low half over 0 to a small positive one. */
	if ((u32)(reg->umin >> 32) + 1 == (u32)(reg->umax >> 32) && (s32)reg->umin < 0 &&
	    (s32)reg->umax >= 0) {
		reg->smin32 = MAX(reg->smin32, (s32)reg->umin);
		reg->smax32 = MIN(reg->smax32, (s32)reg->umax);
	}
	if ((u32)(reg->smin >> 32) + 1 == (u32)(reg->smax >> 32) && (s32)reg->smin < 0 &&
	    (s32)reg->smax >= 0) {
		reg->smin32 = MAX(reg->smin32, (s32)reg->smin);
		reg->smax32 = MIN(reg->smax32, (s32)reg->smax);
	}
	/* Unsigned range within one half of the number line: it is a signed range too; and back. */
	if ((s32)reg->umin32 <= (s32)reg->umax32) {
		reg->smin32 = MAX(reg->smin32, (s32)reg->umin32);
		reg->smax32 = MIN(reg->smax32, (s32)reg->umax32);
	}
	if ((u32)reg->smin32 <= (u32)reg->smax32) {
		reg->umin32 = MAX(reg->umin32, (u32)reg->smin32);
		reg->umax32 = MIN(reg->umax32, (u32)reg->smax32);
	} else if (reg->umax32 < (u32)reg->smin32) {
		reg->smin32 = (s32)reg->umin32;
		reg->umax32 = MIN(reg->umax32, (u32)reg->smax32);
	} else if ((u32)reg->smax32 < reg->umin32) {
		reg->smax32 = (s32)reg->umax32;
		reg->umin32 = MAX(reg->umin32, (u32)reg->smin32);
	}
}

static void deduce64(struct reg *reg)
{
	if ((s64)reg->umin <= (s64)reg->umax) {
		reg->smin = MAX(reg->smin, (s64)reg->umin);
		reg->smax = MIN(reg->smax, (s64)reg->umax);
	}
	if ((u64)reg->smin <= (u64)reg->smax) {
		reg->umin = MAX(reg->umin, (u64)reg->smin);
		reg->umax = MIN(reg->umax, (u64)reg->smax);
	} else if (reg->umax < (u64)reg->smin) {
		/* The signed range wraps around zero; the unsigned one meets only its positive
		 * part, */
		reg->smin = (s64)reg->umin;
		reg->umax = MIN(reg->umax, (u64)reg->smax);
	} else if ((u64)reg->smax < reg->umin) {
		/* or only its negative part. */
		reg->smax = (s64)reg->umax;
		reg->umin = MAX(reg->umin, (u64)reg->smin);
	}
}

static void deduce_mixed(struct reg *reg)
{
	u64 low, high;
	s64 slow, shigh;

	low = (reg->umin & ~0xffffffffull) | reg->umin32;
	high = (reg->umax & ~0xffffffffull) | reg->umax32;
	reg->umin = MAX(reg->umin, low);
	reg->umax = MIN(reg->umax, high);
	slow = (s64)(((u64)reg->smin & ~0xffffffffull) | reg->umin32);
	shigh = (s64)(((u64)reg->smax & ~0xffffffffull) | reg->umax32);
	reg->smin = MAX(reg->smin, slow);
	reg->smax = MIN(reg->smax, shigh);

	/* A sign-extended 32-bit value that is not negative: the upper half is zero. */
	if (reg->smin32 >= 0 && reg->smin >= S32_MIN && reg->smax <= S32_MAX) {
		reg->smin = reg->smin32;
		reg->smax = reg->smax32;
		reg->umin = (u64)reg->smin32;
		reg->umax = (u64)reg->smax32;
		reg->var_off = ub_tnum_intersect(reg->var_off, ub_tnum_range(reg->umin, reg->umax));
	}
}

static void bits_from_ranges(struct reg *reg)
{
	struct tnum v64 = ub_tnum_intersect(reg->var_off, ub_tnum_range(reg->umin, reg->umax));
	struct tnum v32 =
		ub_tnum_intersect(ub_tnum_subreg(v64), ub_tnum_range(reg->umin32, reg->umax32));

	reg->var_off = ub_tnum_or(ub_tnum_clear_subreg(v64), v32);
}

void ub_range_sync(struct reg *reg)
{
	ub_range_update_from_tnum(reg);
	for (int i = 0; i < 3; i++) {
		deduce32(reg);
		deduce64(reg);
		deduce_mixed(reg);
	}
	bits_from_ranges(reg);
	ub_range_update_from_tnum(reg);
}

int ub_range_check(struct env *env, struct reg *reg, const char *ctx)
{
	const char *msg = NULL;

	if (reg->umin > reg->umax || reg->smin > reg->smax || reg->umin32 > reg->umax32 ||
	    reg->smin32 > reg->smax32)
		msg = "range bounds violation";
	else if (ub_tnum_is_const(reg->var_off) &&
		 (reg->umin != reg->var_off.value || reg->umax != reg->var_off.value ||
		  reg->smin != (s64)reg->var_off.value || reg->smax != (s64)reg->var_off.value))
		msg = "const tnum out of sync with range bounds";
	else if (ub_tnum_is_const(ub_tnum_subreg(reg->var_off)) &&
		 (reg->umin32 != (u32)reg->var_off.value || reg->umax32 != (u32)reg->var_off.value))
		msg = "const subreg tnum out of sync with range bounds";
	if (!msg)
		return 0;
	if (env->test_reg_invariants)
		return ub_reject(env, -EFAULT, "REG INVARIANTS VIOLATION (%s): %s\n", ctx, msg);
	/* Contradictions mean a way that no run takes: forget what was deduced, as the kernel
	 * does. */
	ub_reg_unbounded(reg);
	return 0;
}

void ub_range_assign32_into64(struct reg *reg)
{
	bool nonneg = reg->smin32 >= 0;

	reg->umin = reg->umin32;
	reg->umax = reg->umax32;
	if (nonneg) {
		reg->smin = reg->smin32;
		reg->smax = reg->smax32;
	} else {
		reg->smin = 0;
		reg->smax = U32_MAX;
	}
}

void ub_range_zext32(struct reg *reg)
{
	reg->var_off = ub_tnum_subreg(reg->var_off);
	ub_range_assign32_into64(reg);
	ub_range_sync(reg);
}

void ub_range_coerce_size(struct reg *reg, u32 size)
{
	u64 mask = size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;

	reg->var_off = ub_tnum_cast(reg->var_off, size);
	if ((reg->umin & ~mask) == (reg->umax & ~mask)) {
		reg->umin &= mask;
		reg->umax &= mask;
	} else {
		reg->umin = 0;
		reg->umax = mask;
	}
	reg->smin = (s64)reg->umin;
	reg->smax = (s64)reg->umax;
	/* A 4-byte coercion leaves the low half as it is. */
	if (size < 4)
		ub_reg_unbounded32(reg);
	ub_range_sync(reg);
}

void ub_range_coerce_size_sx(struct reg *reg, u32 size)
{
	s64 low, high, top_min, top_max;
	u32 bits = size * 8;

	if (ub_tnum_is_const(reg->var_off)) {
		u64 v = reg->var_off.value;

		ub_reg_const(reg, (u64)((s64)(v << (64 - bits)) >> (64 - bits)));
		return;
	}
	top_min = reg->smin >> bits;
	top_max = reg->smax >> bits;
	low = (s64)((u64)reg->smin << (64 - bits)) >> (64 - bits);
	high = (s64)((u64)reg->smax << (64 - bits)) >> (64 - bits);
	reg->var_off = ub_tnum_unknown;
	ub_reg_unbounded(reg);
	/* Within one period of the truncation and without a change of sign the order is kept. */
	if (top_min == top_max && (low >= 0) == (high >= 0)) {
		reg->smin = MIN(low, high);
		reg->smax = MAX(low, high);
	} else {
		reg->smin = -(1ll << (bits - 1));
		reg->smax = (1ll << (bits - 1)) - 1;
	}
	ub_range_sync(reg);
}

void ub_range_coerce_subreg_sx(struct reg *reg, u32 size)
{
	struct tnum v32 = ub_tnum_subreg(reg->var_off);
	s32 low, high, top_min, top_max;
	u32 bits = size * 8;

	if (ub_tnum_is_const(v32)) {
		u32 v = (u32)v32.value;

		ub_reg_const(reg, (u32)((s32)(v << (32 - bits)) >> (32 - bits)));
		return;
	}
	top_min = reg->smin32 >> bits;
	top_max = reg->smax32 >> bits;
	low = (s32)((u32)reg->smin32 << (32 - bits)) >> (32 - bits);
	high = (s32)((u32)reg->smax32 << (32 - bits)) >> (32 - bits);
	ub_reg_unbounded32(reg);
	if (top_min == top_max && (low >= 0) == (high >= 0)) {
		reg->smin32 = MIN(low, high);
		reg->smax32 = MAX(low, high);
	} else {
		reg->smin32 = -(1 << (bits - 1));
		reg->smax32 = (1 << (bits - 1)) - 1;
	}
	if (reg->smin32 >= 0 || reg->smax32 < 0) {
		reg->umin32 = (u32)reg->smin32;
		reg->umax32 = (u32)reg->smax32;
	}
	reg->var_off = ub_tnum_with_subreg(ub_tnum_const(0), ub_tnum(0, U32_MAX));
	ub_range_assign32_into64(reg);
	ub_range_sync(reg);
}
