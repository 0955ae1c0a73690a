/* SPDX-License-Identifier: MIT */
/*
 * The verifier's entry, and the essay.
 *
 * A program is safe if no way through it can do harm. The verifier walks all ways, one after the
 * other, with an abstract state in place of real registers: of every register it knows what kind of
 * thing it holds (state.h: struct reg), and of numbers, and of the distance of a pointer from its
 * object, the known bits and four ranges (tnum.c, range.c). Each instruction is checked against
 * that state and changes it (alu.c, scalar.c, mem.c, stack.c, ctx.c, helper_call.c). At a
 * conditional jump that may go both ways the state is copied: one way is walked at once, the other
 * later (branch.c, compare.c); both learn from the condition. A pointer that may be null gets an
 * id, shared by its copies, so that one test frees them all.
 *
 * Walking all ways would take for ever, so states are remembered at points where ways meet, and a
 * way is cut where a remembered state covers its own: what is safe from there for more values is
 * safe for fewer (prune.c). Most of the work is to find out what need not be equal for that:
 * registers that are not read any more (cfg.c), stack slots never read (stack.c), numbers that
 * decided nothing (precision.c). The invariant everything rests on: the abstract state contains
 * every concrete state that a run can have there. tests/fuzz checks just that, with real runs.
 *
 * Loops need no special treatment: they are walked round by round until they end, within a million
 * instructions; the same state met again on one way is an endless loop. may_goto and callbacks,
 * whose number of rounds the run-time bounds, are walked until a round brings nothing new.
 *
 * Order: maps are resolved (resolve.c), functions and reachability found (cfg.c), the walk done
 * (check.c), stack depth added up, and what remains rewritten to run (fixup.c).
 *
 * Semantics and texts follow Linux 6.18's kernel/bpf/verifier.c as an oracle: tests compare
 * verdicts.
 */
#include <stdio.h>

#include <common/clock.h>
#include <verifier/env.h>

static void print_stats(struct env *env, u64 start)
{
	if (env->req->log_level & 4) {
		u32 level = env->req->log_level;
		char text[256];

		(void)level;
		snprintf(text, sizeof(text), "verification time %llu usec\n",
			 (unsigned long long)(ub_now_ns() / 1000 - start));
		ub_log_always(env, text);
		snprintf(text, sizeof(text), "stack depth %u", env->subprogs[0].stack_depth);
		ub_log_always(env, text);
		for (u32 i = 1; i < env->nr_subprogs; i++) {
			snprintf(text, sizeof(text), "+%u", env->subprogs[i].stack_depth);
			ub_log_always(env, text);
		}
		ub_log_always(env, "\n");
	}
	if (env->req->log_level & 7) {
		char text[256];

		snprintf(
			text, sizeof(text),
			"processed %u insns (limit %d) max_states_per_insn %u total_states %u peak_states %u mark_read %u\n",
			env->insn_processed, COMPLEXITY_LIMIT_INSNS, env->max_states_per_insn,
			env->total_states, env->peak_states, 0);
		ub_log_always(env, text);
	}
}

static int check_request(struct env *env)
{
	const struct ub_verify_request *req = env->req;

	if (!req->insns || !req->nr_insns || req->nr_insns > UB_MAX_INSNS)
		return ub_reject(env, -E2BIG, "a program has 1 to %d instructions, not %u\n",
				 UB_MAX_INSNS, req->nr_insns);
	if (!ub_ctx_known_type(req->type))
		return ub_reject(env, -EINVAL,
				 "programs of type %d are not known to the userspace kernel\n",
				 req->type);
	if (req->prog_flags & BPF_F_SLEEPABLE && req->type != BPF_PROG_TYPE_KPROBE &&
	    req->type != BPF_PROG_TYPE_SYSCALL)
		return ub_reject(
			env, -EINVAL,
			"Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n");
	if (req->type == BPF_PROG_TYPE_SYSCALL && !(req->prog_flags & BPF_F_SLEEPABLE))
		return ub_reject(env, -EINVAL, "Syscall programs can only be sleepable\n");
	return 0;
}

static int run(struct env *env, struct ub_program **out)
{
	int err = check_request(env);

	if (err)
		return err;
	env->nr_insns = env->req->nr_insns;
	env->insns = malloc(env->nr_insns * sizeof(*env->insns));
	env->aux = calloc(env->nr_insns + 1, sizeof(*env->aux));
	env->explored = calloc(env->nr_insns, sizeof(struct explored *));
	if (!env->insns || !env->aux || !env->explored)
		return -ENOMEM;
	memcpy(env->insns, env->req->insns, env->nr_insns * sizeof(*env->insns));
	err = ub_subprogs_find(env);
	err = err ?: ub_subprogs_check(env);
	err = err ?: ub_verifier_btf_check(env);
	err = err ?: ub_resolve_maps(env);
	err = err ?: ub_cfg_check(env);
	err = err ?: ub_cfg_live_registers(env);
	err = err ?: ub_check_all(env);
	if (err)
		return err;
	ub_fixup_reserve(env);
	err = ub_stack_depth_check(env);
	return err ?: ub_fixup(env, out);
}

int ub_verify(const struct ub_verify_request *request, struct ub_program **out,
	      void *used[UB_MAX_USED_MAPS], struct ub_reason *why)
{
	struct env *env = calloc(1, sizeof(*env));
	struct ub_program *program = NULL;
	u64 start = ub_now_ns() / 1000;
	int err;

	if (!env)
		return ub_reason_set(why, -ENOMEM, "verifier: out of memory");
	env->req = request;
	env->why = why;
	env->strict_alignment = request->prog_flags & BPF_F_STRICT_ALIGNMENT;
	env->test_state_freq = request->prog_flags & BPF_F_TEST_STATE_FREQ;
	env->test_reg_invariants = request->prog_flags & BPF_F_TEST_REG_INVARIANTS;
	err = run(env, &program);
	print_stats(env, start);
	ub_log_flush(env);
	if (err) {
		size_t n = strlen(env->line);

		while (n && env->line[n - 1] == '\n')
			env->line[--n] = '\0';
		ub_reason_set(why, err, "program %s rejected by the verifier: %s",
			      request->name && *request->name ? request->name : "(unnamed)",
			      n		       ? env->line
			      : err == -ENOMEM ? "out of memory"
					       : "internal error");
	} else {
		*out = program;
		for (u32 i = 0; used && i < env->nr_maps; i++)
			used[i] = env->maps[i].opaque;
	}
	free(env->log);
	free(env->explored);
	free(env->aux);
	free(env->insns);
	free(env);
	return err;
}
