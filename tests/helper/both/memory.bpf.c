// SPDX-License-Identifier: MIT
/* Reading the process's memory. Buffers are filled with 'Z' before: what is left of them shows. */
#include "both.bpf.h"

#define KERNEL_ADDRESS 0xffffffff81000000ull
#define NON_CANONICAL  0x0100000000000000ull

static char buffer[BOTH_BYTES];
static char large[8192];

static __always_inline void fresh(void)
{
	__builtin_memset(buffer, 'Z', sizeof(buffer));
}

#define READ(name, helper, size, from)                                                             \
	({                                                                                         \
		fresh();                                                                           \
		s64 read_ = helper(buffer, size, (void *)(from));                                  \
		CHECK_BYTES(name, read_, buffer, 32);                                              \
	})

#define READS(helper)                                                                              \
	({                                                                                         \
		READ(#helper " 8", helper, 8, input.text);                                         \
		READ(#helper " 0", helper, 0, input.text);                                         \
		READ(#helper " 0 of null", helper, 0, 0);                                          \
		READ(#helper " 1", helper, 1, input.text + 3);                                     \
		READ(#helper " null", helper, 8, 0);                                               \
		READ(#helper " unmapped", helper, 8, input.unmapped);                              \
		READ(#helper " forbidden", helper, 8, input.forbidden);                            \
		READ(#helper " read only", helper, 9, input.read_only);                            \
		READ(#helper " across", helper, 16, input.across);                                 \
		READ(#helper " into nothing", helper, 8, input.unmapped - 4);                      \
		READ(#helper " highest", helper, 8, 0x7ffffffff000ull - 4);                        \
		READ(#helper " wrapping", helper, 8, -4ull);                                       \
		READ(#helper " at end", helper, 5, input.at_end);                                  \
	})

SEC("uprobe")
int reads(struct pt_regs *ctx)
{
	start(ctx, 0);
	READS(bpf_probe_read_user);
	READ("probe_read_user kernel", bpf_probe_read_user, 8, KERNEL_ADDRESS);
	READ("probe_read_user non-canonical", bpf_probe_read_user, 8, NON_CANONICAL);
	CHECK("probe_read_user 8192", bpf_probe_read_user(large, sizeof(large), (void *)input.big));
	CHECK("8192 last", large[8191]);
	CHECK("probe_read_user 8192 bad",
	      bpf_probe_read_user(large, sizeof(large), (void *)(input.unmapped - 64)));
	CHECK("8192 bad first", large[0]);
	CHECK("8192 bad last", large[8191]);
	READS(bpf_probe_read);
	/* A program's own memory, for the kernel and here. */
	__builtin_memcpy(large, "own", 4);
	READ("probe_read_kernel map", bpf_probe_read_kernel, 4, large);
	READ("probe_read_kernel ctx", bpf_probe_read_kernel, 0, ctx);
	READ("probe_read_kernel non-canonical", bpf_probe_read_kernel, 8, NON_CANONICAL);
	return 0;
}

#define STRINGS(helper)                                                                            \
	({                                                                                         \
		READ(#helper, helper, 32, input.text);                                             \
		READ(#helper " fits", helper, 13, input.text);                                     \
		READ(#helper " without NUL", helper, 12, input.text);                              \
		READ(#helper " truncated", helper, 4, input.text);                                 \
		READ(#helper " 1", helper, 1, input.text);                                         \
		READ(#helper " 0", helper, 0, input.text);                                         \
		READ(#helper " empty", helper, 8, input.text + 12);                                \
		READ(#helper " null", helper, 8, 0);                                               \
		READ(#helper " 0 of null", helper, 0, 0);                                          \
		READ(#helper " unmapped", helper, 8, input.unmapped);                              \
		READ(#helper " forbidden", helper, 8, input.forbidden);                            \
		READ(#helper " at end", helper, 32, input.at_end);                                 \
		READ(#helper " at end fits", helper, 5, input.at_end);                             \
		READ(#helper " cut", helper, 32, input.cut);                                       \
		READ(#helper " cut before", helper, 3, input.cut);                                 \
		READ(#helper " cut at it", helper, 4, input.cut);                                  \
		READ(#helper " across", helper, 16, input.across);                                 \
	})

SEC("uprobe")
int strings(struct pt_regs *ctx)
{
	start(ctx, 0);
	STRINGS(bpf_probe_read_user_str);
	STRINGS(bpf_probe_read_str);
	READ("probe_read_user_str kernel", bpf_probe_read_user_str, 8, KERNEL_ADDRESS);
	CHECK("probe_read_user_str 8192",
	      bpf_probe_read_user_str(large, sizeof(large), (void *)input.big));
	CHECK("8192 string's last", large[8191]);
	__builtin_memcpy(large, "own", 4);
	READ("probe_read_kernel_str map", bpf_probe_read_kernel_str, 32, large);
	READ("probe_read_kernel_str map, 2", bpf_probe_read_kernel_str, 2, large);
	READ("probe_read_kernel_str bad", bpf_probe_read_kernel_str, 8, NON_CANONICAL);
	return 0;
}
