/* SPDX-License-Identifier: MIT */
/*
 * From the verified program to what runs: unreachable instructions go, may_goto gets its counter,
 * contexts their layout, and jumps their new distances.
 */
#include <linux/filter.h>
#include <linux/if_ether.h>

#include <program/context.h>
#include <verifier/env.h>

#define NO_TARGET UINT32_MAX

struct emitted {
	struct bpf_insn insn;
	struct ub_insn_aux aux;
	u32 target;    /* instruction of the old program that it jumps to, or NO_TARGET */
	bool to_entry; /* a call: to the function's entry, before what was put in front of it */
};

struct output {
	struct emitted *list;
	u32 nr, cap;
};

static int emit(struct output *out, struct bpf_insn insn, struct ub_insn_aux aux, u32 target,
		bool to_entry)
{
	if (out->nr == out->cap) {
		u32 cap = out->cap ? out->cap * 2 : 256;
		struct emitted *list = realloc(out->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		out->list = list;
		out->cap = cap;
	}
	out->list[out->nr++] = (struct emitted) { insn, aux, target, to_entry };
	return 0;
}

static int emit_plain(struct output *out, u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	struct bpf_insn insn = {
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm
	};

	return emit(out, insn, (struct ub_insn_aux) { 0 }, NO_TARGET, false);
}

static int free_register(const struct env *env, u32 i)
{
	for (int r = 0; r < BPF_REG_10; r++) {
		if (!(env->aux[i].live_before >> r & 1))
			return r;
	}
	return -1;
}

/* Reserves the counter's stack slot, and one to save a register where none is free. */
void ub_fixup_reserve(struct env *env)
{
	for (u32 i = 0; i < env->nr_insns; i++) {
		struct subprog *sub = &env->subprogs[ub_subprog_of(env, i)];
		u32 extra;

		if (!env->aux[i].seen || !ub_is_may_goto(&env->insns[i]))
			continue;
		extra = free_register(env, i) < 0 ? 16 : 8;
		if (sub->stack_extra < extra)
			sub->stack_extra = extra;
	}
}

static s16 counter_off(const struct env *env, const struct subprog *sub)
{
	return -(s16)(ub_round_up(sub->stack_depth, 8u) + 8);
}

/* Jumps to @target once the counter has run out; else counts down. */
static int emit_may_goto(struct env *env, struct output *out, u32 i, u32 target)
{
	s16 at = counter_off(env, &env->subprogs[ub_subprog_of(env, i)]);
	const struct ub_insn_aux none = { 0 };
	struct bpf_insn jump = { .code = BPF_JMP | BPF_JEQ | BPF_K };
	int r = free_register(env, i), err;

	if (r >= 0) {
		jump.dst_reg = r;
		err = emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, r, BPF_REG_10, at, 0);
		err = err ?: emit(out, jump, none, target, false);
		err = err ?: emit_plain(out, BPF_ALU64 | BPF_SUB | BPF_K, r, 0, 0, 1);
		return err ?: emit_plain(out, BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, r, at, 0);
	}
	err = emit_plain(out, BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_0, at - 8, 0);
	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_0, BPF_REG_10, at, 0);
	err = err ?: emit_plain(out, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 2, 0);
	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_0, BPF_REG_10, at - 8, 0);
	jump.code = BPF_JMP | BPF_JA;
	err = err ?: emit(out, jump, none, target, false);
	err = err ?: emit_plain(out, BPF_ALU64 | BPF_SUB | BPF_K, BPF_REG_0, 0, 0, 1);
	err = err ?: emit_plain(out, BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_0, at, 0);
	return err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_0, BPF_REG_10, at - 8, 0);
}

static int emit_jump(struct env *env, struct output *out, u32 i)
{
	struct bpf_insn insn = env->insns[i];
	u32 succ[2], n = ub_isa_successors(env->insns, i, succ);
	const struct ub_insn_aux none = { 0 };

	if (n == 1)
		return emit(out, insn, none, succ[0], false);
	/* A way that is never taken is no way. */
	if (!env->aux[succ[1]].seen)
		return 0;
	if (ub_is_may_goto(&insn))
		return emit_may_goto(env, out, i, succ[1]);
	if (!env->aux[succ[0]].seen) {
		insn = (struct bpf_insn) { .code = BPF_JMP | BPF_JA };
		return emit(out, insn, none, succ[1], false);
	}
	return emit(out, insn, none, succ[1], false);
}

/*
 * r1, a negative offset: from the network header or from the Ethernet header, by its range. Leaves
 * the distance from the latter in r1 and its address in r2; offsets below both ranges stay what
 * they are, beyond any packet.
 */
