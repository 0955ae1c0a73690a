/* SPDX-License-Identifier: MIT */
/*
 * Abstract states as memory: copying, freeing, the stack of ways still to be walked, references.
 */
#include <verifier/env.h>

struct frame *ub_frame_new(s32 callsite, u32 frameno, u32 subprog)
{
	struct frame *frame = calloc(1, sizeof(*frame));

	if (!frame)
		return NULL;
	frame->callsite = callsite;
	frame->frameno = frameno;
	frame->subprog = subprog;
	for (u32 i = 0; i < NR_REGS; i++)
		ub_reg_mark_not_init(&frame->regs[i]);
	ub_reg_mark_known(&frame->regs[BPF_REG_10], 0);
	frame->regs[BPF_REG_10].type = PTR_TO_STACK;
	frame->regs[BPF_REG_10].frameno = frameno;
	return frame;
}

void ub_frame_free(struct frame *frame)
{
	if (!frame)
		return;
	free(frame->stack);
	free(frame);
}

int ub_frame_grow(struct env *env, struct frame *frame, u32 bytes)
{
	u32 nr = ub_round_up(bytes, (u32)SLOT_SIZE) / SLOT_SIZE;
	struct slot *stack;

	if (nr <= frame->nr_slots)
		return 0;
	stack = realloc(frame->stack, nr * sizeof(*stack));
	if (!stack)
		return -ENOMEM;
	memset(stack + frame->nr_slots, 0, (nr - frame->nr_slots) * sizeof(*stack));
	for (u32 i = frame->nr_slots; i < nr; i++)
		ub_reg_mark_not_init(&stack[i].reg);
	frame->stack = stack;
	frame->nr_slots = nr;
	if (env->subprogs[frame->subprog].stack_depth < bytes)
		env->subprogs[frame->subprog].stack_depth = bytes;
	return 0;
}

static int frame_copy(struct frame **dst, const struct frame *src)
{
	struct slot *stack = NULL;
	struct frame *frame = *dst;

	if (!frame) {
		frame = calloc(1, sizeof(*frame));
		if (!frame)
			return -ENOMEM;
		*dst = frame;
	}
	stack = frame->stack;
	if (src->nr_slots && src->nr_slots != frame->nr_slots) {
		stack = realloc(frame->stack, src->nr_slots * sizeof(*stack));
		if (!stack)
			return -ENOMEM;
	} else if (!src->nr_slots) {
		free(stack);
		stack = NULL;
	}
	*frame = *src;
	frame->stack = stack;
	if (src->nr_slots)
		memcpy(stack, src->stack, src->nr_slots * sizeof(*stack));
	return 0;
}

/* A deep copy, reusing what memory @dst has. */
int ub_state_copy(struct state *dst, const struct state *src)
{
	struct frame *frames[UB_MAX_CALL_FRAMES];
	struct ref *refs = dst->refs;
	struct history *history = dst->history;
	u32 cap = dst->cap_history;

	for (u32 i = src->curframe + 1; i < UB_MAX_CALL_FRAMES; i++) {
		ub_frame_free(dst->frame[i]);
		dst->frame[i] = NULL;
	}
	if (src->nr_refs) {
		refs = realloc(refs, src->nr_refs * sizeof(*refs));
		if (!refs)
			return -ENOMEM;
		dst->refs = refs;
		memcpy(refs, src->refs, src->nr_refs * sizeof(*refs));
	}
	if (src->nr_history > cap) {
		history = realloc(history, src->nr_history * sizeof(*history));
		if (!history)
			return -ENOMEM;
		dst->history = history;
		cap = dst->cap_history = src->nr_history;
	}
	if (src->nr_history)
		memcpy(history, src->history, src->nr_history * sizeof(*history));
	for (u32 i = 0; i <= src->curframe; i++) {
		int err = frame_copy(&dst->frame[i], src->frame[i]);

		if (err)
			return err;
	}
	memcpy(frames, dst->frame, sizeof(frames));
	*dst = *src;
	memcpy(dst->frame, frames, sizeof(frames));
	dst->refs = refs;
	dst->history = history;
	dst->cap_history = cap;
	return 0;
}

