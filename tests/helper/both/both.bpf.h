/* SPDX-License-Identifier: MIT */
/*
 * For programs that call helpers on both backends. A program is a list of
 *
 *	CHECK("name", expression);		the value must be the same
 *	CHECK_BYTES("name", expression, address, size);	so must be the bytes
 *	CHECK_CLOCK("name", expression, clock);	the value must be a time between before and after
 *
 * runner.c loads it, has a process run it and prints what came out; both.sh compares.
 */
#ifndef UB_TESTS_HELPER_BOTH_BPF_H
#define UB_TESTS_HELPER_BOTH_BPF_H

#include "ubpf.h"

#include "both.h"

char both_license[] SEC("license") = "GPL";

struct both_result results[BOTH_RESULTS] SEC(".data.results");
/* Of this hit: where its results start. */
static u32 first;
static struct both_input input;

#define PAD(name_)                                                                                 \
	name_ "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static __always_inline struct both_result *result_of(u32 nr, const char *name)
{
	u32 i = first + nr;

	/* The compiler knows ranges that the verifier does not. */
	asm volatile("" : "+r"(i));
	if (i >= BOTH_RESULTS)
		i = BOTH_RESULTS - 1;
	__builtin_memcpy(results[i].name, name, BOTH_NAME);
	return &results[i];
}

#define CHECK_AS(name_, expr, kind_, size_)                                                        \
	({                                                                                         \
		s64 value_ = (s64)(expr);                                                          \
		struct both_result *r_ = result_of(__COUNTER__, PAD(name_));                       \
		r_->kind = kind_;                                                                  \
		r_->size = size_;                                                                  \
		r_->value = value_;                                                                \
		r_;                                                                                \
	})
#define CHECK(name, expr)	       ((void)CHECK_AS(name, expr, BOTH_VALUE, 0))
#define RECORDS(name, count, perf)     ((void)CHECK_AS(name, count, BOTH_RECORDS, perf))
#define CHECK_CLOCK(name, expr, clock) ((void)CHECK_AS(name, expr, BOTH_CLOCK, clock))
#define CHECK_BYTES(name, expr, from, size_)                                                       \
	((void)__builtin_memcpy(CHECK_AS(name, expr, BOTH_BYTES_TOO, size_)->bytes, from, size_))

/* What the process passed, and where results go: @per_round of them are made by each call. */
static __always_inline void start(struct pt_regs *ctx, u32 per_round)
{
	bpf_probe_read_user(&input, sizeof(input), (void *)PT_REGS_PARM1(ctx));
	first = (u32)input.round * per_round;
}

#endif
