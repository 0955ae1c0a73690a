/* SPDX-License-Identifier: MIT */
/*
 * x86-64 instructions as bytes. Nothing here knows BPF; every function appends one instruction to a
 * buffer that has room (compile.h reserves it).
 */
#ifndef UB_JIT_X86_64_ENCODE_H
#define UB_JIT_X86_64_ENCODE_H

#include <string.h>

#include <common/types.h>

enum reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* The /n of the 81/83 group and, times 8, the opcodes of its register forms. */
enum alu { X_ADD, X_OR, X_ADC, X_SBB, X_AND, X_SUB, X_XOR, X_CMP };

/* The /n of the shift group. */
enum shift { X_SHL = 4, X_SHR = 5, X_SAR = 7 };

/* Conditions of jcc. */
enum cond {
	CC_B = 0x2,
	CC_AE = 0x3,
	CC_E = 0x4,
	CC_NE = 0x5,
	CC_BE = 0x6,
	CC_A = 0x7,
	CC_L = 0xc,
	CC_GE = 0xd,
	CC_LE = 0xe,
	CC_G = 0xf,
};

struct bytes {
	u8 *at; /* where the next one goes */
};

static inline void put8(struct bytes *b, u8 v)
{
	*b->at++ = v;
}

static inline void put16(struct bytes *b, u16 v)
{
	memcpy(b->at, &v, sizeof(v));
	b->at += sizeof(v);
}

static inline void put32(struct bytes *b, u32 v)
{
	memcpy(b->at, &v, sizeof(v));
	b->at += sizeof(v);
}

static inline void put64(struct bytes *b, u64 v)
{
	memcpy(b->at, &v, sizeof(v));
	b->at += sizeof(v);
}

static inline bool fits8(s64 v)
{
	return v == (s8)v;
}

static inline bool fits32(s64 v)
{
	return v == (s32)v;
}

/* @wide: 64-bit operation. @force: a byte register that needs a REX to mean sil, dil, ... */
static inline void put_rex(struct bytes *b, bool wide, u8 reg, u8 index, u8 rm, bool force)
{
	u8 rex = 0x40 | wide << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | rm >> 3;

	if (rex != 0x40 || force)
		put8(b, rex);
}

/* An opcode: one byte, or 0x0fNN, or 0x0f38NN. */
static inline void put_opcode(struct bytes *b, u32 opcode)
{
	if (opcode > 0xffff)
		put8(b, opcode >> 16);
	if (opcode > 0xff)
		put8(b, opcode >> 8);
	put8(b, opcode);
}

