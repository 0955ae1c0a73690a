/* SPDX-License-Identifier: MIT */
/*
 * Traps for a verifier that prunes too much. By a coin two ways part and leave one difference
 * behind: another number, another pointer, another relation between registers, in a register or on
 * the stack. They meet again, something happens that has nothing to do with it, and what follows is
 * safe after the one way only. Who takes the second for a repetition of the first accepts the
 * program; the concrete runs then fall in.
 */
#include "verifier_traps.h"

void mov(struct gen *g, u8 dst, u8 src)
{
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void mov_imm(struct gen *g, u8 dst, s32 imm)
{
	emit(g, (below(g, 2) ? BPF_ALU : BPF_ALU64) | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

void store(struct gen *g, u8 size, s16 off, u8 src)
{
	emit(g, BPF_STX | BPF_MEM | size, 10, src, off, 0);
}

void load(struct gen *g, u8 size, u8 dst, s16 off)
{
	emit(g, BPF_LDX | BPF_MEM | size, dst, 10, off, 0);
}

/* A byte of which nothing is known. */
void byte(struct gen *g, u8 r)
{
	if (!g->sub && below(g, 2))
		emit(g, BPF_LDX | BPF_MEM | BPF_B, r, 6, (s16)below(g, 160), 0);
	else
		emit(g, BPF_LDX | BPF_MEM | BPF_B, r, 7, (s16)below(g, PROGRAM_VALUE_SIZE), 0);
}

/* A jump that is taken every other time. */
u32 coin(struct gen *g)
{
	u32 at;

	byte(g, 0);
	at = g->p->nr;
	emit(g, BPF_JMP | BPF_JSET | BPF_K, 0, 0, 0, 1 << below(g, 8));
	return at;
}

static bool call_with(struct gen *g, enum function function, u8 first)
{
	if (first != 1)
		mov(g, 1, first);
	mov_imm(g, 2, (s32)below(g, 100));
	mov(g, 3, 10);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0,
	     function == FUNCTION_STORE ? SLOT : OTHER_SLOT);
	return emit_call(g, function);
}

/* One step of moving the number in @from to r@to, so that it stays what it is. */
static void move_on(struct gen *g, u8 to, u8 from)
{
	u32 by = 1 + below(g, 8);

	switch (below(g, g->sub ? 9 : 10)) {
	case 0:
		mov(g, to, from);
		break;
	case 1:
		mov_imm(g, to, 0);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_X, to, from, 0, 0);
		break;
	case 2:
		store(g, BPF_DW, OTHER_SLOT, from);
		load(g, BPF_DW, to, OTHER_SLOT);
		break;
	case 3:
		emit(g, BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0);
		break;
	case 4:
		mov(g, to, from);
		emit(g, BPF_ALU64 | BPF_LSH | BPF_K, to, 0, 0, by);
		emit(g, BPF_ALU64 | BPF_RSH | BPF_K, to, 0, 0, by);
		break;
	case 5:
		mov(g, to, from);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, by);
		emit(g, BPF_ALU64 | BPF_SUB | BPF_K, to, 0, 0, by);
		break;
	case 6:
		store(g, BPF_W, OTHER_SLOT, from);
		load(g, BPF_W, to, OTHER_SLOT);
		break;
	case 7:
		mov(g, to, from);
		emit(g, BPF_JMP | BPF_JEQ | BPF_K, to, 0, 0, 77);
		break;
	case 8:
		mov_imm(g, to, (s32)by);
		emit(g, (below(g, 2) ? BPF_ALU : BPF_ALU64) | BPF_ADD | BPF_X, to, from, 0, 0);
		emit(g, BPF_ALU64 | BPF_SUB | BPF_K, to, 0, 0, by);
		break;
	case 9:
		if (call_with(g, FUNCTION_SAME, from))
			mov(g, to, 0);
		else
			mov(g, to, from);
		break;
	}
}

/* An access of the map's value at the index in @r. */
void use_index(struct gen *g, const struct trap *t, u8 r)
{
	static const u8 sizes[] = { BPF_B, BPF_H, BPF_W, BPF_DW };
	u8 at = r, size = sizes[t->size];

	for (u32 i = 0, n = below(g, 3); i < n; i++) {
		move_on(g, 4 + (i & 1), at);
		at = 4 + (i & 1);
	}
	mov(g, 2, 7);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_X, 2, at, 0, 0);
	if (below(g, 2))
		emit(g, BPF_LDX | BPF_MEM | size, 0, 2, 0, 0);
	else
		emit(g, BPF_STX | BPF_MEM | size, 2, at, 0, 0);
}

