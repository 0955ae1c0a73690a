// SPDX-License-Identifier: MIT
/*
 * The generator. Each function has one register that points to the memory (any of r1 .. r9, so that
 * every hardware register gets to be a base) and ten that hold scalars at all times; so any
 * sequence of steps is valid, and so is any forward branch over some of them. Steps that need a
 * pointer or a bounded value make it, use it and leave a scalar behind.
 *
 *	memory	0 .. 255 data, 256 .. 343 registers at the end
 *	stack	-64 .. -1 data, -72 the pointer, -80 and -88 loop counters, -92 a map's key, -104 a
 *		map's address on its way to a call
 *
 * The main function may call two subprograms and, through bpf_loop, a callback. Maps are those of
 * the harness.
 */
#include "generate.h"

#include <string.h>

#include <isa/isa.h>

#define DATA	     256
#define STACK_DATA   64
#define POINTER_SLOT (-72)
#define KEY_SLOT     (-92)
#define MAP_SLOT     (-104)
#define STACK_DEPTH  104
#define MAX_STEPS    48
#define NR_SUBPROGS  2

struct generator {
	struct random_state r;
	struct vm_case *test;
	u8 pointer;   /* the register that points to the memory */
	u8 depth;     /* of nested blocks */
	u8 loops;     /* nested loops */
	u32 branches; /* of this program: what the verifier has to walk grows with them */
	bool may_call;
	bool may_use_maps;
	bool only_saved; /* r1 .. r5 are gone: scalars are r0 and r6 .. r9 */
	u8 value;	 /* a second register that is no scalar: a map's value; 0xff = none */
	u32 calls[16];	 /* calls to patch, and which function they lead to */
	u8 callee[16];
	u32 nr_calls;
};

static u32 below(struct generator *g, u32 n)
{
	return random_below(&g->r, n);
}

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

static struct bpf_insn *emit(struct generator *g, u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	struct bpf_insn *insn = &g->test->insns[g->test->nr++];

	*insn = (struct bpf_insn) { code, dst, src, off, imm };
	return insn;
}

static u8 scalar(struct generator *g)
{
	u8 reg;

	do
		reg = below(g, 10);
	while (reg == g->pointer || reg == g->value || (g->only_saved && reg >= 1 && reg <= 5));
	return reg;
}

static void emit_value(struct generator *g, u8 reg)
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

static void step_alu(struct generator *g)
{
	static const u8 ops[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
				  BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH };
	u8 op = ops[below(g, ub_array_size(ops))], class = below(g, 2) ? BPF_ALU64 : BPF_ALU;
	u8 dst = scalar(g), src = scalar(g);
	s16 off = (op == BPF_DIV || op == BPF_MOD) && below(g, 2);
	s32 imm = (s32)random_value(&g->r);

	if (below(g, 2)) {
		emit(g, class | op | BPF_X, dst, src, off, 0);
		return;
	}
	if (op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH)
		imm &= class == BPF_ALU64 ? 63 : 31;
	if ((op == BPF_DIV || op == BPF_MOD) && !imm)
		imm = 7;
	emit(g, class | op | BPF_K, dst, 0, off, imm);
}

static void step_unary(struct generator *g)
{
	static const u8 widths[] = { 16, 32, 64 };
	u8 dst = scalar(g), src = scalar(g);

	switch (below(g, 6)) {
	case 0:
		emit(g, BPF_ALU64 | BPF_NEG, dst, 0, 0, 0);
		break;
	case 1:
		emit(g, BPF_ALU | BPF_NEG, dst, 0, 0, 0);
		break;
	case 2:
		emit(g, BPF_ALU | BPF_END | (below(g, 2) ? BPF_TO_BE : BPF_TO_LE), dst, 0, 0,
		     widths[below(g, 3)]);
		break;
	case 3:
		emit(g, BPF_ALU64 | BPF_END, dst, 0, 0, widths[below(g, 3)]);
		break;
	case 4:
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 8 << below(g, 3), 0);
		break;
	default:
		emit(g, BPF_ALU | BPF_MOV | BPF_X, dst, src, 8 << below(g, 2), 0);
		break;
	}
}

/* The compiler's ways to extend 32 bits, which the JIT knows. */
static void step_extend(struct generator *g)
{
	u8 dst = scalar(g);

	emit(g, BPF_ALU64 | BPF_LSH | BPF_K, dst, 0, 0, 32);
	emit(g, BPF_ALU64 | (below(g, 2) ? BPF_RSH : BPF_ARSH) | BPF_K, dst, 0, 0,
	     below(g, 8) ? 32 : 31);
}

