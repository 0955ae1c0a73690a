/* SPDX-License-Identifier: MIT */
/* Statements at random: each alone likely to be accepted, and at the edge of what is. */
#include "verifier_generator.h"

#include <string.h>

#include <isa/isa.h>

/* A register to overwrite; r6 and r7 stay what they are. */
static int target(struct gen *g)
{
	for (;;) {
		int r = below(g, 10);

		if (r != 6 && r != 7 && !(g->reserved >> r & 1))
			return r;
	}
}

void constant(struct gen *g, int r)
{
	u64 v = random_value(&g->r);

	if (below(g, 2) || v != (u64)(s64)(s32)v) {
		emit(g, BPF_LD | BPF_IMM | BPF_DW, r, 0, 0, (s32)v);
		emit(g, 0, 0, 0, 0, (s32)(v >> 32));
	} else {
		emit(g, (below(g, 2) ? BPF_ALU : BPF_ALU64) | BPF_MOV | BPF_K, r, 0, 0, (s32)v);
	}
	g->kind[r] = SCALAR;
}

static u8 size_code(struct gen *g)
{
	static const u8 sizes[] = { BPF_B, BPF_H, BPF_W, BPF_DW };

	return sizes[below(g, 4)];
}

/* An unknown scalar: from the context (main program) or the map. */
void unknown(struct gen *g, int r)
{
	u8 size = size_code(g);
	bool sx = size != BPF_DW && below(g, 4) == 0;
	u8 mode = sx ? BPF_MEMSX : BPF_MEM;
	u32 bytes = size_bytes(size);

	if (!g->sub && below(g, 2))
		emit(g, BPF_LDX | mode | size, r, 6, below(g, 20) * 8, 0);
	else
		emit(g, BPF_LDX | mode | size, r, 7, below(g, PROGRAM_VALUE_SIZE / bytes) * bytes,
		     0);
	g->kind[r] = SCALAR;
}

static const u8 alu_ops[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
			      BPF_LSH, BPF_RSH, BPF_NEG, BPF_MOD, BPF_XOR, BPF_ARSH,
			      BPF_END, BPF_MOV, BPF_AND, BPF_ADD, BPF_RSH, BPF_SUB };

static void alu(struct gen *g)
{
	u8 op = alu_ops[below(g, sizeof(alu_ops))];
	u8 class = below(g, 2) ? BPF_ALU : BPF_ALU64;
	int dst = pick(g, SCALAR), src = pick(g, SCALAR);
	s32 imm = (s32)random_value(&g->r);
	s16 off = 0;

	if (dst < 0 || dst == 6 || dst == 7 || g->reserved >> dst & 1)
		return;
	if (op == BPF_NEG) {
		emit(g, class | BPF_NEG, dst, 0, 0, 0);
		return;
	}
	if (op == BPF_END) {
		emit(g, class | BPF_END | (class == BPF_ALU && below(g, 2) ? BPF_X : 0), dst, 0, 0,
		     16 << below(g, 3));
		return;
	}
	if (op == BPF_MOV) {
		if (below(g, 2))
			off = 8 << below(g, class == BPF_ALU64 ? 3 : 2);
		emit(g, class | BPF_MOV | BPF_X, dst, src, off, 0);
		return;
	}
	if ((op == BPF_DIV || op == BPF_MOD) && below(g, 2))
		off = 1;
	if (below(g, 2) && op != BPF_LSH && op != BPF_RSH && op != BPF_ARSH) {
		emit(g, class | op | BPF_X, dst, src, off, 0);
		return;
	}
	if (op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH)
		imm = below(g, class == BPF_ALU ? 32 : 64);
	if ((op == BPF_DIV || op == BPF_MOD) && !imm)
		imm = 3;
	if (op == BPF_AND && below(g, 2))
		imm = (1 << below(g, 8)) - 1;
	emit(g, class | op | BPF_K, dst, 0, off, imm);
}

/* Shifts to the left that the largest value just survives, or just does not. */
static void shift_out(struct gen *g)
{
	bool wide = below(g, 2);
	u8 class = wide ? BPF_ALU64 : BPF_ALU;
	u32 bits = below(g, 31), by = (wide ? 62 : 30) - bits + below(g, 4);
	int r = pick(g, SCALAR);

	if (r < 0 || r == 6 || r == 7 || g->reserved >> r & 1 || by >= (wide ? 64 : 32))
		return;
	unknown(g, r);
	emit(g, (wide ? BPF_JMP : BPF_JMP32) | BPF_JLE | BPF_K, r, 0, 1, 1 << bits);
	emit(g, class | BPF_MOV | BPF_K, r, 0, 0, (s32)below(g, 2));
	emit(g, class | BPF_LSH | BPF_K, r, 0, 0, (s32)by);
	if (below(g, 2))
		emit(g, class | BPF_RSH | BPF_K, r, 0, 0, (s32)below(g, wide ? 64 : 32));
}

