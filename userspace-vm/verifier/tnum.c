/* SPDX-License-Identifier: MIT */
#include <verifier/tnum.h>

const struct tnum ub_tnum_unknown = { 0, ~0ull };

static struct tnum normal(u64 value, u64 mask)
{
	return (struct tnum) { value & ~mask, mask };
}

struct tnum ub_tnum_range(u64 min, u64 max)
{
	u64 differ = min ^ max;
	u64 mask;

	if (!differ)
		return ub_tnum_const(min);
	if (differ >> 63)
		return ub_tnum_unknown;
	mask = (1ull << (64 - __builtin_clzll(differ))) - 1;
	return normal(min, mask);
}

struct tnum ub_tnum_lsh(struct tnum a, u8 shift)
{
	return ub_tnum(a.value << shift, a.mask << shift);
}

struct tnum ub_tnum_rsh(struct tnum a, u8 shift)
{
	return ub_tnum(a.value >> shift, a.mask >> shift);
}

struct tnum ub_tnum_arsh(struct tnum a, u8 shift, u8 bits)
{
	/* An unknown sign bit is copied as unknown bits: shifting the mask arithmetically says
	 * so. */
	if (bits == 32)
		return ub_tnum((u32)((s32)a.value >> shift), (u32)((s32)a.mask >> shift));
	return ub_tnum((s64)a.value >> shift, (s64)a.mask >> shift);
}

struct tnum ub_tnum_add(struct tnum a, struct tnum b)
{
	u64 low = a.value + b.value;
	u64 high = low + a.mask + b.mask;

	return normal(low, (low ^ high) | a.mask | b.mask);
}

struct tnum ub_tnum_sub(struct tnum a, struct tnum b)
{
	u64 diff = a.value - b.value;
	u64 most = diff + a.mask;
	u64 least = diff - b.mask;

	return normal(diff, (most ^ least) | a.mask | b.mask);
}

struct tnum ub_tnum_and(struct tnum a, struct tnum b)
{
	u64 may_a = a.value | a.mask;
	u64 may_b = b.value | b.mask;
	u64 both = a.value & b.value;

	return ub_tnum(both, may_a & may_b & ~both);
}

struct tnum ub_tnum_or(struct tnum a, struct tnum b)
{
	u64 set = a.value | b.value;

	return ub_tnum(set, (a.mask | b.mask) & ~set);
}

struct tnum ub_tnum_xor(struct tnum a, struct tnum b)
{
	return normal(a.value ^ b.value, a.mask | b.mask);
}

struct tnum ub_tnum_mul(struct tnum a, struct tnum b)
{
	struct tnum sum = ub_tnum_const(a.value * b.value);
	struct tnum unknown = ub_tnum_const(0);

	/* Long multiplication: a certain bit of a adds b's uncertainty, an uncertain one all of
	 * b. */
	for (; a.value || a.mask; a = ub_tnum_rsh(a, 1), b = ub_tnum_lsh(b, 1)) {
		if (a.value & 1)
			unknown = ub_tnum_add(unknown, ub_tnum(0, b.mask));
		else if (a.mask & 1)
			unknown = ub_tnum_add(unknown, ub_tnum(0, b.value | b.mask));
	}
	return ub_tnum_add(sum, unknown);
}

struct tnum ub_tnum_intersect(struct tnum a, struct tnum b)
{
	u64 mask = a.mask & b.mask;

	return normal(a.value | b.value, mask);
}

struct tnum ub_tnum_cast(struct tnum a, u8 size)
{
	u64 keep = size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;

	return ub_tnum(a.value & keep, a.mask & keep);
}

bool ub_tnum_in(struct tnum a, struct tnum b)
{
	return !(b.mask & ~a.mask) && a.value == (b.value & ~a.mask);
}

bool ub_tnum_aligned(struct tnum a, u64 size)
{
	return !size || !((a.value | a.mask) & (size - 1));
}

struct tnum ub_tnum_subreg(struct tnum a)
{
	return ub_tnum_cast(a, 4);
}

struct tnum ub_tnum_clear_subreg(struct tnum a)
{
	return ub_tnum_lsh(ub_tnum_rsh(a, 32), 32);
}

struct tnum ub_tnum_with_subreg(struct tnum reg, struct tnum subreg)
{
	return ub_tnum_or(ub_tnum_clear_subreg(reg), ub_tnum_subreg(subreg));
}
