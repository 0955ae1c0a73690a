/* SPDX-License-Identifier: MIT */
/*
 * Conditional jumps: which way can be taken, and what each way teaches.
 */
#include <verifier/env.h>

#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define BEYOND_PKT_END (-2)
#define AT_PKT_END     (-1)

static int packet_taken(const struct reg *a, const struct reg *b, u8 op)
{
	const struct reg *pkt;

	if (b->type == PTR_TO_PACKET_END) {
		pkt = a;
	} else if (a->type == PTR_TO_PACKET_END) {
		pkt = b;
		op = ub_jump_flip(op);
	} else {
		return -1;
	}
	if (pkt->range >= 0)
		return -1;
	if (op == BPF_JLE || op == BPF_JGT)
		return pkt->range == BEYOND_PKT_END ? op == BPF_JGT : -1;
	if (op == BPF_JLT || op == BPF_JGE)
		return op == BPF_JGE;
	return -1;
}

static bool not_null(const struct reg *reg)
{
	switch (reg->type) {
	case PTR_TO_MAP_VALUE:
	case PTR_TO_MAP_KEY:
	case CONST_PTR_TO_MAP:
	case PTR_TO_MEM:
	case PTR_TO_MEM | MEM_RINGBUF:
	case PTR_TO_MEM | MEM_RDONLY:
	case PTR_TO_TASK | PTR_TRUSTED:
		return true;
	}
	return false;
}

static bool packet_any(const struct reg *reg)
{
	return ub_is_packet(reg->type) || reg->type == PTR_TO_PACKET_END;
}

static int branch_taken(const struct reg *a, const struct reg *b, u8 op, bool is32)
{
	if (packet_any(a) && packet_any(b) && !is32)
		return packet_taken(a, b, op);
	if (!ub_is_pointer(a) && !ub_is_pointer(b))
		return ub_scalar_taken(a, b, op, is32);
	if (is32)
		return -1;
	if (!ub_reg_is_const(b, false)) {
		const struct reg *t = a;

		a = b;
		b = t;
		op = ub_jump_flip(op);
	}
	if (!ub_reg_is_null(b) || !not_null(a))
		return -1;
	return op == BPF_JEQ ? 0 : op == BPF_JNE ? 1 : -1;
}

/* --- null ------------------------------------------------------------------------------------- */

static void not_null_any_more(struct env *env, struct reg *reg)
{
	if (ub_base_type(reg->type) == PTR_TO_MAP_VALUE && !reg->inner && reg->map >= 0 &&
	    env->maps[reg->map].inner) {
		/* The value of a map of maps is a map. */
		reg->type = CONST_PTR_TO_MAP;
		reg->map_uid = reg->id;
		reg->inner = true;
		return;
	}
	reg->type &= ~PTR_MAYBE_NULL;
}

static void resolve_null(struct env *env, struct state *state, u32 regno, bool is_null)
{
	struct reg *of = &state->frame[state->curframe]->regs[regno];
	u32 id = of->id, ref = of->ref_obj_id;
	struct frame *frame;
	struct reg *reg;

	if (ref && ref == id && is_null)
		ub_ref_release(state, REF_PTR, id);
	ub_state_for_each_reg(state, frame, reg, {
		if (!(reg->type & PTR_MAYBE_NULL) || reg->id != id)
			continue;
		if (is_null) {
			ub_reg_mark_known(reg, 0);
			continue;
		}
		not_null_any_more(env, reg);
		if (ub_reg_fields(env, reg)->spin_lock < 0)
			reg->id = 0;
	});
}

/* --- packets ---------------------------------------------------------------------------------- */

static void good_packet(struct state *state, const struct reg *pkt, u32 type, bool right_open)
{
	const struct reg of = *pkt;
	s32 range = of.off;
	struct frame *frame;
	struct reg *reg;

	if (of.off < 0 || (of.off == 0 && right_open))
		return;
	if (of.umax > MAX_PACKET_OFF || of.umax + of.off > MAX_PACKET_OFF)
		return;
	if (right_open)
		range++;
	ub_state_for_each_reg(state, frame, reg, {
		if (reg->type == type && reg->id == of.id)
			reg->range = MAX(reg->range, range);
	});
}

