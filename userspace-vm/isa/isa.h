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
#define BPF_LOAD_ACQ  0x100
#define BPF_STORE_REL 0x110
#endif
#ifndef BPF_PSEUDO_KFUNC_CALL
#define BPF_PSEUDO_KFUNC_CALL 2
#endif

#ifndef BPF_PSEUDO_MAP_IDX_VALUE
#define BPF_PSEUDO_MAP_IDX_VALUE 6
#endif
#ifndef BPF_MAY_GOTO
#define BPF_MAY_GOTO 0
#endif

/* Which fields of an instruction are operands; the rest is zero. */
enum ub_form {
	UB_FORM_NONE,	  /* no such instruction */
	UB_FORM_ALU_REG,  /* dst, src */
	UB_FORM_ALU_IMM,  /* dst, imm */
	UB_FORM_NEG,	  /* dst */
	UB_FORM_END,	  /* dst; imm = width */
	UB_FORM_JA,	  /* off */
	UB_FORM_JA32,	  /* imm */
	UB_FORM_JUMP_REG, /* dst, src, off */
	UB_FORM_JUMP_IMM, /* dst, imm, off */
	UB_FORM_MAY_GOTO, /* off */
	UB_FORM_CALL,	  /* imm; src = kind */
	UB_FORM_KFUNC,	  /* imm, off */
	UB_FORM_EXIT,
	UB_FORM_LOAD,	   /* dst, src + off */
	UB_FORM_STORE_IMM, /* dst + off, imm */
	UB_FORM_STORE,	   /* dst + off, src */
	UB_FORM_ATOMIC,	   /* dst + off, src; imm = operation */
	UB_FORM_LOAD_ACQ,  /* dst, src + off */
	UB_FORM_STORE_REL, /* dst + off, src */
	UB_FORM_LD_IMM64,  /* dst, imm, next imm; src = kind */
	UB_FORM_PACKET,
};

/* Every instruction, from opcodes.def: UB_OP_ADD64_REG, ... UB_OP_INVALID is 0. */
enum ub_op {
	UB_OP_INVALID,
#define UB_OP(name, code, sub, form) UB_OP_##name,
#include <isa/opcodes.def>
	UB_NR_OPS,
};

struct ub_op_info {
	const char *name; /* "ADD64_REG" */
	u8 code;
	u8 form; /* enum ub_form */
	s32 sub;
};

/* Row @op of the table; UB_OP_INVALID has form UB_FORM_NONE. */
extern const struct ub_op_info ub_isa_ops[UB_NR_OPS];

/* Which instruction it is, by opcode byte and the field that tells variants apart; UB_OP_INVALID:
 * none. Says nothing about the other fields. */
enum ub_op ub_isa_decode(const struct bpf_insn *insn);

/* Bytes that a load, store or atomic touches. */
u32 ub_isa_access_size(const struct bpf_insn *insn);

/* Where the jump, may_goto or local call @insn at @pc leads; only for forms with such an operand.
 */
s64 ub_isa_target(const struct bpf_insn *insn, u32 pc);

/* Where control goes next within the function: up to two places, of a conditional jump the next
 * instruction first; how many. What is behind a call counts, what it calls does not. Places may be
 * outside a program that was not checked. */
u32 ub_isa_successors(const struct bpf_insn *insns, u32 pc, u32 succ[2]);

/* Registers that an instruction reads and those that it overwrites: bit n = register n. */
struct ub_isa_use {
	u16 reads;
	u16 writes;
};

/* before[pc] = the registers that may be read from instruction @pc on before they are overwritten.
 * -ENOMEM. */
int __must_check ub_isa_live_registers(const struct bpf_insn *insns, u32 nr,
				       const struct ub_isa_use *uses, u16 *before);

/* Whether the instructions are well formed on their own, whatever they do: known opcodes, reserved
 * fields zero, registers that exist, jumps inside and not into a ld_imm64's second half, last
 * instruction an exit or jump. -EINVAL and @why with the instruction's number; -E2BIG above 1 M
 * instructions. Packet loads are refused with -EINVAL, calls of kernel functions with -EACCES, as
 * Linux does. */
int __must_check ub_isa_check(const struct bpf_insn *insns, u32 nr, struct ub_reason *why);

/* One instruction in the kernel's log form ("(b7) r0 = 1"), without number and newline; as
 * print_bpf_insn() in kernel/bpf/disasm.c. Of a ld_imm64 the second half is read too. */
void ub_isa_print(const struct bpf_insn *insn, char *out, size_t size);

#endif
