// SPDX-License-Identifier: MIT
/*
 * Steps that use the harness's maps.
 */
#include "generate_steps.h"

/* Reads and writes of a map's value of @size bytes in register g->value. */
static void use_value(struct generator *g, u32 size, bool percpu)
{
	static const s32 atomics[] = { BPF_ADD, BPF_OR, BPF_XOR, BPF_ADD | BPF_FETCH, BPF_XCHG };
	u32 log = below(g, 4), bytes = 1u << log;
	s16 off = (s16)(below(g, size / bytes) * bytes);
	u8 reg = scalar(g), code = BPF_MEM | generate_sizes[log];

	switch (below(g, 5)) {
	case 0:
		emit(g, BPF_LDX | code, reg, g->value, off, 0);
		break;
	case 1:
		emit(g, BPF_STX | code, g->value, reg, off, 0);
		break;
	case 2:
		emit(g, BPF_ST | code, g->value, 0, off, (s32)random_value(&g->r));
		break;
	case 3:
		if (log >= 2) {
			emit(g, BPF_STX | BPF_ATOMIC | generate_sizes[log], g->value, reg, off,
			     atomics[below(g, ub_array_size(atomics))]);
			break;
		}
		/* fall through */
	default: /* a counter */
		if (percpu) {
			g->test->has_flags = true;
			g->test->flags[g->test->nr] = UB_INSN_PERCPU;
			g->test->flags[g->test->nr + 2] = UB_INSN_PERCPU;
		}
		emit(g, BPF_LDX | code, reg, g->value, off, 0);
		if (below(g, 2))
			emit(g, BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, (s32)random_value(&g->r));
		else
			emit(g, BPF_ALU64 | BPF_XOR | BPF_X, reg, scalar(g), 0, 0);
		emit(g, BPF_STX | code, g->value, reg, off, 0);
		break;
	}
}

/* r1 = the map, r2 = a key that may or may not be there. The map's address comes in ways that the
 * JIT sees through, and in one that it does not. */
static void emit_map_and_key(struct generator *g, u32 map)
{
	if (below(g, 4))
		emit(g, BPF_ST | BPF_MEM | BPF_W, 10, 0, KEY_SLOT, (s32)below(g, VM_MAP_KEYS - 1));
	else
		emit(g, BPF_STX | BPF_MEM | BPF_W, 10, scalar(g), KEY_SLOT, 0);
	if (map == VM_MAP_HASH) { /* only those that a reset knows */
		emit(g, BPF_LDX | BPF_MEM | BPF_W, 1, 10, KEY_SLOT, 0);
		emit(g, BPF_ALU | BPF_AND | BPF_K, 1, 0, 0, VM_MAP_KEYS - 1);
		emit(g, BPF_STX | BPF_MEM | BPF_W, 10, 1, KEY_SLOT, 0);
	}
	emit(g, BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, (s32)map);
	emit(g, 0, 0, 0, 0, 0);
	if (!below(g, 4)) {
		emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, 1, MAP_SLOT, 0);
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, 1, 10, MAP_SLOT, 0);
	}
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, KEY_SLOT);
}

/* The value in r0, if there is one, is used, and r0 a scalar again. */
static void step_lookup(struct generator *g)
{
	static const u8 lookups[] = { VM_MAP_ARRAY, VM_MAP_PERCPU, VM_MAP_HASH };
	u32 map = lookups[below(g, ub_array_size(lookups))], at, nr = 1 + below(g, 3);
	bool refill_first = below(g, 2);

	emit_map_and_key(g, map);
	emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	g->value = 0;
	if (refill_first)
		refill(g);
	g->only_saved = !refill_first;
	at = g->test->nr;
	emit(g, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 0, 0);
	for (u32 i = 0; i < nr; i++)
		use_value(g, VM_MAP_VALUE, map == VM_MAP_PERCPU);
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, 0, 8 * (s16)below(g, 2), 0);
	g->test->insns[at].off = (s16)(g->test->nr - at - 1);
	g->value = 0xff;
	g->only_saved = false;
	if (!refill_first)
		refill(g);
}

/* An update or deletion; arrays refuse the latter. r0 is the error. */
static void step_update(struct generator *g)
{
	u32 map = below(g, 3) ? VM_MAP_HASH : below(g, 2) ? VM_MAP_ARRAY : VM_MAP_PERCPU;

	emit_map_and_key(g, map);
	if (below(g, 3)) {
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0,
		     -STACK_DATA + 8 * (s32)below(g, STACK_DATA / 8 - 1));
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, (s32)below(g, 4));
		emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_update_elem);
	} else {
		emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_delete_elem);
	}
	refill(g);
}

/* Global data: the value's address is a constant. */
static void step_data(struct generator *g)
{
	s32 off = 8 * (s32)below(g, VM_MAP_DATA_SIZE / 8 - 2);
	u32 nr = 1 + below(g, 3);

	g->value = scalar(g);
	emit(g, BPF_LD | BPF_IMM | BPF_DW, g->value, BPF_PSEUDO_MAP_VALUE, 0, VM_MAP_DATA);
	emit(g, 0, 0, 0, 0, off);
	for (u32 i = 0; i < nr; i++)
		use_value(g, VM_MAP_VALUE, false);
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, g->value, g->value, 0, 0);
	g->value = 0xff;
}

/* Most find nothing and go on; where one succeeds, that was all of this function. */
void step_tail_call(struct generator *g)
{
	g->test->has_maps = true;
	if (below(g, 4)) {
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, (s32)below(g, 2 * VM_PROG_SLOTS));
	} else {
		emit(g, BPF_LDX | BPF_MEM | BPF_W, 3, g->pointer, (s16)below(g, DATA - 8), 0);
		emit(g, BPF_ALU64 | BPF_AND | BPF_K, 3, 0, 0, 2 * VM_PROG_SLOTS - 1);
	}
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, 1, 10, CTX_SLOT, 0);
	emit(g, BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, 0, VM_MAP_PROGS);
	emit(g, 0, 0, 0, 0, 0);
	emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_tail_call);
	refill(g);
	emit_value(g, 0);
}

void step_map(struct generator *g)
{
	g->test->has_maps = true;
	g->branches++;
	switch (below(g, 4)) {
	case 0:
		step_update(g);
		break;
	case 1:
		step_data(g);
		break;
	default:
		step_lookup(g);
		break;
	}
}