static const u8 sizes[] = { BPF_B, BPF_H, BPF_W, BPF_DW };

/* Somewhere valid for an access of @bytes: base register and offset. */
static u8 place(struct generator *g, u32 bytes, bool aligned, s16 *off)
{
	if (below(g, 2)) {
		*off = (s16)(below(g, STACK_DATA / bytes) * bytes - STACK_DATA);
		return 10;
	}
	*off = aligned ? below(g, DATA / bytes) * bytes : below(g, DATA - bytes);
	return g->pointer;
}

static void step_memory(struct generator *g)
{
	u32 size = below(g, 4), bytes = 1u << size;
	u8 reg = scalar(g), base;
	s16 off;

	base = place(g, bytes, false, &off);
	switch (below(g, 4)) {
	case 0:
		emit(g, BPF_LDX | BPF_MEM | sizes[size], reg, base, off, 0);
		break;
	case 1:
		if (size == 3)
			size = 2;
		emit(g, BPF_LDX | BPF_MEMSX | sizes[size], reg, base, off, 0);
		break;
	case 2:
		emit(g, BPF_STX | BPF_MEM | sizes[size], base, reg, off, 0);
		break;
	default:
		emit(g, BPF_ST | BPF_MEM | sizes[size], base, 0, off, (s32)random_value(&g->r));
		break;
	}
}

static void step_atomic(struct generator *g)
{
	static const s32 ops[] = {
		BPF_ADD,
		BPF_OR,
		BPF_AND,
		BPF_XOR,
		BPF_ADD | BPF_FETCH,
		BPF_OR | BPF_FETCH,
		BPF_AND | BPF_FETCH,
		BPF_XOR | BPF_FETCH,
		BPF_XCHG,
		BPF_CMPXCHG,
	};
	u32 size = 2 + below(g, 2);
	s32 op = ops[below(g, ub_array_size(ops))];
	u8 reg = scalar(g), base;
	s16 off;

	if (!below(g, 4)) {
		size = below(g, 4);
		base = place(g, 1u << size, true, &off);
		if (below(g, 2))
			emit(g, BPF_STX | BPF_ATOMIC | sizes[size], reg, base, off, BPF_LOAD_ACQ);
		else
			emit(g, BPF_STX | BPF_ATOMIC | sizes[size], base, reg, off, BPF_STORE_REL);
		return;
	}
	base = place(g, 1u << size, true, &off);
	/* Linux 6.18's verifier does not trace what a fetching atomic reads from the stack back to
	 * what was stored there: it takes states for equal that are not, and removes code that is
	 * reached. So those go to the memory; tests/vm/coverage has them on the stack. */
	if (op & BPF_FETCH && base == 10) {
		base = g->pointer;
		off = (s16)(below(g, DATA >> size) << size);
	}
	/* One that succeeds, unless the memory changes. */
	if (!below(g, 4)) {
		if (base == 10) {
			base = g->pointer;
			off = (s16)(below(g, DATA >> size) << size);
		}
		emit(g, BPF_LDX | BPF_MEM | sizes[size], 0, base, off, 0);
		op = BPF_CMPXCHG;
	}
	emit(g, BPF_STX | BPF_ATOMIC | sizes[size], base, reg, off, op);
	/* Linux 6.18 does not always clear r0's upper half (RFC 9669 section 5.3) when a 32-bit
	 * cmpxchg succeeds: not where another path to the same instruction was verified before. */
	if (op == BPF_CMPXCHG && size == 2)
		emit(g, BPF_ALU | BPF_MOV | BPF_X, 0, 0, 0, 0);
}

/* load, change, store as on a per-CPU value, at times with other things in between or two of them
 * interleaved: what the JIT fuses. */
