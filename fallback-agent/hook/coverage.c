// SPDX-License-Identifier: MIT
#include <hook/coverage.h>

#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <hook/flow.h>
#include <hook/image_build.h>

static void elf_cleanup(struct ub_elf **elf)
{
	ub_elf_put(*elf);
}

static void insns_cleanup(struct ub_flow_insns *insns)
{
	ub_flow_insns_free(insns);
}

static void count(struct ub_coverage_counts *counts, const struct ub_plan_result *result)
{
	counts->total++;
	counts->hooked += result->tactic != UB_TACTIC_NONE;
	counts->tactics[result->tactic]++;
	counts->refusals[result->refusal]++;
}

static bool is_padding(const struct ub_decoded *insn, const u8 *byte)
{
	return (insn->flags & UB_DECODED_NOP && !(insn->flags & UB_DECODED_ENDBR)) || *byte == 0xcc;
}

static int measure_function(struct ub_elf *elf, const struct ub_elf_function *function,
			    struct ub_coverage *coverage, struct ub_planner *planner)
{
	_cleanup_(insns_cleanup) struct ub_flow_insns insns = {};
	_cleanup_free_ struct ub_exit *exits = NULL;
	u32 nr_exits = 0;
	bool leaves = false, all = true, diverted = false;
	int err = ub_flow_decode(elf, function, &insns);

	for (u32 i = 0; i < insns.nr && !err; i++) {
		const struct ub_decoded *insn = &insns.insns[i];
		struct ub_plan_result result;
		u64 size = 0;

		leaves |= insn->flow == UB_FLOW_RET || insn->flow == UB_FLOW_JUMP_MEM ||
			  (insn->flow == UB_FLOW_JUMP &&
			   (insn->target < function->start || insn->target >= function->end));
		if (i && is_padding(insn, ub_elf_bytes(elf, insn->address, &size)))
			continue;
		err = ub_planner_try(planner, insn->address, &result);
		if (err)
			break;
		count(&coverage->offsets, &result);
		if (!i)
			count(&coverage->entries, &result);
	}
	if (err || !leaves || function->fragment)
		return err;
	coverage->returning++;
	if (ub_exits_find(elf, function->start, NULL, &exits, &nr_exits, NULL)) {
		coverage->tail_jumps++;
		return 0;
	}
	for (u32 i = 0; i < nr_exits && all && !err; i++) {
		struct ub_plan_result result;

		/* Where pointers lead is known only in a process: there, most are followed. */
		diverted |= exits[i].kind == UB_EXIT_DIVERT;
		err = ub_planner_try(planner, exits[i].address, &result);
		all = !err && result.tactic != UB_TACTIC_NONE;
	}
	if (!err && !all && ub_exits_at_entry(elf, function->start)) {
		struct ub_plan_result result;

		err = ub_planner_try(planner, function->start, &result);
		all = diverted = !err && result.tactic != UB_TACTIC_NONE;
	}
	coverage->returns += all;
	coverage->diverted += all && diverted;
	return err;
}

int ub_coverage_measure(int fd, struct ub_coverage *coverage, struct ub_reason *why)
{
	_cleanup_(elf_cleanup) struct ub_elf *elf = NULL;
	struct ub_plan_options options = {};
	struct ub_planner *planner;
	int err = ub_elf_open(fd, &elf, why);

	*coverage = (struct ub_coverage) {};
	if (err)
		return err;
	/* As the image is planned: see plan_file(). */
	options.single_instruction = elf->is_go;
	planner = ub_planner_new(elf, &options);
	if (!planner)
		return -ENOMEM;
	for (u32 i = 0; i < elf->nr_functions && !err; i++)
		if (!elf->functions[i].gap)
			err = measure_function(elf, &elf->functions[i], coverage, planner);
	ub_planner_free(planner);
	if (!err && !coverage->entries.total)
		err = ub_reason_set(why, -ENOENT, "no functions: neither symbols nor .eh_frame");
	return err;
}
