// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * A map of a type that no kernel has.
 */
#include "ubpf.h"

struct {
	__uint(type, 9999);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u32);
} odd_map SEC(".maps");

SEC("uprobe/libc:malloc")
int use_map(struct pt_regs *ctx)
{
	u32 key = 0;

	bpf_map_delete_elem(&odd_map, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
