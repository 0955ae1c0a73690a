// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Adds 1 to the process's counter in place. Where: LIB:FUNCTION. */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} hits SEC(".maps");

SEC("uprobe")
int add(struct pt_regs *ctx)
{
	u32 pid = ubpf_pid();
	u64 one = 1, *found = bpf_map_lookup_elem(&hits, &pid);

	if (found)
		__sync_fetch_and_add(found, 1);
	else
		bpf_map_update_elem(&hits, &pid, &one, BPF_NOEXIST);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
