// SPDX-License-Identifier: MIT
#include <hook/x86_64/emit.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ub_emit_free(struct ub_emit *emit)
{
	if (!emit->fixed)
		free(emit->bytes);
	emit->bytes = NULL;
	emit->size = emit->capacity = 0;
}

void ub_emit_bytes(struct ub_emit *emit, const void *bytes, u32 size)
{
	if (emit->error)
		return;
	if (emit->size + size > emit->capacity) {
		u32 capacity = emit->capacity ? emit->capacity * 2 : 4096;
		u8 *grown;

		if (emit->fixed) {
			emit->error = -ENOSPC;
			return;
		}
		while (capacity < emit->size + size)
			capacity *= 2;
		grown = realloc(emit->bytes, capacity);
		if (!grown) {
			emit->error = -ENOMEM;
			return;
		}
		emit->bytes = grown;
		emit->capacity = capacity;
	}
	memcpy(emit->bytes + emit->size, bytes, size);
	emit->size += size;
}

void ub_emit_u32(struct ub_emit *emit, u32 value)
{
	ub_emit_bytes(emit, &value, sizeof(value));
}

void ub_emit_u64(struct ub_emit *emit, u64 value)
{
	ub_emit_bytes(emit, &value, sizeof(value));
}

void ub_emit_align(struct ub_emit *emit, u32 to)
{
	while (!emit->error && ub_emit_here(emit) % to)
		ub_emit_u8(emit, 0xcc);
}

void ub_emit_fix_rel32(struct ub_emit *emit, u32 at, u32 tail, u64 target)
{
	s64 distance = (s64)(target - (emit->address + at + 4 + tail));
	s32 rel = (s32)distance;

	if (emit->error)
		return;
	if (rel != distance) {
		emit->error = -ERANGE;
		return;
	}
	memcpy(emit->bytes + at, &rel, sizeof(rel));
}

static u8 rex(bool wide, u8 reg, u8 base)
{
	return 0x40 | (wide ? 8 : 0) | (reg >> 3 ? 4 : 0) | (base >> 3 ? 1 : 0);
}

/* ModRM, SIB and displacement of [base + disp]. */
static void memory(struct ub_emit *emit, u8 reg, enum ub_reg base, s32 disp)
{
	u8 low = base & 7;
	u8 mod = disp == 0 && low != UB_RBP ? 0 : disp == (s8)disp ? 1 : 2;

	ub_emit_u8(emit, (u8)(mod << 6 | (reg & 7) << 3 | low));
	if (low == UB_RSP)
		ub_emit_u8(emit, 0x24);
	if (mod == 1)
		ub_emit_u8(emit, (u8)disp);
	else if (mod == 2)
		ub_emit_u32(emit, (u32)disp);
}

static void op_memory(struct ub_emit *emit, bool wide, u8 opcode, u8 reg, enum ub_reg base,
		      s32 disp)
{
	u8 prefix = rex(wide, reg, base);

	if (prefix != 0x40)
		ub_emit_u8(emit, prefix);
	ub_emit_u8(emit, opcode);
	memory(emit, reg, base, disp);
}

void ub_emit_lea(struct ub_emit *emit, enum ub_reg to, enum ub_reg base, s32 disp)
{
	op_memory(emit, true, 0x8d, to, base, disp);
}

void ub_emit_load(struct ub_emit *emit, enum ub_reg to, enum ub_reg base, s32 disp)
{
	op_memory(emit, true, 0x8b, to, base, disp);
}

void ub_emit_store(struct ub_emit *emit, enum ub_reg from, enum ub_reg base, s32 disp)
{
	op_memory(emit, true, 0x89, from, base, disp);
}

void ub_emit_store32(struct ub_emit *emit, enum ub_reg from, enum ub_reg base, s32 disp)
{
	op_memory(emit, false, 0x89, from, base, disp);
}

void ub_emit_store_imm(struct ub_emit *emit, s32 imm, enum ub_reg base, s32 disp)
{
	op_memory(emit, true, 0xc7, 0, base, disp);
	ub_emit_u32(emit, (u32)imm);
}

void ub_emit_store_imm32(struct ub_emit *emit, s32 imm, enum ub_reg base, s32 disp)
{
	op_memory(emit, false, 0xc7, 0, base, disp);
	ub_emit_u32(emit, (u32)imm);
}

void ub_emit_cmp32_mem_imm8(struct ub_emit *emit, enum ub_reg base, s32 disp, s8 imm)
{
	op_memory(emit, false, 0x83, 7, base, disp);
	ub_emit_u8(emit, (u8)imm);
}

void ub_emit_cmp64_mem_imm8(struct ub_emit *emit, enum ub_reg base, s32 disp, s8 imm)
{
	op_memory(emit, true, 0x83, 7, base, disp);
	ub_emit_u8(emit, (u8)imm);
}

void ub_emit_inc_mem(struct ub_emit *emit, enum ub_reg base, s32 disp, bool locked)
{
	if (locked)
		ub_emit_u8(emit, 0xf0);
	op_memory(emit, true, 0xff, 0, base, disp);
}

void ub_emit_set(struct ub_emit *emit, enum ub_reg to, u64 value)
{
	if (value <= UINT32_MAX) {
		u8 prefix = rex(false, 0, to);

		if (prefix != 0x40)
			ub_emit_u8(emit, prefix);
		ub_emit_u8(emit, 0xb8 | (to & 7));
		ub_emit_u32(emit, (u32)value);
	} else {
		ub_emit_u8(emit, rex(true, 0, to));
		ub_emit_u8(emit, 0xb8 | (to & 7));
		ub_emit_u64(emit, value);
	}
}

static void rel32(struct ub_emit *emit, u64 target)
{
	ub_emit_u32(emit, 0);
	if (!emit->error)
		ub_emit_fix_rel32(emit, emit->size - 4, 0, target);
}

void ub_emit_jmp(struct ub_emit *emit, u64 target)
{
	ub_emit_u8(emit, 0xe9);
	rel32(emit, target);
}

void ub_emit_call(struct ub_emit *emit, u64 target)
{
	ub_emit_u8(emit, 0xe8);
	rel32(emit, target);
}

void ub_emit_jcc(struct ub_emit *emit, u8 condition, u64 target)
{
	ub_emit_u8(emit, 0x0f);
	ub_emit_u8(emit, 0x80 | condition);
	rel32(emit, target);
}

u32 ub_emit_jcc_forward(struct ub_emit *emit, u8 condition)
{
	ub_emit_u8(emit, 0x0f);
	ub_emit_u8(emit, 0x80 | condition);
	ub_emit_u32(emit, 0);
	return emit->size - 4;
}

u32 ub_emit_jmp_forward(struct ub_emit *emit)
{
	ub_emit_u8(emit, 0xe9);
	ub_emit_u32(emit, 0);
	return emit->size - 4;
}

void ub_emit_land(struct ub_emit *emit, u32 at)
{
	ub_emit_fix_rel32(emit, at, 0, ub_emit_here(emit));
}
