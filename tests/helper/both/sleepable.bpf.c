// SPDX-License-Identifier: MIT
/* Helpers that only sleepable programs may call. */
#include "both.bpf.h"

static char buffer[BOTH_BYTES];

#define READ(name, size, from)                                                                     \
	({                                                                                         \
		__builtin_memset(buffer, 'Z', sizeof(buffer));                                     \
		s64 read_ = bpf_copy_from_user(buffer, size, (void *)(from));                      \
		CHECK_BYTES("copy_from_user " name, read_, buffer, 32);                            \
	})

SEC("uprobe.s")
int copies(struct pt_regs *ctx)
{
	start(ctx, 0);
	READ("8", 8, input.text);
	READ("0", 0, input.text);
	READ("null", 8, 0);
	READ("unmapped", 8, input.unmapped);
	READ("forbidden", 8, input.forbidden);
	READ("across", 16, input.across);
	READ("into nothing", 8, input.unmapped - 4);
	CHECK_BYTES("copy_from_user_task",
		    bpf_copy_from_user_task(buffer, 8, (void *)input.text,
					    bpf_get_current_task_btf(), 0),
		    buffer, 16);
	CHECK_BYTES("copy_from_user_task null",
		    bpf_copy_from_user_task(buffer, 8, NULL, bpf_get_current_task_btf(), 0), buffer,
		    16);
	CHECK("copy_from_user_task flags", bpf_copy_from_user_task(buffer, 8, (void *)input.text,
								   bpf_get_current_task_btf(), 1));
	return 0;
}
