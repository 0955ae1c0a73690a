/* SPDX-License-Identifier: MIT */
/*
 * Of plan.c alone: the ways to make room for a jump, each tried on one instruction. None changes
 * the plan; overlapping jumps that serve have taken their places.
 */
#ifndef UB_HOOK_TACTICS_H
#define UB_HOOK_TACTICS_H

#include <hook/flow.h>
#include <hook/plan.h>
#include <hook/pun.h>

#define UB_JUMP_LEN 5

struct ub_planner {
	struct ub_elf *elf;
	const struct ub_plan_options *options;
	struct ub_plan *plan;
	struct ub_flow_insns flow;
	struct ub_flow_insns go;      /* for ub_go_look() */
	struct ub_elf_function piece; /* a gap from a point on, decoded as a function */
	/* Where the last window's instructions lie in flow, if they are of the function in there.
	 */
	s64 last_index;
	int error; /* of options->land() */
};

struct ub_candidate {
	s64 first; /* in flow */
	u32 nr;
	u32 len; /* with padding */
	u32 claim;
	u32 landing; /* of the first of overlapping jumps */
	u64 resume;
};

/* Whether a trampoline finds nothing to work with at @address. */
bool ub_tactic_go_refuses(struct ub_planner *p, u64 address);

/*
 * The window that starts with instruction @first of the decoded function, contains at least
 * @through and is at least UB_JUMP_LEN bytes long.
 */
enum ub_refusal ub_tactic_window(struct ub_planner *p, s64 first, s64 through,
				 struct ub_candidate *out);
/* One that starts before instruction @i, given that the last window ends at @free. */
enum ub_refusal ub_tactic_backward(struct ub_planner *p, s64 i, u64 free, struct ub_candidate *out);
/* An overlapping jump at instruction @first. */
enum ub_refusal ub_tactic_pun(struct ub_planner *p, s64 first, struct ub_candidate *out);
/* The same, and the next instructions become such jumps, too: *nr windows. */
enum ub_refusal ub_tactic_evict(struct ub_planner *p, s64 first,
				struct ub_candidate out[UB_PUN_MAX_CHAIN], u32 *nr);

#endif