static void step_percpu(struct generator *g)
{
	static const u8 ops[] = { BPF_ADD, BPF_SUB, BPF_OR, BPF_AND, BPF_XOR };
	u32 size = below(g, 4), nr = 1 + below(g, 2), nr_changes = 1 + !below(g, 4);
	s16 off = (s16)(below(g, DATA >> (size + 1)) << (size + 1));
	u8 regs[2];

	regs[0] = scalar(g);
	do
		regs[1] = scalar(g);
	while (regs[1] == regs[0]);
	g->test->has_flags = true;
	for (u32 i = 0; i < nr; i++) {
		g->test->flags[g->test->nr] = UB_INSN_PERCPU;
		emit(g, BPF_LDX | BPF_MEM | sizes[size], regs[i], g->pointer, off + (i << size), 0);
	}
	for (u32 i = 0; i < nr * nr_changes; i++) {
		u8 op = ops[below(g, ub_array_size(ops))],
		   class = below(g, 4) ? BPF_ALU64 : BPF_ALU;

		if (below(g, 2))
			emit(g, class | op | BPF_X, regs[i % nr], scalar(g), 0, 0);
		else
			emit(g, class | op | BPF_K, regs[i % nr], 0, 0, (s32)random_value(&g->r));
		switch (below(g, 6)) {
		case 0:
			step_memory(g);
			break;
		case 1:
			step_alu(g);
			break;
		default:
			break;
		}
	}
	for (u32 i = 0; i < nr; i++) {
		g->test->flags[g->test->nr] = UB_INSN_PERCPU;
		emit(g, BPF_STX | BPF_MEM | sizes[size], g->pointer, regs[i], off + (i << size), 0);
	}
	if (below(g, 2))
		emit_value(g, regs[0]);
}

/* An access at a variable offset: pointer + (scalar & mask). */
static void step_variable(struct generator *g)
{
	u32 size = below(g, 4);
	u8 index = scalar(g), address;
	s16 off = below(g, DATA - 64 - 8);

	do
		address = scalar(g);
	while (address == index);
	emit(g, BPF_ALU64 | BPF_AND | BPF_K, index, 0, 0, 63);
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, address, g->pointer, 0, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_X, address, index, 0, 0);
	if (below(g, 2)) {
		emit(g, BPF_STX | BPF_MEM | sizes[size], address, index, off, 0);
		emit_value(g, address);
	} else {
		emit(g, BPF_LDX | BPF_MEM | sizes[size], address, address, off, 0);
	}
}

/* mov + add of a stack or memory address, which the JIT makes a lea, and an access on either side
 * of it. */
static void step_address(struct generator *g)
{
	u32 size = below(g, 4), bytes = 1u << size;
	bool stack = below(g, 2);
	s32 at = (s32)below(g, stack ? STACK_DATA / bytes : DATA / bytes) * (s32)bytes;
	s32 address_at = (s32)below(g, stack ? STACK_DATA : DATA);
	u8 address = scalar(g);

	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, address, stack ? 10 : g->pointer, 0, 0);
	emit(g, BPF_ALU64 | BPF_ADD | BPF_K, address, 0, 0,
	     stack ? address_at - STACK_DATA : address_at);
	if (below(g, 2))
		emit(g, BPF_ST | BPF_MEM | sizes[size], address, 0, (s16)(at - address_at),
		     (s32)random_value(&g->r));
	emit(g, BPF_LDX | BPF_MEM | sizes[size], address, address, (s16)(at - address_at), 0);
}

/* Reads and writes of a map's value of @size bytes in register g->value. */
static void use_value(struct generator *g, u32 size, bool percpu)
{
	static const s32 atomics[] = { BPF_ADD, BPF_OR, BPF_XOR, BPF_ADD | BPF_FETCH, BPF_XCHG };
	u32 log = below(g, 4), bytes = 1u << log;
	s16 off = (s16)(below(g, size / bytes) * bytes);
	u8 reg = scalar(g), code = BPF_MEM | sizes[log];

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
			emit(g, BPF_STX | BPF_ATOMIC | sizes[log], g->value, reg, off,
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

static void refill(struct generator *g);

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

static void step_map(struct generator *g)
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
static void refill(struct generator *g)
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
		g->calls[g->nr_calls] = g->test->nr;
		g->callee[g->nr_calls++] = which;
		emit(g, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
	}
	refill(g);
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

/* With the memory in r1 at entry: chooses its register and fills the others and the stack. */
static void emit_head(struct generator *g)
{
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
	emit_head(g);
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

void generate_program(u64 seed, struct vm_case *test)
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
	test->memory_size = DATA + 80 + STACK_DATA;
	test->stack_depth = STACK_DEPTH;

	g.may_call = below(&g, 3) == 0;
	g.may_use_maps = below(&g, 2);
	emit_head(&g);
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

void generate_memory(struct random_state *r, const struct vm_case *test, u8 *memory)
{
	memset(memory, 0, test->memory_size);
	for (u32 i = 0; i < DATA; i += 8) {
		u64 value = random_value(r);

		memcpy(memory + i, &value, sizeof(value));
	}
}
