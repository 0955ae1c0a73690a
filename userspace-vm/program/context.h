/* SPDX-License-Identifier: MIT */
/*
 * Contexts of network programs in this VM: the user's view of them, byte for byte, with the
 * addresses that do not fit into its 32-bit fields behind it. The verifier rewrites loads of data,
 * data_end and data_meta to 8-byte loads of those; all other fields are where the program sees
 * them. Contexts of tracing programs need no such thing: struct pt_regs, struct
 * bpf_perf_event_data, u64[].
 */
#ifndef UB_PROGRAM_CONTEXT_H
#define UB_PROGRAM_CONTEXT_H

#include <linux/bpf.h>

#include <common/types.h>

struct ub_packet_pointers {
	u64 data;
	u64 data_end;
	u64 data_meta;
	u64 mac; /* the Ethernet header, before data where programs see packets without it */
};

struct ub_skb_context {
	struct __sk_buff skb;
	struct ub_packet_pointers pointers __attribute__((aligned(8)));
};

struct ub_xdp_context {
	struct xdp_md md;
	struct ub_packet_pointers pointers __attribute__((aligned(8)));
};

#endif
