/* SPDX-License-Identifier: MIT */
/*
 * Conditional jumps: which way can be taken, and what each way teaches.
 */
#include <verifier/env.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define BEYOND_PKT_END (-2)
#define AT_PKT_END     (-1)

/* "jset and no bit set": the opposite of BPF_JSET, which has no opcode. */
#define OP_JNSET (BPF_JSET | BPF_X)

static u8 flip(u8 op)
{
	switch (op) {
	case BPF_JGT:
		return BPF_JLT;
	case BPF_JGE:
		return BPF_JLE;
	case BPF_JLT:
		return BPF_JGT;
	case BPF_JLE:
		return BPF_JGE;
	case BPF_JSGT:
		return BPF_JSLT;
	case BPF_JSGE:
		return BPF_JSLE;
	case BPF_JSLT:
		return BPF_JSGT;
	case BPF_JSLE:
		return BPF_JSGE;
	default:
		return op;
	}
}

static u8 opposite(u8 op)
{
	switch (op) {
	case BPF_JEQ:
		return BPF_JNE;
	case BPF_JNE:
		return BPF_JEQ;
	case BPF_JSET:
		return OP_JNSET;
	case OP_JNSET:
		return BPF_JSET;
	case BPF_JGT:
		return BPF_JLE;
	case BPF_JGE:
		return BPF_JLT;
	case BPF_JLT:
		return BPF_JGE;
	case BPF_JLE:
		return BPF_JGT;
	case BPF_JSGT:
		return BPF_JSLE;
	case BPF_JSGE:
		return BPF_JSLT;
	case BPF_JSLT:
		return BPF_JSGE;
	default:
		return BPF_JSGT;
	}
}

static bool disjoint(const struct reg *a, const struct reg *b, bool is32)
{
	if (a->umin32 > b->umax32 || a->umax32 < b->umin32 || a->smin32 > b->smax32 ||
	    a->smax32 < b->smin32)
		return true;
	if (is32) {
		struct tnum x = ub_tnum_subreg(a->var_off), y = ub_tnum_subreg(b->var_off);

		return (x.value ^ y.value) & ~(x.mask | y.mask);
	}
	return a->umin > b->umax || a->umax < b->umin || a->smin > b->smax || a->smax < b->smin ||
	       ((a->var_off.value ^ b->var_off.value) & ~(a->var_off.mask | b->var_off.mask));
}

/* 1: always, 0: never, -1: maybe. */
static int scalar_taken(const struct reg *a, const struct reg *b, u8 op, bool is32)
{
	struct tnum x = is32 ? ub_tnum_subreg(a->var_off) : a->var_off;
	struct tnum y = is32 ? ub_tnum_subreg(b->var_off) : b->var_off;
	u64 umin1 = is32 ? a->umin32 : a->umin, umax1 = is32 ? a->umax32 : a->umax;
	u64 umin2 = is32 ? b->umin32 : b->umin, umax2 = is32 ? b->umax32 : b->umax;
	s64 smin1 = is32 ? a->smin32 : a->smin, smax1 = is32 ? a->smax32 : a->smax;
	s64 smin2 = is32 ? b->smin32 : b->smin, smax2 = is32 ? b->smax32 : b->smax;

	switch (op) {
	case BPF_JEQ:
	case BPF_JNE:
		if (ub_tnum_is_const(x) && ub_tnum_is_const(y))
			return (x.value == y.value) == (op == BPF_JEQ);
		if (disjoint(a, b, is32))
			return op == BPF_JNE;
		return -1;
	case BPF_JSET:
		if (!ub_tnum_is_const(y)) {
			struct tnum t = x;

			x = y;
			y = t;
		}
		if (!ub_tnum_is_const(y))
			return -1;
		if (x.value & y.value)
			return 1;
		return (x.mask | x.value) & y.value ? -1 : 0;
	case BPF_JGT:
		return umin1 > umax2 ? 1 : umax1 <= umin2 ? 0 : -1;
	case BPF_JSGT:
		return smin1 > smax2 ? 1 : smax1 <= smin2 ? 0 : -1;
	case BPF_JLT:
		return umax1 < umin2 ? 1 : umin1 >= umax2 ? 0 : -1;
	case BPF_JSLT:
		return smax1 < smin2 ? 1 : smin1 >= smax2 ? 0 : -1;
	case BPF_JGE:
		return umin1 >= umax2 ? 1 : umax1 < umin2 ? 0 : -1;
	case BPF_JSGE:
		return smin1 >= smax2 ? 1 : smax1 < smin2 ? 0 : -1;
	case BPF_JLE:
		return umax1 <= umin2 ? 1 : umin1 > umax2 ? 0 : -1;
	case BPF_JSLE:
		return smax1 <= smin2 ? 1 : smin1 > smax2 ? 0 : -1;
	}
	return -1;
}

