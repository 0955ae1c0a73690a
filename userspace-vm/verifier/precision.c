/* SPDX-License-Identifier: MIT */
/*
 * Precision. Most scalars' values never decide anything; states that differ only in those are the
 * same. When a value does decide (a bound is checked, a pointer is moved by it, a jump goes only
 * one way because of it), the way is walked backwards to mark, in the remembered states, every
 * register and slot it came from as precise: those must be compared when states are.
 */
#include <verifier/env.h>

#define ARG_MASK 0x3eu

struct track {
	u32 frame;
	u32 regs[UB_MAX_CALL_FRAMES];
	u64 slots[UB_MAX_CALL_FRAMES];
};

static bool empty(const struct track *t)
{
	for (u32 i = 0; i < UB_MAX_CALL_FRAMES; i++) {
		if (t->regs[i] || t->slots[i])
			return false;
	}
	return true;
}

int ub_history_push(struct env *env, bool stack_access, u32 frame, u32 spi, u64 linked)
{
	struct state *cur = env->cur;
	struct history *h = env->cur_history;

	if (!h) {
		if (cur->nr_history == cur->cap_history) {
			u32 cap = cur->cap_history ? cur->cap_history * 2 : 16;

			h = realloc(cur->history, cap * sizeof(*h));
			if (!h)
				return -ENOMEM;
			cur->history = h;
			cur->cap_history = cap;
		}
		h = &cur->history[cur->nr_history++];
		memset(h, 0, sizeof(*h));
		h->idx = env->insn;
		h->prev = env->prev_insn & 0xffffff;
		env->cur_history = h;
	}
	if (stack_access) {
		h->stack_access = true;
		h->frame = frame;
		h->spi = spi;
	}
	if (linked)
		h->linked_regs = linked;
	return 0;
}

/* The entry that tells of instruction @idx, if it is the last of the first @end. */
const struct history *ub_history_get(const struct state *state, s32 end, u32 idx)
{
	if (end > 0 && state->history[end - 1].idx == idx)
		return &state->history[end - 1];
	return NULL;
}

static s64 previous(const struct state *st, s64 i, u32 *history)
{
	u32 n = *history;

	if (i == st->first_insn && (n == 0 || (n == 1 && st->history[0].idx == i)))
		return -ENOENT;
	if (n && st->history[n - 1].idx == i) {
		(*history)--;
		return st->history[n - 1].prev;
	}
	return i - 1;
}

static void link_push(u64 *linked, u32 frame, bool is_reg, u32 at, struct reg *reg)
{
	u32 n = *linked & 0xf;

	if (n >= 6) {
		/* No room to remember it: then it must not be changed with the others either. */
		if (reg->id & ID_ADD_CONST)
			reg->off = 0;
		reg->id = 0;
		return;
	}
	*linked |= (u64)(frame | at << 3 | (u32)is_reg << 9) << (4 + n * 10);
	*linked = (*linked & ~0xfull) | (n + 1);
}

void ub_linked_regs_collect(struct env *env, struct state *state, u32 id, u64 *linked)
{
	id &= ~ID_ADD_CONST;
	for (u32 f = state->curframe + 1; f-- > 0;) {
		struct frame *frame = state->frame[f];
		u32 insn = f == state->curframe ? env->insn : (u32)state->frame[f + 1]->callsite;

		/* There is room for few: those that nobody reads any more take none. */
		for (u32 i = 0; i < BPF_REG_10; i++) {
			if (env->aux[insn].live_before >> i & 1 &&
			    frame->regs[i].type == SCALAR_VALUE &&
			    (frame->regs[i].id & ~ID_ADD_CONST) == id)
				link_push(linked, f, true, i, &frame->regs[i]);
		}
		for (u32 i = 0; i < frame->nr_slots; i++) {
			if (ub_slot_is_scalar_spill(&frame->stack[i]) &&
			    (frame->stack[i].reg.id & ~ID_ADD_CONST) == id)
				link_push(linked, f, false, i, &frame->stack[i].reg);
		}
	}
}

