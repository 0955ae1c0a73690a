// SPDX-License-Identifier: MIT
/*
 * The generator. Each function has one register that points to the memory (any of r1 .. r9, so that
 * every hardware register gets to be a base) and ten that hold scalars at all times; so any
 * sequence of steps is valid, and so is any forward branch over some of them. Steps that need a
 * pointer or a bounded value make it, use it and leave a scalar behind.
 *
 *	memory	0 .. 255 data, 256 .. 343 registers at the end
 *	stack	-64 .. -1 data, -72 the pointer, -80 and -88 loop counters, -92 a map's key, -104 a
 *		map's address on its way to a call, -112 the context, for tail calls
 *
 * The main function may call two subprograms and, through bpf_loop, a callback. Maps are those of
 * the harness, and so is the array of programs for tail calls. The program in there is made like
 * the others, and calls itself that way, too.
 */
#include <string.h>

#include "generate_steps.h"

const u8 generate_sizes[4] = { BPF_B, BPF_H, BPF_W, BPF_DW };

u64 random_value(struct random_state *r)
{
	u64 bit = 1ull << random_below(r, 64);

	switch (random_below(r, 8)) {
	case 0:
		return random_below(r, 16);
	case 1:
		return (u64) - (s64)random_below(r, 16);
	case 2:
		return bit;
	case 3:
		return bit - 1;
	case 4:
		return -bit;
	case 5:
		return (u32)random_word(r);
	case 6:
		return (u64)(s64)(s32)random_word(r);
	default:
		return random_word(r);
	}
}

struct bpf_insn *emit(struct generator *g, u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	struct bpf_insn *insn = &g->test->insns[g->test->nr++];

	*insn = (struct bpf_insn) { code, dst, src, off, imm };
	return insn;
}

u8 scalar(struct generator *g)
{
	u8 reg;

	do
		reg = below(g, 10);
	while (reg == g->pointer || reg == g->value || (g->only_saved && reg >= 1 && reg <= 5));
	return reg;
}

void emit_value(struct generator *g, u8 reg)
{
	u64 value = random_value(&g->r);

	switch (below(g, 4)) {
	case 0:
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, (s32)value);
		break;
	case 1:
		emit(g, BPF_ALU | BPF_MOV | BPF_K, reg, 0, 0, (s32)value);
		break;
	case 2:
		emit(g, BPF_LD | BPF_IMM | BPF_DW, reg, 0, 0, (s32)value);
		emit(g, 0, 0, 0, 0, (s32)(value >> 32));
		break;
	default:
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, reg, g->pointer, below(g, DATA - 8), 0);
		break;
	}
}

static void emit_steps(struct generator *g, u32 nr);

static u8 random_jump(struct generator *g)
{
	static const u8 ops[] = { BPF_JEQ,  BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT,
				  BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE };

	return ops[below(g, ub_array_size(ops))] | (below(g, 2) ? BPF_JMP : BPF_JMP32);
}

static u32 emit_jump(struct generator *g)
{
	u8 dst = scalar(g), src = scalar(g), op = random_jump(g);
	u32 at = g->test->nr;

	g->branches++;
	if (below(g, 2))
		emit(g, op | BPF_X, dst, src, 0, 0);
	else
		emit(g, op | BPF_K, dst, 0, 0, (s32)random_value(&g->r));
	return at;
}

static void land(struct generator *g, u32 at)
{
	g->test->insns[at].off = (s16)(g->test->nr - at - 1);
}

static void step_if(struct generator *g)
{
	u32 at = emit_jump(g), over;

	emit_steps(g, 1 + below(g, 4));
	if (below(g, 2)) {
		land(g, at);
		return;
	}
	over = g->test->nr;
	emit(g, (below(g, 2) ? BPF_JMP : BPF_JMP32) | BPF_JA, 0, 0, 0, 0);
	land(g, at);
	emit_steps(g, 1 + below(g, 4));
	if (BPF_CLASS(g->test->insns[over].code) == BPF_JMP)
		land(g, over);
	else
		g->test->insns[over].imm = (s32)(g->test->nr - over - 1);
}

static void step_may_goto(struct generator *g)
{
	u32 at = g->test->nr;

	emit(g, BPF_JMP | BPF_JCOND, 0, 0, 0, 0);
	emit_steps(g, 1 + below(g, 3));
	land(g, at);
}

