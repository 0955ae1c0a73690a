/* SPDX-License-Identifier: MIT */
/*
 * Of trampolines alone: what a probe's frame looks like, and ways onto stacks that are not the
 * target's.
 */
#ifndef UB_HOOK_FRAME_H
#define UB_HOOK_FRAME_H

#include <agent/data.h>
#include <hook/x86_64/trampoline.h>

#define RED_ZONE     128
#define PT_REGS_SIZE 168
#define RUN	     PT_REGS_SIZE
#define SLOT	     (RUN + (s32)sizeof(struct ub_run))
#define OLD_GUARD    (SLOT + 8)
#define FLAGS	     (SLOT + 16)
#define USER_SP	     (SLOT + 24) /* own_stack only */
#define FRAME	     ((SLOT + 32 + 15) / 16 * 16 + RED_ZONE)

/* Words of struct pt_regs (arch/x86/include/asm/ptrace.h). */
enum {
	PT_R15,
	PT_R14,
	PT_R13,
	PT_R12,
	PT_BP,
	PT_BX,
	PT_R11,
	PT_R10,
	PT_R9,
	PT_R8,
	PT_AX,
	PT_CX,
	PT_DX,
	PT_SI,
	PT_DI,
	PT_ORIG_AX,
	PT_IP,
	PT_CS,
	PT_FLAGS,
	PT_SP,
	PT_SS,
	PT_NR,
};

struct needs {
	u32 restore;	/* registers, by hardware number */
	u64 words;	/* of pt_regs that some program reads */
	bool context;	/* some program gets a ctx that it looks at */
	bool run;	/* some program or helper looks at its ub_run */
	bool direction; /* a helper relies on the direction flag, and the code may have set it */
};

/*
 * own_stack.c: frames on a stack of the thread's slot. Enter as enter() of trampoline.c; what
 * comes after the programs is prepared before registers are restored (r12 and r13 are lost), and
 * the rest done behind that.
 */
void ub_own_stack_enter(struct ub_emit *emit, const struct ub_trampoline_space *space,
			const struct ub_trampoline_point *point, const struct needs *needs,
			struct ub_trampoline_cold *cold);
/* Words of pt_regs that are in r12, r13 and the flags no more; rax is lost. */
void ub_own_stack_fill(struct ub_emit *emit, const struct ub_trampoline_point *point,
		       const struct needs *needs);
void ub_own_stack_prepare_leave(struct ub_emit *emit);
void ub_own_stack_leave(struct ub_emit *emit, const struct ub_trampoline_point *point,
			const struct needs *needs, struct ub_trampoline_cold *cold);
/* The cold parts: the search for a slot, and the way past it all where there is no room. */
void ub_own_stack_find_slot(struct ub_emit *emit, const struct ub_trampoline_space *space,
			    const struct ub_trampoline_cold *cold);
void ub_own_stack_without_room(struct ub_emit *emit, const struct ub_trampoline_space *space,
			       const struct ub_trampoline_cold *cold);

#endif
