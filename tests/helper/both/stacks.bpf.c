// SPDX-License-Identifier: MIT
/* Stacks of code with frame pointers, which both backends can walk. */
#include "both.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries,
	       4096); /* two stacks of one bucket replace each other, which hangs on ASLR */
	__uint(key_size, 4);
	__uint(value_size, 8 * 16);
} stacks SEC(".maps");

static u64 ips[16];

#define STACK(name, size, flags)                                                                   \
	({                                                                                         \
		__builtin_memset(ips, 0x5a, sizeof(ips));                                          \
		s64 ret_ = bpf_get_stack(ctx, ips, size, flags);                                   \
		struct both_result *r_ = CHECK_AS("get_stack " name, ret_, BOTH_STACK, 0);         \
		__builtin_memcpy(r_->bytes, ips, BOTH_DEPTH * 8);                                  \
	})

SEC("uprobe")
int stack(struct pt_regs *ctx)
{
	s64 id;

	start(ctx, 0);
	STACK("4", 32, BPF_F_USER_STACK);
	STACK("1", 8, BPF_F_USER_STACK);
	STACK("skipping", 24, BPF_F_USER_STACK | 2);
	STACK("skipping all", 24, BPF_F_USER_STACK | 255);
	STACK("0", 0, BPF_F_USER_STACK);
	STACK("odd size", 20, BPF_F_USER_STACK);
	STACK("flags", 32, BPF_F_USER_STACK | 1 << 15);
	STACK("build id, odd size", 20, BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
	id = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	CHECK("get_stackid", id >= 0);
	CHECK_AS("get_stackid's stack", id, BOTH_STACK_ID, 0);
	CHECK("get_stackid again", bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK) == id);
	CHECK("get_stackid skipping",
	      bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | BPF_F_REUSE_STACKID | 2) >= 0);
	id = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | BPF_F_REUSE_STACKID | 2);
	CHECK_AS("get_stackid's stack, skipping", id, BOTH_STACK_ID, 0);
	CHECK("get_stackid fast",
	      bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP) >= 0);
	CHECK("get_stackid flags", bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | 1 << 12));
	CHECK("get_stackid skipping all", bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | 255));
	return 0;
}
