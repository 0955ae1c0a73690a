/* SPDX-License-Identifier: MIT */
/*
 * Tristate numbers: what is known of a 64-bit value bit by bit. A bit that is set in mask is
 * unknown; else it is the bit of value. value & mask is always 0. See "Sound, Precise, and Fast
 * Abstract Interpretation with Tristate Numbers" (CGO 2022).
 */
#ifndef UB_VERIFIER_TNUM_H
#define UB_VERIFIER_TNUM_H

#include <common/types.h>

struct tnum {
	u64 value;
	u64 mask;
};

extern const struct tnum ub_tnum_unknown;

static inline struct tnum ub_tnum(u64 value, u64 mask)
{
	return (struct tnum) { value, mask };
}

static inline struct tnum ub_tnum_const(u64 value)
{
	return (struct tnum) { value, 0 };
}

static inline bool ub_tnum_is_const(struct tnum a)
{
	return !a.mask;
}

static inline bool ub_tnum_equals(struct tnum a, u64 value)
{
	return !a.mask && a.value == value;
}

static inline bool ub_tnum_is_unknown(struct tnum a)
{
	return !~a.mask;
}

/* The smallest tnum that holds all of min..max (unsigned). */
struct tnum ub_tnum_range(u64 min, u64 max);
struct tnum ub_tnum_lsh(struct tnum a, u8 shift);
struct tnum ub_tnum_rsh(struct tnum a, u8 shift);
/* Arithmetic shift; @bits is the operand's width, 32 or 64. */
struct tnum ub_tnum_arsh(struct tnum a, u8 shift, u8 bits);
struct tnum ub_tnum_add(struct tnum a, struct tnum b);
struct tnum ub_tnum_sub(struct tnum a, struct tnum b);
struct tnum ub_tnum_and(struct tnum a, struct tnum b);
struct tnum ub_tnum_or(struct tnum a, struct tnum b);
struct tnum ub_tnum_xor(struct tnum a, struct tnum b);
struct tnum ub_tnum_mul(struct tnum a, struct tnum b);
/* Both are true of the same value. */
struct tnum ub_tnum_intersect(struct tnum a, struct tnum b);
/* Low @size bytes; the rest zero. */
struct tnum ub_tnum_cast(struct tnum a, u8 size);
/* Whether every value of @b is one of @a. */
bool ub_tnum_in(struct tnum a, struct tnum b);
/* Whether a multiple of @size, a power of two, for certain. */
bool ub_tnum_aligned(struct tnum a, u64 size);
struct tnum ub_tnum_subreg(struct tnum a);
struct tnum ub_tnum_clear_subreg(struct tnum a);
struct tnum ub_tnum_with_subreg(struct tnum reg, struct tnum subreg);

#endif
