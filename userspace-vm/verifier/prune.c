/* SPDX-License-Identifier: MIT */
/*
 * Pruning: a way that comes to an instruction in a state which a remembered one covers need not be
 * walked on. What "covers" leaves out is what makes it both fast and delicate: registers that
 * nobody reads (cfg.c), stack slots that nobody read (stack.c), scalars whose value decided nothing
 * (precision.c). The last two are known of a remembered state only once all ways from it have
 * ended; until then, and for states whose marks may be incomplete because one of those ways was cut
 * by a loop, everything is compared.
 */
#include <verifier/env.h>

#define IDMAP_SIZE (2 * (NR_REGS + MAX_SLOTS) * UB_MAX_CALL_FRAMES)

enum exactness {
	NOT_EXACT,    /* use the marks */
	EXACT,	      /* the very same: an endless loop */
	RANGE_WITHIN, /* covered, whatever the marks */
};

struct idmap {
	struct {
		u32 old, cur;
	} map[IDMAP_SIZE];
	u32 n;
	u32 next;
};

/* The relation between ids must be one to one. */
static bool check_ids(u32 old, u32 cur, struct idmap *idmap)
{
	old &= ~ID_ADD_CONST;
	cur &= ~ID_ADD_CONST;
	if (!old != !cur)
		return false;
	if (!old)
		return true;
	for (u32 i = 0; i < idmap->n; i++) {
		if (idmap->map[i].old == old)
			return idmap->map[i].cur == cur;
		if (idmap->map[i].cur == cur)
			return false;
	}
	if (idmap->n >= IDMAP_SIZE)
		return false;
	idmap->map[idmap->n].old = old;
	idmap->map[idmap->n].cur = cur;
	idmap->n++;
	return true;
}

/* A scalar without id is one that no other is equal to: as good as an id of its own. */
static bool check_scalar_ids(u32 old, u32 cur, struct idmap *idmap)
{
	old = old ? old : ++idmap->next;
	cur = cur ? cur : ++idmap->next;
	return check_ids(old, cur, idmap);
}

static bool same_object(const struct reg *a, const struct reg *b)
{
	return a->type == b->type && a->off == b->off && a->range == b->range && a->map == b->map &&
	       a->inner == b->inner && a->mem_size == b->mem_size && a->subprog == b->subprog &&
	       a->dynptr == b->dynptr && a->first_slot == b->first_slot && a->frameno == b->frameno;
}

static bool same_range(const struct reg *a, const struct reg *b)
{
	return !memcmp(&a->var_off, &b->var_off,
		       offsetof(struct reg, umax32) + sizeof(a->umax32) -
			       offsetof(struct reg, var_off));
}

static bool within(const struct reg *old, const struct reg *cur)
{
	return old->umin <= cur->umin && old->umax >= cur->umax && old->smin <= cur->smin &&
	       old->smax >= cur->smax && old->umin32 <= cur->umin32 && old->umax32 >= cur->umax32 &&
	       old->smin32 <= cur->smin32 && old->smax32 >= cur->smax32 &&
	       ub_tnum_in(old->var_off, cur->var_off);
}

static bool regs_exact(const struct reg *old, const struct reg *cur, struct idmap *idmap)
{
	return same_object(old, cur) && same_range(old, cur) &&
	       (old->id & ID_ADD_CONST) == (cur->id & ID_ADD_CONST) &&
	       check_ids(old->id, cur->id, idmap) &&
	       check_ids(old->ref_obj_id, cur->ref_obj_id, idmap) &&
	       check_ids(old->map_uid, cur->map_uid, idmap) &&
	       check_ids(old->dynptr_id, cur->dynptr_id, idmap);
}