static const u8 jumps[] = { BPF_JEQ,  BPF_JNE,	BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
			    BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET };

static u32 condition(struct gen *g)
{
	u8 op = jumps[below(g, sizeof(jumps))];
	u8 class = below(g, 3) ? BPF_JMP : BPF_JMP32;
	int a = pick(g, SCALAR), b = pick(g, SCALAR);
	u32 at = g->p->nr;

	if (a < 0)
		a = b = 8;
	if (below(g, 3))
		emit(g, class | op | BPF_K, a, 0, 0,
		     below(g, 2) ? (s32)below(g, 100) : (s32)random_value(&g->r));
	else
		emit(g, class | op | BPF_X, a, b, 0, 0);
	return at;
}

static void merge(struct gen *g, const enum kind *before, u32 slots)
{
	for (int i = 0; i < 10; i++) {
		if (g->kind[i] != before[i])
			g->kind[i] = NONE;
	}
	g->slots &= slots;
}

void if_else(struct gen *g)
{
	enum kind before[10];
	u32 at, end, slots = g->slots;

	memcpy(before, g->kind, sizeof(before));
	at = condition(g);
	block(g, 1 + below(g, 4));
	if (below(g, 3) == 0) {
		enum kind then[10];
		u32 then_slots = g->slots;

		memcpy(then, g->kind, sizeof(then));
		memcpy(g->kind, before, sizeof(before));
		g->slots = slots;
		end = g->p->nr;
		emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		patch(g, at);
		block(g, 1 + below(g, 3));
		patch(g, end);
		merge(g, then, then_slots);
	} else {
		patch(g, at);
		merge(g, before, slots);
	}
}

static void loop(struct gen *g)
{
	int counter = target(g);
	enum kind before[10];
	u32 slots, start, at = 0;
	bool forever = below(g, 5) == 0;

	if (g->reserved)
		return;
	g->has_loop = true;
	emit(g, BPF_ALU64 | BPF_MOV | BPF_K, counter, 0, 0, 0);
	g->kind[counter] = SCALAR;
	g->reserved |= 1u << counter;
	memcpy(before, g->kind, sizeof(before));
	slots = g->slots;
	start = g->p->nr;
	if (forever) {
		g->p->unbounded = true;
		at = start;
		emit(g, BPF_JMP | BPF_JCOND, 0, 0, 0, 0);
	}
	block(g, 1 + below(g, 4));
	/* What the body changed can't be relied on in its next round. */
	merge(g, before, slots);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, counter, 0, 0, 1 + below(g, 2));
	if (forever) {
		emit(g, BPF_JMP | BPF_JA, 0, 0, (s16)((s32)start - (s32)g->p->nr - 1), 0);
		patch(g, at);
	} else {
		emit(g, BPF_JMP | BPF_JLT | BPF_K, counter, 0,
		     (s16)((s32)start - (s32)g->p->nr - 1), 1 + below(g, 12));
	}
	g->reserved &= ~(1u << counter);
}

/* An access of the map value at a computed place, more or less well guarded. */
static void indexed(struct gen *g)
{
	int index = pick(g, SCALAR), pointer = target(g), value = target(g);
	u8 size = size_code(g);
	u32 guard[2], nr_guards = 0;
	enum kind before[10];
	u32 slots = g->slots;

	if (index < 0 || g->reserved >> index & 1 || index == pointer)
		return;
	memcpy(before, g->kind, sizeof(before));
	switch (below(g, 4)) {
	case 0:
		emit(g, BPF_ALU64 | BPF_AND | BPF_K, index, 0, 0, (1 << below(g, 7)) - 1);
		break;
	case 1:
		guard[nr_guards++] = g->p->nr;
		emit(g, (below(g, 4) ? BPF_JMP : BPF_JMP32) | BPF_JGT | BPF_K, index, 0, 0,
		     below(g, 66));
		break;
	case 2:
		guard[nr_guards++] = g->p->nr;
		emit(g, (below(g, 4) ? BPF_JMP : BPF_JMP32) | BPF_JSGT | BPF_K, index, 0, 0,
		     below(g, 66));
		guard[nr_guards++] = g->p->nr;
		emit(g, (below(g, 4) ? BPF_JMP : BPF_JMP32) | BPF_JSLT | BPF_K, index, 0, 0,
		     (s32)below(g, 8) - 2);
		break;
	case 3:
		emit(g, BPF_ALU | BPF_RSH | BPF_K, index, 0, 0, 24 + below(g, 8));
		break;
	}
	if (below(g, 4) == 0)
		alu(g);
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, pointer, 7, 0, 0);
	emit(g, BPF_ALU64 | (below(g, 8) ? BPF_ADD : BPF_SUB) | BPF_X, pointer, index, 0, 0);
	if (value != pointer && below(g, 2)) {
		emit(g, BPF_LDX | BPF_MEM | size, value, pointer, (s16)below(g, 16) - 4, 0);
		g->kind[value] = SCALAR;
	} else if (index != pointer) {
		emit(g, BPF_STX | BPF_MEM | size, pointer, index, (s16)below(g, 16) - 4, 0);
	}
	g->kind[pointer] = NONE;
	for (u32 i = 0; i < nr_guards; i++)
		patch(g, guard[i]);
	if (nr_guards)
		merge(g, before, slots);
}