static void step_loop(struct generator *g)
{
	s16 slot = (s16)(-80 - 8 * g->loops);
	u32 start;
	u8 reg;

	emit(g, BPF_ST | BPF_MEM | BPF_DW, 10, 0, slot, 1 + (s32)below(g, 4));
	start = g->test->nr;
	g->loops++;
	emit_steps(g, 1 + below(g, 4));
	g->loops--;
	reg = scalar(g);
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, reg, 10, slot, 0);
	emit(g, BPF_ALU64 | BPF_SUB | BPF_K, reg, 0, 0, 1);
	emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, reg, slot, 0);
	emit(g, BPF_JMP | BPF_JNE | BPF_K, reg, 0, (s16)((s32)start - (s32)g->test->nr - 1), 0);
}

/* r1 .. r5 are gone after a call. */
void refill(struct generator *g)
{
	if (g->pointer <= 5)
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, g->pointer, 10, POINTER_SLOT, 0);
	for (u8 reg = 1; reg <= 5; reg++) {
		if (reg != g->pointer)
			emit_value(g, reg);
	}
}

static void step_call(struct generator *g)
{
	u32 which = below(g, NR_SUBPROGS + 1);

	if (g->nr_calls == ub_array_size(g->calls))
		return;
	if (which == NR_SUBPROGS) {
		/* bpf_loop(n, callback, stack data, 0); the callback gets the stack, not the memory
		 */
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, (s32)below(g, 5));
		g->calls[g->nr_calls] = g->test->nr;
		g->callee[g->nr_calls++] = which;
		emit(g, BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_FUNC, 0, 0);
		emit(g, 0, 0, 0, 0, 0);
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
		emit(g, BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -STACK_DATA);
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, 0);
		emit(g, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_loop);
	} else {
		/* The first argument is the memory; if its register is another, it is read from
		 * there. */
		if (g->pointer != 1)
			emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 1, g->pointer, 0, 0);
		if (g->pointer > 1 && g->pointer <= 5)
			emit(g, BPF_ALU64 | BPF_MOV | BPF_K, g->pointer, 0, 0, 3);
		if (g->test->has_tail_calls)
			emit(g, BPF_LDX | BPF_MEM | BPF_DW, 2, 10, CTX_SLOT, 0);
		g->calls[g->nr_calls] = g->test->nr;
		g->callee[g->nr_calls++] = which;
		emit(g, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
	}
	refill(g);
	/* Linux 6.18 believes that no other program returned, and removes code that is reached. */
	if (g->test->has_tail_calls && which != NR_SUBPROGS) {
		emit(g, BPF_STX | BPF_MEM | BPF_DW, g->pointer, 0, 0, 0);
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, g->pointer, 0, 0);
	}
}

static void emit_step(struct generator *g)
{
	u32 kind = below(g, 100);

	if (g->depth < 3 && g->branches < 10 && kind < 14)
		step_if(g);
	else if (g->depth < 2 && g->loops < 2 && kind >= 14 && kind < 17)
		step_loop(g);
	else if (g->depth < 2 && kind == 17)
		step_may_goto(g);
	else if (g->may_call && !g->loops && kind >= 18 && kind < 22)
		step_call(g);
	else if (g->test->has_tail_calls && kind == 35)
		step_tail_call(g);
	else if (g->may_use_maps && g->branches < 10 && kind >= 22 && kind < 29)
		step_map(g);
	else if (kind < 36)
		step_memory(g);
	else if (kind < 44)
		step_atomic(g);
	else if (kind < 48)
		step_percpu(g);
	else if (kind < 52)
		step_variable(g);
	else if (kind < 55)
		step_address(g);
	else if (kind < 58)
		step_extend(g);
	else if (kind < 70)
		step_unary(g);
	else if (kind < 74)
		emit_value(g, scalar(g));
	else
		step_alu(g);
}

static void emit_steps(struct generator *g, u32 nr)
{
	g->depth++;
	for (u32 i = 0; i < nr && g->test->nr < HARNESS_MAX_INSNS / 4; i++)
		emit_step(g);
	g->depth--;
}

/* With the memory in r1 and, for tail calls, the context in @ctx at entry: chooses the memory's
 * register and fills the others and the stack. */
