/* SPDX-License-Identifier: MIT */
#include "verifier_generator.h"

#include <string.h>

u64 random_next(struct random_state *r)
{
	r->s += 0x9e3779b97f4a7c15ull;
	u64 z = r->s;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

u64 random_value(struct random_state *r)
{
	static const u64 edges[] = { 0,
				     1,
				     2,
				     7,
				     8,
				     15,
				     31,
				     32,
				     63,
				     64,
				     0x7f,
				     0x80,
				     0xff,
				     0x7fff,
				     0x8000,
				     0xffff,
				     0x7fffffff,
				     0x80000000,
				     0xffffffff,
				     0x100000000,
				     0x7fffffffffffffff,
				     0x8000000000000000 };
	u64 v = edges[random_next(r) % (sizeof(edges) / sizeof(edges[0]))];

	switch (random_next(r) % 5) {
	case 0:
		return random_next(r);
	case 1:
		return -v;
	case 2:
		return v + random_next(r) % 5 - 2;
	case 3:
		return ~v;
	default:
		return v;
	}
}

u32 below(struct gen *g, u32 n)
{
	return random_next(&g->r) % n;
}

void emit(struct gen *g, u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	if (g->p->nr >= PROGRAM_MAX - 8)
		return;
	g->p->insns[g->p->nr++] = (struct bpf_insn) {
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm
	};
}

bool full(const struct gen *g)
{
	return g->p->nr >= PROGRAM_MAX - 200;
}

int pick(struct gen *g, enum kind kind)
{
	int candidates[10], n = 0;

	for (int i = 0; i < 10; i++) {
		if (g->kind[i] == kind)
			candidates[n++] = i;
	}
	return n ? candidates[below(g, n)] : -1;
}

void patch(struct gen *g, u32 at)
{
	g->p->insns[at].off = (s16)(g->p->nr - at - 1);
}

u32 size_bytes(u8 code)
{
	return code == BPF_B ? 1 : code == BPF_H ? 2 : code == BPF_W ? 4 : 8;
}

void map_pointer(struct gen *g, u8 r)
{
	emit(g, BPF_LD | BPF_IMM | BPF_DW, r, BPF_PSEUDO_MAP_VALUE, 0, g->map_fd);
	emit(g, 0, 0, 0, 0, 0);
}

bool emit_call(struct gen *g, enum function function)
{
	if (g->sub || g->nr_calls >= MAX_CALLS || g->reserved & 0x3f)
		return false;
	g->calls[g->nr_calls].at = g->p->nr;
	g->calls[g->nr_calls++].function = function;
	emit(g, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
	g->kind[0] = SCALAR;
	for (int i = 1; i <= 5; i++)
		g->kind[i] = NONE;
	return true;
}

static void end(struct gen *g)
{
	int r = pick(g, SCALAR);

	if (r < 0)
		emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	else if (r)
		emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 0, r, 0, 0);
	emit(g, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void random_body(struct gen *g)
{
	emit(g, BPF_ALU64 | BPF_MOV | BPF_K, 8, 0, 0, (s32)random_value(&g->r));
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 6, 3, 0, 0);
	g->kind[8] = SCALAR;
	if (below(g, 2))
		emit(g, BPF_STX | BPF_MEM | BPF_DW, 6, 1, 0, 0);
	block(g, 2 + below(g, 8));
	if (below(g, 2)) {
		emit(g, BPF_LDX | BPF_MEM | BPF_DW, 9, 6, 0, 0);
		g->kind[9] = SCALAR;
	}
}

/* Emits @function if it is called, and tells the calls where it is. */
static void emit_function(struct gen *g, enum function function)
{
	u32 start = g->p->nr, called = 0;

	for (u32 i = 0; i < g->nr_calls; i++) {
		if (g->calls[i].function != function)
			continue;
		called++;
		g->p->insns[g->calls[i].at].imm = (s32)(start - g->calls[i].at - 1);
	}
	if (!called)
		return;
	g->sub = true;
	g->reserved = 0;
	g->slots = 0;
	memset(g->kind, 0, sizeof(g->kind));
	map_pointer(g, 7);
	g->kind[7] = MAP;
	g->kind[1] = g->kind[2] = SCALAR;
	g->kind[3] = STACK;
	if (function != FUNCTION_RANDOM) {
		function_body(g, function);
		emit(g, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
		return;
	}
	random_body(g);
	end(g);
}

static void prologue(struct gen *g)
{
	emit(g, BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
	map_pointer(g, 7);
	g->kind[7] = MAP;
	for (int i = 0; i < 10; i++) {
		if (i == 6 || i == 7 || (i > 0 && i < 8 && below(g, 3) == 0))
			continue;
		if (below(g, 3))
			unknown(g, i);
		else
			constant(g, i);
	}
}

void random_program(struct random_program *p, u64 seed, int map_fd)
{
	struct gen g = { .p = p, .r = { seed }, .map_fd = map_fd };

	memset(p, 0, sizeof(*p));
	random_next(&g.r);
	if (below(&g, 2))
		p->flags = BPF_F_TEST_STATE_FREQ;
	g.has_sub = below(&g, 3) == 0;
	prologue(&g);
	switch (below(&g, 4)) {
	case 0: /* anything at all */
		block(&g, 3 + below(&g, 25));
		break;
	case 1: /* several traps that should do no harm */
		for (u32 i = 0, n = 1 + below(&g, 4); i < n && !full(&g); i++) {
			trap(&g, false);
			block(&g, below(&g, 3));
		}
		break;
	default: /* one that may */
		block(&g, below(&g, 4));
		trap(&g, true);
		block(&g, below(&g, 3));
	}
	end(&g);
	for (u32 f = 0; f < NR_FUNCTIONS; f++)
		emit_function(&g, f);
	/* Linux takes minutes to remember every state of a long loop. */
	if (g.has_loop)
		p->flags = 0;
}
