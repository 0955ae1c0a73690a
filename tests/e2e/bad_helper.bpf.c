// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * A program that the verifier refuses: its helper is for other types.
 */
#include "ubpf.h"

SEC("uprobe/libc:malloc")
int use_helper(struct pt_regs *ctx)
{
	return (int)bpf_get_socket_cookie(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
