/* SPDX-License-Identifier: MIT */
/*
 * Calls of the program's own functions, callbacks, and returns.
 */
#include <stdio.h>

#include <verifier/env.h>

bool ub_in_sleepable(const struct env *env)
{
	return env->cur->in_sleepable;
}

void ub_clear_caller_saved(struct env *env, struct reg *regs)
{
	for (u32 i = 0; i < CALLER_SAVED; i++) {
		ub_reg_mark_not_init(&regs[i]);
		ub_scratch_reg(env, i);
	}
}

static const char *subprog_name(const struct env *env, u32 subprog)
{
	return env->subprogs[subprog].name ?: "";
}

/* A fresh frame on top of @state. */
static struct frame *push_frame(struct env *env, struct state *state, s32 callsite, u32 subprog,
				int *err)
{
	struct frame *frame;

	if (state->curframe + 1 >= UB_MAX_CALL_FRAMES) {
		*err = ub_reject(env, -E2BIG, "the call stack of %u frames is too deep\n",
				 state->curframe + 2);
		return NULL;
	}
	if (state->frame[state->curframe + 1]) {
		ub_frame_free(state->frame[state->curframe + 1]);
		state->frame[state->curframe + 1] = NULL;
	}
	frame = ub_frame_new(callsite, state->curframe + 1, subprog);
	if (!frame) {
		*err = -ENOMEM;
		return NULL;
	}
	state->curframe++;
	state->frame[state->curframe] = frame;
	return frame;
}

static int global_arg(struct env *env, u32 subprog, u32 i)
{
	struct subprog *sub = &env->subprogs[subprog];
	struct reg *reg = &ub_cur_regs(env)[BPF_REG_1 + i];
	struct call_meta meta = { 0 };
	int err;

	switch (sub->args[i].kind) {
	case ARG_SCALAR:
		if (reg->type != SCALAR_VALUE)
			return ub_reject(env, -EINVAL, "R%u is not a scalar\n", i + 1);
		return 0;
	case ARG_CTX:
		err = reg->type == PTR_TO_CTX ? ub_check_ptr_off(env, reg, i + 1, false) : -EINVAL;
		if (err)
			return ub_reject(env, -EINVAL,
					 "R%u type=%s expected=%s, wrong context pointer\n", i + 1,
					 ub_type_str(env, reg->type), "ctx");
		return 0;
	case ARG_DYNPTR:
		return ub_dynptr_arg(env, i + 1, &meta, false);
	case ARG_TASK:
		return ub_check_arg_type(env, i + 1,
					 sub->args[i].nullable ? UB_ARG_PTR_TO_TASK_OR_NULL
							       : UB_ARG_PTR_TO_TASK);
	case ARG_MEM:
		if (ub_reg_is_null(reg)) {
			if (sub->args[i].nullable)
				return 0;
			return ub_reject(env, -EINVAL, "arg#%u is expected to be non-NULL\n", i);
		}
		if (reg->type & PTR_MAYBE_NULL) {
			struct reg saved = *reg;

			if (!sub->args[i].nullable)
				return ub_reject(env, -EINVAL,
						 "arg#%u is expected to be non-NULL\n", i);
			reg->type &= ~PTR_MAYBE_NULL;
			err = ub_check_helper_access(env, i + 1, sub->args[i].mem_size, false, true,
						     NULL);
			err = err
				      ?: ub_check_helper_access(env, i + 1, sub->args[i].mem_size,
								true, true, NULL);
			*reg = saved;
		} else {
			err = ub_check_helper_access(env, i + 1, sub->args[i].mem_size, false, true,
						     NULL);
			err = err
				      ?: ub_check_helper_access(env, i + 1, sub->args[i].mem_size,
								true, true, NULL);
		}
		return err ? -EINVAL : 0;
	}
	return -EINVAL;
}