static int packet_taken(const struct reg *a, const struct reg *b, u8 op)
{
	const struct reg *pkt;

	if (b->type == PTR_TO_PACKET_END) {
		pkt = a;
	} else if (a->type == PTR_TO_PACKET_END) {
		pkt = b;
		op = flip(op);
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
		return scalar_taken(a, b, op, is32);
	if (is32)
		return -1;
	if (!ub_reg_is_const(b, false)) {
		const struct reg *t = a;

		a = b;
		b = t;
		op = flip(op);
	}
	if (!ub_reg_is_null(b) || !not_null(a))
		return -1;
	return op == BPF_JEQ ? 0 : op == BPF_JNE ? 1 : -1;
}

static void refine_equal(struct reg *a, struct reg *b, bool is32)
{
	struct tnum t;

	a->umin32 = b->umin32 = MAX(a->umin32, b->umin32);
	a->umax32 = b->umax32 = MIN(a->umax32, b->umax32);
	a->smin32 = b->smin32 = MAX(a->smin32, b->smin32);
	a->smax32 = b->smax32 = MIN(a->smax32, b->smax32);
	if (is32) {
		t = ub_tnum_intersect(ub_tnum_subreg(a->var_off), ub_tnum_subreg(b->var_off));
		a->var_off = ub_tnum_with_subreg(a->var_off, t);
		b->var_off = ub_tnum_with_subreg(b->var_off, t);
		return;
	}
	a->umin = b->umin = MAX(a->umin, b->umin);
	a->umax = b->umax = MIN(a->umax, b->umax);
	a->smin = b->smin = MAX(a->smin, b->smin);
	a->smax = b->smax = MIN(a->smax, b->smax);
	a->var_off = b->var_off = ub_tnum_intersect(a->var_off, b->var_off);
}

/* A value that is not at the edge of the range moves the edge. */
static void refine_not(struct reg *a, u64 value, bool is32)
{
	if (is32) {
		if (a->umin32 == (u32)value)
			a->umin32++;
		if (a->umax32 == (u32)value)
			a->umax32--;
		if (a->smin32 == (s32)value)
			a->smin32++;
		if (a->smax32 == (s32)value)
			a->smax32--;
	} else {
		if (a->umin == value)
			a->umin++;
		if (a->umax == value)
			a->umax--;
		if (a->smin == (s64)value)
			a->smin++;
		if (a->smax == (s64)value)
			a->smax--;
	}
}

/* Applies "a op b is true" to both. */
static void refine(struct reg *a, struct reg *b, u8 op, bool is32)
{
	struct tnum t;
	u64 value;

	switch (op) {
	case BPF_JGE:
	case BPF_JGT:
	case BPF_JSGE:
	case BPF_JSGT: {
		struct reg *x = a;

		a = b;
		b = x;
		op = flip(op);
		break;
	}
	case BPF_JNE:
	case BPF_JSET:
	case OP_JNSET:
		if (!ub_reg_is_const(b, is32)) {
			struct reg *x = a;

			a = b;
			b = x;
		}
		if (!ub_reg_is_const(b, is32))
			return;
		break;
	}
	switch (op) {
	case BPF_JEQ:
		refine_equal(a, b, is32);
		break;
	case BPF_JNE:
		refine_not(a, ub_reg_value(b, is32), is32);
		break;
	case BPF_JSET:
		value = ub_reg_value(b, is32);
		if (!value || value & (value - 1))
			break;
		if (is32) {
			t = ub_tnum_or(ub_tnum_subreg(a->var_off), ub_tnum_const(value));
			a->var_off = ub_tnum_with_subreg(a->var_off, t);
		} else {
			a->var_off = ub_tnum_or(a->var_off, ub_tnum_const(value));
		}
		break;
	case OP_JNSET:
		value = ub_reg_value(b, is32);
		if (is32) {
			t = ub_tnum_and(ub_tnum_subreg(a->var_off), ub_tnum_const((u32)~value));
			a->var_off = ub_tnum_with_subreg(a->var_off, t);
		} else {
			a->var_off = ub_tnum_and(a->var_off, ub_tnum_const(~value));
		}
		break;
	case BPF_JLE:
		if (is32) {
			a->umax32 = MIN(a->umax32, b->umax32);
			b->umin32 = MAX(a->umin32, b->umin32);
		} else {
			a->umax = MIN(a->umax, b->umax);
			b->umin = MAX(a->umin, b->umin);
		}
		break;
	case BPF_JLT:
		if (is32) {
			a->umax32 = MIN(a->umax32, b->umax32 - 1);
			b->umin32 = MAX(a->umin32 + 1, b->umin32);
		} else {
			a->umax = MIN(a->umax, b->umax - 1);
			b->umin = MAX(a->umin + 1, b->umin);
		}
		break;
	case BPF_JSLE:
		if (is32) {
			a->smax32 = MIN(a->smax32, b->smax32);
			b->smin32 = MAX(a->smin32, b->smin32);
		} else {
			a->smax = MIN(a->smax, b->smax);
			b->smin = MAX(a->smin, b->smin);
		}
		break;
	case BPF_JSLT:
		if (is32) {
			a->smax32 = MIN(a->smax32, (s32)((u32)b->smax32 - 1));
			b->smin32 = MAX((s32)((u32)a->smin32 + 1), b->smin32);
		} else {
			a->smax = MIN(a->smax, (s64)((u64)b->smax - 1));
			b->smin = MAX((s64)((u64)a->smin + 1), b->smin);
		}
		break;
	}
}

static int learn(struct env *env, struct reg *true_a, struct reg *true_b, struct reg *false_a,
		 struct reg *false_b, u8 op, bool is32)
{
	int err;

	if (false_a->type != SCALAR_VALUE || false_b->type != SCALAR_VALUE)
		return 0;
	/* A register compared with itself teaches nothing of its value. */
	if (false_a == false_b)
		return 0;
	refine(false_a, false_b, opposite(op), is32);
	ub_range_sync(false_a);
	ub_range_sync(false_b);
	refine(true_a, true_b, op, is32);
	ub_range_sync(true_a);
	ub_range_sync(true_b);
	err = ub_range_check(env, true_a, "true_reg1");
	err = err ?: ub_range_check(env, true_b, "true_reg2");
	err = err ?: ub_range_check(env, false_a, "false_reg1");
	return err ?: ub_range_check(env, false_b, "false_reg2");
}

/* --- null -------------------------------------------------------------------------------------- */

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

/* --- packets ----------------------------------------------------------------------------------- */

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

/* --- jumps ------------------------------------------------------------------------------------- */

/* The last time, before @state, that this way was at @insn in the same chain of calls. */
struct state *ub_previous_visit(const struct state *state, u32 insn)
{
	for (struct state *at = state->parent; at; at = at->parent) {
		bool same = at->insn == insn && at->curframe == state->curframe;

		for (u32 i = 0; same && i <= at->curframe; i++)
			same = at->frame[i]->callsite == state->frame[i]->callsite;
		if (same)
			return at;
	}
	return NULL;
}

/* Scalars that changed since the last round and that nothing depends on: forget their values, so
 * that the loop converges. */
void ub_widen(struct state *prev, struct state *cur)
{
	for (u32 f = 0; f <= cur->curframe && f <= prev->curframe; f++) {
		struct frame *old = prev->frame[f], *new = cur->frame[f];

		for (u32 i = 0; i < NR_REGS; i++) {
			if (old->regs[i].type == SCALAR_VALUE &&
			    new->regs[i].type == SCALAR_VALUE && !old->regs[i].precise &&
			    !new->regs[i].precise) {
				if (memcmp(&old->regs[i].var_off, &new->regs[i].var_off,
					   sizeof(struct reg) - offsetof(struct reg, var_off)))
					ub_reg_mark_unknown(&new->regs[i]);
			}
		}
		for (u32 i = 0; i < new->nr_slots &&i < old->nr_slots; i++) {
			if (!ub_slot_is_scalar_spill(&old->stack[i]) ||
			    !ub_slot_is_scalar_spill(&new->stack[i]))
				continue;
			if (old->stack[i].reg.precise || new->stack[i].reg.precise)
				continue;
			if (memcmp(&old->stack[i].reg.var_off, &new->stack[i].reg.var_off,
				   sizeof(struct reg) - offsetof(struct reg, var_off)))
				ub_reg_mark_unknown(&new->stack[i].reg);
		}
	}
}

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
	if (taken >= 0) {
		/* The other way is never looked at because of these values: they matter. */
		if (!ub_is_pointer(dst))
			err = ub_mark_precise(env, insn->dst_reg);
		if (!err && has_src && !ub_is_pointer(src))
			err = ub_mark_precise(env, insn->src_reg);
		if (err)
			return err;
		if (ub_log_on(env))
			ub_log_insn_state(env, this, this->curframe);
		if (taken)
			*insn_idx += insn->off;
		return 0;
	}
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
		err = learn(env, &other_regs[insn->dst_reg], &other_regs[insn->src_reg], dst, src,
			    op, is32);
	else
		err = learn(env, &other_regs[insn->dst_reg], &imm[0], dst, &imm[1], op, is32);
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
	if (!is32 && has_src && ub_is_pointer(src) && ub_is_pointer(dst) &&
	    !(src->type & PTR_MAYBE_NULL) != !(dst->type & PTR_MAYBE_NULL) &&
	    ub_base_type(src->type) != PTR_TO_TASK && ub_base_type(dst->type) != PTR_TO_TASK) {
		if (op == BPF_JEQ)
			pointers_equal(env, insn, other_regs);
		else if (op == BPF_JNE)
			pointers_equal(env, insn, regs);
	}
	if (!is32 && !has_src && !insn->imm && (op == BPF_JEQ || op == BPF_JNE) &&
	    dst->type & PTR_MAYBE_NULL) {
		resolve_null(env, this, insn->dst_reg, op == BPF_JNE);
		resolve_null(env, other, insn->dst_reg, op == BPF_JEQ);
	} else {
		match_packet(insn, dst, src, this, other);
	}
	if (ub_log_on(env))
		ub_log_insn_state(env, this, this->curframe);
	return 0;
}
