/* SPDX-License-Identifier: MIT */
/*
 * The BPF stack: slots of eight bytes that hold spilled registers, zeros, plain data or nothing.
 * type[7] of a slot is its lowest byte.
 */
#include <stdio.h>

#include <verifier/env.h>

bool ub_slot_is_spill(const struct slot *slot)
{
	return slot->type[SLOT_SIZE - 1] == STACK_SPILL;
}

bool ub_slot_is_scalar_spill(const struct slot *slot)
{
	return ub_slot_is_spill(slot) && slot->reg.type == SCALAR_VALUE;
}

/*
 * Tells the remembered states that led here that the slot's content mattered: up to the one after
 * which it was overwritten.
 */
void ub_stack_mark_read(struct env *env, u32 frameno, u32 spi)
{
	struct state *state = env->cur;

	for (;;) {
		struct frame *frame = state->frame[frameno];

		if (frame && spi < frame->nr_slots && frame->stack[spi].live & LIVE_WRITTEN)
			return;
		state = state->parent;
		if (!state || frameno > state->curframe)
			return;
		frame = state->frame[frameno];
		if (spi >= frame->nr_slots)
			return;
		if (frame->stack[spi].live & LIVE_READ)
			return;
		frame->stack[spi].live |= LIVE_READ;
	}
}

static u32 reg_width(const struct reg *reg)
{
	return reg->umax ? 64 - __builtin_clzll(reg->umax) : 0;
}

static void scrub(u8 *type)
{
	if (*type != STACK_INVALID)
		*type = STACK_MISC;
}

static void assign_id(struct env *env, struct reg *reg)
{
	if (reg->type != SCALAR_VALUE)
		return;
	if (reg->id & ID_ADD_CONST) {
		reg->id = 0;
		reg->off = 0;
	}
	if (!reg->id && !ub_tnum_is_const(reg->var_off))
		reg->id = ++env->id_gen;
}

static void spill(struct frame *frame, u32 spi, const struct reg *reg, u32 size)
{
	struct slot *slot = &frame->stack[spi];
	u32 i;

	slot->reg = *reg;
	if (size == SLOT_SIZE)
		slot->live |= LIVE_WRITTEN;
	for (i = SLOT_SIZE; i > SLOT_SIZE - size; i--)
		slot->type[i - 1] = STACK_SPILL;
	/* What lies above a narrow spill stays zero or unknown, and is no part of a pointer any
	 * more. */
	for (; i; i--) {
		if (slot->type[i - 1] != STACK_ZERO && slot->type[i - 1] != STACK_INVALID)
			slot->type[i - 1] = STACK_MISC;
	}
}

int ub_stack_fixed_write(struct env *env, struct frame *frame, s32 off, s32 size, s32 value_regno,
			 u32 insn_idx)
{
	const struct bpf_insn *insn = &env->insns[insn_idx];
	struct frame *cur = ub_cur_frame(env);
	struct reg *reg = value_regno >= 0 ? &cur->regs[value_regno] : NULL;
	bool store_imm = BPF_CLASS(insn->code) == BPF_ST && BPF_MODE(insn->code) == BPF_MEM;
	u32 byte = -off - 1, spi = byte / SLOT_SIZE;
	struct slot *slot = &frame->stack[spi];
	int err;

	err = ub_dynptr_destroy_overlap(env, frame, spi);
	if (err)
		return err;
	ub_scratch_slot(env, spi);
	if (reg && off % SLOT_SIZE == 0 && reg->type == SCALAR_VALUE) {
		bool fits = reg_width(reg) <= (u32)size * 8;

		if (fits)
			assign_id(env, reg);
		spill(frame, spi, reg, size);
		if (!fits)
			slot->reg.id = 0;
	} else if (!reg && off % SLOT_SIZE == 0 && store_imm) {
		struct reg imm;

		ub_reg_mark_known(&imm, (u64)(s64)insn->imm);
		spill(frame, spi, &imm, size);
	} else if (reg && ub_is_pointer(reg)) {
		if (size != SLOT_SIZE)
			return ub_reject(env, -EACCES, "invalid size of register spill\n");
		if (frame != cur && reg->type == PTR_TO_STACK)
			return ub_reject(
				env, -EINVAL,
				"cannot spill pointers to stack into stack frame of the caller\n");
		spill(frame, spi, reg, size);
	} else {
		u8 type = STACK_MISC;

		slot->reg.type = NOT_INIT;
		if (ub_slot_is_spill(slot) || slot->type[SLOT_SIZE - 1] == STACK_DYNPTR)
			for (u32 i = 0; i < SLOT_SIZE; i++)
				scrub(&slot->type[i]);
		if (size == SLOT_SIZE)
			slot->live |= LIVE_WRITTEN;
		if ((reg && ub_reg_is_null(reg)) || (!reg && store_imm && insn->imm == 0)) {
			/* From here on the zero is not a register's: it must have been precise. */
			if (value_regno >= 0) {
				err = ub_mark_precise(env, value_regno);
				if (err)
					return err;
			}
			type = STACK_ZERO;
		}
		for (s32 i = 0; i < size; i++)
			slot->type[(byte - i) % SLOT_SIZE] = type;
		return 0;
	}
	return ub_history_push(env, true, frame->frameno, spi, 0);
}

