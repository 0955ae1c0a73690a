// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * A program that is for packets, not for processes.
 */
#include "ubpf.h"

SEC("xdp")
int packet(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
