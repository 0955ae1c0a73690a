/* SPDX-License-Identifier: MIT */
/* Traps whose one difference is a number: in a register, on the stack, in a range, added up. */
#include <isa/isa.h>

#include "verifier_traps.h"

void number_arm(struct gen *g, const struct trap *t, bool safe)
{
	mov_imm(g, X, safe ? t->small : t->large);
}

static void number_use(struct gen *g, const struct trap *t)
{
	use_index(g, t, X);
}

static u8 slot_size(const struct trap *t)
{
	static const u8 sizes[] = { BPF_DW, BPF_W, BPF_H, BPF_B };

	return sizes[t->variant & 3];
}

static void slot_arm(struct gen *g, const struct trap *t, bool safe)
{
	s32 value = safe ? t->small : t->large;

	if (t->variant & 4) {
		emit(g, BPF_ST | BPF_MEM | slot_size(t), 10, 0, SLOT, value);
	} else {
		mov_imm(g, 0, value);
		store(g, slot_size(t), SLOT, 0);
	}
}

static void slot_use(struct gen *g, const struct trap *t)
{
	load(g, slot_size(t), X, SLOT);
	use_index(g, t, X);
}

/* Bytes that are zero, or not, beside bytes that are written in between. */
static void zero_arm(struct gen *g, const struct trap *t, bool safe)
{
	emit(g, BPF_ST | BPF_MEM | BPF_H, 10, 0, SLOT + 4, safe ? 0 : 0x4040);
	if (t->variant & 1)
		emit(g, BPF_ST | BPF_MEM | BPF_H, 10, 0, SLOT + 6, 0);
}

static void zero_use(struct gen *g, const struct trap *t)
{
	byte(g, 0);
	store(g, t->variant & 2 ? BPF_W : BPF_B, SLOT + (t->variant & 10 ? 0 : 1), 0);
	if (t->variant & 4)
		if_else(g);
	load(g, BPF_H, X, SLOT + 4);
	use_index(g, t, X);
}

/* A zero that goes into bytes of which only that is remembered. */
static void zeroed_arm(struct gen *g, const struct trap *t, bool safe)
{
	mov_imm(g, X, safe ? 0 : t->large);
}

static void zeroed_use(struct gen *g, const struct trap *t)
{
	u8 size = t->variant & 1 ? BPF_B : BPF_H;

	store(g, size, SLOT + 2, X);
	if (t->variant & 2)
		if_else(g);
	load(g, size, X, SLOT + 2);
	use_index(g, t, X);
}

static void range_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	emit(g, BPF_ALU64 | BPF_AND | BPF_K, X, 0, 0, safe ? 31 : 127);
	if (t->variant & 1)
		store(g, slot_size(t), SLOT, X);
}

static void range_use(struct gen *g, const struct trap *t)
{
	if (t->variant & 1)
		load(g, slot_size(t), X, SLOT);
	use_index(g, t, X);
}

/* Compared as signed or unsigned, as 32 or 64 bits. */
static void compared_arm(struct gen *g, const struct trap *t, bool safe)
{
	u32 at;

	emit(g, BPF_LDX | BPF_MEM | BPF_DW, X, 7, 8 * (s16)below(g, 8), 0);
	at = g->p->nr;
	if (safe)
		emit(g, BPF_JMP | BPF_JLE | BPF_K, X, 0, 0, LIMIT);
	else if (t->variant & 1)
		emit(g, BPF_JMP | BPF_JSLE | BPF_K, X, 0, 0, LIMIT);
	else
		emit(g, BPF_JMP32 | BPF_JLE | BPF_K, X, 0, 0, LIMIT);
	mov_imm(g, X, t->small);
	patch(g, at);
}

/* One end of a range that is otherwise as wide as it can be: beyond it, the sum wraps around. */
static void end_arm(struct gen *g, const struct trap *t, bool safe)
{
	static const struct {
		u8 op;
		s32 limit;
	} ends[] = { { BPF_JLE, -16 }, { BPF_JGE, 16 }, { BPF_JSGE, -16 }, { BPF_JSLE, 20 } };
	u8 class = t->variant & 4 ? BPF_JMP32 : BPF_JMP;
	u32 at;

	emit(g, BPF_LDX | BPF_MEM | BPF_DW, X, 7, 8 * (s16)below(g, 8), 0);
	if (!safe)
		return;
	at = g->p->nr;
	emit(g, class | ends[t->variant & 3].op | BPF_K, X, 0, 0, ends[t->variant & 3].limit);
	mov_imm(g, X, 20);
	patch(g, at);
}

