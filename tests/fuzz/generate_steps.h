/* SPDX-License-Identifier: MIT */
/*
 * What the generator's files have in common: a program in the making, and the steps by kind.
 */
#ifndef UB_TESTS_FUZZ_GENERATE_STEPS_H
#define UB_TESTS_FUZZ_GENERATE_STEPS_H

#include <isa/isa.h>

#include "generate.h"

#define DATA	     256
#define STACK_DATA   64
#define POINTER_SLOT (-72)
#define KEY_SLOT     (-92)
#define MAP_SLOT     (-104)
#define CTX_SLOT     (-112)
#define STACK_DEPTH  112
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
static inline u32 below(struct generator *g, u32 n)
{
	return random_below(&g->r, n);
}

/* BPF_B .. BPF_DW */
extern const u8 generate_sizes[4];

struct bpf_insn *emit(struct generator *g, u8 code, u8 dst, u8 src, s16 off, s32 imm);
/* A register that holds a scalar. */
u8 scalar(struct generator *g);
/* A value that finds bugs, in @reg. */
void emit_value(struct generator *g, u8 reg);
/* After a call: r1 .. r5 are scalars and the pointer again. */
void refill(struct generator *g);

/* generate_data.c: registers and memory */
void step_alu(struct generator *g);
void step_unary(struct generator *g);
void step_extend(struct generator *g);
void step_memory(struct generator *g);
void step_atomic(struct generator *g);
void step_percpu(struct generator *g);
void step_variable(struct generator *g);
void step_address(struct generator *g);

/* generate_maps.c */
void step_map(struct generator *g);
void step_tail_call(struct generator *g);

#endif
