// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * How often a USDT probe is passed and with what: hits, and the sum and a histogram by powers of
 * two of one argument, per process. Where: LIB:PROVIDER:NAME after the program's name; which
 * argument: argument=N (default: 0, the first).
 */
#include "ubpf.h"

#include <bpf/usdt.bpf.h>

const volatile u32 argument;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} sums SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, struct ubpf_histogram);
} values SEC(".maps");

SEC("usdt")
int pass(struct pt_regs *ctx)
{
	u32 pid = ubpf_pid();
	long value;

	ubpf_count(&hits, &pid, 1);
	if (bpf_usdt_arg(ctx, argument, &value))
		return 0; /* it has not so many */
	ubpf_count(&sums, &pid, value);
	ubpf_histogram_add(&values, &pid, value);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
