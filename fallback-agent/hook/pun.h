/* SPDX-License-Identifier: MIT */
/*
 * The bytes of jumps that overlap what follows them: see pun.c.
 */
#ifndef UB_HOOK_PUN_H
#define UB_HOOK_PUN_H

#include <hook/module.h>

#define UB_PUN_MAX_CHAIN 4u
#define UB_PUN_MAX_BYTES 32u
#define UB_PUN_PAGE	 4096ull
#define UB_PUN_STUB	 14u /* bytes of a landing: a jump to any address */
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

/* A page of code where overlapping jumps lead to. */
struct ub_pun_page {
	u64 address;
	u32 nr_used;		    /* landings */
	u64 used[UB_PUN_PAGE / 64]; /* a bit for each byte */
	u64 room[UB_PUN_PAGE / 64]; /* a bit for each byte from which on a landing fits */
	u8 bytes[UB_PUN_PAGE];
};

struct ub_pun_pages {
	struct ub_address_space *space; /* they are taken from it */
	u32 nr;
	u32 capacity;
	u32 addresses_capacity;
	struct ub_pun_page **pages; /* sorted by address */
	u64 *addresses;		    /* theirs: searches look at thousands */
};

/* A chain with places for its jumps. All offsets are from the first window's start. */
struct ub_pun_placed {
	u8 nr;
	u8 end;			       /* of the bytes that any of the jumps is made of */
	u8 at[UB_PUN_MAX_CHAIN];       /* where each window starts, */
	u8 len[UB_PUN_MAX_CHAIN];      /* how many bytes from there are overwritten, */
	u8 distance[UB_PUN_MAX_CHAIN]; /* where its jump's distance is, */
	u64 landing[UB_PUN_MAX_CHAIN]; /* and where that leads in the target; 0: to the trampoline
					   itself, the distance is to be filled in */
	u8 value[UB_PUN_MAX_BYTES];
};

/* Finds places for the jumps of the @chain whose first window is at @address in the target, and
 * takes them. @file: the file's bytes from there on, through 4 behind the last window. -ENOSPC: no
 * choice of bytes leads to free memory, -ENOMEM. */
int __must_check ub_pun_place(struct ub_pun_pages *pages, const struct ub_pun_chain *chain,
			      u64 address, const u8 *file, struct ub_pun_placed *placed);
void ub_pun_give_back(struct ub_pun_pages *pages, const struct ub_pun_placed *placed);
/* What comes to @landing goes on at @trampoline. */
void ub_pun_lead(struct ub_pun_pages *pages, u64 landing, u64 trampoline);
/* Forgets all pages; what they took of the address space stays taken. */
void ub_pun_pages_free(struct ub_pun_pages *pages);

#endif
