// SPDX-License-Identifier: MIT
/*
 * Steps that work on registers, the stack and the memory.
 */
#include "generate_steps.h"

void step_alu(struct generator *g)
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

void step_unary(struct generator *g)
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
void step_extend(struct generator *g)
{
	u8 dst = scalar(g);

	emit(g, BPF_ALU64 | BPF_LSH | BPF_K, dst, 0, 0, 32);
	emit(g, BPF_ALU64 | (below(g, 2) ? BPF_RSH : BPF_ARSH) | BPF_K, dst, 0, 0,
	     below(g, 8) ? 32 : 31);
}

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

void step_memory(struct generator *g)
{
	u32 size = below(g, 4), bytes = 1u << size;
	u8 reg = scalar(g), base;
	s16 off;

	base = place(g, bytes, false, &off);
	switch (below(g, 4)) {
	case 0:
		emit(g, BPF_LDX | BPF_MEM | generate_sizes[size], reg, base, off, 0);
		break;
	case 1:
		if (size == 3)
			size = 2;
		emit(g, BPF_LDX | BPF_MEMSX | generate_sizes[size], reg, base, off, 0);
		break;
	case 2:
		emit(g, BPF_STX | BPF_MEM | generate_sizes[size], base, reg, off, 0);
		break;
	default:
		emit(g, BPF_ST | BPF_MEM | generate_sizes[size], base, 0, off,
		     (s32)random_value(&g->r));
		break;
	}
}

void step_atomic(struct generator *g)
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
			emit(g, BPF_STX | BPF_ATOMIC | generate_sizes[size], reg, base, off,
			     BPF_LOAD_ACQ);
		else
			emit(g, BPF_STX | BPF_ATOMIC | generate_sizes[size], base, reg, off,
			     BPF_STORE_REL);
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
		emit(g, BPF_LDX | BPF_MEM | generate_sizes[size], 0, base, off, 0);
		op = BPF_CMPXCHG;
	}
	emit(g, BPF_STX | BPF_ATOMIC | generate_sizes[size], base, reg, off, op);
	/* Linux 6.18 does not always clear r0's upper half (RFC 9669 section 5.3) when a 32-bit
	 * cmpxchg succeeds: not where another path to the same instruction was verified before. */
	if (op == BPF_CMPXCHG && size == 2)
		emit(g, BPF_ALU | BPF_MOV | BPF_X, 0, 0, 0, 0);
}

/* load, change, store as on a per-CPU value, at times with other things in between or two of them
 * interleaved: what the JIT fuses. */
void step_percpu(struct generator *g)
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
		emit(g, BPF_LDX | BPF_MEM | generate_sizes[size], regs[i], g->pointer,
		     off + (i << size), 0);
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
		emit(g, BPF_STX | BPF_MEM | generate_sizes[size], g->pointer, regs[i],
		     off + (i << size), 0);
	}
	if (below(g, 2))
		emit_value(g, regs[0]);
}

/* An access at a variable offset: pointer + (scalar & mask). */
void step_variable(struct generator *g)
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
		emit(g, BPF_STX | BPF_MEM | generate_sizes[size], address, index, off, 0);
		emit_value(g, address);
	} else {
		emit(g, BPF_LDX | BPF_MEM | generate_sizes[size], address, address, off, 0);
	}
}

/* mov + add of a stack or memory address, which the JIT makes a lea, and an access on either side
 * of it. */
void step_address(struct generator *g)
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
		emit(g, BPF_ST | BPF_MEM | generate_sizes[size], address, 0, (s16)(at - address_at),
		     (s32)random_value(&g->r));
	emit(g, BPF_LDX | BPF_MEM | generate_sizes[size], address, address, (s16)(at - address_at),
	     0);
}
