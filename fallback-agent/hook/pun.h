/* SPDX-License-Identifier: MIT */
/*
 * The bytes of jumps that overlap what follows them: see pun.c.
 */
#ifndef UB_HOOK_PUN_H
#define UB_HOOK_PUN_H

#include <common/types.h>

#define UB_PUN_MAX_CHAIN 4u
#define UB_PUN_MAX_BYTES 64u
/* Before the jump of an evicted instruction. */
#define UB_PUN_MAX_PREFIXES 2u

/* Windows next to each other, all but the last shorter than a jump, and each to become one. */
struct ub_pun_chain {
	u32 nr;
	u32 len[UB_PUN_MAX_CHAIN];
	u32 keep; /* a bit for each byte from the last one's start on that stays as it is */
};

/* What is known of the chain's bytes before the jumps' distances are. */
struct ub_pun_bytes {
	u8 value[UB_PUN_MAX_BYTES];
	u64 fixed;			/* a bit for each that must be this value */
	u32 at[UB_PUN_MAX_CHAIN];	/* where each window starts, */
	u32 distance[UB_PUN_MAX_CHAIN]; /* and where its jump's distance does */
};

/* The chain's bytes with the prefixes of choice number @choice; @file: the file's, through 4 behind
 * the last window. 0, -ERANGE: that choice makes no sense, -ENOENT: there are no more. */
int __must_check ub_pun_choose(const struct ub_pun_chain *chain, const u8 *file, u32 choice,
			       struct ub_pun_bytes *bytes);

#endif
