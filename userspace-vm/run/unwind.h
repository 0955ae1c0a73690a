/* SPDX-License-Identifier: MIT */
/*
 * Unwind tables: how to get from a frame to its caller's at each address of a process's files.
 * Compiled outside from .eh_frame (hook/unwind.c), read by helpers in the process (helper/stack.c)
 * without a system call. What can't be said in a row has UB_UNWIND_UNKNOWN: the walk tries the
 * frame pointer there.
 */
#ifndef UB_RUN_UNWIND_H
#define UB_RUN_UNWIND_H

#include <common/types.h>

#define UB_UNWIND_MODULES 128

/*
 * From `pc` on, up to the next row's. The return address is always at CFA - 8.
 *	 2..0   enum ub_unwind_kind
 *	10..3   where the caller's rbp is: CFA - 8 * this, or one of UB_UNWIND_RBP_*
 *	31..11  signed: an offset in units of eight bytes
 */
struct ub_unwind_row {
	u32 pc; /* from the module's base */
	u32 rule;
};

enum ub_unwind_kind {
	UB_UNWIND_UNKNOWN,
	UB_UNWIND_END,	  /* nobody called this */
	UB_UNWIND_SP,	  /* CFA = rsp + offset */
	UB_UNWIND_BP,	  /* CFA = rbp + offset */
	UB_UNWIND_BP_AT,  /* CFA = *(rbp + offset): the stack was aligned */
	UB_UNWIND_PLT,	  /* CFA = rsp + 8, and 8 more from byte `offset` of a 16-byte entry on */
	UB_UNWIND_SIGNAL, /* rsp points to what rt_sigreturn(2) restores */
};

#define UB_UNWIND_RBP_SAME  0u
#define UB_UNWIND_RBP_AT_BP 254u /* at *rbp */
#define UB_UNWIND_RBP_LOST  255u

static inline u32 ub_unwind_rule(enum ub_unwind_kind kind, u32 rbp, s64 offset)
{
	return (u32)kind | rbp << 3 | (u32)(s32)offset << 11;
}

struct ub_unwind_module {
	u64 start; /* what its rows cover, in the process */
	u64 end;
	u64 base;
	u64 rows; /* address of its sorted rows */
	u64 nr_rows;
};

/* Sorted by start. */
struct ub_unwind {
	u64 nr_modules;
	struct ub_unwind_module modules[];
};

#endif
