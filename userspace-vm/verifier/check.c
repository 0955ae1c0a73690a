/* SPDX-License-Identifier: MIT */
/*
 * The walk over all ways through the program, one instruction at a time.
 */
#include <verifier/env.h>

int ub_check_reg(struct env *env, u32 regno, enum reg_use use)
{
	struct reg *regs = ub_cur_regs(env);

	if (regno >= NR_REGS)
		return ub_reject(env, -EINVAL, "R%u is invalid\n", regno);
	ub_scratch_reg(env, regno);
	if (use == USE_SRC) {
		if (regs[regno].type == NOT_INIT)
			return ub_reject(env, -EACCES, "R%u !read_ok\n", regno);
		return 0;
	}
	if (regno == BPF_REG_10)
		return ub_reject(env, -EACCES, "frame pointer is read only\n");
	if (use == USE_DST)
		ub_reg_mark_unknown(&regs[regno]);
	return 0;
}

void ub_mark_reg_unknown(struct env *env, struct reg *regs, u32 regno)
{
	ub_reg_mark_unknown(&regs[regno]);
}

/* A load through a context is rewritten, one through other pointers is not: not both in one
 * place. */
static int save_ptr_type(struct env *env, u32 type, bool read)
{
	u32 *prev = &env->aux[env->insn].ptr_type;

	type = ub_base_type(type);
	if (*prev == NOT_INIT) {
		*prev = type;
	} else if (*prev != type && (type == PTR_TO_CTX || *prev == PTR_TO_CTX)) {
		return ub_reject(env, -EINVAL,
				 "same insn cannot be used with different pointers\n");
	}
	return 0;
}

static int check_load(struct env *env, const struct bpf_insn *insn, bool strict)
{
	struct reg *regs = ub_cur_regs(env);
	u32 type;
	int err;

	err = ub_check_reg(env, insn->src_reg, USE_SRC);
	if (!err)
		err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
	if (err)
		return err;
	type = regs[insn->src_reg].type;
	err = ub_check_mem(env, env->insn, insn->src_reg, insn->off, BPF_SIZE(insn->code), false,
			   insn->dst_reg, strict, BPF_MODE(insn->code) == BPF_MEMSX);
	if (!err)
		err = save_ptr_type(env, type, true);
	if (!err)
		err = ub_range_check(env, &regs[insn->dst_reg], "ldx");
	return err;
}

static int check_store(struct env *env, const struct bpf_insn *insn, bool strict)
{
	struct reg *regs = ub_cur_regs(env);
	u32 type;
	int err;

	err = ub_check_reg(env, insn->src_reg, USE_SRC);
	if (!err)
		err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (err)
		return err;
	type = regs[insn->dst_reg].type;
	err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code), true,
			   insn->src_reg, strict, false);
	return err ?: save_ptr_type(env, type, false);
}

static int check_store_imm(struct env *env, const struct bpf_insn *insn)
{
	u32 type;
	int err;

	if (BPF_MODE(insn->code) != BPF_MEM || insn->src_reg)
		return ub_reject(env, -EINVAL, "BPF_ST uses reserved fields\n");
	err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (err)
		return err;
	type = ub_cur_regs(env)[insn->dst_reg].type;
	err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code), true, -1,
			   false, false);
	return err ?: save_ptr_type(env, type, false);
}

static int check_ld_imm(struct env *env, const struct bpf_insn *insn)
{
	struct reg *regs = ub_cur_regs(env);
	struct reg *dst;
	int err;

	if (BPF_SIZE(insn->code) != BPF_DW)
		return ub_reject(env, -EINVAL, "invalid BPF_LD_IMM insn\n");
	if (insn->off)
		return ub_reject(env, -EINVAL, "BPF_LD_IMM64 uses reserved fields\n");
	err = ub_check_reg(env, insn->dst_reg, USE_DST);
	if (err)
		return err;
	dst = &regs[insn->dst_reg];
	if (insn->src_reg == 0) {
		ub_reg_mark_known(dst, (u64)insn[1].imm << 32 | (u32)insn->imm);
		return 0;
	}
	ub_reg_mark_known(dst, 0);
	if (insn->src_reg == BPF_PSEUDO_FUNC) {
		int subprog = ub_subprog_find(env, env->insn + insn->imm + 1);

		if (subprog < 0)
			return ub_reject(env, -EINVAL, "invalid callback\n");
		if (!env->req->func_info)
			return ub_reject(env, -EINVAL, "missing btf func_info\n");
		if (env->subprogs[subprog].global)
			return ub_reject(env, -EINVAL, "callback function not static\n");
		dst->type = PTR_TO_FUNC;
		dst->subprog = subprog;
		return 0;
	}
	dst->map = insn->imm;
	if (insn->src_reg == BPF_PSEUDO_MAP_VALUE) {
		dst->type = PTR_TO_MAP_VALUE;
		dst->off = insn[1].imm;
	} else {
		dst->type = CONST_PTR_TO_MAP;
	}
	return 0;
}

