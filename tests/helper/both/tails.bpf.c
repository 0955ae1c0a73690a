// SPDX-License-Identifier: MIT
/* Tail calls: by the program that is called too, until the limit. */
#include "both.bpf.h"

int tail_again(struct pt_regs *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = (void *)&tail_again } };

int tail_inside(struct pt_regs *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} inside SEC(".maps") = { .values = { [0] = (void *)&tail_inside } };

static u32 nr_tails;

SEC("uprobe")
int tail_inside(struct pt_regs *ctx)
{
	CHECK("called by a function", PT_REGS_PARM1(ctx) != 0);
	return 7;
}

SEC("uprobe")
int tail_again(struct pt_regs *ctx)
{
	nr_tails++;
	bpf_tail_call(ctx, &programs, 1);
	CHECK("tail calls", nr_tails);
	return 0;
}

SEC("uprobe")
int tails(struct pt_regs *ctx)
{
	start(ctx, 0);
	nr_tails = 0;
	bpf_tail_call(ctx, &programs, 0);
	CHECK("tail call to nothing", 1);
	bpf_tail_call(ctx, &programs, 2);
	CHECK("tail call behind the end", 1);
	bpf_tail_call(ctx, &programs, 1);
	CHECK("tail call is not to return", 0);
	return 0;
}

/* What is called instead of a function returns to the function's caller. */
static __noinline int function(struct pt_regs *ctx)
{
	bpf_tail_call(ctx, &inside, 0);
	return 5;
}

SEC("uprobe")
int tails_of_function(struct pt_regs *ctx)
{
	start(ctx, 0);
	CHECK("tail call of a function", function(ctx));
	CHECK("and on", bpf_get_attach_cookie(ctx));
	return 0;
}
