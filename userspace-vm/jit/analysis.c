// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <jit/analysis.h>

#define MAX_FUSED_DISTANCE 16

bool jit_inlines_lookup(const struct bpf_insn *insn, const struct facts *fact,
			const struct ub_program *program)
{
	const struct ub_map_attr *map;

	if (fact->op != UB_OP_CALL || insn->imm != BPF_FUNC_map_lookup_elem || !fact->const_map)
		return false;
	map = &program->maps[fact->const_map - 1];
	return map->key_size == 4 && map->max_entries &&
	       (map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY);
}

static u16 call_reads(const struct bpf_insn *insn, const struct facts *fact,
		      const struct ub_program *program)
{
	if (fact->op == UB_OP_CALL_LOCAL)
		return CALL_ARGS;
	switch (insn->imm) {
	case BPF_FUNC_map_lookup_elem:
		return REG_BIT(2) | (jit_inlines_lookup(insn, fact, program) ? 0 : REG_BIT(1));
	case BPF_FUNC_tail_call:
		return REG_BIT(1) | REG_BIT(2) | REG_BIT(3);
	case BPF_FUNC_get_smp_processor_id:
	case BPF_FUNC_get_current_pid_tgid:
	case BPF_FUNC_get_current_uid_gid:
	case BPF_FUNC_ktime_get_ns:
		return 0;
	default:
		return CALL_ARGS;
	}
}

u16 jit_reads(const struct bpf_insn *insn, const struct facts *fact,
	      const struct ub_program *program)
{
	u16 dst = REG_BIT(insn->dst_reg), src = REG_BIT(insn->src_reg);

	switch (ub_isa_ops[fact->op].form) {
	case UB_FORM_ALU_REG:
		return BPF_OP(insn->code) == BPF_MOV ? src : dst | src;
	case UB_FORM_ALU_IMM:
		return BPF_OP(insn->code) == BPF_MOV ? 0 : dst;
	case UB_FORM_NEG:
	case UB_FORM_END:
	case UB_FORM_JUMP_IMM:
	case UB_FORM_STORE_IMM:
		return dst;
	case UB_FORM_JUMP_REG:
	case UB_FORM_STORE:
	case UB_FORM_STORE_REL:
		return dst | src;
	case UB_FORM_ATOMIC:
		return dst | src | (insn->imm == BPF_CMPXCHG ? REG_BIT(0) : 0);
	case UB_FORM_LOAD:
	case UB_FORM_LOAD_ACQ:
		return src;
	case UB_FORM_CALL:
		return call_reads(insn, fact, program);
	case UB_FORM_EXIT:
		return REG_BIT(0);
	default:
		return 0;
	}
}

u16 jit_writes(const struct bpf_insn *insn, const struct facts *fact)
{
	switch (ub_isa_ops[fact->op].form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_ALU_IMM:
	case UB_FORM_NEG:
	case UB_FORM_END:
	case UB_FORM_LOAD:
	case UB_FORM_LOAD_ACQ:
	case UB_FORM_LD_IMM64:
		return REG_BIT(insn->dst_reg);
	case UB_FORM_ATOMIC:
		if (insn->imm == BPF_CMPXCHG)
			return REG_BIT(0);
		return insn->imm & BPF_FETCH ? REG_BIT(insn->src_reg) : 0;
	case UB_FORM_CALL:
		return CALL_ARGS | REG_BIT(0);
	default:
		return 0;
	}
}

static bool jumps(enum ub_form form)
{
	return form == UB_FORM_JA || form == UB_FORM_JA32 || form == UB_FORM_JUMP_REG ||
	       form == UB_FORM_JUMP_IMM || form == UB_FORM_MAY_GOTO;
}

static int check_insn(const struct ub_program *program, u32 pc, const struct facts *fact,
		      struct ub_reason *why)
{
	const struct bpf_insn *insn = &program->insns[pc];