static void end_use(struct gen *g, const struct trap *t)
{
	static const struct {
		s32 before; /* added first */
		u8 op;
		s32 limit;
		s32 behind;
	} uses[] = { { 15, BPF_JGE, 40, -15 },
		     { 0, BPF_JGT, 40, -16 },
		     { 0, BPF_JSGT, 20, 16 },
		     { 0, BPF_JSLT, -16, 16 } };
	u8 jump = t->variant & 4 ? BPF_JMP32 : BPF_JMP, alu = t->variant & 4 ? BPF_ALU : BPF_ALU64;
	u32 kind = t->variant & 3, at;

	if (uses[kind].before)
		emit(g, alu | BPF_ADD | BPF_K, X, 0, 0, uses[kind].before);
	at = g->p->nr;
	emit(g, jump | uses[kind].op | BPF_K, X, 0, 0, uses[kind].limit);
	emit(g, alu | BPF_ADD | BPF_K, X, 0, 0, uses[kind].behind);
	use_index(g, t, X);
	patch(g, at);
}

/* What another number is compared with. */
static void limit_arm(struct gen *g, const struct trap *t, bool safe)
{
	if (t->variant & 1) {
		byte(g, Y);
		emit(g, BPF_ALU64 | BPF_AND | BPF_K, Y, 0, 0, safe ? 31 : 127);
	} else {
		mov_imm(g, Y, safe ? (s32)below(g, LIMIT) : 100 + (s32)below(g, 100));
	}
}

static void limit_use(struct gen *g, const struct trap *t)
{
	u8 class = t->variant & 2 ? BPF_JMP : BPF_JMP32;
	u32 at;

	byte(g, X);
	at = g->p->nr;
	if (t->variant & 4)
		emit(g, class | BPF_JGT | BPF_X, X, Y, 0, 0);
	else
		emit(g, class | BPF_JLT | BPF_X, Y, X, 0, 0);
	use_index(g, t, X);
	patch(g, at);
}

/* A jump that is taken now and then, however often control comes by. */
static u32 turn(struct gen *g)
{
	s16 off = (s16)below(g, PROGRAM_VALUE_SIZE);
	u32 at;

	emit(g, BPF_LDX | BPF_MEM | BPF_B, 0, 7, off, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, 1 + 2 * (s32)below(g, 60));
	emit(g, BPF_STX | BPF_MEM | BPF_B, 7, 0, off, 0);
	at = g->p->nr;
	emit(g, BPF_JMP | BPF_JSET | BPF_K, 0, 0, 0, 1 << below(g, 4));
	return at;
}

static void back_to(struct gen *g, u32 start)
{
	emit(g, BPF_JMP | BPF_JA, 0, 0, (s16)((s32)start - (s32)g->p->nr - 1), 0);
}

/*
 * Rounds that only the run-time ends. One way round may change the number, another one uses it:
 * that it matters is known only after the former has been walked, and cut where it came round.
 */
void rounds(struct gen *g, const struct trap *t, bool safe)
{
	s32 value = safe ? t->small / 2 : t->large;
	u32 start, use, change, end;

	g->p->unbounded = true;
	mov_imm(g, X, t->small);
	start = g->p->nr;
	emit(g, BPF_JMP | BPF_JCOND, 0, 0, 0, 0);
	use = turn(g);
	change = turn(g);
	if (t->variant & 1) {
		mov_imm(g, X, value);
		patch(g, change);
	} else {
		end = g->p->nr;
		emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		patch(g, change);
		mov_imm(g, X, value);
		patch(g, end);
	}
	for (u32 i = 0, n = below(g, 3); i < n; i++) {
		u32 at = turn(g);

		mov_imm(g, 1, (s32)i);
		mov_imm(g, 2, (s32)i);
		patch(g, at);
	}
	back_to(g, start);
	patch(g, use);
	use_index(g, t, X);
	back_to(g, start);
	patch(g, start);
}

/* Added up in a loop, each round by one of two steps. */
void sum(struct gen *g, const struct trap *t, bool safe)
{
	u32 rounds = 2 + below(g, 3), start, at, end;

	mov_imm(g, X, 0);
	mov_imm(g, Y, 0);
	start = g->p->nr;
	at = coin(g);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, X, 0, 0, 1 + below(g, 8));
	end = g->p->nr;
	emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
	patch(g, at);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, X, 0, 0, safe ? 1 + below(g, 8) : 40);
	patch(g, end);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, Y, 0, 0, 1);
	emit(g, BPF_JMP | BPF_JLT | BPF_K, Y, 0, (s16)((s32)start - (s32)g->p->nr - 1), rounds);
	use_index(g, t, X);
}

const struct trap_kind number_traps[] = {
	{ number_arm, number_use }, { slot_arm, slot_use },   { zero_arm, zero_use },
	{ zeroed_arm, zeroed_use }, { range_arm, range_use }, { compared_arm, number_use },
	{ end_arm, end_use },	    { limit_arm, limit_use },
};

const u32 nr_number_traps = sizeof(number_traps) / sizeof(number_traps[0]);