/* Packet loads of classic BPF: implicit context in r6, an implicit exit when out of bounds. */
static int check_ld_abs(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	struct reg *regs = ub_cur_regs(env);
	u8 mode = BPF_MODE(insn->code);
	int err;

	if (env->req->type != BPF_PROG_TYPE_SOCKET_FILTER &&
	    env->req->type != BPF_PROG_TYPE_SCHED_CLS && env->req->type != BPF_PROG_TYPE_SCHED_ACT)
		return ub_reject(
			env, -EINVAL,
			"BPF_LD_[ABS|IND] instructions not allowed for this program type\n");
	if (insn->dst_reg || insn->off || BPF_SIZE(insn->code) == BPF_DW ||
	    (mode == BPF_ABS && insn->src_reg))
		return ub_reject(env, -EINVAL, "BPF_LD_[ABS|IND] uses reserved fields\n");
	err = ub_check_reg(env, BPF_REG_6, USE_SRC);
	if (err)
		return err;
	if (env->cur->active_locks)
		return ub_reject(
			env, -EINVAL,
			"BPF_LD_[ABS|IND] cannot be used inside bpf_spin_lock-ed region\n");
	if (env->cur->nr_refs)
		return ub_reject(env, -EINVAL, "BPF_LD_[ABS|IND] would lead to reference leak\n");
	if (regs[BPF_REG_6].type != PTR_TO_CTX)
		return ub_reject(env, -EINVAL,
				 "at the time of BPF_LD_ABS|IND R6 != pointer to skb\n");
	if (mode == BPF_IND) {
		err = ub_check_reg(env, insn->src_reg, USE_SRC);
		if (err)
			return err;
	}
	err = ub_check_ptr_off(env, &regs[BPF_REG_6], BPF_REG_6, false);
	if (err)
		return err;
	ub_clear_caller_saved(env, regs);
	ub_reg_mark_unknown(&regs[BPF_REG_0]);
	if (!env->cur->curframe) {
		(*insn_idx)++;
		return 0;
	}
	/* Beyond the packet's end the function returns 0 to its caller: that is a way, too. */
	if (!ub_state_push(env, env->insn + 1, env->insn))
		return -ENOMEM;
	ub_reg_mark_known(&regs[BPF_REG_0], 0);
	return ub_return_from_callee(env, insn_idx);
}

static int check_call(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	if (BPF_SRC(insn->code) != BPF_K || (insn->src_reg != BPF_PSEUDO_KFUNC_CALL && insn->off) ||
	    (insn->src_reg != 0 && insn->src_reg != BPF_PSEUDO_CALL &&
	     insn->src_reg != BPF_PSEUDO_KFUNC_CALL) ||
	    insn->dst_reg)
		return ub_reject(env, -EINVAL, "BPF_CALL uses reserved fields\n");
	if (env->cur->active_locks) {
		if (insn->src_reg == BPF_PSEUDO_KFUNC_CALL ||
		    (insn->src_reg == 0 && insn->imm != BPF_FUNC_spin_unlock &&
		     insn->imm != BPF_FUNC_kptr_xchg))
			return ub_reject(env, -EINVAL,
					 "function calls are not allowed while holding a lock\n");
	}
	if (insn->src_reg == BPF_PSEUDO_CALL)
		return ub_check_func_call(env, insn, insn_idx);
	if (insn->src_reg == BPF_PSEUDO_KFUNC_CALL)
		return ub_reject(
			env, -EINVAL,
			"calling kernel function #%d is not allowed: kfuncs do not exist in the userspace kernel\n",
			insn->imm);
	return ub_check_helper_call(env, insn, insn_idx);
}

