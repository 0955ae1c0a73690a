// SPDX-License-Identifier: MIT
/*
 * Frames: what each subprogram needs of one, making it, undoing it. compile.c draws them.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <jit/x86_64/compile.h>

#define RED_ZONE  128
#define MAX_LOOPS (8 << 20) /* the kernel's BPF_MAX_LOOPS */

/* What the instructions of a subprogram need of its frame. */
struct needs {
	u16 written;
	bool fp, calls, run, loops;
};

static void add_base(struct frame_shape *frame, u32 map)
{
	for (u32 i = 0; i < frame->nr_bases; i++)
		if (frame->bases[i] == map)
			return;
	if (frame->nr_bases < ub_array_size(frame->bases))
		frame->bases[frame->nr_bases++] = (u8)map;
}

s32 frame_base_of(const struct frame_shape *frame, u32 map)
{
	for (u32 i = 0; i < frame->nr_bases; i++)
		if (frame->bases[i] == map)
			return -(s32)(frame->depth + (frame->loops ? 8 : 0) + 8 * (i + 1));
	return 0;
}

static void find_needs(struct compiler *c, struct needs *needs)
{
	for (u32 pc = 0; pc < c->program->nr_insns; pc++) {
		const struct facts *fact = &c->facts[pc];
		const struct bpf_insn *insn = &c->program->insns[pc];
		struct needs *n = &needs[fact->subprog];

		if (fact->flags & (FACT_DEAD | FACT_SECOND))
			continue;
		n->written |= jit_writes(insn, fact);
		if (fact->fused)
			n->written |= REG_BIT(insn->src_reg);
		if (jit_reads(insn, fact, c->program) & REG_BIT(10))
			n->fp = true;
		switch (fact->op) {
		case UB_OP_MAY_GOTO:
			n->fp = n->loops = true;
			break;
		case UB_OP_CALL_LOCAL:
			n->calls = true;
			break;
		case UB_OP_CALL:
			if (jit_inlines_lookup(insn, fact, c->program) &&
			    c->program->maps[fact->const_map - 1].type == BPF_MAP_TYPE_ARRAY)
				break;
			n->calls = n->run = true;
			if (jit_inlines_lookup(insn, fact, c->program))
				add_base(&c->frames[fact->subprog], fact->const_map - 1);
			break;
		default:
			break;
		}
	}
}

static int plan_frame(struct compiler *c, u32 index, const struct needs *needs)
{
	static const u8 callee_saved[] = { 6, 7, 8, 9 };
	const struct ub_subprog *sub = &c->program->subprogs[index];
	struct frame_shape *frame = &c->frames[index];
	u32 below, pushed;

	if (sub->stack_depth > UB_STACK_SIZE + UB_STACK_EXTRA)
		return ub_reason_set(c->why, -EINVAL,
				     "subprogram %u uses %u bytes of stack, at most %u", index,
				     sub->stack_depth, UB_STACK_SIZE + UB_STACK_EXTRA);
	frame->depth = needs->fp ? ub_round_up(sub->stack_depth, 8) : 0;
	frame->loops = needs->loops;
	frame->has_rbp = needs->fp || needs->calls;
	frame->saves_run = c->needs_run && (index == 0 || sub->is_callback);
	if (frame->saves_run)
		frame->saved[frame->nr_saved++] = RUN_REG;
	for (u32 i = 0; i < ub_array_size(callee_saved); i++) {
		if (needs->written & REG_BIT(callee_saved[i]))
			frame->saved[frame->nr_saved++] = hw_reg(callee_saved[i]);
	}
	below = frame->depth + (frame->loops ? 8 : 0) + 8 * frame->nr_bases;
	pushed = 8 * frame->nr_saved;
	if (!needs->calls && !pushed && below <= RED_ZONE)
		frame->stack = 0;
	else if (needs->calls)
		frame->stack = ub_round_up(below + pushed, 16) - pushed;
	else
		frame->stack = below;
	return 0;
}

int plan_frames(struct compiler *c)
{
	_cleanup_free_ struct needs *needs = calloc(c->program->nr_subprogs, sizeof(*needs));
	int err;

	if (!needs)
		return -ENOMEM;
	find_needs(c, needs);
	for (u32 i = 0; i < c->program->nr_subprogs; i++)
		c->needs_run |= needs[i].run;
	for (u32 i = 0; i < c->program->nr_subprogs; i++) {
		err = plan_frame(c, i, &needs[i]);
		if (err)
			return err;
	}
	return 0;
}

void emit_prologue(struct compiler *c, u32 subprog)
{
	const struct frame_shape *frame = &c->frames[subprog];
	struct bytes *b = &c->out;

	if (frame->has_rbp) {
		x_push(b, RBP);
		x_mov_rr(b, true, RBP, RSP);
	}
	if (frame->stack)
		x_alu_ri(b, true, X_SUB, RSP, frame->stack);
	for (u32 i = 0; i < frame->nr_saved; i++)
		x_push(b, frame->saved[i]);
	if (frame->saves_run)
		x_mov_rr(b, true, RUN_REG, subprog == 0 ? RSI : R9);
	if (frame->loops) {
		x_rm(b, true, 0xc7, 0, RBP, -(s32)frame->depth - 8);
		put32(b, MAX_LOOPS);
	}
	for (u32 i = 0; i < frame->nr_bases; i++) {
		x_rm(b, true, 0xc7, 0, RBP, frame_base_of(frame, frame->bases[i]));
		put32(b, 0);
	}
}

void emit_unwind(struct compiler *c, const struct frame_shape *frame)
{
	struct bytes *b = &c->out;

	for (u32 i = frame->nr_saved; i-- > 0;)
		x_pop(b, frame->saved[i]);
	if (frame->stack)
		put8(b, 0xc9); /* leave */
	else if (frame->has_rbp)
		x_pop(b, RBP);
}

/* Stack of the deepest chain of frames: local calls are at most UB_MAX_CALL_FRAMES deep. */
u32 stack_bytes(const struct compiler *c)
{
	u32 deepest = 0, frames = c->program->nr_subprogs > 1 ? UB_MAX_CALL_FRAMES : 1;

	for (u32 i = 0; i < c->program->nr_subprogs; i++) {
		const struct frame_shape *frame = &c->frames[i];
		u32 bytes = 8 + frame->stack + 8 * frame->nr_saved + (frame->has_rbp ? 8 : 0);

		if (!frame->stack)
			bytes += frame->depth + (frame->loops ? 8 : 0);
		if (bytes > deepest)
			deepest = bytes;
	}
	return deepest * frames;
}