	switch (fact->op) {
	case UB_OP_LD_MAP_FD:
	case UB_OP_LD_MAP_VALUE:
		if ((u32)insn->imm >= program->nr_maps)
			return ub_reason_set(why, -EINVAL, "insn %u: there is no map #%u", pc,
					     (u32)insn->imm);
		return 0;
	case UB_OP_CALL:
		if (insn->imm <= 0 || insn->imm > UINT16_MAX)
			return ub_reason_set(why, -EINVAL, "insn %u: there is no helper #%d", pc,
					     insn->imm);
		return 0;
	case UB_OP_INVALID:
	case UB_OP_CALL_KFUNC:
	case UB_OP_LD_BTF_ID:
	case UB_OP_LD_MAP_IDX:
	case UB_OP_LD_MAP_IDX_VALUE:
		return ub_reason_set(why, -EINVAL, "insn %u: opcode %02x can't be compiled", pc,
				     insn->code);
	default:
		if (ub_isa_ops[fact->op].form == UB_FORM_PACKET)
			return ub_reason_set(why, -EINVAL, "insn %u: opcode %02x can't be compiled",
					     pc, insn->code);
		return 0;
	}
}

static int decode(const struct ub_program *program, struct facts *facts, struct ub_reason *why)
{
	u32 sub = 0;
	int err;

	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		struct facts *fact = &facts[pc];

		while (sub + 1 < program->nr_subprogs && program->subprogs[sub + 1].start <= pc)
			sub++;
		fact->subprog = sub;
		fact->op = ub_isa_decode(&program->insns[pc]);
		if (ub_isa_ops[fact->op].form == UB_FORM_LD_IMM64) {
			if (pc + 1 >= program->nr_insns)
				return ub_reason_set(why, -EINVAL,
						     "insn %u: invalid bpf_ld_imm64 insn", pc);
			facts[pc + 1].flags |= FACT_SECOND;
			facts[pc + 1].subprog = sub;
		}
		err = check_insn(program, pc, fact, why);
		if (err)
			return err;
		if (facts[pc + (pc + 1 < program->nr_insns)].flags & FACT_SECOND)
			pc++;
	}
	return 0;
}

static int find_targets(const struct ub_program *program, struct facts *facts,
			struct ub_reason *why)
{
	for (u32 i = 0; i < program->nr_subprogs; i++)
		facts[program->subprogs[i].start].flags |= FACT_TARGET;
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		enum ub_form form = ub_isa_ops[facts[pc].op].form;
		s64 target;

		if (facts[pc].flags & FACT_SECOND ||
		    (!jumps(form) && facts[pc].op != UB_OP_CALL_LOCAL))
			continue;
		target = ub_isa_target(&program->insns[pc], pc);
		if (target < 0 || target >= program->nr_insns || facts[target].flags & FACT_SECOND)
			return ub_reason_set(why, -EINVAL,
					     "insn %u: jump out of range from insn %u to %lld", pc,
					     pc, (long long)target);
		facts[target].flags |= FACT_TARGET;
		if (target <= pc && jumps(form))
			facts[target].flags |= FACT_LOOP;
	}
	return 0;
}

/* Which map r1 is at each call: known from the verifier, or from the straight code before it. */
static void find_const_maps(const struct ub_program *program, struct facts *facts)
{
	u8 known[16] = { 0 }; /* 1 + map index, by register */

	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];
		struct facts *fact = &facts[pc];
		u8 moved = 0;

		if (fact->flags & FACT_SECOND)
			continue;
		if (fact->flags & FACT_TARGET) {
			for (u32 r = 0; r < ub_array_size(known); r++)
				known[r] = 0;
		}
		if (fact->op == UB_OP_CALL) {
			fact->const_map = known[1];
			if (program->aux && program->aux[pc].const_map &&
			    program->aux[pc].const_map <= program->nr_maps)
				fact->const_map = program->aux[pc].const_map;
		}
		if (fact->op == UB_OP_LD_MAP_FD)
			moved = insn->imm + 1;
		else if (fact->op == UB_OP_MOV64_REG)
			moved = known[insn->src_reg];
		for (u16 r = 0, written = jit_writes(insn, fact); written; r++, written >>= 1) {
			if (written & 1)
				known[r] = moved;
		}
	}
}