/* Ends what @guard lets through. */
static u32 guard(struct gen *g, u8 r, s32 limit)
{
	u32 at = g->p->nr;

	emit(g, (below(g, 4) ? BPF_JMP : BPF_JMP32) | BPF_JGT | BPF_K, r, 0, 0, limit);
	return at;
}

static void guarded_use(struct gen *g, const struct trap *t, u8 guarded, u8 used)
{
	u32 at = guard(g, guarded, LIMIT);

	use_index(g, t, used);
	patch(g, at);
}

/* --- relations -------------------------------------------------------------------------------- */

/* y = x, or a number of its own. */
static void copy_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	if (safe)
		emit(g, (t->variant & 1 ? BPF_ALU : BPF_ALU64) | BPF_MOV | BPF_X, Y, X, 0, 0);
	else
		byte(g, Y);
}

static void copy_use(struct gen *g, const struct trap *t)
{
	guarded_use(g, t, t->variant & 2 ? X : Y, t->variant & 2 ? Y : X);
}

/* Of three numbers the second is equal to the first, or the third is. */
static void triple_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	byte(g, 3);
	mov(g, safe ? Y : 4, X);
	mov(g, safe ? 4 : Y, 3);
}

static void triple_use(struct gen *g, const struct trap *t)
{
	u32 at = guard(g, X, LIMIT);

	use_index(g, t, Y);
	patch(g, at);
	mov(g, 0, 4);
}

/* The copy is on the stack. */
static void spilled_copy_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	if (!safe)
		byte(g, 0);
	store(g, t->variant & 1 ? BPF_W : BPF_DW, SLOT, safe ? X : 0);
}

static void spilled_copy_use(struct gen *g, const struct trap *t)
{
	if (t->variant & 4) {
		u32 at = guard(g, X, LIMIT);

		load(g, t->variant & 1 ? BPF_W : BPF_DW, Y, SLOT);
		use_index(g, t, Y);
		patch(g, at);
		return;
	}
	load(g, t->variant & 1 ? BPF_W : BPF_DW, Y, SLOT);
	copy_use(g, t);
}

/* A number that may be too wide for what it is copied through: then the copy is another number. */
static void cut_copy_arm(struct gen *g, const struct trap *t, bool safe)
{
	const u8 narrow = t->variant & 1 ? BPF_H : BPF_B;

	emit(g, BPF_LDX | BPF_MEM | (safe ? narrow : BPF_DW), X, 7, 8, 0);
	/* Copies of it know each other. */
	mov(g, Y, X);
	switch (t->variant >> 1 & 3) {
	case 0:
		store(g, narrow, SLOT, X);
		break;
	case 1:
		store(g, BPF_DW, SLOT, X);
		break;
	default:
		emit(g, BPF_ALU | BPF_MOV | BPF_X, Y, X, 0, 0);
		store(g, BPF_DW, SLOT, Y);
	}
}

static void cut_copy_use(struct gen *g, const struct trap *t)
{
	const u8 narrow = t->variant & 1 ? BPF_H : BPF_B;

	load(g, t->variant >> 1 & 2 ? BPF_DW : narrow, Y, SLOT);
	guarded_use(g, t, Y, X);
}

/* More copies than a verifier may care to list. */
static void many_copies_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	for (s16 i = 0; i < 6; i++)
		store(g, BPF_DW, SLOT - 8 * i, X);
	mov(g, 3, X);
	mov(g, 4, X);
	if (safe)
		mov(g, Y, X);
	else
		byte(g, Y);
}

static void many_copies_use(struct gen *g, const struct trap *t)
{
	static const s16 other[] = { SLOT, OTHER_SLOT, KEY_SLOT };

	if (t->variant & 1)
		load(g, BPF_DW, Y, other[(t->variant >> 1) % 3]);
	copy_use(g, t);
	mov(g, 0, 4);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_X, 0, 3, 0, 0);
}

/* So many that one must be left out: it may not be what the others are compared by. */
static void crowd_arm(struct gen *g, const struct trap *t, bool safe)
{
	byte(g, X);
	for (u8 r = 1; r <= 5; r++)
		mov(g, r, X);
	if (safe)
		mov(g, Y, X);
	else
		byte(g, Y);
}

static void crowd_use(struct gen *g, const struct trap *t)
{
	guarded_use(g, t, Y, X);
	for (u8 r = 1; r <= 5; r++)
		mov(g, 0, r);
}