static void at_packet_end(struct state *state, u32 regno, bool open)
{
	struct reg *reg = &state->frame[state->curframe]->regs[regno];

	if (reg->type != PTR_TO_PACKET)
		return;
	reg->range = open ? BEYOND_PKT_END : AT_PKT_END;
}

static bool match_packet(const struct bpf_insn *insn, struct reg *dst, struct reg *src,
			 struct state *this, struct state *other)
{
	bool dst_end, src_end;
	u8 op = BPF_OP(insn->code);

	if (BPF_SRC(insn->code) != BPF_X || BPF_CLASS(insn->code) == BPF_JMP32)
		return false;
	/* Two meanings of an end: packet data up to data_end, metadata up to packet data. */
	dst_end = (dst->type == PTR_TO_PACKET && src->type == PTR_TO_PACKET_END) ||
		  (dst->type == PTR_TO_PACKET_META && src->type == PTR_TO_PACKET);
	src_end = (dst->type == PTR_TO_PACKET_END && src->type == PTR_TO_PACKET) ||
		  (dst->type == PTR_TO_PACKET && src->type == PTR_TO_PACKET_META);
	if (!dst_end && !src_end)
		return false;
	switch (op) {
	case BPF_JGT:
		if (dst_end) {
			good_packet(this, dst, dst->type, false);
			at_packet_end(other, insn->dst_reg, true);
		} else {
			good_packet(other, src, src->type, true);
			at_packet_end(this, insn->src_reg, false);
		}
		return true;
	case BPF_JLT:
		if (dst_end) {
			good_packet(other, dst, dst->type, true);
			at_packet_end(this, insn->dst_reg, false);
		} else {
			good_packet(this, src, src->type, false);
			at_packet_end(other, insn->src_reg, true);
		}
		return true;
	case BPF_JGE:
		if (dst_end) {
			good_packet(this, dst, dst->type, true);
			at_packet_end(other, insn->dst_reg, false);
		} else {
			good_packet(other, src, src->type, false);
			at_packet_end(this, insn->src_reg, true);
		}
		return true;
	case BPF_JLE:
		if (dst_end) {
			good_packet(other, dst, dst->type, false);
			at_packet_end(this, insn->dst_reg, true);
		} else {
			good_packet(this, src, src->type, true);
			at_packet_end(other, insn->src_reg, false);
		}
		return true;
	}
	return false;
}

/* --- jumps ------------------------------------------------------------------------------------ */

static int may_goto(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	struct state *prev, *queued;

	if (insn->code != (BPF_JMP | BPF_JCOND) || insn->src_reg || insn->dst_reg || insn->imm)
		return ub_reject(env, -EINVAL, "invalid may_goto imm %d\n", insn->imm);
	/* The parent is this very visit: a checkpoint stands before each may_goto. */
	prev = env->cur->parent ? ub_previous_visit(env->cur->parent, *insn_idx) : NULL;
	queued = ub_state_push(env, *insn_idx + 1, *insn_idx);
	if (!queued)
		return -ENOMEM;
	queued->may_goto_depth++;
	if (prev)
		ub_widen(prev, queued);
	*insn_idx += insn->off;
	return 0;
}

static void pointers_equal(struct env *env, const struct bpf_insn *insn, struct reg *equal)
{
	struct reg *dst = &equal[insn->dst_reg], *src = &equal[insn->src_reg];

	/* Equal to what can't be null: not null. */
	if (src->type & PTR_MAYBE_NULL)
		not_null_any_more(env, src);
	else
		not_null_any_more(env, dst);
}

/* The jump goes one way only: the other is never looked at because of these values, so they matter. */
static int go_one_way(struct env *env, const struct bpf_insn *insn, const struct reg *dst,
		      const struct reg *src, bool taken, u32 *insn_idx)
{
	int err = 0;

	if (!ub_is_pointer(dst))
		err = ub_mark_precise(env, insn->dst_reg);
	if (!err && BPF_SRC(insn->code) == BPF_X && !ub_is_pointer(src))
		err = ub_mark_precise(env, insn->src_reg);
	if (err)
		return err;
	if (ub_log_on(env))
		ub_log_insn_state(env, env->cur, env->cur->curframe);
	if (taken)
		*insn_idx += insn->off;
	return 0;
}