/* One instruction. env->insn moves on to the next; *done: this way has ended. */
static int check_insn(struct env *env, bool *done)
{
	const struct bpf_insn *insn = &env->insns[env->insn];
	u8 class = BPF_CLASS(insn->code), op = BPF_OP(insn->code);
	u32 next = env->insn;
	int err;

	switch (class) {
	case BPF_ALU:
	case BPF_ALU64:
		err = ub_check_alu(env, insn);
		break;
	case BPF_LDX:
		err = check_load(env, insn, false);
		break;
	case BPF_STX:
		if (BPF_MODE(insn->code) == BPF_ATOMIC) {
			err = ub_check_atomic(env, insn);
			break;
		}
		if (BPF_MODE(insn->code) != BPF_MEM || insn->imm)
			return ub_reject(env, -EINVAL, "BPF_STX uses reserved fields\n");
		err = check_store(env, insn, false);
		break;
	case BPF_ST:
		err = check_store_imm(env, insn);
		break;
	case BPF_LD:
		if (BPF_MODE(insn->code) == BPF_ABS || BPF_MODE(insn->code) == BPF_IND) {
			err = check_ld_abs(env, insn, &next);
			if (!err)
				env->insn = next;
			return err;
		}
		if (BPF_MODE(insn->code) != BPF_IMM)
			return ub_reject(env, -EINVAL, "invalid BPF_LD mode\n");
		err = check_ld_imm(env, insn);
		if (!err) {
			env->aux[env->insn + 1].seen = 1;
			env->insn += 2;
		}
		return err;
	default:
		env->jmps_processed++;
		if (class == BPF_JMP && op == BPF_CALL) {
			err = check_call(env, insn, &next);
			if (!err)
				env->insn = next + 1;
			return err;
		}
		if (op == BPF_JA) {
			if (BPF_SRC(insn->code) != BPF_K || insn->src_reg || insn->dst_reg ||
			    (class == BPF_JMP && insn->imm) || (class == BPF_JMP32 && insn->off))
				return ub_reject(env, -EINVAL, "BPF_JA uses reserved fields\n");
			env->insn += (class == BPF_JMP ? insn->off : insn->imm) + 1;
			return 0;
		}
		if (class == BPF_JMP && op == BPF_EXIT) {
			if (BPF_SRC(insn->code) != BPF_K || insn->imm || insn->src_reg ||
			    insn->dst_reg)
				return ub_reject(env, -EINVAL, "BPF_EXIT uses reserved fields\n");
			err = ub_check_exit(env, insn, &next, done);
			if (!err && !*done)
				env->insn = next;
			return err;
		}
		err = ub_check_cond_jmp(env, insn, &next);
		if (!err)
			env->insn = next + 1;
		return err;
	}
	if (!err)
		env->insn++;
	return err;
}

static int walk(struct env *env)
{
	bool drop_log = !ub_log_verbose(env);
	bool print_state = false;
	u32 prev = UINT32_MAX;
	int err;

	for (;;) {
		struct state *state = env->cur;
		bool done = false;

		env->cur_history = NULL;
		env->prev_insn = prev;
		if (env->insn >= env->nr_insns)
			return ub_reject(env, -EFAULT, "invalid insn idx %u insn_cnt %u\n",
					 env->insn, env->nr_insns);
		if (++env->insn_processed > (env->req->insn_limit ?: COMPLEXITY_LIMIT_INSNS))
			return ub_reject(env, -E2BIG,
					 "BPF program is too large. Processed %u insn\n",
					 env->insn_processed);
		state->last_insn = env->prev_insn;
		state->insn = env->insn;
		if (env->aux[env->insn].prune_point) {
			err = ub_is_state_visited(env, env->insn);
			if (err < 0)
				return err;
			if (err) {
				if (ub_log_on(env)) {
					if (print_state)
						ub_log(env, "\nfrom %d to %u: safe\n", (s32)prev,
						       env->insn);
					else
						ub_log(env, "%u: safe\n", env->insn);
				}
				done = true;
			}
		}
		if (!done) {
			if (env->aux[env->insn].jmp_point) {
				err = ub_history_push(env, false, 0, 0, 0);
				if (err)
					return err;
			}
			if (ub_log_verbose(env) && print_state) {
				ub_log(env, "\nfrom %d to %u:", (s32)prev, env->insn);
				ub_log_state(env, state, state->curframe, true);
				print_state = false;
			}
			if (ub_log_on(env)) {
				if (env->scratched_regs || env->scratched_slots)
					ub_log_insn_state(env, state, state->curframe);
				ub_log_line(env, env->insn, "; ");
				env->prev_log_pos = ub_log_pos(env);
				ub_log(env, "%u: ", env->insn);
				ub_log_insn(env, env->insn);
				env->prev_insn_print_len = ub_log_pos(env) - env->prev_log_pos;
				env->prev_log_pos = ub_log_pos(env);
			}
			if (env->req->observe)
				env->req->observe(env->req->observe_opaque, env->insn, state);
			env->aux[env->insn].seen = 1;
			prev = env->insn;
			err = check_insn(env, &done);
			if (err)
				return err;
			if (!done && env->insns[prev].code == (BPF_JMP | BPF_EXIT))
				print_state = true;
		}
		if (!done)
			continue;
		env->scratched_regs = ~0u;
		env->scratched_slots = ~0ull;
		ub_update_branch_counts(env, env->cur);
		err = ub_state_pop(env, &env->insn, &prev, drop_log);
		if (err == -ENOENT)
			return 0;
		if (err)
			return err;
		print_state = true;
	}
}

