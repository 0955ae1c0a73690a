// SPDX-License-Identifier: MIT
/*
 * Return probes without touching return addresses: every way out of the function is an instruction
 * that can be probed like any other. Returning is `ret`. A tail jump leaves without one, and the function
 * that it goes to returns in place of ours: such functions are refused.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <hook/flow.h>
#include <hook/image_build.h>

static void insns_cleanup(struct ub_flow_insns *insns)
{
	ub_flow_insns_free(insns);
}

/* A part of the same function elsewhere (.cold), reached by jumps: one that no call and no symbol but a
 * local one names can't be told from a tail jump's target, so a part is what jumps back into the function. */
static bool jumps_back(struct ub_elf *elf, const struct ub_elf_function *part,
		       const struct ub_elf_function *function)
{
	_cleanup_(insns_cleanup) struct ub_flow_insns insns = {};

	if (ub_flow_decode(elf, part, &insns))
		return false;
	for (u32 i = 0; i < insns.nr; i++) {
		const struct ub_decoded *insn = &insns.insns[i];

		if ((insn->flow == UB_FLOW_JUMP || insn->flow == UB_FLOW_BRANCH) &&
		    insn->target > function->start && insn->target < function->end)
			return true;
	}
	return false;
}

static int add(u64 **addresses, u32 *nr, u64 address)
{
	u64 *grown;

	if (!(*nr & (*nr - 1))) {
		grown = realloc(*addresses, (*nr ? *nr * 2 : 1) * sizeof(u64));
		if (!grown)
			return -ENOMEM;
		*addresses = grown;
	}
	(*addresses)[(*nr)++] = address;
	return 0;
}

static int collect(struct ub_elf *elf, const struct ub_elf_function *function,
		   const struct ub_elf_function *whole, u64 **addresses, u32 *nr,
		   const struct ub_elf_function **cold, struct ub_reason *why)
{
	_cleanup_(insns_cleanup) struct ub_flow_insns insns = {};
	int err = ub_flow_decode(elf, function, &insns);

	if (err)
		return err;
	for (u32 i = 0; i < insns.nr; i++) {
		const struct ub_decoded *insn = &insns.insns[i];
		const struct ub_elf_function *to;

		if (insn->flow == UB_FLOW_RET) {
			err = add(addresses, nr, insn->address);
			if (err)
				return err;
			continue;
		}
		if (insn->flow == UB_FLOW_JUMP_MEM) {
			/* Within the function by a table, or away by a pointer? */
			if ((insn->flags & (UB_DECODED_RIP | UB_DECODED_TABLE_LOAD)) ==
				    UB_DECODED_RIP ||
			    !function->has_tables)
				return ub_reason_set(why, -EOPNOTSUPP,
						     "the function leaves by an indirect jump (at 0x%" PRIx64
						     "), so its return can't be seen",
						     insn->address);
			continue;
		}
		if (insn->flow != UB_FLOW_JUMP && insn->flow != UB_FLOW_BRANCH)
			continue;
		if ((insn->target >= whole->start && insn->target < whole->end) ||
		    (insn->target >= function->start && insn->target < function->end))
			continue;
		to = ub_elf_function_at(elf, insn->target);
		if (to && function == whole && (!*cold || *cold == to) && jumps_back(elf, to, whole)) {
			*cold = to;
			continue;
		}
		return ub_reason_set(why, -EOPNOTSUPP,
				     "the function leaves by a tail jump (at 0x%" PRIx64
				     "), so its return can't be seen",
				     insn->address);
	}
	return 0;
}

int ub_returns_find(struct ub_elf *elf, u64 address, u64 **addresses, u32 *nr,
		    struct ub_reason *why)
{
	const struct ub_elf_function *function = ub_elf_function_at(elf, address);
	const struct ub_elf_function *cold = NULL;
	_cleanup_free_ u64 *found = NULL;
	u32 count = 0;
	int err;

	if (!function || function->gap || function->start != address)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "no function is known to start at 0x%" PRIx64
				     ", so its ways out are not known",
				     address);
	ub_flow_scan(elf, function->start, function->end);
	err = collect(elf, function, function, &found, &count, &cold, why);
	if (!err && cold) {
		ub_flow_scan(elf, cold->start, cold->end);
		err = collect(elf, cold, function, &found, &count, &cold, why);
	}
	if (err)
		return err;
	if (!count)
		return ub_reason_set(why, -EOPNOTSUPP, "the function never returns");
	*addresses = TAKE_PTR(found);
	*nr = count;
	return 0;
}
