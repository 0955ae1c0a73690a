/* SPDX-License-Identifier: MIT */
/*
 * The ways out of a function.
 */
#ifndef UB_HOOK_RETURNS_H
#define UB_HOOK_RETURNS_H

#include <hook/elf_file.h>

enum ub_exit_kind {
	UB_EXIT_RETURN, /* a ret of the function */
	UB_EXIT_NOTE,	/* a jump out of it: note where the return address lies */
	UB_EXIT_NOTED,	/* a ret of what it jumps to: a return if that place was noted */
	UB_EXIT_DIVERT, /* a jump out of it that can't be followed, or its entry: take the return
			   address over */
};

struct ub_exit {
	struct ub_elf *elf; /* borrowed from the resolver */
	u64 address;
	enum ub_exit_kind kind;
};

/* Where the pointer at @pointer in @elf leads in the target: 0, or negative when it is not known.
 */
struct ub_exit_resolver {
	int (*resolve)(void *opaque, struct ub_elf *elf, u64 pointer, struct ub_elf **to,
		       u64 *address);
	void *opaque;
};

/* All exits of the function that starts at @address. @resolver NULL: jumps through pointers can't
 * be followed. Either all jumps out of it are followed (NOTE, NOTED) or none (DIVERT). 0 and an
 * array to be freed; -EOPNOTSUPP with @why. */
int __must_check ub_exits_find(struct ub_elf *elf, u64 address,
			       const struct ub_exit_resolver *resolver, struct ub_exit **exits,
			       u32 *nr, struct ub_reason *why);

/* Whether the return address may be taken over at the entry of the function at @address: for those
 * that have an exit which can't be hooked. */
bool ub_exits_at_entry(struct ub_elf *elf, u64 address);

#endif
