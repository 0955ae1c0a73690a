/* SPDX-License-Identifier: MIT */
/*
 * x86-64 code written into a buffer that will run at a known address. The first error (no memory, a
 * target out of reach) sticks in `error` and is looked at once, at the end.
 */
#ifndef UB_HOOK_EMIT_H
#define UB_HOOK_EMIT_H

#include <common/types.h>

/* Hardware numbering. */
enum ub_reg {
	UB_RAX,
	UB_RCX,
	UB_RDX,
	UB_RBX,
	UB_RSP,
	UB_RBP,
	UB_RSI,
	UB_RDI,
	UB_R8,
	UB_R9,
	UB_R10,
	UB_R11,
	UB_R12,
	UB_R13,
	UB_R14,
	UB_R15,
};

struct ub_emit {
	u8 *bytes;
	u32 size;
	u32 capacity; /* grows by itself while `fixed` is not set */
	bool fixed;
	u64 address; /* where bytes[0] will run */
	int error;   /* 0, -ENOMEM, -ERANGE, -ENOSPC */
};

/* Address at which the next byte will run. */
static inline u64 ub_emit_here(const struct ub_emit *emit)
{
	return emit->address + emit->size;
}

void ub_emit_free(struct ub_emit *emit);
void ub_emit_bytes(struct ub_emit *emit, const void *bytes, u32 size);
/* Most of what is emitted goes byte by byte. */
static inline void ub_emit_u8(struct ub_emit *emit, u8 value)
{
	if (emit->size < emit->capacity && !emit->error)
		emit->bytes[emit->size++] = value;
	else
		ub_emit_bytes(emit, &value, sizeof(value));
}
void ub_emit_u32(struct ub_emit *emit, u32 value);
void ub_emit_u64(struct ub_emit *emit, u64 value);
void ub_emit_align(struct ub_emit *emit, u32 to); /* with int3 */
/* The 4 bytes at @at become the distance from behind them (+ @tail bytes of the instruction) to
 * @target. */
void ub_emit_fix_rel32(struct ub_emit *emit, u32 at, u32 tail, u64 target);

void ub_emit_lea(struct ub_emit *emit, enum ub_reg to, enum ub_reg base, s32 disp);
void ub_emit_load(struct ub_emit *emit, enum ub_reg to, enum ub_reg base, s32 disp);
void ub_emit_store(struct ub_emit *emit, enum ub_reg from, enum ub_reg base, s32 disp);
void ub_emit_store32(struct ub_emit *emit, enum ub_reg from, enum ub_reg base, s32 disp);
void ub_emit_store_imm(struct ub_emit *emit, s32 imm, enum ub_reg base, s32 disp);   /* 64 bits */
void ub_emit_store_imm32(struct ub_emit *emit, s32 imm, enum ub_reg base, s32 disp); /* 32 bits */
void ub_emit_cmp32_mem_imm8(struct ub_emit *emit, enum ub_reg base, s32 disp, s8 imm);
void ub_emit_cmp64_mem_imm8(struct ub_emit *emit, enum ub_reg base, s32 disp, s8 imm);
void ub_emit_inc_mem(struct ub_emit *emit, enum ub_reg base, s32 disp, bool locked); /* 64 bits */
/* The shortest form that sets all 64 bits. */
void ub_emit_set(struct ub_emit *emit, enum ub_reg to, u64 value);
void ub_emit_jmp(struct ub_emit *emit, u64 target);  /* rel32 */
void ub_emit_call(struct ub_emit *emit, u64 target); /* rel32 */
/* A conditional jump (@condition = low 4 bits of the opcode) to @target, rel32. */
void ub_emit_jcc(struct ub_emit *emit, u8 condition, u64 target);
/* The same forward, to be fixed with ub_emit_land(): returns where the rel32 stands. */
u32 ub_emit_jcc_forward(struct ub_emit *emit, u8 condition);
u32 ub_emit_jmp_forward(struct ub_emit *emit);
void ub_emit_land(struct ub_emit *emit, u32 at);

#define UB_CC_B	 0x2
#define UB_CC_Z	 0x4
#define UB_CC_NZ 0x5
#define UB_CC_NS 0x9

#endif