static bool reg_safe(const struct reg *old, const struct reg *cur, struct idmap *idmap,
		     enum exactness exact)
{
	if (exact == EXACT)
		return regs_exact(old, cur, idmap);
	if (old->type == NOT_INIT)
		return true;
	if (old->type != cur->type)
		return false;
	switch (ub_base_type(old->type)) {
	case SCALAR_VALUE:
		if (!old->precise && exact == NOT_EXACT)
			return true;
		if ((old->id & ID_ADD_CONST) != (cur->id & ID_ADD_CONST))
			return false;
		if (old->id & ID_ADD_CONST && old->off != cur->off)
			return false;
		return within(old, cur) && check_scalar_ids(old->id, cur->id, idmap);
	case PTR_TO_MAP_KEY:
	case PTR_TO_MAP_VALUE:
	case PTR_TO_MEM:
		return same_object(old, cur) && within(old, cur) &&
		       check_ids(old->id, cur->id, idmap) &&
		       check_ids(old->ref_obj_id, cur->ref_obj_id, idmap) &&
		       check_ids(old->map_uid, cur->map_uid, idmap) &&
		       check_ids(old->dynptr_id, cur->dynptr_id, idmap);
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
		if (old->range < 0 || cur->range < 0) {
			if (old->range != cur->range)
				return false;
		} else if (old->range > cur->range) {
			return false;
		}
		return old->off == cur->off && check_ids(old->id, cur->id, idmap) &&
		       within(old, cur);
	default:
		return regs_exact(old, cur, idmap);
	}
}

/* The slot as one scalar, where it is one: a full spill, or bytes of which nothing is known. */
static const struct reg *slot_scalar(const struct slot *slot, const struct reg *unknown)
{
	bool misc = true, spill = slot->reg.type == SCALAR_VALUE;

	for (u32 i = 0; i < SLOT_SIZE; i++) {
		misc &= slot->type[i] == STACK_MISC || slot->type[i] == STACK_INVALID;
		spill &= slot->type[i] == STACK_SPILL;
	}
	return spill ? &slot->reg : misc ? unknown : NULL;
}

static bool slot_safe(const struct slot *old, const struct slot *cur, struct idmap *idmap,
		      enum exactness exact, const struct reg *unknown)
{
	const struct reg *old_scalar, *cur_scalar;
	bool used = false;

	if (exact == EXACT) {
		if (!cur || memcmp(old->type, cur->type, SLOT_SIZE))
			return false;
	}
	for (u32 i = 0; i < SLOT_SIZE; i++)
		used |= old->type[i] != STACK_INVALID && old->type[i] != STACK_MISC;
	if (!used)
		return true;
	if (!cur)
		return false;
	old_scalar = slot_scalar(old, unknown);
	cur_scalar = slot_scalar(cur, unknown);
	if (old_scalar && cur_scalar)
		return reg_safe(old_scalar, cur_scalar, idmap, exact);
	for (u32 i = 0; i < SLOT_SIZE; i++) {
		if (old->type[i] == STACK_INVALID || old->type[i] == STACK_MISC)
			continue;
		if (old->type[i] != cur->type[i])
			return false;
	}
	switch (old->type[SLOT_SIZE - 1]) {
	case STACK_SPILL:
		return reg_safe(&old->reg, &cur->reg, idmap, exact);
	case STACK_DYNPTR:
		return old->reg.dynptr == cur->reg.dynptr &&
		       old->reg.first_slot == cur->reg.first_slot &&
		       check_ids(old->reg.ref_obj_id, cur->reg.ref_obj_id, idmap) &&
		       check_ids(old->reg.dynptr_id, cur->reg.dynptr_id, idmap);
	}
	return true;
}

static bool frames_equal(struct env *env, const struct state *old_state, const struct frame *old,
			 const struct frame *cur, u32 insn, struct idmap *idmap,
			 enum exactness exact)
{
	u16 live = env->aux[insn].live_before;
	struct reg unknown;

