/* SPDX-License-Identifier: MIT */
/*
 * .eh_frame as a list of functions, and exception tables as a list of landing pads.
 */
#ifndef UB_HOOK_EH_FRAME_H
#define UB_HOOK_EH_FRAME_H

#include <hook/cursor.h>

/* One function. */
struct ub_eh_entry {
	u64 start;
	u64 end;
	u64 lsda;    /* address of its exception table, or 0 */
	bool signal; /* what a signal handler returns to */
	u64 code_align;
	s64 data_align;
	struct ub_cursor common;  /* instructions that come first (of the CIE) */
	struct ub_cursor program; /* the function's own; may be bad */
};

/* Calls @fn for each function that .eh_frame (found through PT_GNU_EH_FRAME) describes. 0, -ENOENT
 * without one, or what @fn returned. Damaged tables end the walk early: what was read stays. (DWARF
 * 5, 6.4.1; LSB Core, 10.6.) */
int __must_check ub_eh_frame_each(struct ub_elf *elf,
				  int (*fn)(void *opaque, const struct ub_eh_entry *entry),
				  void *opaque);

/* Whether a stack frame is there already at its start: a part of a function that the compiler moved
 * away, which is jumped to, not called. */
bool ub_eh_entry_is_fragment(const struct ub_eh_entry *entry);

/* Adds the landing pads in the exception table at @lsda of the function at @start to the targets.
 */
void ub_eh_frame_landing_pads(struct ub_elf *elf, u64 start, u64 lsda);

#endif
