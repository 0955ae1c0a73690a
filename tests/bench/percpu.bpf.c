// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Adds 1 to this CPU's counter. Where: LIB:FUNCTION. */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} hits SEC(".maps");

SEC("uprobe")
int add(struct pt_regs *ctx)
{
	u32 zero = 0;
	u64 *found = bpf_map_lookup_elem(&hits, &zero);

	if (found)
		++*found;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
