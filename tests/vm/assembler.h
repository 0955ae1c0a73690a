/* SPDX-License-Identifier: MIT */
/*
 * A small assembler for tests, in the syntax of the bpf_conformance suite:
 *
 *	mov %r0, 1		add32 %r0, %r1		movsx832 %r0, %r1	neg %r0
 *	be16 %r0		swap32 %r0		lddw %r1, 0x1122334455667788
 *	ldxw %r0, [%r1+4]	ldxsb %r0, [%r1]	stxdw [%r10-8], %r0	stw [%r10-4], 1
 *	jeq %r0, 0, label	jslt32 %r0, %r1, +2	ja label		ja32 label
 *	lock add [%r10-8], %r1	lock fetch or32 [...], %r1	lock xchg ...	lock cmpxchg32 ...
 *	call 5			call local label	exit			label:
 *
 * and, beyond it:
 *
 *	may_goto label		ldaq64 %r0, [%r1+8]	strl32 [%r1], %r0	(8, 16, 32, 64)
 *	lddw %r1, map 0		lddw %r1, map_value 0 8	lddw %r2, func label
 *
 * A jump to "exit" leads to the next exit instruction (or the last one).
 */
#ifndef UB_TESTS_VM_ASSEMBLER_H
#define UB_TESTS_VM_ASSEMBLER_H

#include <linux/bpf.h>

#include <common/reason.h>

/* Assembles @text into at most @max instructions. The number of them, or -EINVAL with @why naming
 * the line. */
int assemble(const char *text, struct bpf_insn *insns, u32 max, struct ub_reason *why);

#endif
