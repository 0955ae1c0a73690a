/* SPDX-License-Identifier: MIT */
/*
 * Dynptrs: 16 bytes of stack that only helpers may look into.
 */
#include <verifier/env.h>

#define DYNPTR_SLOTS 2

/* The upper slot (nearer the frame pointer) of the dynptr at @reg, or -errno. */
static int dynptr_spi(struct env *env, const struct reg *reg)
{
	s64 off;

	if (!ub_tnum_is_const(reg->var_off))
		return ub_reject(env, -EINVAL, "dynptr has to be at a constant offset\n");
	off = reg->off + (s64)reg->var_off.value;
	if (off % SLOT_SIZE)
		return ub_reject(env, -EINVAL, "cannot pass in dynptr at an offset=%lld\n",
				 (long long)off);
	if (off > -16 || off < -UB_STACK_SIZE)
		return ub_reject(env, -EINVAL, "cannot pass in dynptr at an offset=%lld\n",
				 (long long)off);
	return (int)((-off - 1) / SLOT_SIZE);
}

static void invalidate_slices(struct env *env, u32 id)
{
	struct frame *frame;
	struct reg *reg;

	ub_state_for_each_reg(env->cur, frame, reg, {
		if (ub_base_type(reg->type) == PTR_TO_MEM && reg->dynptr_id == id)
			ub_reg_mark_unknown(reg);
	});
}

static void clear_slot(struct env *env, struct frame *frame, u32 spi)
{
	struct slot *slot = &frame->stack[spi];

	memset(slot->type, STACK_INVALID, sizeof(slot->type));
	ub_reg_mark_not_init(&slot->reg);
	slot->live |= LIVE_WRITTEN;
	ub_scratch_slot(env, spi);
}

int ub_dynptr_destroy_overlap(struct env *env, struct frame *frame, u32 spi)
{
	u32 id;

	if (spi >= frame->nr_slots || frame->stack[spi].type[SLOT_SIZE - 1] != STACK_DYNPTR)
		return 0;
	if (!frame->stack[spi].reg.first_slot)
		spi++;
	if (spi >= frame->nr_slots || spi == 0)
		return -EFAULT;
	if (frame->stack[spi].reg.dynptr == DYNPTR_RINGBUF)
		return ub_reject(env, -EINVAL, "cannot overwrite referenced dynptr\n");
	id = frame->stack[spi].reg.id;
	clear_slot(env, frame, spi);
	clear_slot(env, frame, spi - 1);
	invalidate_slices(env, id);
	return 0;
}

/* A release frees what the program reserved itself: neither a callback's dynptr nor one without
 * reference. */
static int check_release(struct env *env, u32 regno)
{
	const struct reg *reg = &ub_cur_regs(env)[regno];
	const struct frame *frame;
	int spi;

	if (reg->type != PTR_TO_STACK)
		return ub_reject(env, -EINVAL, "cannot release unowned const bpf_dynptr\n");
	spi = dynptr_spi(env, reg);
	frame = env->cur->frame[reg->frameno];
	if (spi < 0 || (u32)spi >= frame->nr_slots || !frame->stack[spi].reg.ref_obj_id)
		return ub_reject(env, -EINVAL, "arg %u is an unacquired reference\n", regno);
	return 0;
}

static int uninitialized(struct env *env, u32 regno)
{
	const struct reg *reg = &ub_cur_regs(env)[regno];

	if (reg->type == CONST_PTR_TO_DYNPTR || dynptr_spi(env, reg) < 0)
		return ub_reject(env, -EINVAL, "Dynptr has to be an uninitialized dynptr\n");
	for (s32 i = 0; i < DYNPTR_SLOTS * SLOT_SIZE; i += SLOT_SIZE) {
		int err = ub_check_mem(env, env->insn, regno, i, BPF_DW, true, -1, false, false);

		if (err)
			return err;
	}
	return 0;
}

int ub_dynptr_arg(struct env *env, u32 regno, struct call_meta *meta, bool uninit)
{
	const struct reg *reg = &ub_cur_regs(env)[regno];
	bool release = meta->helper && meta->helper->flags & UB_HELPER_RELEASES;
	struct frame *frame;
	int spi, err;

	if (reg->type != CONST_PTR_TO_DYNPTR && reg->type != PTR_TO_STACK)
		return ub_reject(env, -EINVAL,
				 "arg#%u expected pointer to stack or const struct bpf_dynptr\n",
				 regno - 1);
	if (uninit)
		return uninitialized(env, regno);
	err = release ? check_release(env, regno) : 0;
	if (err)
		return err;
	if (reg->type == CONST_PTR_TO_DYNPTR) {
		meta->dynptr_id = reg->dynptr_id;
		return 0;
	}
	spi = dynptr_spi(env, reg);
	frame = env->cur->frame[reg->frameno];
	if (spi < 0 || (u32)spi >= frame->nr_slots || frame->stack[spi].type[0] != STACK_DYNPTR ||
	    !frame->stack[spi].reg.first_slot || frame->stack[spi - 1].type[0] != STACK_DYNPTR)
		return ub_reject(env, -EINVAL, "Expected an initialized dynptr as arg #%u\n",
				 regno - 1);
	if (release && frame->stack[spi].reg.dynptr != DYNPTR_RINGBUF)
		return ub_reject(env, -EINVAL, "Expected a dynptr of type ringbuf as arg #%u\n",
				 regno - 1);
	ub_stack_mark_read(env, frame->frameno, spi);
	ub_stack_mark_read(env, frame->frameno, spi - 1);
	meta->dynptr_id = frame->stack[spi].reg.id;
	if (release || meta->func_id == BPF_FUNC_dynptr_data)
		meta->ref_obj_id = frame->stack[spi].reg.ref_obj_id;
	return 0;
}

int ub_dynptr_init(struct env *env, u32 regno, enum dynptr_type type)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame = env->cur->frame[reg->frameno];
	u32 id = ++env->id_gen, ref = 0;
	int spi = dynptr_spi(env, reg), err;

	if (spi < 0)
		return spi;
	if (type == DYNPTR_RINGBUF) {
		ref = ++env->id_gen;
		err = ub_ref_acquire(env, REF_PTR, ref);
		if (err)
			return err;
	}
	for (u32 i = 0; i < DYNPTR_SLOTS; i++) {
		struct slot *slot = &frame->stack[spi - i];

		memset(slot->type, STACK_DYNPTR, sizeof(slot->type));
		ub_reg_mark_known(&slot->reg, 0);
		slot->reg.type = CONST_PTR_TO_DYNPTR;
		slot->reg.dynptr = type;
		slot->reg.first_slot = i == 0;
		slot->reg.id = id;
		slot->reg.dynptr_id = id;
		slot->reg.ref_obj_id = ref;
		slot->live |= LIVE_WRITTEN;
		ub_scratch_slot(env, spi - i);
	}
	return 0;
}

/* The dynptr that holds @ref_obj_id is gone, with all slices of it. */
int ub_dynptr_release(struct env *env, u32 ref_obj_id)
{
	if (!ub_ref_release(env->cur, REF_PTR, ref_obj_id))
		return -EINVAL;
	for (u32 f = 0; f <= env->cur->curframe; f++) {
		struct frame *frame = env->cur->frame[f];

		for (u32 i = 0; i < frame->nr_slots; i++) {
			if (frame->stack[i].type[0] == STACK_DYNPTR &&
			    frame->stack[i].reg.ref_obj_id == ref_obj_id) {
				u32 id = frame->stack[i].reg.id;

				clear_slot(env, frame, i);
				invalidate_slices(env, id);
			}
		}
	}
	return 0;
}
