// SPDX-License-Identifier: MIT
/*
 * Where control goes, and which registers matter where.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <isa/isa.h>

u32 ub_isa_successors(const struct bpf_insn *insns, u32 pc, u32 succ[2])
{
	const struct bpf_insn *insn = &insns[pc];
	u8 class = BPF_CLASS(insn->code), op = BPF_OP(insn->code);

	if (class != BPF_JMP && class != BPF_JMP32) {
		succ[0] = pc + (insn->code == (BPF_LD | BPF_IMM | BPF_DW) ? 2 : 1);
		return 1;
	}
	if (insn->code == (BPF_JMP | BPF_EXIT))
		return 0;
	succ[0] = pc + 1;
	if (op == BPF_CALL)
		return 1;
	succ[op != BPF_JA] = (u32)ub_isa_target(insn, pc);
	return op == BPF_JA ? 1 : 2;
}

/* The instructions that control comes from: those of @pc are from[first[pc]] .. from[first[pc + 1] - 1]. */
struct predecessors {
	u32 *first;
	u32 *from;
};

static void free_predecessors(struct predecessors *p)
{
	free(p->first);
	free(p->from);
}

static int find_predecessors(const struct bpf_insn *insns, u32 nr, struct predecessors *p)
{
	u32 succ[2], n;

	p->first = calloc(nr + 2ul, sizeof(*p->first));
	p->from = malloc(2ul * nr * sizeof(*p->from));
	if (!p->first || !p->from)
		return -ENOMEM;
	/* Two further than they belong; counting along while they are filled in moves them one down. */
	for (u32 pc = 0; pc < nr; pc++) {
		n = ub_isa_successors(insns, pc, succ);
		for (u32 i = 0; i < n; i++)
			if (succ[i] < nr)
				p->first[succ[i] + 2]++;
	}
	for (u32 pc = 2; pc <= nr; pc++)
		p->first[pc] += p->first[pc - 1];
	for (u32 pc = 0; pc < nr; pc++) {
		n = ub_isa_successors(insns, pc, succ);
		for (u32 i = 0; i < n; i++)
			if (succ[i] < nr)
				p->from[p->first[succ[i] + 1]++] = pc;
	}
	return 0;
}

/*
 * Only what comes before an instruction that changed is looked at again. Each changes at most once
 * per register, so the time is linear, however the blocks of a program lie: passes over the whole
 * of it, until nothing changes, take hours for blocks in reverse order.
 */
int ub_isa_live_registers(const struct bpf_insn *insns, u32 nr, const struct ub_isa_use *uses,
			  u16 *before)
{
	_cleanup_(free_predecessors) struct predecessors p = { 0 };
	_cleanup_free_ u32 *todo = malloc(nr * sizeof(*todo));
	_cleanup_free_ u8 *listed = malloc(nr);
	u32 left = nr, succ[2];
	int err;

	if (!todo || !listed)
		return -ENOMEM;
	err = find_predecessors(insns, nr, &p);
	if (err)
		return err;
	for (u32 pc = 0; pc < nr; pc++) {
		todo[pc] = pc;
		listed[pc] = true;
		before[pc] = 0;
	}
	while (left) {
		u32 pc = todo[--left], n = ub_isa_successors(insns, pc, succ);
		u16 live = 0;

		listed[pc] = false;
		for (u32 i = 0; i < n; i++)
			if (succ[i] < nr)
				live |= before[succ[i]];
		live = (live & ~uses[pc].writes) | uses[pc].reads;
		if (live == before[pc])
			continue;
		before[pc] = live;
		for (u32 i = p.first[pc]; i < p.first[pc + 1]; i++) {
			if (!listed[p.from[i]]) {
				listed[p.from[i]] = true;
				todo[left++] = p.from[i];
			}
		}
	}
	return 0;
}
