// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * Counts calls of libc's malloc per process.
 */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} malloc_calls SEC(".maps");

SEC("uprobe/libc:malloc")
int count_malloc(struct pt_regs *ctx)
{
	u32 pid = ubpf_pid();

	ubpf_count(&malloc_calls, &pid, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