static int global_call(struct env *env, u32 subprog, u32 *insn_idx)
{
	struct subprog *sub = &env->subprogs[subprog];
	struct reg *regs = ub_cur_regs(env);
	int err;

	err = ub_btf_prepare_args(env, subprog);
	if (err)
		return ub_reject(env, -EINVAL, "Func#%u ('%s') has unsupported arguments\n",
				 subprog, subprog_name(env, subprog));
	if (env->cur->active_locks)
		return ub_reject(env, -EINVAL,
				 "global function calls are not allowed while holding a lock,\n"
				 "use static function instead\n");
	if (sub->might_sleep && !ub_in_sleepable(env))
		return ub_reject(
			env, -EINVAL,
			"global functions that may sleep are not allowed in non-sleepable context\n");
	for (u32 i = 0; i < sub->nr_args; i++) {
		err = regs[i + 1].type == NOT_INIT
			      ? ub_reject(env, -EINVAL, "R%u !read_ok\n", i + 1)
			      : global_arg(env, subprog, i);
		if (err)
			return ub_reject(env, -EINVAL,
					 "Caller passes invalid args into func#%u ('%s')\n",
					 subprog, subprog_name(env, subprog));
	}
	ub_log(env, "Func#%u ('%s') is global and assumed valid.\n", subprog,
	       subprog_name(env, subprog));
	sub->called = true;
	if (sub->tail_call_reachable || env->req->type == BPF_PROG_TYPE_XDP ||
	    env->req->type == BPF_PROG_TYPE_SCHED_CLS)
		ub_clear_packet_pointers(env);
	ub_clear_caller_saved(env, regs);
	if (!sub->returns_void)
		ub_reg_mark_unknown(&regs[BPF_REG_0]);
	(void)insn_idx;
	return 0;
}

int ub_check_func_call(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	struct state *state = env->cur;
	struct frame *caller = ub_cur_frame(env), *callee;
	int subprog = ub_subprog_find(env, *insn_idx + insn->imm + 1), err = 0;

	if (subprog < 0)
		return ub_reject(env, -EFAULT, "No program starts at insn %u\n",
				 *insn_idx + insn->imm + 1);
	if (env->subprogs[subprog].global)
		return global_call(env, subprog, insn_idx);
	callee = push_frame(env, state, *insn_idx, subprog, &err);
	if (!callee)
		return err;
	for (u32 i = BPF_REG_1; i <= BPF_REG_5; i++)
		callee->regs[i] = caller->regs[i];
	ub_clear_caller_saved(env, caller->regs);
	*insn_idx = env->subprogs[subprog].start - 1;
	env->scratched_regs = ~0u;
	if (ub_log_on(env)) {
		ub_log(env, "caller:\n");
		ub_log_state(env, state, caller->frameno, true);
		ub_log(env, "callee:\n");
		ub_log_state(env, state, callee->frameno, true);
	}
	return 0;
}

static void set_map_key(struct reg *reg, const struct reg *map)
{
	ub_reg_mark_known(reg, 0);
	reg->type = PTR_TO_MAP_KEY;
	reg->map = map->map;
	reg->inner = map->inner;
	reg->map_uid = map->map_uid;
}

static void set_map_value(struct reg *reg, const struct reg *map)
{
	set_map_key(reg, map);
	reg->type = PTR_TO_MAP_VALUE;
}

/* What the helper passes to its callback. */
static int callback_args(struct env *env, u32 func_id, const struct frame *caller,
			 struct frame *callee)
{
	struct reg *regs = callee->regs;

	callee->callback_ret = (struct retval_range) { 0, 1 };
	switch (func_id) {
	case BPF_FUNC_loop: /* (u32 index, void *ctx) */
		ub_reg_mark_unknown(&regs[BPF_REG_1]);
		regs[BPF_REG_2] = caller->regs[BPF_REG_3];
		break;
	case BPF_FUNC_for_each_map_elem: /* (map, key, value, ctx) */
		regs[BPF_REG_1] = caller->regs[BPF_REG_1];
		set_map_key(&regs[BPF_REG_2], &caller->regs[BPF_REG_1]);
		set_map_value(&regs[BPF_REG_3], &caller->regs[BPF_REG_1]);
		regs[BPF_REG_4] = caller->regs[BPF_REG_3];
		break;
	case BPF_FUNC_timer_set_callback: { /* (map, key, value) */
		struct reg map = caller->regs[BPF_REG_1];

		set_map_key(&regs[BPF_REG_2], &map);
		set_map_value(&regs[BPF_REG_3], &map);
		regs[BPF_REG_1] = regs[BPF_REG_3];
		regs[BPF_REG_1].type = CONST_PTR_TO_MAP;
		callee->in_async_callback = true;
		callee->callback_ret = (struct retval_range) { 0, 0 };
		return 0;
	}
	case BPF_FUNC_user_ringbuf_drain: /* (dynptr, ctx) */
		ub_reg_mark_known(&regs[BPF_REG_1], 0);
		regs[BPF_REG_1].type = CONST_PTR_TO_DYNPTR;
		regs[BPF_REG_1].dynptr = DYNPTR_LOCAL;
		regs[BPF_REG_1].first_slot = true;
		regs[BPF_REG_1].id = regs[BPF_REG_1].dynptr_id = ++env->id_gen;
		regs[BPF_REG_2] = caller->regs[BPF_REG_3];
		break;
	case BPF_FUNC_find_vma: /* (task, vma, ctx) */
	default:
		return ub_reject(env, -EFAULT, "callbacks of %s are not known\n",
				 ub_func_name(func_id));
	}
	callee->in_callback = true;
	return 0;
}

