// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * Adds up, for each cookie, how often it came and with what.
 */
#include "ubpf.h"

struct sum {
	u64 hits;
	u64 values;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, struct sum);
} sums SEC(".maps");

static __always_inline int add(void *ctx, u64 value)
{
	u32 key = (u32)bpf_get_attach_cookie(ctx);
	struct sum *sum = bpf_map_lookup_elem(&sums, &key);

	if (!sum)
		return 0;
	__sync_fetch_and_add(&sum->hits, 1);
	__sync_fetch_and_add(&sum->values, value);
	return 0;
}

SEC("uprobe")
int enter(struct pt_regs *ctx)
{
	return add(ctx, PT_REGS_PARM1(ctx));
}

SEC("uretprobe")
int leave(struct pt_regs *ctx)
{
	return add(ctx, PT_REGS_RC(ctx));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
