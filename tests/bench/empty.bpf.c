// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Does nothing: what remains is the price of the hook. Where: LIB:FUNCTION. */
#include "ubpf.h"

SEC("uprobe")
int empty(struct pt_regs *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
