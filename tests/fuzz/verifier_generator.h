/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the generator of random programs share: verifier_programs.c (the frame of a
 * program, its functions), verifier_statements.c (anything at random), verifier_traps.c (two ways
 * that meet again with one difference, and a use of it).
 *
 * r6 is the context, in functions the caller's stack, and r7 the map's value, all the time.
 */
#ifndef TESTS_FUZZ_VERIFIER_GENERATOR_H
#define TESTS_FUZZ_VERIFIER_GENERATOR_H

#include "verifier_programs.h"

enum kind {
	NONE,
	SCALAR,
	MAP,   /* r = value + small constant */
	STACK, /* r = r10 - constant */
};

enum function {
	FUNCTION_RANDOM,
	FUNCTION_SAME,	/* returns its first argument, the long way round */
	FUNCTION_STORE, /* stores its first argument to where its third points */
	FUNCTION_INDEX, /* reads the map's value at its first argument */
	NR_FUNCTIONS,
};

#define MAX_CALLS 24

struct gen {
	struct random_program *p;
	struct random_state r;
	enum kind kind[10];
	u32 reserved; /* registers not to be written: loop counters */
	u32 slots;    /* stack slots (of 8, below r10) that were written */
	int map_fd;
	bool sub; /* generating a function */
	bool has_sub;
	bool has_loop;
	struct {
		u32 at;
		enum function function;
	} calls[MAX_CALLS];
	u32 nr_calls;
	u32 depth;
};

u32 below(struct gen *g, u32 n);
void emit(struct gen *g, u8 code, u8 dst, u8 src, s16 off, s32 imm);
bool full(const struct gen *g);
/* Some register of this kind, or -1. */
int pick(struct gen *g, enum kind kind);
/* Lets the jump at @at go to here. */
void patch(struct gen *g, u32 at);
u32 size_bytes(u8 size_code);
void map_pointer(struct gen *g, u8 r);
/* A call, arguments ready: r1 and r2 scalars, r3 a place on the stack. False: no more calls in this
 * program. */
bool emit_call(struct gen *g, enum function function);

/* --- verifier_statements.c --- */
void constant(struct gen *g, int r);
void unknown(struct gen *g, int r);
void if_else(struct gen *g);
void block(struct gen *g, u32 nr_statements);

/* --- verifier_traps.c --- */
/* @may_fail: the way that is walked later may be unsafe, so that a sound verifier rejects the
 * program. */
void trap(struct gen *g, bool may_fail);
/* The body of one of the functions, but its exit. */
void function_body(struct gen *g, enum function function);

#endif
