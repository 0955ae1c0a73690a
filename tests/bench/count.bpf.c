// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* The program of bpf/malloc.bpf.c, for any function. Where: LIB:FUNCTION. */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} calls SEC(".maps");

SEC("uprobe")
int count(struct pt_regs *ctx)
{
	u32 pid = ubpf_pid();

	ubpf_count(&calls, &pid, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