/* y = x + constant. */
static void distance_arm(struct gen *g, const struct trap *t, bool safe)
{
	/* Nothing is known of either, but their distance. */
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, X, 7, 8 * (s16)below(g, 8), 0);
	mov(g, Y, X);
	if (t->variant & 4 ? !safe : safe || t->variant & 1)
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, Y, 0, 0, safe ? 8 : 60);
	if (t->variant & 2)
		store(g, BPF_DW, SLOT, Y);
}

static void distance_use(struct gen *g, const struct trap *t)
{
	if (t->variant & 2)
		load(g, BPF_DW, Y, SLOT);
	if (!(t->variant & 5)) {
		/* x = y is not x + 8 = y: beyond by as much as the other is within. */
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, X, 0, 0, 16);
		guarded_use(g, t, Y, X);
		return;
	}
	guarded_use(g, t, X, Y);
}

/* --- pointers --------------------------------------------------------------------------------- */

static void pointer_arm(struct gen *g, const struct trap *t, bool safe)
{
	switch (t->variant % 3) {
	case 0:
		mov(g, X, 7);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, X, 0, 0, safe ? 8 : 40);
		break;
	case 1:
		mov(g, X, safe ? 7 : 10);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, X, 0, 0, safe ? 0 : -8);
		break;
	default:
		if (safe)
			mov(g, X, 7);
		else
			byte(g, X);
	}
	if (t->variant & 4)
		store(g, BPF_DW, SLOT, X);
}

static void pointer_use(struct gen *g, const struct trap *t)
{
	if (t->variant & 4)
		load(g, BPF_DW, X, SLOT);
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, X, 24, 0);
}

static void lookup(struct gen *g, u8 to)
{
	byte(g, 0);
	emit(g, BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1);
	store(g, BPF_W, KEY_SLOT, 0);
	emit(g, BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, g->map_fd);
	emit(g, 0, 0, 0, 0, 0);
	mov(g, 2, 10);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, KEY_SLOT);
	emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	mov(g, to, 0);
}

/* Two pointers that are null together, or each by itself. */
static void null_arm(struct gen *g, const struct trap *t, bool safe)
{
	lookup(g, X);
	if (safe)
		mov(g, Y, X);
	else
		lookup(g, Y);
	if (t->variant & 1)
		store(g, BPF_DW, SLOT, Y);
}

static void null_use(struct gen *g, const struct trap *t)
{
	u32 at = g->p->nr;

	emit(g, BPF_JMP | BPF_JEQ | BPF_K, X, 0, 0, 0);
	if (t->variant & 1)
		load(g, BPF_DW, Y, SLOT);
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, Y, 8, 0);
	patch(g, at);
}

/* --- functions -------------------------------------------------------------------------------- */

static void argument_arm(struct gen *g, const struct trap *t, bool safe)
{
	mov_imm(g, X, safe ? t->small & 31 : t->large);
}

static void argument_use(struct gen *g, const struct trap *t)
{
	call_with(g, FUNCTION_INDEX, X);
}

static void stored_use(struct gen *g, const struct trap *t)
{
	if (!call_with(g, FUNCTION_STORE, X))
		store(g, BPF_DW, SLOT, X);
	load(g, BPF_DW, X, SLOT);
	use_index(g, t, X);
}

/* Not needed behind the call by the function, but by its caller. */
static void kept_use(struct gen *g, const struct trap *t)
{
	mov_imm(g, 1, 0);
	call_with(g, below(g, 2) ? FUNCTION_SAME : FUNCTION_INDEX, 1);
	use_index(g, t, X);
}

void function_body(struct gen *g, enum function function)
{
	bool by_stack = below(g, 2);
	u32 at;

	mov(g, 6, 1);
	mov(g, X, 3);
	if (by_stack) {
		store(g, BPF_DW, SLOT, 6);
		mov_imm(g, 6, 0);
	}
	at = coin(g);
	mov_imm(g, Y, 3);
	if (below(g, 2))
		emit(g, BPF_JMP | BPF_JGT | BPF_K, 2, 0, 1, 50);
	mov_imm(g, Y, 4);
	patch(g, at);
	if (by_stack)
		load(g, BPF_DW, 6, SLOT);
	if (below(g, 2)) {
		move_on(g, 5, 6);
		mov(g, 6, 5);
	}
	switch (function) {
	case FUNCTION_STORE:
		emit(g, BPF_STX | BPF_MEM | BPF_DW, X, 6, 0, 0);
		mov_imm(g, 0, 0);
		break;
	case FUNCTION_INDEX:
		mov(g, 2, 7);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_X, 2, 6, 0, 0);
		emit(g, BPF_LDX | BPF_MEM | BPF_B, 0, 2, 0, 0);
		break;
	default:
		mov(g, 0, 6);
	}
}