static int var_write(struct env *env, struct frame *frame, u32 ptr_regno, s32 off, s32 size,
		     s32 value_regno, u32 insn_idx)
{
	const struct bpf_insn *insn = &env->insns[insn_idx];
	struct reg *ptr = &ub_cur_regs(env)[ptr_regno];
	struct reg *value = value_regno >= 0 ? &ub_cur_regs(env)[value_regno] : NULL;
	s32 min = ptr->smin + off, max = ptr->smax + off + size;
	bool zero, zero_used = false;
	int err;

	zero = (value && ub_reg_is_null(value)) ||
	       (!value && BPF_CLASS(insn->code) == BPF_ST && BPF_MODE(insn->code) == BPF_MEM &&
		insn->imm == 0);
	for (s32 i = min; i < max; i++) {
		err = ub_dynptr_destroy_overlap(env, frame, (-i - 1) / SLOT_SIZE);
		if (err)
			return err;
	}
	for (s32 i = min; i < max; i++) {
		u32 byte = -i - 1;
		struct slot *slot = &frame->stack[byte / SLOT_SIZE];
		u8 *type = &slot->type[byte % SLOT_SIZE];

		ub_scratch_slot(env, byte / SLOT_SIZE);
		if (zero && ub_slot_is_scalar_spill(slot) && *type == STACK_SPILL &&
		    ub_tnum_equals(slot->reg.var_off, 0)) {
			zero_used = true;
			continue;
		}
		/* Maybe overwritten: no register, no certain zero. */
		if (ub_slot_is_spill(slot))
			for (u32 k = 0; k < SLOT_SIZE; k++)
				scrub(&slot->type[k]);
		slot->reg.type = NOT_INIT;
		if (zero && *type == STACK_ZERO)
			zero_used = true;
		else
			*type = STACK_MISC;
	}
	if (zero_used && value_regno >= 0)
		return ub_mark_precise(env, value_regno);
	return 0;
}

int ub_stack_write(struct env *env, u32 regno, s32 off, s32 size, s32 value_regno, u32 insn_idx)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame = env->cur->frame[reg->frameno];

	if (ub_tnum_is_const(reg->var_off))
		return ub_stack_fixed_write(env, frame, off + (s32)reg->var_off.value, size,
					    value_regno, insn_idx);
	return var_write(env, frame, regno, off, size, value_regno, insn_idx);
}

/* A read of plain bytes min..max: zero if all of them are. */
static void read_bytes(struct env *env, struct frame *frame, s32 min, s32 max, u32 dst_regno)
{
	struct reg *dst = &ub_cur_regs(env)[dst_regno];
	s32 zeros = 0;

	for (s32 i = min; i < max; i++) {
		u32 byte = -i - 1;
		struct slot *slot = &frame->stack[byte / SLOT_SIZE];

		ub_scratch_slot(env, byte / SLOT_SIZE);
		if (slot->type[byte % SLOT_SIZE] != STACK_ZERO)
			break;
		zeros++;
	}
	if (zeros == max - min)
		ub_reg_mark_known(dst, 0);
	else
		ub_reg_mark_unknown(dst);
}