static int find_live(const struct ub_program *program, struct facts *facts)
{
	const struct bpf_insn *insns = program->insns;
	u32 nr = program->nr_insns, succ[2];
	_cleanup_free_ struct ub_isa_use *uses = calloc(nr, sizeof(*uses));
	_cleanup_free_ u16 *before = malloc(nr * sizeof(*before));
	int err;

	if (!uses || !before)
		return -ENOMEM;
	for (u32 pc = 0; pc < nr; pc++) {
		if (facts[pc].flags & FACT_SECOND)
			continue;
		uses[pc].reads = jit_reads(&insns[pc], &facts[pc], program);
		uses[pc].writes = jit_writes(&insns[pc], &facts[pc]);
	}
	err = ub_isa_live_registers(insns, nr, uses, before);
	if (err)
		return err;
	for (u32 pc = 0; pc < nr; pc++) {
		u32 n = ub_isa_successors(insns, pc, succ);

		for (u32 i = 0; i < n; i++)
			if (succ[i] < nr)
				facts[pc].live_after |= before[succ[i]];
	}
	return 0;
}

/* Constants and copies that nobody reads, typically the map of an inlined lookup. */
static void find_unused(const struct ub_program *program, struct facts *facts)
{
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		struct facts *fact = &facts[pc];

		if (fact->flags & FACT_SECOND)
			continue;
		switch (fact->op) {
		case UB_OP_LD_IMM64:
		case UB_OP_LD_MAP_FD:
		case UB_OP_LD_MAP_VALUE:
		case UB_OP_LD_FUNC:
		case UB_OP_MOV64_REG:
		case UB_OP_MOV64_IMM:
		case UB_OP_MOV32_REG:
		case UB_OP_MOV32_IMM:
			if (!(fact->live_after & REG_BIT(program->insns[pc].dst_reg)))
				fact->flags |= FACT_DEAD;
			break;
		default:
			break;
		}
	}
}

bool jit_is_change(const struct bpf_insn *insn, const struct facts *fact, u8 reg)
{
	enum ub_form form = ub_isa_ops[fact->op].form;

	if ((form != UB_FORM_ALU_IMM && form != UB_FORM_ALU_REG) || insn->dst_reg != reg)
		return false;
	switch (BPF_OP(insn->code)) {
	case BPF_ADD:
	case BPF_SUB:
	case BPF_OR:
	case BPF_AND:
	case BPF_XOR:
		return form == UB_FORM_ALU_IMM || insn->src_reg != reg;
	default:
		return false;
	}
}

/* Whether an instruction between a load and its store lets the load move down to the store: it has
 * no side effect but on registers and other memory, and clobbers nothing in passing. */
static bool is_harmless(const struct ub_program *program, const struct facts *facts, u32 load,
			u32 pc)
{
	const struct bpf_insn *insn = &program->insns[pc], *first = &program->insns[load];
	s32 size = (s32)ub_isa_access_size(insn), first_size = (s32)ub_isa_access_size(first);

	switch (ub_isa_ops[facts[pc].op].form) {
	case UB_FORM_ALU_REG:
		return BPF_OP(insn->code) == BPF_MOV || BPF_OP(insn->code) == BPF_MUL ||
		       jit_is_change(insn, &facts[pc], insn->dst_reg);
	case UB_FORM_ALU_IMM:
		return BPF_OP(insn->code) != BPF_DIV && BPF_OP(insn->code) != BPF_MOD;
	case UB_FORM_NEG:
	case UB_FORM_END:
	case UB_FORM_LOAD:
	case UB_FORM_LD_IMM64:
		return true;
	case UB_FORM_STORE:
	case UB_FORM_STORE_IMM:
		/* Elsewhere for certain: the stack, or beside the value. */
		return insn->dst_reg == 10 ||
		       (insn->dst_reg == first->src_reg &&
			(insn->off + size <= first->off || first->off + first_size <= insn->off));
	default:
		return false;
	}
}

static bool is_percpu(const struct ub_program *program, u32 pc)
{
	return program->aux[pc].flags & UB_INSN_PERCPU;
}