static void free_walk(struct env *env)
{
	while (env->stack)
		(void)!ub_state_pop(env, NULL, NULL, false);
	if (env->cur) {
		ub_state_clear(env->cur);
		free(env->cur);
		env->cur = NULL;
	}
	for (u32 i = 0; i < env->nr_insns; i++) {
		struct explored *e = env->explored[i];

		while (e) {
			struct explored *next = e->next;

			ub_state_clear(&e->state);
			free(e);
			e = next;
		}
		env->explored[i] = NULL;
	}
	while (env->evicted) {
		struct explored *next = env->evicted->next;

		ub_state_clear(&env->evicted->state);
		free(env->evicted);
		env->evicted = next;
	}
	env->nr_explored = 0;
	env->state_bytes = 0;
}

static void main_args(struct env *env, struct reg *regs)
{
	ub_reg_mark_known(&regs[BPF_REG_1], 0);
	regs[BPF_REG_1].type = PTR_TO_CTX;
}

static int global_args(struct env *env, struct reg *regs, u32 subprog)
{
	struct subprog *sub = &env->subprogs[subprog];

	for (u32 i = 0; i < sub->nr_args; i++) {
		struct reg *reg = &regs[BPF_REG_1 + i];

		switch (sub->args[i].kind) {
		case ARG_CTX:
			ub_reg_mark_known(reg, 0);
			reg->type = PTR_TO_CTX;
			break;
		case ARG_SCALAR:
			ub_reg_mark_unknown(reg);
			break;
		case ARG_TASK:
			ub_reg_mark_known(reg, 0);
			reg->type = PTR_TO_TASK | PTR_TRUSTED |
				    (sub->args[i].nullable ? PTR_MAYBE_NULL : 0);
			if (sub->args[i].nullable)
				reg->id = ++env->id_gen;
			break;
		case ARG_DYNPTR:
			ub_reg_mark_known(reg, 0);
			reg->type = CONST_PTR_TO_DYNPTR;
			reg->dynptr = DYNPTR_LOCAL;
			reg->first_slot = true;
			reg->id = reg->dynptr_id = ++env->id_gen;
			break;
		case ARG_MEM:
			ub_reg_mark_known(reg, 0);
			reg->type = PTR_TO_MEM | (sub->args[i].nullable ? PTR_MAYBE_NULL : 0);
			reg->mem_size = sub->args[i].mem_size;
			if (sub->args[i].nullable)
				reg->id = ++env->id_gen;
			break;
		default:
			return -EINVAL;
		}
	}
	return 0;
}

/* Walks one function on its own: the main program, a global function. */
static int check_function(struct env *env, u32 subprog)
{
	struct state *state = calloc(1, sizeof(*state));
	int err;

	env->prev_linfo = -1;
	env->scratched_regs = ~0u;
	env->scratched_slots = ~0ull;
	if (!state)
		return -ENOMEM;
	env->cur = state;
	env->start_subprog = subprog;
	env->subprog_is_global = subprog != 0;
	state->branches = 1;
	state->in_sleepable = env->req->prog_flags & BPF_F_SLEEPABLE;
	state->frame[0] = ub_frame_new(-1, 0, subprog);
	if (!state->frame[0])
		return -ENOMEM;
	state->first_insn = env->subprogs[subprog].start;
	state->last_insn = UINT32_MAX;
	env->insn = env->subprogs[subprog].start;
	env->prev_insn = UINT32_MAX;
	/* What BTF says of the main program's arguments only goes into the log. */
	err = ub_btf_prepare_args(env, subprog);
	if (err && subprog)
		return err;
	if (subprog) {
		err = global_args(env, state->frame[0]->regs, subprog);
		if (err)
			return err;
	} else {
		main_args(env, state->frame[0]->regs);
	}
	if (ub_log_on(env)) {
		ub_log(env, "%u:", env->insn);
		ub_log_state(env, state, 0, true);
		env->scratched_regs = env->scratched_slots = 0;
	}
	err = walk(env);
	if (!err && !ub_log_verbose(env))
		ub_log_reset(env, 0);
	return err;
}

int ub_check_all(struct env *env)
{
	bool again;
	int err;

	err = check_function(env, 0);
	free_walk(env);
	if (err)
		return err;
	/* Global functions are verified by themselves, if some verified code calls them. */
	do {
		again = false;
		for (u32 i = 1; i < env->nr_subprogs; i++) {
			struct subprog *sub = &env->subprogs[i];

			if (!sub->global || !sub->called || sub->verified)
				continue;
			ub_log(env, "Validating %s() func#%u...\n", sub->name, i);
			err = check_function(env, i);
			free_walk(env);
			if (err)
				return err;
			ub_log(env,
			       "Func#%u ('%s') is safe for any args that match its prototype\n", i,
			       sub->name);
			sub->verified = true;
			again = true;
		}
	} while (again);
	return 0;
}