void ub_state_clear(struct state *state)
{
	for (u32 i = 0; i < UB_MAX_CALL_FRAMES; i++)
		ub_frame_free(state->frame[i]);
	free(state->refs);
	free(state->history);
	memset(state, 0, sizeof(*state));
}

u64 ub_state_bytes(const struct state *state)
{
	u64 bytes = sizeof(*state) + state->nr_refs * sizeof(*state->refs) +
		    state->cap_history * sizeof(*state->history);

	for (u32 i = 0; i <= state->curframe; i++)
		bytes += sizeof(struct frame) + state->frame[i]->nr_slots * sizeof(struct slot);
	return bytes;
}

int ub_state_charge(struct env *env, u64 bytes)
{
	if (env->state_bytes + bytes > MAX_STATE_BYTES)
		return ub_reject(env, -ENOMEM,
				 "the states to be remembered take more than %llu MiB\n",
				 (unsigned long long)(MAX_STATE_BYTES >> 20));
	env->state_bytes += bytes;
	return 0;
}

int ub_ref_acquire(struct env *env, enum ref_type type, u32 id)
{
	struct state *state = env->cur;
	struct ref *refs = realloc(state->refs, (state->nr_refs + 1) * sizeof(*refs));

	if (!refs)
		return -ENOMEM;
	state->refs = refs;
	refs[state->nr_refs++] = (struct ref){ .type = type, .id = id, .insn = env->insn };
	return 0;
}

bool ub_ref_release(struct state *state, enum ref_type type, u32 id)
{
	for (u32 i = 0; i < state->nr_refs; i++) {
		if (state->refs[i].type != type || state->refs[i].id != id)
			continue;
		memmove(&state->refs[i], &state->refs[i + 1],
			(state->nr_refs - i - 1) * sizeof(state->refs[0]));
		state->nr_refs--;
		return true;
	}
	return false;
}

bool ub_ref_find(const struct state *state, u32 id)
{
	for (u32 i = 0; i < state->nr_refs; i++) {
		if (state->refs[i].type == REF_PTR && state->refs[i].id == id)
			return true;
	}
	return false;
}

struct state *ub_state_push(struct env *env, u32 insn, u32 prev_insn)
{
	struct pending *elem;

	if (env->nr_stack >= COMPLEXITY_LIMIT_JMP_SEQ) {
		ub_reject(env, -E2BIG, "The sequence of %u jumps is too complex.\n", env->nr_stack + 1);
		return NULL;
	}
	elem = calloc(1, sizeof(*elem));
	if (!elem)
		return NULL;
	elem->bytes = ub_state_bytes(env->cur);
	if (ub_state_charge(env, elem->bytes)) {
		free(elem);
		return NULL;
	}
	if (ub_state_copy(&elem->state, env->cur)) {
		ub_state_clear(&elem->state);
		free(elem);
		return NULL;
	}
	elem->insn = insn;
	elem->prev_insn = prev_insn;
	elem->log_pos = ub_log_pos(env);
	elem->next = env->stack;
	env->stack = elem;
	env->nr_stack++;
	if (elem->state.parent)
		elem->state.parent->branches++;
	return &elem->state;
}

/* -ENOENT: nothing left to walk. */
int ub_state_pop(struct env *env, u32 *insn, u32 *prev_insn, bool drop_log)
{
	struct pending *elem = env->stack;

	if (!elem)
		return -ENOENT;
	env->stack = elem->next;
	env->nr_stack--;
	env->state_bytes -= elem->bytes;
	if (env->cur) {
		ub_state_clear(env->cur);
		*env->cur = elem->state;
	} else {
		ub_state_clear(&elem->state);
	}
	if (drop_log)
		ub_log_reset(env, elem->log_pos);
	if (insn)
		*insn = elem->insn;
	if (prev_insn)
		*prev_insn = elem->prev_insn;
	free(elem);
	return 0;
}