static void emit_head(struct generator *g, u8 ctx)
{
	if (g->test->has_tail_calls) /* the harness wants it first */
		emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, ctx, CTX_SLOT, 0);
	g->pointer = 1 + below(g, 9);
	emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, 1, POINTER_SLOT, 0);
	if (g->pointer != 1)
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, g->pointer, 1, 0, 0);
	for (u8 reg = 0; reg < 10; reg++) {
		if (reg != g->pointer)
			emit_value(g, reg);
	}
	for (s16 off = -STACK_DATA; off < 0; off += 8) {
		if (below(g, 2))
			emit(g, BPF_STX | BPF_MEM | BPF_DW, 10, scalar(g), off, 0);
		else
			emit(g, BPF_ST | BPF_MEM | BPF_DW, 10, 0, off, (s32)random_value(&g->r));
	}
}

/* Everything that can be seen goes to the memory. */
static void emit_tail(struct generator *g)
{
	for (u8 reg = 0; reg < 10; reg++) {
		if (reg != g->pointer)
			emit(g, BPF_STX | BPF_MEM | BPF_DW, g->pointer, reg, DATA + 8 * reg, 0);
	}
	for (s16 i = 0; i < STACK_DATA / 8; i++) {
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, 10, 8 * i - STACK_DATA, 0);
		emit(g, BPF_STX | BPF_MEM | BPF_DW, g->pointer, 0, DATA + 80 + 8 * i, 0);
	}
	emit(g, BPF_LDX | BPF_MEM | BPF_DW, 0, g->pointer, DATA, 0);
	emit(g, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_subprogram(struct generator *g)
{
	emit_head(g, 2);
	emit_steps(g, 1 + below(g, 8));
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 0, scalar(g), 0, 0);
	emit(g, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* long callback(u64 index, u64 *stack_data): works on the caller's stack; stops early at times. */
static void emit_callback(struct generator *g)
{
	g->pointer = 6 + below(g, 4);
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, g->pointer, 2, 0, 0);
	for (u8 reg = 0; reg < 10; reg++) {
		if (reg != g->pointer && reg != 1)
			emit(g, BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, (s32)random_value(&g->r));
	}
	for (u32 i = 0; i < 2 + below(g, 6); i++) {
		s16 off = 8 * (s16)below(g, STACK_DATA / 8);

		switch (below(g, 4)) {
		case 0:
			emit(g, BPF_LDX | BPF_MEM | BPF_DW, scalar(g), g->pointer, off, 0);
			break;
		case 1:
			emit(g, BPF_STX | BPF_MEM | BPF_DW, g->pointer, scalar(g), off, 0);
			break;
		default:
			step_alu(g);
			break;
		}
	}
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 0, scalar(g), 0, 0);
	emit(g, BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1);
	emit(g, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void generate(u64 seed, bool is_target, struct vm_case *test)
{
	struct generator g = {
		.r = { seed * 0x2545f4914f6cdd1dull },
		.test = test,
		.value = 0xff,
	};
	u32 starts[NR_SUBPROGS + 1], nr_main_calls;

	test->nr = 0;
	memset(test->flags, 0, sizeof(test->flags));
	test->has_flags = false;
	test->has_maps = false;
	test->is_target = is_target;
	test->memory_size = DATA + 80 + STACK_DATA;
	test->stack_depth = STACK_DEPTH;

	test->has_tail_calls = below(&g, 4) == 0 || is_target;
	g.may_call = below(&g, 3) == 0;
	g.may_use_maps = below(&g, 2);
	emit_head(&g, 1);
	emit_steps(&g, 1 + below(&g, MAX_STEPS));
	emit_tail(&g);
	g.may_call = false;
	nr_main_calls = g.nr_calls;
	if (!nr_main_calls)
		return;
	/* Only functions that are called: the kernel refuses others as unreachable. */
	for (u32 which = 0; which <= NR_SUBPROGS; which++) {
		bool used = false;

		for (u32 i = 0; i < nr_main_calls; i++)
			used |= g.callee[i] == which;
		if (!used)
			continue;
		starts[which] = test->nr;
		if (which == NR_SUBPROGS)
			emit_callback(&g);
		else
			emit_subprogram(&g);
	}
	for (u32 i = 0; i < nr_main_calls; i++)
		test->insns[g.calls[i]].imm = (s32)(starts[g.callee[i]] - g.calls[i] - 1);
}

void generate_program(u64 seed, struct vm_case *test)
{
	generate(seed, false, test);
}

void generate_target(u64 seed, struct vm_case *test)
{
	generate(~seed, true, test);
}

void generate_memory(struct random_state *r, const struct vm_case *test, u8 *memory)
{
	memset(memory, 0, test->memory_size);
	for (u32 i = 0; i < DATA; i += 8) {
		u64 value = random_value(r);

		memcpy(memory + i, &value, sizeof(value));
	}
}