	if (old->callback_depth > cur->callback_depth)
		return false;
	if (old->in_callback != cur->in_callback ||
	    old->in_async_callback != cur->in_async_callback)
		return false;
	for (u32 i = 0; i < NR_REGS; i++) {
		if (live >> i & 1 && !reg_safe(&old->regs[i], &cur->regs[i], idmap, exact))
			return false;
	}
	ub_reg_mark_unknown(&unknown);
	for (u32 i = 0; i < old->nr_slots; i++) {
		if (exact == NOT_EXACT && !(old->stack[i].live & LIVE_READ))
			continue;
		if (!slot_safe(&old->stack[i], i < cur->nr_slots ? &cur->stack[i] : NULL, idmap,
			       exact, &unknown))
			return false;
	}
	return true;
}

static bool refs_safe(const struct state *old, const struct state *cur, struct idmap *idmap)
{
	if (old->nr_refs != cur->nr_refs || old->active_locks != cur->active_locks)
		return false;
	for (u32 i = 0; i < old->nr_refs; i++) {
		if (old->refs[i].type != cur->refs[i].type ||
		    !check_ids(old->refs[i].id, cur->refs[i].id, idmap))
			return false;
	}
	return true;
}

static bool states_equal(struct env *env, const struct state *old, const struct state *cur,
			 enum exactness exact)
{
	static __thread struct idmap idmap;

	if (old->curframe != cur->curframe || old->in_sleepable != cur->in_sleepable)
		return false;
	idmap.n = 0;
	idmap.next = env->id_gen;
	if (!refs_safe(old, cur, &idmap))
		return false;
	for (u32 i = 0; i <= old->curframe; i++) {
		u32 insn = i == old->curframe ? old->insn : (u32)old->frame[i + 1]->callsite;

		if (old->frame[i]->callsite != cur->frame[i]->callsite ||
		    old->frame[i]->subprog != cur->frame[i]->subprog)
			return false;
		if (!frames_equal(env, old, old->frame[i], cur->frame[i], insn, &idmap, exact))
			return false;
	}
	return true;
}

static void free_explored(struct env *env, struct explored *e)
{
	ub_state_clear(&e->state);
	env->state_bytes -= e->bytes;
	free(e);
	env->nr_explored--;
}

static void evict(struct env *env, struct explored *e)
{
	e->in_free_list = true;
	if (!e->state.branches) {
		free_explored(env, e);
		return;
	}
	e->next = env->evicted;
	env->evicted = e;
}

/* A way has ended: its ancestors whose last way it was are complete. */
void ub_update_branch_counts(struct env *env, struct state *state)
{
	while (state) {
		struct state *parent = state->parent;

		if (--state->branches)
			return;
		if (state != env->cur && ((struct explored *)state)->in_free_list) {
			struct explored **at = &env->evicted;

			while (*at && *at != (struct explored *)state)
				at = &(*at)->next;
			if (*at) {
				struct explored *e = *at;

				*at = e->next;
				free_explored(env, e);
			}
		}
		state = parent;
	}
}

static void propagate_reads(struct env *env, const struct state *old)
{
	for (u32 f = 0; f <= old->curframe; f++) {
		for (u32 i = 0; i < old->frame[f]->nr_slots; i++) {
			if (old->frame[f]->stack[i].live & LIVE_READ)
				ub_stack_mark_read(env, f, i);
		}
	}
}

static int prune(struct env *env, struct explored *e, bool loop)
{
	int err = 0;

	e->hits++;
	propagate_reads(env, &e->state);
	if (env->aux[env->insn].jmp_point)
		err = ub_history_push(env, false, 0, 0, 0);
	err = err ?: ub_precise_propagate(env, &e->state, env->cur);
	if (loop) {
		/* Marks that are still to come will not reach the states on this way. */
		for (struct state *s = env->cur->parent; s && !s->incomplete; s = s->parent)
			s->incomplete = true;
	}
	return err ?: 1;
}

/* --- loops that only the run-time ends: may_goto, callbacks ----------------------------------- */

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

/* --- remembering ------------------------------------------------------------------------------ */