static inline void put_modrm_reg(struct bytes *b, u8 reg, u8 rm)
{
	put8(b, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* [base + disp] */
static inline void put_modrm_mem(struct bytes *b, u8 reg, u8 base, s32 disp)
{
	u8 mode = disp == 0 && (base & 7) != RBP ? 0x00 : fits8(disp) ? 0x40 : 0x80;

	put8(b, mode | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == RSP)
		put8(b, 0x24);
	if (mode == 0x40)
		put8(b, disp);
	else if (mode == 0x80)
		put32(b, disp);
}

/* op rm, reg and op reg, rm alike: register to register. */
static inline void x_rr(struct bytes *b, bool wide, u32 opcode, u8 reg, u8 rm)
{
	put_rex(b, wide, reg, 0, rm, false);
	put_opcode(b, opcode);
	put_modrm_reg(b, reg, rm);
}

/* op reg, [base + disp] or op [base + disp], reg */
static inline void x_rm(struct bytes *b, bool wide, u32 opcode, u8 reg, u8 base, s32 disp)
{
	put_rex(b, wide, reg, 0, base, false);
	put_opcode(b, opcode);
	put_modrm_mem(b, reg, base, disp);
}

/* op reg, [base + index << scale] */
static inline void x_rmx(struct bytes *b, bool wide, u32 opcode, u8 reg, u8 base, u8 index,
			 u8 scale)
{
	put_rex(b, wide, reg, index, base, false);
	put_opcode(b, opcode);
	put8(b, ((base & 7) == RBP ? 0x44 : 0x04) | (reg & 7) << 3);
	put8(b, scale << 6 | (index & 7) << 3 | (base & 7));
	if ((base & 7) == RBP)
		put8(b, 0);
}

static inline void x_mov_rr(struct bytes *b, bool wide, u8 dst, u8 src)
{
	x_rr(b, wide, 0x89, src, dst);
}

static inline void x_alu_rr(struct bytes *b, bool wide, enum alu op, u8 dst, u8 src)
{
	x_rr(b, wide, op << 3 | 1, src, dst);
}

static inline void x_alu_ri(struct bytes *b, bool wide, enum alu op, u8 dst, s32 imm)
{
	put_rex(b, wide, 0, 0, dst, false);
	if (fits8(imm)) {
		put8(b, 0x83);
		put_modrm_reg(b, op, dst);
		put8(b, imm);
	} else if (dst == RAX) {
		put8(b, op << 3 | 5);
		put32(b, imm);
	} else {
		put8(b, 0x81);
		put_modrm_reg(b, op, dst);
		put32(b, imm);
	}
}

/* op [base + disp], imm, 32- or 64-bit */
static inline void x_alu_mi(struct bytes *b, bool wide, enum alu op, u8 base, s32 disp, s32 imm)
{
	x_rm(b, wide, fits8(imm) ? 0x83 : 0x81, op, base, disp);
	if (fits8(imm))
		put8(b, imm);
	else
		put32(b, imm);
}

/* The shortest way to make a register a constant; leaves the flags alone unless it is 0. */
static inline void x_mov_ri(struct bytes *b, u8 dst, u64 imm)
{
	if (!imm) {
		x_alu_rr(b, false, X_XOR, dst, dst);
	} else if (imm <= UINT32_MAX) {
		put_rex(b, false, 0, 0, dst, false);
		put8(b, 0xb8 | (dst & 7));
		put32(b, imm);
	} else if (fits32((s64)imm)) {
		put_rex(b, true, 0, 0, dst, false);
		put8(b, 0xc7);
		put_modrm_reg(b, 0, dst);
		put32(b, imm);
	} else {
		put_rex(b, true, 0, 0, dst, false);
		put8(b, 0xb8 | (dst & 7));
		put64(b, imm);
	}
}

/* movabs with all eight bytes, for a relocation at its end. */
static inline void x_mov_ri64(struct bytes *b, u8 dst, u64 imm)
{
	put_rex(b, true, 0, 0, dst, false);
	put8(b, 0xb8 | (dst & 7));
	put64(b, imm);
}

static inline void x_shift_ri(struct bytes *b, bool wide, enum shift op, u8 dst, u8 count)
{
	put_rex(b, wide, 0, 0, dst, false);
	put8(b, count == 1 ? 0xd1 : 0xc1);
	put_modrm_reg(b, op, dst);
	if (count != 1)
		put8(b, count);
}

static inline void x_neg(struct bytes *b, bool wide, u8 dst)
{
	put_rex(b, wide, 0, 0, dst, false);
	put8(b, 0xf7);
	put_modrm_reg(b, 3, dst);
}

/* shift dst, cl */
static inline void x_shift_cl(struct bytes *b, bool wide, enum shift op, u8 dst)
{
	put_rex(b, wide, 0, 0, dst, false);
	put8(b, 0xd3);
	put_modrm_reg(b, op, dst);
}

/* BMI2 shlx, shrx, sarx dst, src, count */
static inline void x_shiftx(struct bytes *b, bool wide, enum shift op, u8 dst, u8 src, u8 count)
{
	static const u8 pp[8] = { [X_SHL] = 1, [X_SAR] = 2, [X_SHR] = 3 };

	put8(b, 0xc4);
	put8(b, (dst < 8) << 7 | 1 << 6 | (src < 8) << 5 | 2);
	put8(b, wide << 7 | (~count & 15) << 3 | pp[op]);
	put8(b, 0xf7);
	put_modrm_reg(b, dst, src);
}

static inline void x_push(struct bytes *b, u8 reg)
{
	put_rex(b, false, 0, 0, reg, false);
	put8(b, 0x50 | (reg & 7));
}

static inline void x_pop(struct bytes *b, u8 reg)
{
	put_rex(b, false, 0, 0, reg, false);
	put8(b, 0x58 | (reg & 7));
}

/* A jump within one BPF instruction's code: returns where its displacement byte is. */
static inline u8 *x_jcc_short(struct bytes *b, enum cond cc)
{
	put8(b, 0x70 | cc);
	put8(b, 0);
	return b->at - 1;
}

static inline u8 *x_jmp_short(struct bytes *b)
{
	put8(b, 0xeb);
	put8(b, 0);
	return b->at - 1;
}

/* Makes that jump lead to the next byte. */
static inline void x_land(struct bytes *b, u8 *disp)
{
	*disp = (u8)(b->at - disp - 1);
}

#endif
