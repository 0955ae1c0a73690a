/* SPDX-License-Identifier: MIT */
/*
 * The program as a graph: subprograms, reachability, where states are worth remembering, which
 * registers matter where, and how deep the calls stack up.
 */
#include <common/cleanup.h>
#include <verifier/env.h>

bool ub_is_sync_callback_helper(u32 id)
{
	return id == BPF_FUNC_for_each_map_elem || id == BPF_FUNC_find_vma || id == BPF_FUNC_loop ||
	       id == BPF_FUNC_user_ringbuf_drain;
}

bool ub_is_async_callback_helper(u32 id)
{
	return id == BPF_FUNC_timer_set_callback;
}

int ub_subprog_find(const struct env *env, u32 start)
{
	for (u32 i = 0; i < env->nr_subprogs; i++) {
		if (env->subprogs[i].start == start)
			return (int)i;
	}
	return -ENOENT;
}

u32 ub_subprog_of(const struct env *env, u32 insn)
{
	u32 low = 0, high = env->nr_subprogs;

	while (high - low > 1) {
		u32 mid = (low + high) / 2;

		if (env->subprogs[mid].start <= insn)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static int add_subprog(struct env *env, s64 start)
{
	u32 at;

	if (start < 0 || start >= env->nr_insns)
		return ub_reject(env, -EINVAL, "call to invalid destination\n");
	if (ub_subprog_find(env, start) >= 0)
		return 0;
	if (env->nr_subprogs >= UB_MAX_SUBPROGS)
		return ub_reject(env, -E2BIG, "too many subprograms\n");
	for (at = env->nr_subprogs; at > 0 && env->subprogs[at - 1].start > start; at--)
		env->subprogs[at] = env->subprogs[at - 1];
	memset(&env->subprogs[at], 0, sizeof(env->subprogs[at]));
	env->subprogs[at].start = start;
	env->nr_subprogs++;
	return 0;
}

int ub_subprogs_find(struct env *env)
{
	int err = add_subprog(env, 0);

	for (u32 i = 0; !err && i < env->nr_insns; i++) {
		const struct bpf_insn *insn = &env->insns[i];

		if (insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_KFUNC_CALL)
			continue; /* refused when, and only when, it is reached */
		if (ub_is_pseudo_call(insn) || ub_is_pseudo_func(insn))
			err = add_subprog(env, (s64)i + insn->imm + 1);
	}
	if (!err && ub_log_verbose(env))
		for (u32 i = 0; i < env->nr_subprogs; i++)
			ub_log(env, "func#%u @%u\n", i, env->subprogs[i].start);
	env->subprogs[env->nr_subprogs].start = env->nr_insns;
	return err;
}

static bool is_jump(const struct bpf_insn *insn)
{
	u8 class = BPF_CLASS(insn->code), op = BPF_OP(insn->code);

	return (class == BPF_JMP || class == BPF_JMP32) && op != BPF_CALL && op != BPF_EXIT;
}

/* Functions do not jump into each other, and don't fall off their end. */
int ub_subprogs_check(struct env *env)
{
	u32 cur = 0;

	for (u32 i = 0; i < env->nr_insns; i++) {
		const struct bpf_insn *insn = &env->insns[i];
		struct subprog *sub = &env->subprogs[cur];
		u32 end = env->subprogs[cur + 1].start;

		if (ub_is_helper_call(insn) && insn->imm == BPF_FUNC_tail_call) {
			sub->has_tail_call = true;
			sub->tail_call_reachable = true;
		}
		if (BPF_CLASS(insn->code) == BPF_LD &&
		    (BPF_MODE(insn->code) == BPF_ABS || BPF_MODE(insn->code) == BPF_IND))
			sub->has_ld_abs = true;
		if (is_jump(insn)) {
			s64 to = ub_isa_target(insn, i);

			if (to < sub->start || to >= end)
				return ub_reject(env, -EINVAL,
						 "jump out of range from insn %u to %lld\n", i,
						 (long long)to);
		}
		if (i == end - 1) {
			if (insn->code != (BPF_JMP | BPF_EXIT) &&
			    insn->code != (BPF_JMP32 | BPF_JA) && insn->code != (BPF_JMP | BPF_JA))
				return ub_reject(env, -EINVAL, "last insn is not an exit or jmp\n");
			cur++;
		}
	}
	return 0;
}

static void prune_point(struct env *env, u32 i)
{
	env->aux[i].prune_point = true;
}

static void jmp_point(struct env *env, u32 i)
{
	env->aux[i].jmp_point = true;
}

/* Control comes to @i from elsewhere: ways meet there, and the way back is not to the instruction
 * before. */
static void branch_target(struct env *env, s64 i)
{
	if (i < 0 || i >= env->nr_insns)
		return;
	prune_point(env, i);
	jmp_point(env, i);
}

/* Marks instruction @i's neighbourhood and lists where to go next. */
static int visit(struct env *env, u32 i, s64 next[2])
{
	const struct bpf_insn *insn = &env->insns[i];
	u8 class = BPF_CLASS(insn->code), op = BPF_OP(insn->code);
	int n = 0;

	if (ub_is_pseudo_func(insn)) {
		prune_point(env, i);
		next[n++] = (s64)i + 2;
		next[n++] = (s64)i + insn->imm + 1;
		branch_target(env, next[1]);
		return n;
	}
	if (class != BPF_JMP && class != BPF_JMP32) {
		next[n++] = (s64)i + (ub_is_ldimm64(insn) ? 2 : 1);
		return n;
	}
	if (class == BPF_JMP && op == BPF_EXIT)
		return 0;
	if (class == BPF_JMP && op == BPF_CALL) {
		if (insn->src_reg == 0 && ub_is_async_callback_helper(insn->imm))
			prune_point(env, i);
		if (insn->src_reg == 0 && ub_is_sync_callback_helper(insn->imm)) {
			env->aux[i].calls_callback = true;
			env->aux[i].force_checkpoint = true;
			prune_point(env, i);
			jmp_point(env, i);
		}
		next[n++] = (s64)i + 1;
		branch_target(env, (s64)i + 1);
		if (ub_is_pseudo_call(insn)) {
			prune_point(env, i);
			next[n++] = (s64)i + insn->imm + 1;
			branch_target(env, next[1]);
		}
		return n;
	}
	next[0] = ub_isa_target(insn, i);
	branch_target(env, next[0]);
	if (op == BPF_JA)
		return 1;
	prune_point(env, i);
	if (ub_is_may_goto(insn))
		env->aux[i].force_checkpoint = true;
	next[1] = (s64)i + 1;
	return 2;
}

static int unreachable(struct env *env, const u8 *seen)
{
	for (u32 i = 0; i < env->nr_insns; i++) {
		if (!seen[i])
			return ub_reject(env, -EINVAL, "unreachable insn %u\n", i);
		if (ub_is_ldimm64(&env->insns[i])) {
			if (seen[i + 1])
				return ub_reject(env, -EINVAL,
						 "jump into the middle of ldimm64 insn %u\n", i);
			i++;
		}
	}
	return 0;
}

int ub_cfg_check(struct env *env)
{
	u32 *todo = malloc((env->nr_insns * 2 + 2) * sizeof(*todo));
	u8 *seen = calloc(1, env->nr_insns);
	u32 nr = 0;
	int err = 0;

	if (!todo || !seen) {
		free(todo);
		free(seen);
		return -ENOMEM;
	}
	todo[nr++] = 0;
	seen[0] = 1;
	while (!err && nr) {
		u32 i = todo[--nr];
		s64 next[2];
		int n = visit(env, i, next);

		for (int k = 0; k < n; k++) {
			if (next[k] < 0 || next[k] >= env->nr_insns) {
				err = ub_reject(env, -EINVAL,
						"jump out of range from insn %u to %lld\n", i,
						(long long)next[k]);
				break;
			}
			if (!seen[next[k]]) {
				seen[next[k]] = 1;
				todo[nr++] = next[k];
			}
		}
	}
	if (!err)
		err = unreachable(env, seen);
	free(todo);
	free(seen);
	return err;
}

/* Registers whose values instruction @i uses, and those it overwrites. */
static void use_def(const struct env *env, const struct bpf_insn *insn, u16 *use, u16 *def)
{
	u16 dst = 1u << insn->dst_reg, src = 1u << insn->src_reg;
	u8 op = BPF_OP(insn->code);
	bool reg = BPF_SRC(insn->code) == BPF_X;

	*use = *def = 0;
	switch (BPF_CLASS(insn->code)) {
	case BPF_LD:
		if (BPF_MODE(insn->code) == BPF_IMM) {
			*def = dst;
		} else {
			*use = 1u << BPF_REG_6;
			if (BPF_MODE(insn->code) == BPF_IND)
				*use |= src;
			*def = 0x3f;
		}
		break;
	case BPF_LDX:
		*use = src;
		*def = dst;
		break;
	case BPF_ST:
		*use = dst;
		break;
	case BPF_STX:
		*use = dst | src;
		if (BPF_MODE(insn->code) != BPF_ATOMIC)
			break;
		if (insn->imm == BPF_CMPXCHG) {
			*use |= 1u << BPF_REG_0;
			*def = 1u << BPF_REG_0;
		} else if (insn->imm == BPF_LOAD_ACQ) {
			*use = src;
			*def = dst;
		} else if (insn->imm & BPF_FETCH && insn->imm != BPF_STORE_REL) {
			*def = src;
		}
		break;
	case BPF_ALU:
	case BPF_ALU64:
		*def = dst;
		if (op == BPF_END || op == BPF_NEG)
			*use = dst;
		else if (op == BPF_MOV)
			*use = reg ? src : 0;
		else
			*use = dst | (reg ? src : 0);
		break;
	case BPF_JMP:
	case BPF_JMP32:
		if (op == BPF_EXIT) {
			*use = 1;
		} else if (op == BPF_CALL) {
			*def = 0x3f;
			*use = 0x3e;
			if (insn->src_reg == 0) {
				const struct ub_helper *helper = ub_helper_by_id(insn->imm);

				*use = 0;
				for (u32 i = 0; helper && i < 5; i++) {
					if (helper->args[i] != UB_ARG_NONE)
						*use |= 2u << i;
				}
			}
		} else if (op != BPF_JA && op != BPF_JCOND) {
			*use = dst | (reg ? src : 0);
		}
		break;
	}
}

static void log_live(struct env *env)
{
	if (!ub_log_verbose(env))
		return;
	ub_log(env, "Live regs before insn:\n");
	for (u32 i = 0; i < env->nr_insns; i++) {
		char live[BPF_REG_10 + 1] = "..........";

		for (u32 r = 0; r < BPF_REG_10; r++) {
			if (env->aux[i].live_before >> r & 1)
				live[r] = '0' + r;
		}
		ub_log(env, "    %3u: %s ", i, live);
		ub_log_insn(env, i);
		i += ub_is_ldimm64(&env->insns[i]);
	}
}

int ub_cfg_live_registers(struct env *env)
{
	_cleanup_free_ struct ub_isa_use *uses = calloc(env->nr_insns, sizeof(*uses));
	_cleanup_free_ u16 *before = malloc(env->nr_insns * sizeof(*before));
	int err;

	if (!uses || !before)
		return -ENOMEM;
	for (u32 i = 0; i < env->nr_insns; i++)
		use_def(env, &env->insns[i], &uses[i].reads, &uses[i].writes);
	err = ub_isa_live_registers(env->insns, env->nr_insns, uses, before);
	if (err)
		return err;
	for (u32 i = 0; i < env->nr_insns; i++)
		env->aux[i].live_before = before[i];
	log_live(env);
	return 0;
}

#define MIN_PRIVATE_STACK 64 /* BPF_PRIV_STACK_MIN_SIZE */

struct call_frame {
	u32 subprog;
	u32 insn; /* to go on with */
	u32 depth;
};

/* Without what fixup.c adds, for which every frame has room. */
static u32 frame_bytes(const struct env *env, u32 subprog)
{
	return ub_round_up(env->subprogs[subprog].stack_depth, 16u);
}

/*
 * Whether functions of a fair size get UB_STACK_SIZE bytes each instead of sharing them: Linux
 * gives those of tracing programs stacks of their own (bpf_enable_priv_stack()), and here every
 * frame has room. Tail calls exclude it: they leave the frames below where they are.
 */
static bool has_private_stacks(const struct env *env)
{
	if (!ub_is_tracing(env->req->type) ||
	    env->req->type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE)
		return false;
	for (u32 i = 0; i < env->nr_subprogs; i++) {
		if (env->subprogs[i].has_tail_call)
			return false;
	}
	return true;
}

/* What a frame of @subprog adds to the sum of all frames. */
static int shared_bytes(struct env *env, u32 subprog, bool private_stacks, u32 *bytes)
{
	u32 size = frame_bytes(env, subprog);

	if (!private_stacks || size < MIN_PRIVATE_STACK) {
		*bytes = size;
		return 0;
	}
	if (size > UB_STACK_SIZE)
		return ub_reject(env, -EACCES, "stack size of subprog %u is %u. Too large\n",
				 subprog, size);
	*bytes = 0;
	return 0;
}

/*
 * Walks all chains of calls from @root. Exponential in theory; bounded as in the kernel by eight
 * frames, and memoised by the deepest stack with which a function has been entered.
 */
static int stack_depth_from(struct env *env, u32 root, bool private_stacks)
{
	struct call_frame chain[UB_MAX_CALL_FRAMES];
	u32 seen_depth[UB_MAX_SUBPROGS], seen_frames[UB_MAX_SUBPROGS];
	u32 n = 0, insn, depth, bytes = 0;
	int err;

	memset(seen_frames, 0, sizeof(seen_frames));
	memset(seen_depth, 0, sizeof(seen_depth));
	err = shared_bytes(env, root, private_stacks, &bytes);
	if (err)
		return err;
	chain[n++] = (struct call_frame) { root, env->subprogs[root].start, bytes };
	while (n) {
		struct call_frame *top = &chain[n - 1];
		u32 end = env->subprogs[top->subprog + 1].start;
		int callee = -1;

		if (n > env->max_call_depth)
			env->max_call_depth = n;
		depth = top->depth;
		if (depth > UB_STACK_SIZE)
			return ub_reject(env, -EACCES,
					 "combined stack size of %u calls is %u. Too large\n", n,
					 depth);
		for (insn = top->insn; insn < end; insn++) {
			if (!ub_is_pseudo_call(&env->insns[insn]) &&
			    !ub_is_pseudo_func(&env->insns[insn]))
				continue;
			callee = ub_subprog_find(env, insn + env->insns[insn].imm + 1);
			break;
		}
		top->insn = insn + 1;
		if (callee < 0) {
			n--;
			continue;
		}
		/* An async callback starts on a stack of its own. */
		if (env->subprogs[callee].is_async_cb)
			continue;
		for (u32 i = 0; i < n; i++) {
			if (chain[i].subprog == (u32)callee)
				return ub_reject(env, -EINVAL, "recursive call from %s() to %s()\n",
						 env->subprogs[top->subprog].name ?: "",
						 env->subprogs[callee].name ?: "");
		}
		/* A tail call replaces only the innermost frame: bound what lies below it. */
		if (env->subprogs[callee].has_tail_call && depth >= 256)
			return ub_reject(
				env, -EACCES,
				"tail_calls are not allowed when call stack of previous frames is %u bytes. Too large\n",
				depth);
		if (env->subprogs[callee].has_tail_call)
			for (u32 i = 0; i < n; i++)
				env->subprogs[chain[i].subprog].tail_call_reachable = true;
		if (n >= UB_MAX_CALL_FRAMES)
			return ub_reject(env, -E2BIG, "the call stack of %u frames is too deep !\n",
					 n + 1);
		err = shared_bytes(env, callee, private_stacks, &bytes);
		if (err)
			return err;
		depth += bytes;
		if (seen_frames[callee] >= n + 1 && seen_depth[callee] >= depth)
			continue;
		seen_frames[callee] = n + 1;
		seen_depth[callee] = depth;
		chain[n++] = (struct call_frame) { callee, env->subprogs[callee].start, depth };
	}
	return 0;
}

int ub_stack_depth_check(struct env *env)
{
	bool private_stacks = has_private_stacks(env);
	int err;

	for (u32 i = 0; i < env->nr_subprogs; i++) {
		if (i && !env->subprogs[i].is_async_cb)
			continue;
		err = stack_depth_from(env, i, private_stacks && !i);
		if (err)
			return err;
	}
	return 0;
}