static int check_bytes(struct env *env, const struct slot *slot, u32 byte, s32 off, s32 size)
{
	for (s32 i = 0; i < size; i++) {
		u8 type = slot->type[(byte - i) % SLOT_SIZE];

		if (type == STACK_DYNPTR)
			return ub_reject(env, -EACCES,
					 "invalid read from stack off %d+%d size %d\n", off, i,
					 size);
	}
	return 0;
}

static int fixed_read(struct env *env, struct frame *frame, s32 off, s32 size, s32 dst_regno)
{
	struct reg *regs = ub_cur_regs(env);
	u32 byte = -off - 1, spi = byte / SLOT_SIZE, spill_size = 1;
	struct slot *slot = &frame->stack[spi];
	struct reg *reg = &slot->reg;
	int err;

	ub_scratch_slot(env, spi);
	ub_stack_mark_read(env, frame->frameno, spi);
	if (!ub_slot_is_spill(slot)) {
		err = check_bytes(env, slot, byte, off, size);
		if (!err && dst_regno >= 0)
			read_bytes(env, frame, off, off + size, dst_regno);
		return err;
	}
	for (u32 i = SLOT_SIZE - 1; i > 0 && slot->type[i - 1] == STACK_SPILL; i--)
		spill_size++;
	if (size == SLOT_SIZE && spill_size == SLOT_SIZE) {
		if (dst_regno >= 0) {
			assign_id(env, reg);
			regs[dst_regno] = *reg;
		}
		return ub_history_push(env, true, frame->frameno, spi, 0);
	}
	if (reg->type != SCALAR_VALUE)
		return ub_reject(env, -EACCES, "invalid size of register fill\n");
	if (dst_regno < 0)
		return 0;
	if ((u32)size <= spill_size && off % SLOT_SIZE == 0) {
		if (size == 4 && spill_size == 4 && reg_width(reg) <= 32)
			assign_id(env, reg);
		regs[dst_regno] = *reg;
		if (reg_width(reg) > (u32)size * 8) {
			if (regs[dst_regno].id & ID_ADD_CONST)
				regs[dst_regno].off = 0;
			regs[dst_regno].id = 0;
		}
	} else {
		s32 spills = 0, zeros = 0;

		err = check_bytes(env, slot, byte, off, size);
		if (err)
			return err;
		for (s32 i = 0; i < size; i++) {
			u8 type = slot->type[(byte - i) % SLOT_SIZE];

			spills += type == STACK_SPILL;
			zeros += type == STACK_ZERO;
		}
		if (spills == size && ub_tnum_equals(reg->var_off, 0)) {
			ub_reg_mark_known(&regs[dst_regno], 0);
		} else {
			if (zeros == size)
				ub_reg_mark_known(&regs[dst_regno], 0);
			else
				ub_reg_mark_unknown(&regs[dst_regno]);
			return 0;
		}
	}
	return ub_history_push(env, true, frame->frameno, spi, 0);
}

int ub_stack_read(struct env *env, u32 regno, s32 off, s32 size, s32 dst_regno)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame = env->cur->frame[reg->frameno];
	s32 min, max;
	int err;

	if (ub_tnum_is_const(reg->var_off))
		return fixed_read(env, frame, off + (s32)reg->var_off.value, size, dst_regno);
	if (dst_regno < 0)
		return ub_reject(
			env, -EACCES,
			"variable offset stack pointer cannot be passed into helper function; var_off=(0x%llx; 0x%llx) off=%d size=%d\n",
			(unsigned long long)reg->var_off.value,
			(unsigned long long)reg->var_off.mask, off, size);
	err = ub_stack_range_initialized(env, regno, off, size, false, false, NULL);
	if (err)
		return err;
	min = reg->smin + off;
	max = reg->smax + off;
	read_bytes(env, frame, min, max + size, dst_regno);
	return 0;
}

