// SPDX-License-Identifier: MIT
/*
 * Branch lengths. All branches were laid out long; the ones that reach with a byte become short,
 * which brings others into reach. Since code only ever shrinks, a branch that is short stays right,
 * and the passes end.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <jit/x86_64/compile.h>

static u32 long_length(const struct branch *branch)
{
	return branch->kind & BRANCH_CC ? 6 : 5;
}

static u32 length(const struct branch *branch)
{
	return branch->is_short ? 2 : long_length(branch);
}

/* saved[i] = bytes that branches before the i-th have given up. */
static void sum_savings(const struct compiler *c, u32 *saved)
{
	saved[0] = 0;
	for (u32 i = 0; i < c->nr_branches; i++)
		saved[i + 1] = saved[i] + long_length(&c->branches[i]) - length(&c->branches[i]);
}

/* From the end of branch @i, in the current layout, to its target. */
static s64 distance(const struct compiler *c, const u32 *saved, u32 i)
{
	const struct branch *branch = &c->branches[i];
	s64 from = (s64)branch->at - saved[i] + length(branch);
	s64 to = (s64)c->insn_at[branch->target] - saved[c->branches_before[branch->target]];

	return to - from;
}

static void choose_lengths(struct compiler *c, u32 *saved)
{
	bool changed;

	sum_savings(c, saved);
	do {
		changed = false;
		for (u32 i = 0; i < c->nr_branches; i++) {
			struct branch *branch = &c->branches[i];
			s64 far;

			if (branch->is_short || branch->kind == BRANCH_CALL)
				continue;
			far = distance(c, saved, i);
			/* Backwards, a shorter branch ends nearer to its target. */
			if (far < 0)
				far += long_length(branch) - 2;
			if (fits8(far)) {
				branch->is_short = true;
				changed = true;
			}
		}
		sum_savings(c, saved);
	} while (changed);
}

static u8 *put_branch(const struct branch *branch, u8 *at, s64 far)
{
	struct bytes b = { .at = at };

	if (branch->is_short) {
		put8(&b, branch->kind & BRANCH_CC ? 0x70 | (branch->kind & 15) : 0xeb);
		put8(&b, (u8)far);
		return b.at;
	}
	if (branch->kind & BRANCH_CC) {
		put8(&b, 0x0f);
		put8(&b, 0x80 | (branch->kind & 15));
	} else {
		put8(&b, branch->kind == BRANCH_CALL ? 0xe8 : 0xe9);
	}
	put32(&b, (u32)(s32)far);
	return b.at;
}

/* Relocations lie in order, between branches, never in one. */
static void move_relocs(const struct compiler *c, const u32 *saved, const u32 *insn_offsets)
{
	u32 branch = 0;

	for (u32 i = 0; i < c->nr_relocs; i++) {
		struct ub_reloc *reloc = &c->relocs[i];

		while (branch < c->nr_branches && c->branches[branch].at < reloc->offset)
			branch++;
		reloc->offset -= saved[branch];
		if (reloc->kind == UB_RELOC_CODE)
			reloc->addend = insn_offsets[reloc->addend];
	}
}

int shorten_branches(struct compiler *c, struct ub_code *out)
{
	_cleanup_free_ u32 *saved = malloc((c->nr_branches + 1) * sizeof(*saved));
	_cleanup_free_ u32 *offsets = malloc((c->program->nr_insns + 1) * sizeof(*offsets));
	_cleanup_free_ u8 *bytes = NULL;
	u32 size = code_len(c), from = 0;
	u8 *to;

	if (!saved || !offsets)
		return -ENOMEM;
	choose_lengths(c, saved);
	bytes = malloc(size - saved[c->nr_branches]);
	if (!bytes)
		return -ENOMEM;
	to = bytes;
	for (u32 i = 0; i < c->nr_branches; i++) {
		const struct branch *branch = &c->branches[i];

		memcpy(to, c->buf + from, branch->at - from);
		to += branch->at - from;
		to = put_branch(branch, to, distance(c, saved, i));
		from = branch->at + long_length(branch);
	}
	memcpy(to, c->buf + from, size - from);

	for (u32 pc = 0; pc <= c->program->nr_insns; pc++)
		offsets[pc] = c->insn_at[pc] - saved[c->branches_before[pc]];
	move_relocs(c, saved, offsets);

	*out = (struct ub_code) {
		.bytes = TAKE_PTR(bytes),
		.size = size - saved[c->nr_branches],
		.nr_relocs = c->nr_relocs,
		.relocs = TAKE_PTR(c->relocs),
		.insn_offsets = TAKE_PTR(offsets),
		.nr_insns = c->program->nr_insns,
	};
	return 0;
}
