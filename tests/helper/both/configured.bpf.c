// SPDX-License-Identifier: MIT
/* Helpers that a kernel may be configured without, or locked down against: compared where it has
 * them. */
#include "both.bpf.h"

static char buffer[32];

/* What is there afterwards, by another helper. */
#define WRITE(name, to, size)                                                                      \
	({                                                                                         \
		s64 wrote_ = bpf_probe_write_user((void *)(to), "written", size);                  \
		__builtin_memset(buffer, 'Z', sizeof(buffer));                                     \
		bpf_probe_read_user(buffer, 8, (void *)(to));                                      \
		CHECK_BYTES("probe_write_user " name, wrote_, buffer, 16);                         \
	})

SEC("uprobe")
int writes(struct pt_regs *ctx)
{
	start(ctx, 0);
	WRITE("8", input.heap, 8);
	WRITE("3", input.heap + 8, 3);
	WRITE("across", input.across + 4, 8);
	WRITE("null", 0, 8);
	WRITE("unmapped", input.unmapped, 8);
	WRITE("forbidden", input.forbidden, 8);
	WRITE("read only", input.read_only, 8);
	CHECK("probe_write_user own code", bpf_probe_write_user((void *)input.probe, "written", 1));
	WRITE("kernel", 0xffffffff81000000ull, 8);
	CHECK("probe_write_user into nothing",
	      bpf_probe_write_user((void *)(input.at_end + 1), "written", 8));
	return 0;
}

/* Only functions of the kernel that say so may be overridden. */
SEC("uprobe")
int unattachable(struct pt_regs *ctx)
{
	bpf_override_return(ctx, 7);
	return 0;
}