/* The store that ends the read-modify-write which begins with the load at @load, or 0. */
static u32 find_store(const struct ub_program *program, const struct facts *facts, u32 load)
{
	const struct bpf_insn *first = &program->insns[load];
	u16 value = REG_BIT(first->dst_reg), base = REG_BIT(first->src_reg), operands = 0;
	u32 nr_changes = 0;

	if (value == base)
		return 0;
	for (u32 pc = load + 1; pc < program->nr_insns && pc - load <= MAX_FUSED_DISTANCE; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];
		const struct facts *fact = &facts[pc];

		if (fact->flags & FACT_SECOND)
			continue;
		if (fact->flags & FACT_TARGET)
			return 0;
		if (ub_isa_ops[fact->op].form == UB_FORM_STORE && insn->src_reg == first->dst_reg) {
			bool same = insn->dst_reg == first->src_reg && insn->off == first->off &&
				    BPF_SIZE(insn->code) == BPF_SIZE(first->code);

			return same && nr_changes && is_percpu(program, pc) ? pc : 0;
		}
		/* The dead may be another one's changes: its store needs the operands that they name. */
		if (!(fact->flags & FACT_DEAD) && jit_is_change(insn, fact, first->dst_reg)) {
			/* A 32-bit operation would clear the upper half of 64 bits in memory. */
			if (BPF_SIZE(first->code) == BPF_DW && BPF_CLASS(insn->code) == BPF_ALU)
				return 0;
			if (BPF_SRC(insn->code) == BPF_X)
				operands |= REG_BIT(insn->src_reg);
			nr_changes++;
			continue;
		}
		if (!is_harmless(program, facts, load, pc) ||
		    jit_reads(insn, fact, program) & value ||
		    jit_writes(insn, fact) & (value | base | operands))
			return 0;
	}
	return 0;
}

/*
 * r = *p; r += x; *p = r on a per-CPU value. In the kernel nothing runs on that CPU in between;
 * here another thread may, and its update would be lost. So the store becomes the operation,
 * locked, and the load and the change disappear. Compilers interleave several of these and other
 * instructions.
 *
 * A plain operation in a restartable sequence (rseq) is 1.3 ns cheaper than a locked one (0.8 for
 * 2.2), and wrong: it is exact only if nobody changes the value from another CPU, and a thread
 * without rseq (Go, musl, older glibc) does when it is moved between asking for its CPU and the
 * operation, as does one with it that is moved while its program runs. Values are shared by all
 * processes that a program is attached to, so one such thread is enough.
 *
 * Nor can each thread count on a copy of its own that readers add up: a program is given a pointer,
 * behind which it expects what all have added on its CPU, and who sets a value would have to reset
 * everybody's copies in the same instant.
 */
static void find_fused(const struct ub_program *program, struct facts *facts)
{
	for (u32 pc = 0; program->aux && pc < program->nr_insns; pc++) {
		const struct bpf_insn *load = &program->insns[pc];
		struct facts *fact = &facts[pc];
		u32 store, nr_changes = 0;

		if (fact->flags & (FACT_SECOND | FACT_DEAD) || !is_percpu(program, pc) ||
		    ub_isa_ops[fact->op].form != UB_FORM_LOAD || BPF_MODE(load->code) != BPF_MEM)
			continue;
		store = find_store(program, facts, pc);
		if (!store)
			continue;
		for (u32 i = pc + 1; i < store; i++)
			nr_changes += jit_is_change(&program->insns[i], &facts[i], load->dst_reg);
		facts[store].fused = store - pc;
		/* Several changes of a value that is used later: that use gets the value as loaded
		 * here. */
		if (nr_changes > 1 && facts[store].live_after & REG_BIT(load->dst_reg))
			continue;
		fact->flags |= FACT_DEAD;
		for (u32 i = pc + 1; i < store; i++) {
			if (jit_is_change(&program->insns[i], &facts[i], load->dst_reg))
				facts[i].flags |= FACT_DEAD;
		}
	}
}

int jit_analyse(const struct ub_program *program, struct facts *facts, struct ub_reason *why)
{
	int err;

	err = decode(program, facts, why);
	if (err)
		return err;
	err = find_targets(program, facts, why);
	if (err)
		return err;
	find_const_maps(program, facts);
	err = find_live(program, facts);
	if (err)
		return err;
	find_unused(program, facts);
	find_fused(program, facts);
	return 0;
}
