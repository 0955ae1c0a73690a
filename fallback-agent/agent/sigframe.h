/* SPDX-License-Identifier: MIT */
/*
 * What rt_sigreturn() takes registers from, as the kernel lays it out
 * (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h). Its state of floating point and vectors
 * is elsewhere, at fpstate: where that is longer than 512 bytes, magic numbers and the sizes stand
 * in its words that the processor leaves free (464 on) and behind it.
 */
#ifndef UB_AGENT_SIGFRAME_H
#define UB_AGENT_SIGFRAME_H

#include <stddef.h>

#include <common/types.h>

#define UB_UC_FP_XSTATE		1
#define UB_UC_SIGCONTEXT_SS	2
#define UB_UC_STRICT_RESTORE_SS 4
#define UB_XSTATE_MAGIC1	0x46505853u
#define UB_XSTATE_MAGIC2	0x46505845u
#define UB_XSTATE_SOFTWARE	464
#define UB_NO_ALTSTACK		0x7f /* ss_flags: no such mode, so it stays as it is */

struct ub_signal_frame {
	u64 pretcode;
	u64 uc_flags; /* rsp points here at the call */
	u64 uc_link;
	u64 ss_sp;
	u32 ss_flags, pad;
	u64 ss_size;
	u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip,
		eflags;
	u16 cs, gs, fs, ss;
	u64 err, trapno, oldmask, cr2, fpstate, reserved[8];
	u64 sigmask;
	u8 siginfo[128];
};

_Static_assert(offsetof(struct ub_signal_frame, r8) == 48, "rt_sigframe");

#endif