/* The helper may call the callback any number of times: queue one call more, then go on without. */
int ub_push_callback(struct env *env, const struct bpf_insn *insn, u32 insn_idx, u32 subprog,
		     bool async)
{
	struct state *queued;
	struct frame *caller, *callee;
	int err = 0;

	env->subprogs[subprog].is_cb = true;
	if (async) {
		struct frame from = *ub_cur_frame(env);

		env->subprogs[subprog].is_async_cb = true;
		queued = ub_state_push(env, env->subprogs[subprog].start, insn_idx);
		if (!queued)
			return -EFAULT;
		/* It runs on its own, from an empty stack and without references. */
		for (u32 i = 0; i < UB_MAX_CALL_FRAMES; i++) {
			ub_frame_free(queued->frame[i]);
			queued->frame[i] = NULL;
		}
		queued->curframe = 0;
		queued->nr_refs = 0;
		queued->active_locks = 0;
		queued->frame[0] = ub_frame_new(-1, 0, subprog);
		if (!queued->frame[0])
			return -ENOMEM;
		return callback_args(env, insn->imm, &from, queued->frame[0]);
	}
	queued = ub_state_push(env, env->subprogs[subprog].start, insn_idx);
	if (!queued)
		return -ENOMEM;
	caller = queued->frame[queued->curframe];
	callee = push_frame(env, queued, insn_idx, subprog, &err);
	if (!callee)
		return err;
	err = callback_args(env, insn->imm, caller, callee);
	if (err)
		return err;
	queued->callback_unroll_depth++;
	caller->callback_depth++;
	env->cur->frame[env->cur->curframe]->callback_depth = 0;
	return 0;
}

static int check_r0_range(struct env *env, const struct reg *r0, struct retval_range range,
			  const char *exit_ctx, const char *reg_name)
{
	char low[32] = "", high[32] = "";
	bool unknown = r0->smin == S64_MIN && r0->smax == S64_MAX;

	if (r0->smin >= range.min && r0->smax <= range.max)
		return 0;
	if (r0->smin > S64_MIN)
		snprintf(low, sizeof(low), " smin=%lld", (long long)r0->smin);
	if (r0->smax < S64_MAX)
		snprintf(high, sizeof(high), " smax=%lld", (long long)r0->smax);
	return ub_reject(env, -EINVAL,
			 "%s the register %s has%s%s%s should have been in [%d, %d]\n", exit_ctx,
			 reg_name, low, high, unknown ? " unknown scalar value" : "", range.min,
			 range.max);
}

/*
 * Where a tail call at @insn_idx succeeds, it is the other program that returns, and to whoever
 * called this function: queue that way, too. Linux walks it from 6.19 on; before, it believes that
 * a function returns but what it says itself, after all that stands behind the tail call.
 */
int ub_push_tail_return(struct env *env, u32 insn_idx)
{
	struct state *queued, *walked = env->cur;
	const struct frame *from = ub_cur_frame(env);
	struct frame *caller;
	struct reg unknown;

	if (!walked->curframe)
		return 0;
	if (from->in_callback) {
		ub_reg_mark_unknown(&unknown);
		return check_r0_range(env, &unknown, from->callback_ret, "At callback return",
				      "R0");
	}
	queued = ub_state_push(env, from->callsite + 1, insn_idx);
	if (!queued)
		return -ENOMEM;
	ub_frame_free(queued->frame[queued->curframe]);
	queued->frame[queued->curframe--] = NULL;
	caller = queued->frame[queued->curframe];
	ub_reg_mark_unknown(&caller->regs[BPF_REG_0]);
	env->cur = queued;
	ub_clear_packet_pointers(env);
	env->cur = walked;
	return 0;
}

