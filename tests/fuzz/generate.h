/* SPDX-License-Identifier: MIT */
/*
 * Random programs that the kernel's verifier accepts, for comparing what they do.
 */
#ifndef UB_TESTS_FUZZ_GENERATE_H
#define UB_TESTS_FUZZ_GENERATE_H

#include "../vm/harness.h"

struct random_state {
	u64 word;
};

static inline u64 random_word(struct random_state *r)
{
	u64 z = r->word += 0x9e3779b97f4a7c15ull; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline u32 random_below(struct random_state *r, u32 n)
{
	return (u32)((random_word(r) >> 32) * n >> 32);
}

/* A value that finds bugs: small, around a power of two, all ones, ... */
u64 random_value(struct random_state *r);

/* Fills @test with the program of @seed; it stores every scalar register to the memory at its end.
 */
void generate_program(u64 seed, struct vm_case *test);
/* The one that its tail calls lead to. */
void generate_target(u64 seed, struct vm_case *test);
void generate_memory(struct random_state *r, const struct vm_case *test, u8 *memory);

#endif