/* One of the linked is wanted: then all are. */
static void sync_linked(struct track *t, const struct history *h)
{
	bool wanted = false;

	if (!h || !h->linked_regs)
		return;
	for (int pass = 0; pass < 2; pass++) {
		for (u32 i = 0, n = h->linked_regs & 0xf; i < n; i++) {
			u32 entry = h->linked_regs >> (4 + i * 10) & 0x3ff;
			u32 frame = entry & 7, at = entry >> 3 & 0x3f;

			if (entry >> 9) {
				if (pass)
					t->regs[frame] |= 1u << at;
				wanted |= t->regs[frame] >> at & 1;
			} else {
				if (pass)
					t->slots[frame] |= 1ull << at;
				wanted |= t->slots[frame] >> at & 1;
			}
		}
		if (!wanted)
			return;
	}
}

static void log_regs(struct env *env, u32 regs)
{
	const char *sep = "";

	for (u32 i = 0; i < NR_REGS; i++) {
		if (!(regs >> i & 1))
			continue;
		ub_log(env, "%sr%u", sep, i);
		sep = ",";
	}
}

static void log_slots(struct env *env, u64 slots)
{
	const char *sep = "";

	for (u32 i = 0; i < MAX_SLOTS; i++) {
		if (!(slots >> i & 1))
			continue;
		ub_log(env, "%s%d", sep, -(s32)(i + 1) * SLOT_SIZE);
		sep = ",";
	}
}

/* "mark_precise: frame0: regs=r1 stack=-8 before 3: (bf) r2 = r1" */
static void log_step(struct env *env, const struct track *t, u32 idx)
{
	if (!ub_log_verbose(env))
		return;
	ub_log(env, "mark_precise: frame%u: regs=", t->frame);
	log_regs(env, t->regs[t->frame]);
	ub_log(env, " stack=");
	log_slots(env, t->slots[t->frame]);
	ub_log(env, " before %u: ", idx);
	ub_log_insn(env, idx);
}

static void log_parent(struct env *env, const struct state *st, const struct track *t, u32 frame)
{
	if (!ub_log_verbose(env) || frame > st->curframe)
		return;
	ub_log(env, "mark_precise: frame%u: parent state regs=", frame);
	log_regs(env, t->regs[frame]);
	ub_log(env, " stack=");
	log_slots(env, t->slots[frame]);
	ub_log(env, ": ");
	ub_log_state(env, st, frame, true);
}

/* Out of a function, backwards: the caller's registers but r0, which is given to @r0. */
static int back_into_callee(struct track *t, bool *r0)
{
	u32 *regs = &t->regs[t->frame];

	if (*regs & ARG_MASK || t->frame + 1 >= UB_MAX_CALL_FRAMES)
		return -ENOTSUPP;
	*r0 = *regs & 1;
	*regs &= ~1u;
	t->frame++;
	return 0;
}

static int back_call(struct env *env, u32 idx, s64 next, struct track *t)
{
	const struct bpf_insn *insn = &env->insns[idx];
	u32 *regs = &t->regs[t->frame];

	if (ub_is_pseudo_call(insn)) {
		int subprog = ub_subprog_find(env, idx + insn->imm + 1);

		if (subprog >= 0 && env->subprogs[subprog].global) {
			if (next != (s64)idx + 1)
				return -ENOTSUPP;
			*regs &= ~1u;
			return *regs & ARG_MASK ? -ENOTSUPP : 0;
		}
		/* Out of the callee, backwards: its arguments are the caller's. */
		if (*regs & ~ARG_MASK || t->slots[t->frame] || !t->frame)
			return -ENOTSUPP;
		t->regs[t->frame - 1] |= *regs;
		*regs = 0;
		t->frame--;
		return 0;
	}
	if (ub_is_helper_call(insn) && insn->imm == BPF_FUNC_tail_call && next != (s64)idx + 1) {
		bool r0; /* another program's */

		return back_into_callee(t, &r0);
	}
	if (env->aux[idx].calls_callback && next != (s64)idx + 1) {
		/* Out of a callback, backwards: the helper made up its arguments. */
		if (*regs & ~ARG_MASK || t->slots[t->frame] || !t->frame)
			return -ENOTSUPP;
		*regs = 0;
		t->frame--;
		return 0;
	}
	*regs &= ~1u;
	return *regs & ARG_MASK ? -ENOTSUPP : 0;
}

