/* SPDX-License-Identifier: MIT */
/*
 * The instruction set: RFC 9669 and what clang emits for -mcpu=v4. isa/opcodes.def is the one table
 * from which decoder, disassembler, interpreter and JIT are generated.
 */
#ifndef UB_ISA_ISA_H
#define UB_ISA_ISA_H

#include <linux/bpf.h>
#include <stdio.h>

#include <common/reason.h>

/* Debian 12's <linux/bpf.h> is older than these. */
#ifndef BPF_MEMSX
#define BPF_MEMSX 0x80
#endif
#ifndef BPF_JCOND
#define BPF_JCOND 0xe0
#endif
#ifndef BPF_LOAD_ACQ
#define BPF_LOAD_ACQ 0x100
#define BPF_STORE_REL 0x110
#endif
#ifndef BPF_PSEUDO_KFUNC_CALL
#define BPF_PSEUDO_KFUNC_CALL 2
#endif

/* Whether the instructions are well formed on their own, whatever they do: known opcodes, reserved
 * fields zero, registers that exist, jumps inside and not into a ld_imm64's second half, last instruction
 * an exit or jump. -EINVAL and @why with the instruction's number; -E2BIG above UB_MAX_INSNS. */
int __must_check ub_isa_check(const struct bpf_insn *insns, u32 nr, struct ub_reason *why);

/* One instruction in the kernel's log form ("(b7) r0 = 1"), without number and newline; as
 * print_bpf_insn() in kernel/bpf/disasm.c. @next is the following instruction for ld_imm64. */
void ub_isa_print(const struct bpf_insn *insn, char *out, size_t size);

#endif