/* What either way, the current state behind the jump and @other where it leads, learns of pointers. */
static void learn_of_pointers(struct env *env, const struct bpf_insn *insn, struct reg *dst,
			      struct reg *src, struct state *other)
{
	struct state *this = env->cur;
	bool is32 = BPF_CLASS(insn->code) == BPF_JMP32, has_src = BPF_SRC(insn->code) == BPF_X;
	u8 op = BPF_OP(insn->code);

	if (!is32 && has_src && ub_is_pointer(src) && ub_is_pointer(dst) &&
	    !(src->type & PTR_MAYBE_NULL) != !(dst->type & PTR_MAYBE_NULL) &&
	    ub_base_type(src->type) != PTR_TO_TASK && ub_base_type(dst->type) != PTR_TO_TASK) {
		if (op == BPF_JEQ)
			pointers_equal(env, insn, other->frame[other->curframe]->regs);
		else if (op == BPF_JNE)
			pointers_equal(env, insn, ub_cur_regs(env));
	}
	if (!is32 && !has_src && !insn->imm && (op == BPF_JEQ || op == BPF_JNE) &&
	    dst->type & PTR_MAYBE_NULL) {
		resolve_null(env, this, insn->dst_reg, op == BPF_JNE);
		resolve_null(env, other, insn->dst_reg, op == BPF_JEQ);
	} else {
		match_packet(insn, dst, src, this, other);
	}
}

int ub_check_cond_jmp(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	struct state *this = env->cur, *other;
	struct reg *regs = ub_cur_regs(env), *other_regs, *dst, *src;
	bool is32 = BPF_CLASS(insn->code) == BPF_JMP32;
	bool has_src = BPF_SRC(insn->code) == BPF_X;
	struct reg imm[2];
	u8 op = BPF_OP(insn->code);
	u64 linked = 0;
	int err, taken;

	if (op == BPF_JCOND)
		return may_goto(env, insn, insn_idx);
	if (op == BPF_JA || op > BPF_JCOND)
		return ub_reject(env, -EINVAL, "invalid BPF_JMP/JMP32 opcode %x\n", op);
	err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (err)
		return err;
	dst = &regs[insn->dst_reg];
	if (has_src) {
		if (insn->imm)
			return ub_reject(env, -EINVAL, "BPF_JMP/JMP32 uses reserved fields\n");
		err = ub_check_reg(env, insn->src_reg, USE_SRC);
		if (err)
			return err;
		src = &regs[insn->src_reg];
	} else {
		if (insn->src_reg)
			return ub_reject(env, -EINVAL, "BPF_JMP/JMP32 uses reserved fields\n");
		ub_reg_mark_known(&imm[0], (u64)(s64)insn->imm);
		imm[1] = imm[0];
		src = &imm[0];
	}
	taken = branch_taken(dst, src, op, is32);
	if (taken >= 0)
		return go_one_way(env, insn, dst, src, taken, insn_idx);
	if (has_src && src->type == SCALAR_VALUE && src->id)
		ub_linked_regs_collect(env, this, src->id, &linked);
	if (dst->type == SCALAR_VALUE && dst->id)
		ub_linked_regs_collect(env, this, dst->id, &linked);
	if ((linked & 0xf) > 1) {
		err = ub_history_push(env, false, 0, 0, linked);
		if (err)
			return err;
	}
	other = ub_state_push(env, *insn_idx + insn->off + 1, *insn_idx);
	if (!other)
		return env->nr_stack >= COMPLEXITY_LIMIT_JMP_SEQ ? -E2BIG : -ENOMEM;
	other_regs = other->frame[other->curframe]->regs;
	if (has_src)
		err = ub_scalar_learn(env, &other_regs[insn->dst_reg], &other_regs[insn->src_reg],
				      dst, src, op, is32);
	else
		err = ub_scalar_learn(env, &other_regs[insn->dst_reg], &imm[0], dst, &imm[1], op,
				      is32);
	if (err)
		return err;
	if (has_src && src->type == SCALAR_VALUE && src->id) {
		ub_linked_refresh(env, this, src, linked);
		ub_linked_refresh(env, other, &other_regs[insn->src_reg], linked);
	}
	if (dst->type == SCALAR_VALUE && dst->id) {
		ub_linked_refresh(env, this, dst, linked);
		ub_linked_refresh(env, other, &other_regs[insn->dst_reg], linked);
	}
	learn_of_pointers(env, insn, dst, src, other);
	if (ub_log_on(env))
		ub_log_insn_state(env, this, this->curframe);
	return 0;
}