static int back_exit(struct env *env, s64 next, struct track *t)
{
	bool r0;
	int err;

	if (next >= 0 && env->aux[next].calls_callback)
		t->regs[t->frame] &= ~ARG_MASK;
	err = back_into_callee(t, &r0);
	/* A subprogram returns behind its call; a callback to the helper, which takes its r0. */
	if (!err && r0 && next >= 1 && ub_is_pseudo_call(&env->insns[next - 1]))
		t->regs[t->frame] |= 1;
	return err;
}

/* From "wanted after instruction @idx" to "wanted before". @next ran after it. */
static int back(struct env *env, u32 idx, s64 next, const struct history *h, struct track *t)
{
	const struct bpf_insn *insn = &env->insns[idx];
	u8 class = BPF_CLASS(insn->code), op = BPF_OP(insn->code);
	u32 *regs = &t->regs[t->frame];
	u32 dst = 1u << insn->dst_reg, src = 1u << insn->src_reg;

	if (insn->code == 0)
		return 0;
	log_step(env, t, idx);
	sync_linked(t, h);
	switch (class) {
	case BPF_ALU:
	case BPF_ALU64:
		if (!(*regs & dst) || op == BPF_END || op == BPF_NEG)
			return 0;
		if (op == BPF_MOV)
			*regs &= ~dst;
		if (BPF_SRC(insn->code) == BPF_X && insn->src_reg != BPF_REG_10)
			*regs |= src;
		return 0;
	case BPF_LDX:
		if (!(*regs & dst))
			return 0;
		*regs &= ~dst;
		if (h && h->stack_access)
			t->slots[h->frame] |= 1ull << h->spi;
		return 0;
	case BPF_ST:
	case BPF_STX:
		if (class == BPF_STX && BPF_MODE(insn->code) == BPF_ATOMIC &&
		    insn->imm != BPF_STORE_REL) {
			u32 load = insn->imm == BPF_CMPXCHG    ? 1u
				   : insn->imm == BPF_LOAD_ACQ ? dst
				   : insn->imm & BPF_FETCH     ? src
							       : 0;

			if (*regs & load) {
				*regs &= ~load;
				if (h && h->stack_access)
					t->slots[h->frame] |= 1ull << h->spi;
			}
			return insn->imm != BPF_LOAD_ACQ && *regs & dst ? -ENOTSUPP : 0;
		}
		/* A scalar as address: a pointer was subtracted on the way. */
		if (*regs & dst)
			return -ENOTSUPP;
		if (!h || !h->stack_access || !(t->slots[h->frame] >> h->spi & 1))
			return 0;
		t->slots[h->frame] &= ~(1ull << h->spi);
		if (class == BPF_STX)
			*regs |= src;
		return 0;
	case BPF_LD:
		if (BPF_MODE(insn->code) != BPF_IMM)
			return *regs & 0x3f || next != (s64)idx + 1 ? -ENOTSUPP : 0;
		*regs &= ~dst;
		return 0;
	}
	if (class == BPF_JMP && op == BPF_CALL)
		return back_call(env, idx, next, t);
	if (class == BPF_JMP && op == BPF_EXIT)
		return back_exit(env, next, t);
	if (op != BPF_JA && op != BPF_JCOND && BPF_SRC(insn->code) == BPF_X && *regs & (dst | src))
		*regs |= dst | src;
	sync_linked(t, h);
	return 0;
}

/* Where the way back can't be followed: everything matters. */
void ub_mark_all_precise(struct env *env, struct state *state)
{
	if (ub_log_verbose(env))
		ub_log(env, "mark_precise: frame%u: falling back to forcing all scalars precise\n",
		       state->curframe);
	for (state = state->parent; state; state = state->parent) {
		struct frame *frame;
		struct reg *reg;

		ub_state_for_each_reg(state, frame, reg, {
			if (reg->type == SCALAR_VALUE)
				reg->precise = true;
		});
	}
}