static int endless(struct env *env, const struct state *old, u32 insn)
{
	ub_log_line(env, insn, "; ");
	ub_reject(env, -EINVAL, "infinite loop detected at insn %u\n", insn);
	ub_log(env, "cur state:");
	ub_log_state(env, env->cur, env->cur->curframe, true);
	ub_log(env, "old state:");
	ub_log_state(env, old, old->curframe, true);
	return -EINVAL;
}

static int remember(struct env *env, u32 insn)
{
	struct state *cur = env->cur;
	struct explored *e = calloc(1, sizeof(*e));
	struct frame *frame;
	struct reg *reg;
	int err;

	if (!e)
		return -ENOMEM;
	env->total_states++;
	if (++env->nr_explored > env->peak_states)
		env->peak_states = env->nr_explored;
	env->prev_jmps_processed = env->jmps_processed;
	env->prev_insn_processed = env->insn_processed;
	ub_state_for_each_reg(cur, frame, reg, { reg->precise = false; });
	err = ub_state_copy(&e->state, cur);
	e->bytes = err ? 0 : ub_state_bytes(&e->state);
	if (!err) {
		err = ub_state_charge(env, e->bytes);
		if (err)
			e->bytes = 0;
	}
	if (err) {
		free_explored(env, e);
		return err;
	}
	e->state.insn = insn;
	e->state.incomplete = false;
	for (u32 f = 0; f <= cur->curframe; f++) {
		for (u32 i = 0; i < cur->frame[f]->nr_slots; i++) {
			e->state.frame[f]->stack[i].live &= LIVE_WRITTEN;
			cur->frame[f]->stack[i].live = 0;
		}
	}
	cur->parent = &e->state;
	cur->first_insn = insn;
	cur->dfs_depth = e->state.dfs_depth + 1;
	cur->nr_history = 0;
	env->cur_history = NULL;
	e->next = env->explored[insn];
	env->explored[insn] = e;
	return 0;
}

/* 1: covered by a remembered state; 0: walk on. */
int ub_is_state_visited(struct env *env, u32 insn)
{
	struct state *cur = env->cur;
	bool force =
		env->test_state_freq || env->aux[insn].force_checkpoint || cur->nr_history > 40;
	bool add = force;
	struct explored **at = &env->explored[insn];
	u32 count = 0;

	if (env->jmps_processed - env->prev_jmps_processed >= 2 &&
	    env->insn_processed - env->prev_insn_processed >= 8)
		add = true;
	if (env->req->no_prune)
		return 0;
	while (*at) {
		struct explored *e = *at;
		struct state *old = &e->state;
		u32 patience;

		count++;
		if (old->branches) {
			if (old->frame[old->curframe]->in_async_callback)
				goto skip_loop_check;
			if (ub_is_may_goto(&env->insns[insn])) {
				if (old->may_goto_depth != cur->may_goto_depth &&
				    states_equal(env, old, cur, RANGE_WITHIN))
					return prune(env, e, true);
			}
			if (env->aux[insn].calls_callback) {
				if (states_equal(env, old, cur, RANGE_WITHIN))
					return prune(env, e, true);
				goto skip_loop_check;
			}
			if (old->may_goto_depth == cur->may_goto_depth &&
			    old->callback_unroll_depth == cur->callback_unroll_depth &&
			    states_equal(env, old, cur, EXACT))
				return endless(env, old, insn);
		skip_loop_check:
			if (!force && env->jmps_processed - env->prev_jmps_processed < 20 &&
			    env->insn_processed - env->prev_insn_processed < 100)
				add = false;
		} else if (states_equal(env, old, cur,
					old->incomplete ? RANGE_WITHIN : NOT_EXACT)) {
			return prune(env, e, old->incomplete);
		}
		if (add)
			e->misses++;
		patience = env->aux[insn].force_checkpoint && old->branches > 0 ? 64 : 3;
		if (e->misses > e->hits * patience + patience) {
			*at = e->next;
			evict(env, e);
			continue;
		}
		at = &e->next;
	}
	if (count > env->max_states_per_insn)
		env->max_states_per_insn = count;
	return add ? remember(env, insn) : 0;
}