int ub_stack_check_bounds(struct env *env, u32 regno, s32 off, s32 size, bool by_helper, bool write)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame = env->cur->frame[reg->frameno];
	const char *what = write ? " write to" : " read from";
	s64 min, max;
	int err = 0;

	if (ub_tnum_is_const(reg->var_off)) {
		min = (s64)reg->var_off.value + off;
		max = min + size;
	} else {
		if (reg->smax >= MAX_VAR_OFF || reg->smin <= -MAX_VAR_OFF)
			return ub_reject(env, -EACCES,
					 "invalid unbounded variable-offset%s stack R%u\n", what,
					 regno);
		min = reg->smin + off;
		max = reg->smax + off + size;
	}
	if (min < -UB_STACK_SIZE || min > -1)
		err = -EACCES;
	if (!err && max > 0)
		err = -EINVAL;
	if (!err && size < 0)
		err = -EFAULT;
	if (err) {
		if (ub_tnum_is_const(reg->var_off))
			return ub_reject(env, err, "invalid%s stack R%u off=%lld size=%d\n", what,
					 regno, (long long)min, size);
		return ub_reject(
			env, err,
			"invalid variable-offset%s stack R%u var_off=(0x%llx; 0x%llx) off=%d size=%d\n",
			what, regno, (unsigned long long)reg->var_off.value,
			(unsigned long long)reg->var_off.mask, off, size);
	}
	return ub_frame_grow(env, frame, -min);
}

int ub_stack_range_initialized(struct env *env, u32 regno, s32 off, s32 size, bool zero_size,
			       bool write, struct call_meta *meta)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame = env->cur->frame[reg->frameno];
	bool constant = ub_tnum_is_const(reg->var_off);
	s32 min, max;
	int err;

	if (size == 0 && !zero_size)
		return ub_reject(env, -EACCES, "invalid zero-sized read\n");
	err = ub_stack_check_bounds(env, regno, off, size, true, write);
	if (err)
		return err;
	if (constant) {
		min = max = (s32)reg->var_off.value + off;
	} else {
		/* Which bytes a helper would initialize is not certain then: treat it as a read. */
		if (meta && meta->raw_mode)
			meta = NULL;
		min = reg->smin + off;
		max = reg->smax + off;
	}
	if (meta && meta->raw_mode) {
		for (s32 i = min; i < max + size; i++) {
			u32 byte = -i - 1;

			if (frame->stack[byte / SLOT_SIZE].type[byte % SLOT_SIZE] == STACK_DYNPTR)
				return ub_reject(env, -EACCES,
						 "potential write to dynptr at off=%d disallowed\n",
						 i);
		}
		meta->access_size = size;
		meta->regno = regno;
		return 0;
	}
	for (s32 i = min; i < max + size; i++) {
		u32 byte = -i - 1, spi = byte / SLOT_SIZE;
		struct slot *slot = &frame->stack[spi];
		u8 *type = &slot->type[byte % SLOT_SIZE];

		if (*type == STACK_DYNPTR) {
			if (constant)
				return ub_reject(env, -EACCES,
						 "invalid read from stack R%u off %d+%d size %d\n",
						 regno, min, i - min, size);
			return ub_reject(
				env, -EACCES,
				"invalid read from stack R%u var_off (0x%llx; 0x%llx)+%d size %d\n",
				regno, (unsigned long long)reg->var_off.value,
				(unsigned long long)reg->var_off.mask, i - min, size);
		}
		ub_stack_mark_read(env, frame->frameno, spi);
		if (!write || *type == STACK_MISC)
			continue;
		if (ub_slot_is_spill(slot)) {
			ub_reg_mark_unknown(&slot->reg);
			for (u32 k = 0; k < SLOT_SIZE; k++)
				scrub(&slot->type[k]);
		}
		*type = STACK_MISC;
	}
	return 0;
}
