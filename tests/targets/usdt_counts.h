/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What the programs on real USDT probes (usdt_*.bpf.c) have in common: passes are counted by probe
 * and text, most often a name that the probe has among its arguments, and one argument is added up.
 */
#ifndef UB_TESTS_TARGETS_USDT_COUNTS_H
#define UB_TESTS_TARGETS_USDT_COUNTS_H

#include "ubpf.h"

#include <bpf/usdt.bpf.h>

struct passes_key {
	char probe[24];
	char text[40];
};

struct passes {
	u64 nr;
	s64 sum;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct passes_key);
	__type(value, struct passes);
} passes SEC(".maps");

static __always_inline void add_pass(const struct passes_key *key, s64 number)
{
	struct passes none = {}, *found;

	bpf_map_update_elem(&passes, key, &none, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&passes, key);
	if (!found)
		return;
	__sync_fetch_and_add(&found->nr, 1);
	__sync_fetch_and_add(&found->sum, number);
}

/* Argument @n, 0 where there is none such. */
static __always_inline long usdt_arg(struct pt_regs *ctx, u64 n)
{
	long value = 0;

	bpf_usdt_arg(ctx, n, &value);
	return value;
}

/* Whether @text is the name of something that the target is probed for. */
static __always_inline bool is_probed(const char *text)
{
	return (text[0] == 'p' || text[0] == 'P') && text[1] == 'r' && text[2] == 'o' &&
	       text[3] == 'b' && text[4] == 'e' && text[5] == 'd';
}

#endif
