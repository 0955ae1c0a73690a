// SPDX-License-Identifier: MIT
/* Tail calls: by the program that is called too, until the limit. */
#include "both.bpf.h"

int tail(struct pt_regs *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = (void *)&tail } };

static u32 nr_tails;

SEC("uprobe")
int tail(struct pt_regs *ctx)
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