static void stack(struct gen *g)
{
	u8 size = size_code(g);
	u32 bytes = size_bytes(size), slot = below(g, 6);
	s16 off = -(s16)(8 * (slot + 1)) + (s16)(below(g, 8 / bytes) * bytes);
	int r;

	switch (below(g, 6)) {
	case 0:
		r = pick(g, SCALAR);
		if (r >= 0)
			emit(g, BPF_STX | BPF_MEM | size, 10, r, off, 0);
		if (size == BPF_DW)
			g->slots |= 1u << slot;
		break;
	case 1:
		emit(g, BPF_ST | BPF_MEM | size, 10, 0, off,
		     below(g, 2) ? 0 : (s32)random_value(&g->r));
		break;
	case 2:
	case 3:
		r = target(g);
		emit(g, BPF_LDX | (size != BPF_DW && below(g, 5) == 0 ? BPF_MEMSX : BPF_MEM) | size,
		     r, 10, off, 0);
		g->kind[r] = SCALAR;
		break;
	case 4: { /* at a computed place */
		int index = pick(g, SCALAR), pointer = target(g);
		int value = pick(g, SCALAR);

		if (index < 0 || index == pointer || g->reserved >> index & 1)
			break;
		emit(g, BPF_ALU64 | BPF_AND | BPF_K, index, 0, 0, 8 * (1 + below(g, 4)) & 0x18);
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, pointer, 10, 0, 0);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_X, pointer, index, 0, 0);
		g->kind[pointer] = NONE;
		if (below(g, 2) && value >= 0 && value != pointer) {
			emit(g, BPF_STX | BPF_MEM | size, pointer, value, -48 + (s16)bytes, 0);
		} else {
			emit(g, BPF_LDX | BPF_MEM | size, pointer, pointer, -48 + (s16)bytes, 0);
			g->kind[pointer] = SCALAR;
		}
		break;
	}
	case 5: /* a pointer goes through memory */
		emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, 7, -8 * (s16)(slot + 1), 0);
		if (below(g, 2)) {
			r = target(g);
			emit(g, BPF_LDX | BPF_MEM | BPF_DW, r, 10, -8 * (s16)(slot + 1), 0);
			g->kind[r] = MAP;
		}
		break;
	}
}

/* An index whose value is known another way round than by its own bounds: through a copy, through
 * the stack, or as one of two constants that two ways left in it. */
static void indirect(struct gen *g)
{
	int index = pick(g, SCALAR), copy = target(g), pointer = target(g);
	u32 guard = 0, bytes = 1u << below(g, 4);
	s16 slot = -8 * (s16)(1 + below(g, 6));
	enum kind before[10];
	u32 slots = g->slots;
	bool guarded = false;

	if (index < 0 || copy == index || pointer == copy || pointer == index ||
	    g->reserved >> index & 1)
		return;
	memcpy(before, g->kind, sizeof(before));
	switch (below(g, 3)) {
	case 0:
		if (below(g, 3))
			emit(g, BPF_ALU64 | BPF_MOV | BPF_X, copy, index, 0, 0);
		else
			emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, index, slot, 0);
		if (below(g, 3) == 0)
			emit(g, BPF_ALU64 | BPF_ADD | BPF_K, index, 0, 0, below(g, 9));
		guard = g->p->nr;
		guarded = true;
		emit(g, (below(g, 4) ? BPF_JMP : BPF_JMP32) | BPF_JGT | BPF_K, index, 0, 0,
		     below(g, 66));
		if (g->p->insns[guard - 1].code == (BPF_STX | BPF_MEM | BPF_DW) ||
		    g->p->insns[guard - 2].code == (BPF_STX | BPF_MEM | BPF_DW))
			emit(g, BPF_LDX | BPF_MEM | BPF_DW, copy, 10, slot, 0);
		break;
	case 1:
	case 2: {
		u32 at = condition(g), end;

		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, copy, 0, 0, below(g, 64));
		end = g->p->nr;
		emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		patch(g, at);
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, copy, 0, 0, below(g, below(g, 3) ? 60 : 68));
		patch(g, end);
		g->kind[copy] = SCALAR;
		if (below(g, 2)) {
			emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, copy, slot, 0);
			g->kind[copy] = NONE;
		} else {
			g->reserved |= 1u << copy;
			slot = 0;
		}
		/* Something to meet again behind. */
		if (g->depth < 3)
			if_else(g);
		if (slot)
			emit(g, BPF_LDX | BPF_MEM | BPF_DW, copy, 10, slot, 0);
		else
			g->reserved &= ~(1u << copy);
		break;
	}
	}
	g->kind[copy] = SCALAR;
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, pointer, 7, 0, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_X, pointer, copy, 0, 0);
	emit(g,
	     BPF_LDX | BPF_MEM |
		     (bytes == 1   ? BPF_B
		      : bytes == 2 ? BPF_H
		      : bytes == 4 ? BPF_W
				   : BPF_DW),
	     pointer, pointer, 0, 0);
	g->kind[pointer] = SCALAR;
	if (guarded) {
		patch(g, guard);
		merge(g, before, slots);
	}
}

