// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Calls of any function, per process. */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} calls SEC(".maps");

SEC("uprobe")
int call(struct pt_regs *ctx)
{
	u32 pid = ubpf_pid();

	ubpf_count(&calls, &pid, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
