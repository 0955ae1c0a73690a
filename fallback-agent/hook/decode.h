/* SPDX-License-Identifier: MIT */
/*
 * What the planner needs to know of one machine instruction.
 */
#ifndef UB_HOOK_DECODE_H
#define UB_HOOK_DECODE_H

#include <common/types.h>

#define UB_INSN_MAX 15

enum ub_flow {
	UB_FLOW_NEXT,	  /* goes on with the next instruction only */
	UB_FLOW_JUMP,	  /* direct jmp to target */
	UB_FLOW_BRANCH,	  /* jcc, loop, jrcxz: target or next */
	UB_FLOW_CALL,	  /* direct call of target */
	UB_FLOW_CALL_MEM, /* call through a register or memory */
	UB_FLOW_JUMP_MEM, /* jmp through a register or memory */
	UB_FLOW_RET,
	UB_FLOW_STOP, /* ud2, hlt: never goes on */
};

enum {
	UB_DECODED_RIP = 1 << 0, /* memory operand relative to rip: mem = its address */
	UB_DECODED_NOP = 1 << 1, /* any nop or endbr64: may be dropped */
	UB_DECODED_UNMOVABLE =
		1 << 2, /* means something else elsewhere (xbegin, call through rsp, int3) */
	UB_DECODED_SYSCALL = 1 << 3,
	UB_DECODED_TABLE_LOAD = 1 << 4,	 /* loads with a scaled index: may be a jump table */
	UB_DECODED_LEA_RIP = 1 << 5,	 /* lea of mem into a register */
	UB_DECODED_FLAGS_WRITE = 1 << 6, /* writes all arithmetic flags before reading any */
	UB_DECODED_ENDBR = 1 << 7,
	UB_DECODED_NULLABLE =
		1 << 8, /* accesses memory that a null pointer in `base` makes fault */
	UB_DECODED_FLAGS_READ = 1 << 9, /* looks at some arithmetic flag */
};

struct ub_decoded {
	u64 address;
	u64 target; /* of direct jumps, branches, calls */
	u64 mem;    /* with UB_DECODED_RIP */
	u32 flags;
	u8 len;
	u8 flow;
	u8 disp_at; /* offset of the rip displacement (32 bits) in the instruction */
	u8 opcode; /* last opcode byte; for branches its low 4 bits are the condition, 0xe0-0xe3 are
		      loop/jrcxz */
	u8 prefix_rex;
	u8 modrm_at;
	s8 index_scale; /* of a UB_DECODED_TABLE_LOAD: 4 or 8 */
	/* With UB_DECODED_NULLABLE: where the operand lies, registers by hardware number. */
	u8 base;
	s8 index; /* -1: none */
	u8 scale; /* log2 */
	s32 disp;
};

/* Decodes the instruction at @bytes, which runs at @address. 0 or -EINVAL. */
int __must_check ub_decode(const u8 *bytes, u64 size, u64 address, struct ub_decoded *out);

#endif