int ub_return_from_callee(struct env *env, u32 *insn_idx)
{
	struct state *state = env->cur;
	struct frame *callee = ub_cur_frame(env), *caller = state->frame[state->curframe - 1];
	struct reg *r0 = &callee->regs[BPF_REG_0];
	bool callback = callee->in_callback;
	struct state *prev;
	int err;

	if (r0->type == PTR_TO_STACK)
		return ub_reject(env, -EINVAL, "cannot return stack pointer to the caller\n");
	if (callback) {
		if (r0->type != SCALAR_VALUE)
			return ub_reject(env, -EACCES, "R0 not a scalar value\n");
		err = ub_mark_precise(env, BPF_REG_0);
		if (err)
			return err;
		err = check_r0_range(env, r0, callee->callback_ret, "At callback return", "R0");
		if (err)
			return err;
		/* Back to the call itself: it decides anew between one more call and going on. */
		*insn_idx = callee->callsite;
		if (!env->aux[*insn_idx].calls_callback)
			return ub_reject(env, -EFAULT, "callback returns to no call of one\n");
	} else {
		caller->regs[BPF_REG_0] = *r0;
		*insn_idx = callee->callsite + 1;
	}
	if (ub_log_on(env)) {
		ub_log(env, "returning from callee:\n");
		ub_log_state(env, state, callee->frameno, true);
		ub_log(env, "to caller at %u:\n", *insn_idx);
		ub_log_state(env, state, caller->frameno, true);
	}
	ub_frame_free(callee);
	state->frame[state->curframe--] = NULL;
	env->scratched_regs = ~0u;
	prev = callback ? ub_previous_visit(state, *insn_idx) : NULL;
	if (prev)
		ub_widen(prev, state);
	return 0;
}

static int no_references(struct env *env, bool exit, const char *what)
{
	struct state *state = env->cur;
	bool leak = false;

	if (state->active_locks)
		return ub_reject(env, -EINVAL, "%s cannot be used inside bpf_spin_lock-ed region\n",
				 what);
	for (u32 i = 0; i < state->nr_refs; i++) {
		if (state->refs[i].type != REF_PTR)
			continue;
		ub_reject(env, -EINVAL, "Unreleased reference id=%u alloc_insn=%u\n",
			  state->refs[i].id, state->refs[i].insn);
		leak = true;
	}
	if (leak && !exit)
		return ub_reject(env, -EINVAL, "%s would lead to reference leak\n", what);
	return leak ? -EINVAL : 0;
}

int ub_check_no_references(struct env *env, const char *what)
{
	return no_references(env, false, what);
}

/* What a program of this type may return; false: anything. */
static bool return_range(const struct env *env, struct retval_range *range)
{
	switch (env->req->type) {
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_CGROUP_SOCK:
		*range = (struct retval_range) { 0, 1 };
		return env->req->type != BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE;
	default:
		return false;
	}
}

static int check_return(struct env *env)
{
	struct frame *frame = ub_cur_frame(env);
	struct reg *r0 = &frame->regs[BPF_REG_0];
	struct retval_range range;
	bool sub = frame->subprog != 0;
	int err;

	if (env->subprog_is_global && frame->frameno == 0 &&
	    env->subprogs[env->start_subprog].returns_void && !frame->in_async_callback)
		return 0;
	/* Exit is a use of r0. */
	err = ub_check_reg(env, BPF_REG_0, USE_SRC);
	if (err)
		return err;
	if (frame->in_async_callback) {
		err = ub_mark_precise(env, BPF_REG_0);
		if (err)
			return err;
		if (r0->type != SCALAR_VALUE)
			return ub_reject(
				env, -EINVAL,
				"At async callback return the register R0 is not a known value (%s)\n",
				ub_type_str(env, r0->type));
		return check_r0_range(env, r0, frame->callback_ret, "At async callback return",
				      "R0");
	}
	if (sub) {
		if (r0->type != SCALAR_VALUE)
			return ub_reject(
				env, -EINVAL,
				"At subprogram exit the register R0 is not a scalar value (%s)\n",
				ub_type_str(env, r0->type));
		return 0;
	}
	if (!return_range(env, &range))
		return 0;
	if (r0->type != SCALAR_VALUE)
		return ub_reject(env, -EINVAL,
				 "At program exit the register R0 is not a known value (%s)\n",
				 ub_type_str(env, r0->type));
	err = ub_mark_precise(env, BPF_REG_0);
	return err ?: check_r0_range(env, r0, range, "At program exit", "R0");
}

int ub_check_exit(struct env *env, const struct bpf_insn *insn, u32 *insn_idx, bool *done)
{
	struct state *state = env->cur;
	int err;

	(void)insn;
	/* Locks and references outlive the return into a caller, but not a callback or the
	 * program. */
	if (!state->curframe || ub_cur_frame(env)->in_callback) {
		err = no_references(env, !state->curframe, "BPF_EXIT instruction in main prog");
		if (err)
			return err;
	}
	if (state->curframe) {
		*done = false;
		if (ub_cur_regs(env)[BPF_REG_0].type == NOT_INIT && ub_cur_frame(env)->in_callback)
			return ub_reject(env, -EACCES, "R0 !read_ok\n");
		return ub_return_from_callee(env, insn_idx);
	}
	err = check_return(env);
	if (err)
		return err;
	*done = true;
	return 0;
}
