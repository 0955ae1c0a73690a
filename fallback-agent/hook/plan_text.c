// SPDX-License-Identifier: MIT
/*
 * What tactics and refusals are called.
 */
#include <hook/plan.h>

const char *ub_tactic_name(enum ub_tactic tactic)
{
	static const char *const names[UB_NR_TACTICS] = {
		[UB_TACTIC_NONE] = "refused",
		[UB_TACTIC_JUMP] = "one instruction of 5 bytes or more",
		[UB_TACTIC_WINDOW] = "several instructions",
		[UB_TACTIC_BACKWARD] = "with instructions before it",
		[UB_TACTIC_INSIDE] = "within another probe's window",
		[UB_TACTIC_PUN] = "overlapping jump",
		[UB_TACTIC_EVICT] = "overlapping jump, and one in place of what is behind",
	};

	return tactic < UB_NR_TACTICS ? names[tactic] : "?";
}

const char *ub_refusal_text(enum ub_refusal refusal)
{
	static const char *const texts[UB_NR_REFUSALS] = {
		[UB_REFUSED_NOT] = "nothing speaks against it",
		[UB_REFUSED_NO_CODE] = "it is not in an executable part of the file",
		[UB_REFUSED_NO_INSN] = "no instruction starts there",
		[UB_REFUSED_UNMOVABLE] = "the instruction works only where it is",
		[UB_REFUSED_NO_LANDING] =
			("it is shorter than a jump, the one behind it is jumped to, and there is no "
			 "free memory where a jump that overlaps it could lead"),
		[UB_REFUSED_TARGET] =
			"it is shorter than a jump, and the instruction behind it is jumped to",
		[UB_REFUSED_CALL] = "it is shorter than a jump, and a call returns behind it",
		[UB_REFUSED_END] = "it is shorter than a jump, and the code ends behind it",
		[UB_REFUSED_UNKNOWN_JUMPS] =
			"it is shorter than a jump, in a function with jumps that can't be followed",
		[UB_REFUSED_SAVED_IPS] =
			"it is shorter than a jump, in a runtime that keeps instruction pointers out of sight",
		[UB_REFUSED_GO_STACK] = "in Go code there, neither registers nor stack are free",
		[UB_REFUSED_NEEDED] =
			"the program's only such system call, by which it is operated on, is there",
	};

	return refusal < UB_NR_REFUSALS ? texts[refusal] : "?";
}