/* Marks what is wanted in @st and drops what needs no more tracking. */
static void mark_state(struct env *env, struct state *st, struct track *t)
{
	for (u32 f = t->frame + 1; f-- > 0;) {
		struct frame *frame = f <= st->curframe ? st->frame[f] : NULL;

		for (u32 i = 0; i < NR_REGS; i++) {
			struct reg *reg;

			if (!(t->regs[f] >> i & 1))
				continue;
			reg = frame ? &frame->regs[i] : NULL;
			if (!reg || reg->type != SCALAR_VALUE || reg->precise)
				t->regs[f] &= ~(1u << i);
			else
				reg->precise = true;
		}
		for (u32 i = 0; i < MAX_SLOTS; i++) {
			struct reg *reg;

			if (!(t->slots[f] >> i & 1))
				continue;
			reg = frame && i < frame->nr_slots &&
					      ub_slot_is_scalar_spill(&frame->stack[i])
				      ? &frame->stack[i].reg
				      : NULL;
			if (!reg || reg->precise)
				t->slots[f] &= ~(1ull << i);
			else
				reg->precise = true;
		}
		log_parent(env, st, t, f);
	}
}

static int backtrack(struct env *env, struct state *start, struct track *t)
{
	struct state *st = start;
	s64 last = start->insn, next = -1;
	bool skip = true;
	int err;

	while (!empty(t)) {
		u32 history = st->nr_history;

		if (ub_log_verbose(env))
			ub_log(env,
			       "mark_precise: frame%u: last_idx %d first_idx %u subseq_idx %d \n",
			       t->frame, (s32)last, st->first_insn, (s32)next);
		if (last == UINT32_MAX) {
			/* Entry of a function that is verified by itself: arguments may be
			 * anything. */
			struct reg *regs = st->frame[0]->regs;

			for (u32 i = 1; i <= 5; i++) {
				if (t->regs[0] >> i & 1 && regs[i].type == SCALAR_VALUE)
					regs[i].precise = true;
			}
			return 0;
		}
		for (s64 i = last;;) {
			err = skip ? 0 : back(env, i, next, ub_history_get(st, history, i), t);
			skip = false;
			if (err) {
				ub_mark_all_precise(env, start);
				return 0;
			}
			if (empty(t))
				return 0;
			next = i;
			i = previous(st, i, &history);
			if (i < 0 || i >= env->nr_insns)
				break;
		}
		last = st->last_insn;
		next = st->first_insn;
		st = st->parent;
		if (!st)
			break;
		mark_state(env, st, t);
		last = st->last_insn;
	}
	if (!empty(t))
		ub_mark_all_precise(env, start);
	return 0;
}

/* Register @regno of the current frame decides something at the current instruction. */
int ub_mark_precise(struct env *env, u32 regno)
{
	struct track t = { .frame = env->cur->curframe };

	if (ub_cur_regs(env)[regno].type != SCALAR_VALUE || env->req->no_prune)
		return 0;
	t.regs[t.frame] = 1u << regno;
	return backtrack(env, env->cur, &t);
}

int ub_mark_slot_precise(struct env *env, u32 frame, u32 spi)
{
	struct track t = { .frame = env->cur->curframe };

	t.slots[frame] = 1ull << spi;
	return backtrack(env, env->cur, &t);
}

int ub_precise_propagate(struct env *env, const struct state *old, struct state *cur)
{
	struct track t = { .frame = cur->curframe };

	for (u32 f = 0; f <= old->curframe; f++) {
		const struct frame *frame = old->frame[f];

		for (u32 i = 0; i < BPF_REG_10; i++) {
			if (frame->regs[i].type == SCALAR_VALUE && frame->regs[i].precise)
				t.regs[f] |= 1u << i;
		}
		for (u32 i = 0; i < frame->nr_slots; i++) {
			if (ub_slot_is_scalar_spill(&frame->stack[i]) &&
			    frame->stack[i].reg.precise)
				t.slots[f] |= 1ull << i;
		}
	}
	return empty(&t) ? 0 : backtrack(env, cur, &t);
}