/* --- putting them together -------------------------------------------------------------------- */

static const struct trap_kind traps[] = {
	{ copy_arm, copy_use },
	{ triple_arm, triple_use, .temporaries = true },
	{ spilled_copy_arm, spilled_copy_use },
	{ cut_copy_arm, cut_copy_use },
	{ many_copies_arm, many_copies_use, .temporaries = true },
	{ crowd_arm, crowd_use, .temporaries = true },
	{ distance_arm, distance_use },
	{ pointer_arm, pointer_use },
	{ null_arm, null_use },
	{ argument_arm, argument_use },
	{ number_arm, stored_use },
	{ number_arm, kept_use },
	{ copy_arm, kept_use },
};

/* The same call on two ways: what follows it here is not what follows it there. */
static void two_calls(struct gen *g, const struct trap *t, bool first_safe, bool second_safe)
{
	enum function function = below(g, 2) ? FUNCTION_SAME : FUNCTION_STORE;
	u32 at = coin(g), end;

	mov_imm(g, 1, 1);
	call_with(g, function, 1);
	mov_imm(g, X, first_safe ? t->small : t->large);
	use_index(g, t, X);
	end = g->p->nr;
	emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
	patch(g, at);
	mov_imm(g, 1, 1);
	call_with(g, function, 1);
	mov_imm(g, X, second_safe ? t->small : t->large);
	use_index(g, t, X);
	patch(g, end);
}

#define NR_TRAPS (nr_number_traps + (u32)(sizeof(traps) / sizeof(traps[0])))

static void in_between(struct gen *g)
{
	u32 at;

	switch (below(g, 6)) {
	case 0:
		break;
	case 1:
		block(g, 1);
		break;
	case 2:
		if_else(g);
		break;
	case 3:
		at = coin(g);
		mov_imm(g, 0, 1);
		patch(g, at);
		break;
	case 4:
		mov_imm(g, 1, 1);
		call_with(g, below(g, 2) ? FUNCTION_SAME : FUNCTION_RANDOM, 1);
		break;
	case 5: /* far enough for a verifier to remember where it is */
		for (u32 i = 0; i < 3; i++) {
			at = coin(g);
			mov_imm(g, 1, (s32)i);
			mov_imm(g, 2, (s32)i);
			patch(g, at);
		}
		break;
	}
}

void trap(struct gen *g, bool may_fail)
{
	struct trap t = { .size = below(g, 4), .variant = (u32)random_next(&g->r) };
	bool first = !may_fail || below(g, 2), second = !may_fail || !first || below(g, 4) == 0;
	u32 kind = below(g, NR_TRAPS + 3), at, end;
	u32 reserved = g->reserved;

	t.small = (s32)below(g, PROGRAM_VALUE_SIZE - (1u << t.size) + 1);
	t.large = PROGRAM_VALUE_SIZE + (s32)below(g, 60);
	/* Slots that a way leaves as they were, and registers, are initialized in any case. */
	emit(g, BPF_ST | BPF_MEM | BPF_DW, 10, 0, SLOT, below(g, 2) ? 0 : t.small);
	mov_imm(g, 3, 0);
	mov_imm(g, 4, 0);
	mov_imm(g, X, 0);
	mov_imm(g, Y, 0);
	if (kind == NR_TRAPS) {
		sum(g, &t, first && second);
	} else if (kind == NR_TRAPS + 1) {
		rounds(g, &t, first && second);
	} else if (kind > NR_TRAPS) {
		two_calls(g, &t, first, second);
	} else {
		const struct trap_kind *k = kind < nr_number_traps ? &number_traps[kind]
								   : &traps[kind - nr_number_traps];

		at = coin(g);
		k->arm(g, &t, first);
		end = g->p->nr;
		emit(g, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		patch(g, at);
		k->arm(g, &t, second);
		patch(g, end);
		g->reserved |= 1u << X | 1u << Y;
		g->kind[X] = g->kind[Y] = NONE;
		for (int i = 0; i < 6; i++)
			g->kind[i] = NONE;
		mov_imm(g, 0, 7);
		g->kind[0] = SCALAR;
		if (!k->temporaries)
			for (u32 i = 0, n = below(g, 4); i < n; i++)
				in_between(g);
		g->reserved = reserved;
		k->use(g, &t);
	}
	for (int i = 0; i < 10; i++) {
		if (i != 6 && i != 7)
			g->kind[i] = NONE;
	}
	mov_imm(g, 0, 1);
	g->kind[0] = SCALAR;
	mov_imm(g, X, 5);
	g->kind[X] = SCALAR;
}
