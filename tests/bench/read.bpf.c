// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Reads 16 bytes where the second argument points to. Where: LIB:FUNCTION. */
#include "ubpf.h"

SEC("uprobe")
int look(struct pt_regs *ctx)
{
	u64 bytes[2];

	return bpf_probe_read_user(bytes, sizeof(bytes), (const void *)PT_REGS_PARM2(ctx)) < 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
