/* SPDX-License-Identifier: MIT */
/* What traps are made of; see verifier_traps.c. */
#ifndef TESTS_FUZZ_VERIFIER_TRAPS_H
#define TESTS_FUZZ_VERIFIER_TRAPS_H

#include "verifier_generator.h"

#define SLOT	   (-72) /* what the trap is about; statements use what lies above */
#define OTHER_SLOT (-80)
#define KEY_SLOT   (-88)
#define LIMIT	   40 /* what guards let through, and then some is in bounds */
#define X	   8
#define Y	   9

struct trap {
	s32 small, large; /* an index within the map's value, and one beyond */
	u8 size;
	u32 variant; /* random bits: what both ways and the use must agree on */
};

struct trap_kind {
	void (*arm)(struct gen *g, const struct trap *t, bool safe);
	void (*use)(struct gen *g, const struct trap *t);
	bool temporaries; /* r1 .. r5 matter: nothing in between */
};

/* --- verifier_traps_numbers.c --- */
extern const struct trap_kind number_traps[];
extern const u32 nr_number_traps;
void number_arm(struct gen *g, const struct trap *t, bool safe);
/* Traps without arms: loops. */
void sum(struct gen *g, const struct trap *t, bool safe);
void rounds(struct gen *g, const struct trap *t, bool safe);

/* --- verifier_traps.c --- */
void mov(struct gen *g, u8 dst, u8 src);
void mov_imm(struct gen *g, u8 dst, s32 imm);
void store(struct gen *g, u8 size, s16 off, u8 src);
void load(struct gen *g, u8 size, u8 dst, s16 off);
/* A byte of which nothing is known. */
void byte(struct gen *g, u8 r);
/* A jump that is taken every other time. */
u32 coin(struct gen *g);
/* An access of the map's value at the index in @r. */
void use_index(struct gen *g, const struct trap *t, u8 r);

#endif
