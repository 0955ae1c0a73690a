// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Does nothing, at entries and returns. Where: LIB:FUNCTION. */
#include "ubpf.h"

SEC("uprobe")
int at_entry(struct pt_regs *ctx)
{
	return 0;
}

SEC("uretprobe")
int at_return(struct pt_regs *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
