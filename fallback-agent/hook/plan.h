/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of a file's code are overwritten so that every wanted instruction passes through a
 * trampoline. Pure computation on the file; nothing of a process is known here.
 */
#ifndef UB_HOOK_PLAN_H
#define UB_HOOK_PLAN_H

#include <hook/decode.h>
#include <hook/elf_file.h>
#include <hook/pun.h>

enum ub_tactic {
	UB_TACTIC_NONE = 0, /* refused: see enum ub_refusal */
	UB_TACTIC_JUMP,	    /* (a) one instruction of 5 bytes or more */
	UB_TACTIC_WINDOW,   /* (b) several instructions from the point on */
	UB_TACTIC_BACKWARD, /* (b) several instructions, some of them before the point */
	UB_TACTIC_INSIDE,   /* within the window of a point before */
	UB_TACTIC_PUN,	    /* (d) jump whose last bytes are the next instruction's first */
	UB_TACTIC_EVICT,    /* (d) the same, and the next instructions become such jumps, too */
	UB_NR_TACTICS,
};

enum ub_refusal {
	UB_REFUSED_NOT = 0,
	UB_REFUSED_NO_CODE,	  /* not in an executable part of the file */
	UB_REFUSED_NO_INSN,	  /* no instruction starts there */
	UB_REFUSED_UNMOVABLE,	  /* the instruction only works where it is */
	UB_REFUSED_NO_LANDING,	  /* an overlapping jump leads to no free memory */
	UB_REFUSED_TARGET,	  /* too short, and the next one is jumped to */
	UB_REFUSED_CALL,	  /* too short, and a call returns behind it */
	UB_REFUSED_END,		  /* too short, and the code ends there */
	UB_REFUSED_UNKNOWN_JUMPS, /* too short, in a function with jumps that were not understood */
	UB_REFUSED_SAVED_IPS,	  /* too short, in a runtime that saves instruction pointers where
				     nobody sees */
	UB_REFUSED_GO_STACK,	  /* in Go code, where a trampoline finds nothing free: go.c */
	UB_REFUSED_NEEDED,	  /* the surgeon operates by it */
	UB_NR_REFUSALS,
};

const char *ub_tactic_name(enum ub_tactic tactic);
/* As a clause: "the next instruction is jumped to". */
const char *ub_refusal_text(enum ub_refusal refusal);

struct ub_plan_insn {
	struct ub_decoded decoded; /* at the file's address */
	const u8 *bytes;	   /* in the ub_elf */
	s32 point;		   /* index into the wanted addresses, or -1 */
};

struct ub_plan_window {
	u64 address;
	u32 len;	/* bytes that belong to it: overwritten or dead afterwards */
	u32 first_insn; /* in insns[] */
	u32 nr_insns;	/* to be relocated; what follows them to the end is padding */
	u32 claim;	/* bytes from its start on that its jump may be made of, or overwrites:
			 * nobody else's */
	/* UB_TACTIC_EVICT: the next window, another or a UB_TACTIC_PUN, begins where this one
	 * ends: a chain, whose jumps are made of each other's bytes. */
	enum ub_tactic tactic;
	u32 landing; /* of a chain's first window: what options->land() called its places */
	u64 resume;  /* where the copy goes on, or 0: its last instruction never does */
};

struct ub_plan_result {
	enum ub_tactic tactic;
	enum ub_refusal refusal;
	u32 window; /* index, unless refused */
};

struct ub_plan {
	u32 nr_windows;
	u32 windows_capacity;
	struct ub_plan_window *windows; /* sorted, disjoint */
	u32 nr_insns;
	u32 insns_capacity;
	struct ub_plan_insn *insns;
	u32 nr_results;
	struct ub_plan_result *results; /* one per wanted address */
};

struct ub_plan_options {
	/* Instruction pointers are kept where nobody finds them: only a window's first instruction
	 * may be overwritten. */
	bool single_instruction;
	const u64 *stops; /* sorted addresses that must not come to lie inside a window */
	u32 nr_stops;
	/* Takes places for the jumps of the @chain at @address of the file, whose bytes are @file:
	 * what they are called, and how many bytes from the first on they are made of. -ENOSPC,
	 * -ENOMEM. NULL: whatever is not the file's own is taken for free. */
	int (*land)(void *opaque, u64 address, const struct ub_pun_chain *chain, const u8 *file,
		    u32 *landing, u32 *claim);
	void *opaque;
};

/* Plans for @addresses, sorted and unique. Refusals are in plan->results, they are no error. 0,
 * -ENOMEM, -EINVAL. Time is linear in the size of the functions concerned. */
int __must_check ub_plan_make(struct ub_elf *elf, const u64 *addresses, u32 nr,
			      const struct ub_plan_options *options, struct ub_plan *plan);
void ub_plan_free(struct ub_plan *plan);

/* For single addresses, each as if it were alone (coverage). */
struct ub_planner;
struct ub_planner *ub_planner_new(struct ub_elf *elf, const struct ub_plan_options *options);
void ub_planner_free(struct ub_planner *planner);
int __must_check ub_planner_try(struct ub_planner *planner, u64 address,
				struct ub_plan_result *result);

#endif