static int emit_negative_offset(struct output *out, s16 mac)
{
	int err = emit_plain(out, BPF_JMP32 | BPF_JSGE | BPF_K, 1, 0, 6, 0);

	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, 2, 6, mac, 0);
	err = err ?: emit_plain(out, BPF_JMP32 | BPF_JSLT | BPF_K, 1, 0, 2, SKF_NET_OFF);
	err = err ?: emit_plain(out, BPF_ALU | BPF_ADD | BPF_K, 1, 0, 0, -SKF_NET_OFF + ETH_HLEN);
	err = err ?: emit_plain(out, BPF_JMP | BPF_JA, 0, 0, 2, 0);
	err = err ?: emit_plain(out, BPF_JMP32 | BPF_JSLT | BPF_K, 1, 0, 1, SKF_LL_OFF);
	return err ?: emit_plain(out, BPF_ALU | BPF_ADD | BPF_K, 1, 0, 0, -SKF_LL_OFF);
}

/*
 * A packet load of classic BPF as what it means: r1 to r5 are nobody's any more, so bounds are
 * checked with them; out of bounds the function returns 0.
 */
static int emit_ld_abs(struct output *out, const struct bpf_insn *insn)
{
	const s16 at = offsetof(struct ub_skb_context, pointers);
	const s16 data = at + offsetof(struct ub_packet_pointers, data);
	const s16 data_end = at + offsetof(struct ub_packet_pointers, data_end);
	u8 size = BPF_SIZE(insn->code);
	bool indirect = BPF_MODE(insn->code) == BPF_IND;
	u32 bytes = size == BPF_B ? 1 : size == BPF_H ? 2 : 4;
	int err;

	if (indirect) {
		err = emit_plain(out, BPF_ALU | BPF_MOV | BPF_X, 1, insn->src_reg, 0, 0);
		err = err ?: emit_plain(out, BPF_ALU | BPF_ADD | BPF_K, 1, 0, 0, insn->imm);
	} else {
		err = emit_plain(out, BPF_ALU | BPF_MOV | BPF_K, 1, 0, 0, insn->imm);
	}
	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, 2, 6, data, 0);
	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | BPF_DW, 3, 6, data_end, 0);
	if (indirect || insn->imm < 0)
		err = err
			      ?: emit_negative_offset(
					 out, at + offsetof(struct ub_packet_pointers, mac));
	err = err ?: emit_plain(out, BPF_ALU64 | BPF_SUB | BPF_X, 3, 2, 0, 0);
	/* r3: bytes there are, r1: bytes before */
	err = err ?: emit_plain(out, BPF_JMP | BPF_JGT | BPF_X, 1, 3, bytes > 1 ? 6 : 5, 0);
	err = err ?: emit_plain(out, BPF_ALU64 | BPF_SUB | BPF_X, 3, 1, 0, 0);
	err = err ?: emit_plain(out, BPF_JMP | BPF_JLT | BPF_K, 3, 0, bytes > 1 ? 4 : 3, bytes);
	err = err ?: emit_plain(out, BPF_ALU64 | BPF_ADD | BPF_X, 2, 1, 0, 0);
	err = err ?: emit_plain(out, BPF_LDX | BPF_MEM | size, 0, 2, 0, 0);
	if (bytes > 1)
		err = err ?: emit_plain(out, BPF_ALU | BPF_END | BPF_TO_BE, 0, 0, 0, bytes * 8);
	err = err ?: emit_plain(out, BPF_JMP | BPF_JA, 0, 0, 2, 0);
	err = err ?: emit_plain(out, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	return err ?: emit_plain(out, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int emit_one(struct env *env, struct output *out, u32 i)
{
	struct bpf_insn insn = env->insns[i], converted;
	struct insn_aux *from = &env->aux[i];
	struct ub_insn_aux aux = { 0 };
	u8 class = BPF_CLASS(insn.code), op = BPF_OP(insn.code);
	int err;

	if (class == BPF_JMP || class == BPF_JMP32) {
		if (op == BPF_EXIT)
			return emit(out, insn, aux, NO_TARGET, false);
		if (op != BPF_CALL)
			return emit_jump(env, out, i);
		if (insn.src_reg == BPF_PSEUDO_CALL)
			return emit(out, insn, aux, i + insn.imm + 1, true);
		if (from->map_state == MAP_PTR_ONE)
			aux.const_map = 1 + from->map;
		return emit(out, insn, aux, NO_TARGET, false);
	}
	if (ub_is_ldimm64(&insn)) {
		bool func = insn.src_reg == BPF_PSEUDO_FUNC;

		err = emit(out, insn, aux, func ? i + insn.imm + 1 : NO_TARGET, func);
		return err ?: emit(out, env->insns[i + 1], aux, NO_TARGET, false);
	}
	if (class == BPF_LD)
		return emit_ld_abs(out, &insn);
	if (from->percpu == PERCPU_YES)
		aux.flags |= UB_INSN_PERCPU;
	if (from->ptr_type == PTR_TO_CTX && ub_ctx_convert(env, &insn, &converted, 1))
		insn = converted;
	return emit(out, insn, aux, NO_TARGET, false);
}

static int resolve(struct env *env, struct output *out, const u32 *place, const u32 *entry)
{
	for (u32 k = 0; k < out->nr; k++) {
		struct emitted *e = &out->list[k];
		s64 distance;

		if (e->target == NO_TARGET)
			continue;
		distance = (s64)(e->to_entry ? entry[ub_subprog_of(env, e->target)]
					     : place[e->target]) -
			   k - 1;
		if (e->to_entry || e->insn.code == (BPF_JMP32 | BPF_JA)) {
			e->insn.imm = (s32)distance;
		} else if (distance == (s16)distance) {
			e->insn.off = (s16)distance;
		} else if (e->insn.code == (BPF_JMP | BPF_JA)) {
			e->insn.code = BPF_JMP32 | BPF_JA;
			e->insn.off = 0;
			e->insn.imm = (s32)distance;
		} else {
			return ub_reject(env, -ERANGE, "jump of %lld instructions is too far\n",
					 (long long)distance);
		}
	}
	return 0;
}

static int fill(struct env *env, const struct output *out, const u32 *entry, struct ub_program *p)
{
	u32 nr = 0;

	for (u32 s = 0; s < env->nr_subprogs; s++)
		nr += env->aux[env->subprogs[s].start].seen != 0;
	free(p->aux);
	free(p->subprogs);
	p->aux = calloc(out->nr, sizeof(*p->aux));
	p->subprogs = calloc(nr, sizeof(*p->subprogs));
	if (!p->aux || !p->subprogs)
		return -ENOMEM;
	for (u32 k = 0; k < out->nr; k++) {
		p->insns[k] = out->list[k].insn;
		p->aux[k] = out->list[k].aux;
	}
	p->nr_subprogs = nr;
	nr = 0;
	for (u32 s = 0; s < env->nr_subprogs; s++) {
		const struct subprog *sub = &env->subprogs[s];

		if (!env->aux[sub->start].seen)
			continue;
		p->subprogs[nr].start = entry[s];
		p->subprogs[nr].stack_depth = ub_round_up(sub->stack_depth, 8u) + sub->stack_extra;
		p->subprogs[nr].is_callback = sub->is_cb;
		p->subprogs[nr].has_tail_call = sub->has_tail_call;
		nr++;
	}
	p->type = env->req->type;
	p->expected_attach_type = env->req->expected_attach_type;
	if (env->req->name)
		memcpy(p->name, env->req->name, strnlen(env->req->name, sizeof(p->name) - 1));
	p->nr_maps = env->nr_maps;
	for (u32 i = 0; i < env->nr_maps; i++)
		p->maps[i] = env->maps[i].attr;
	p->ctx = env->ctx_use;
	p->sleepable = env->req->prog_flags & BPF_F_SLEEPABLE;
	p->uses_tail_call = env->uses_tail_call;
	p->uses_current_task = env->uses_task;
	p->max_call_depth = env->max_call_depth;
	p->verified_insns = env->insn_processed;
	return 0;
}

int ub_fixup(struct env *env, struct ub_program **program)
{
	u32 *place = calloc(env->nr_insns + 1, sizeof(*place));
	u32 entry[UB_MAX_SUBPROGS] = { 0 };
	struct output out = { 0 };
	struct ub_program *p = NULL;
	u32 s = 0;
	int err = 0;

	if (!place)
		return -ENOMEM;
	for (u32 i = 0; !err && i < env->nr_insns; i++) {
		if (s < env->nr_subprogs && env->subprogs[s].start == i) {
			const struct subprog *sub = &env->subprogs[s];

			entry[s++] = out.nr;
			if (sub->stack_extra && env->aux[i].seen)
				err = emit_plain(&out, BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0,
						 counter_off(env, sub), MAX_LOOPS);
		}
		place[i] = out.nr;
		if (env->aux[i].seen)
			err = err ?: emit_one(env, &out, i);
		if (ub_is_ldimm64(&env->insns[i]))
			place[++i] = out.nr;
	}
	err = err ?: resolve(env, &out, place, entry);
	if (!err) {
		p = ub_program_new(out.nr);
		err = p ? fill(env, &out, entry, p) : -ENOMEM;
	}
	if (!err && env->req->place)
		memcpy(env->req->place, place, env->nr_insns * sizeof(*place));
	free(place);
	free(out.list);
	if (err) {
		ub_program_free(p);
		return err;
	}
	*program = p;
	return 0;
}