static void map_access(struct gen *g)
{
	int pointer = pick(g, MAP), r;
	u8 size = size_code(g);
	u32 bytes = size_bytes(size);
	s16 off = (s16)(below(g, PROGRAM_VALUE_SIZE / bytes) * bytes);
	static const s32 atomics[] = { BPF_ADD,	 BPF_OR,     BPF_AND, BPF_XOR, BPF_ADD | BPF_FETCH,
				       BPF_XCHG, BPF_CMPXCHG };

	if (pointer < 0)
		pointer = 7;
	switch (below(g, 4)) {
	case 0:
		r = target(g);
		emit(g, BPF_LDX | BPF_MEM | size, r, pointer, off, 0);
		g->kind[r] = SCALAR;
		break;
	case 1:
		r = pick(g, SCALAR);
		if (r >= 0)
			emit(g, BPF_STX | BPF_MEM | size, pointer, r, off, 0);
		break;
	case 2:
		emit(g, BPF_ST | BPF_MEM | size, pointer, 0, off, (s32)random_value(&g->r));
		break;
	case 3:
		r = pick(g, SCALAR);
		if (r < 0 || g->kind[0] != SCALAR || g->reserved & 1 || g->reserved >> r & 1)
			break;
		size = below(g, 2) ? BPF_W : BPF_DW;
		emit(g, BPF_STX | BPF_ATOMIC | size, below(g, 3) ? pointer : 10, r, 0,
		     atomics[below(g, 7)]);
		g->p->insns[g->p->nr - 1].off =
			g->p->insns[g->p->nr - 1].dst_reg == 10 ? -8 : off & ~7;
		break;
	}
}

static void call(struct gen *g)
{
	if (!g->has_sub || g->sub || g->reserved & 0x3f)
		return;
	for (int i = 1; i <= 2; i++) {
		int r = pick(g, SCALAR);

		if (r < 0)
			return;
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, i, r, 0, 0);
		g->kind[i] = SCALAR;
	}
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -8 * (s32)(1 + below(g, 6)));
	g->kind[3] = NONE;
	emit_call(g, FUNCTION_RANDOM);
}

static void statement(struct gen *g)
{
	int r;

	switch (below(g, 20)) {
	case 16:
	case 17:
	case 18:
		indirect(g);
		break;
	case 0:
		constant(g, target(g));
		break;
	case 1:
	case 2:
		unknown(g, target(g));
		break;
	case 3:
	case 4:
	case 5:
		alu(g);
		break;
	case 6:
	case 7:
		if (g->depth < 4)
			if_else(g);
		break;
	case 8:
		if (g->depth < 3)
			loop(g);
		break;
	case 9:
	case 10:
		indexed(g);
		break;
	case 11:
	case 12:
		stack(g);
		break;
	case 13:
		map_access(g);
		break;
	case 14:
		call(g);
		break;
	case 19:
		shift_out(g);
		break;
	case 15:
		r = target(g);
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, r, 7, 0, 0);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, r, 0, 0, below(g, 4) ? 0 : below(g, 60));
		g->kind[r] = g->p->insns[g->p->nr - 1].imm ? NONE : MAP;
		break;
	}
}

void block(struct gen *g, u32 n)
{
	g->depth++;
	for (u32 i = 0; i < n && !full(g); i++)
		statement(g);
	g->depth--;
}
