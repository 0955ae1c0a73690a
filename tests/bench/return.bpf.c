// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Does nothing, at returns. Where: LIB:FUNCTION. */
#include "ubpf.h"

SEC("uretprobe")
int at_return(struct pt_regs *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
