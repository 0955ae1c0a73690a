// SPDX-License-Identifier: MIT
/*
 * Planning windows.
 *
 * A jump to a trampoline takes five bytes. Where the wanted instruction is shorter, its neighbours
 * are overwritten, too, and run from their copy in the trampoline; the run of instructions that one
 * jump replaces is a window. A window is entered at its start and nowhere else, so a further point
 * inside it needs no bytes of its own: its probe is emitted before that instruction's copy.
 *
 *   file:   push %rbp | mov %rsp,%rbp | sub $16,%rsp	     jmp T   | .. dead .. |
 *   copy:   T: [probe] push %rbp; mov %rsp,%rbp; sub $16,%rsp; jmp back
 *
 * Windows grow forward from the point first. Where that meets a jump target, the end of a call (its
 * return comes back there) or the end of the code, they grow backward: `pop %rbp; ret` is covered
 * together with what stands before it. Padding behind an instruction that never goes on is free to
 * use. Addresses are taken in ascending order, so one pass does, and a window that is already there
 * may grow forward, too.
 */
#include <hook/plan.h>

#include <errno.h>
#include <stdlib.h>

#include <hook/grow.h>
#include <hook/relocate.h>
#include <hook/tactics.h>

/* Appends the candidate's instructions from number @from on. */
static int add_insns(struct ub_planner *p, const struct ub_candidate *c, u32 from)
{
	struct ub_plan *plan = p->plan;
	int err;

	err = ub_grow((void **)&plan->insns, &plan->insns_capacity, plan->nr_insns + c->nr,
		      sizeof(plan->insns[0]));
	if (err)
		return err;
	for (u32 i = from; i < c->nr; i++) {
		const struct ub_decoded *insn = &p->flow.insns[c->first + i];
		u64 size = 0;

		plan->insns[plan->nr_insns++] = (struct ub_plan_insn) {
			.decoded = *insn,
			.bytes = ub_elf_bytes(p->elf, insn->address, &size),
			.point = -1,
		};
	}
	return 0;
}

static int add_window(struct ub_planner *p, const struct ub_candidate *c, enum ub_tactic tactic)
{
	struct ub_plan *plan = p->plan;
	struct ub_plan_window window = {
		.address = p->flow.insns[c->first].address,
		.len = c->len,
		.first_insn = plan->nr_insns,
		.nr_insns = c->nr,
		.claim = c->claim,
		.tactic = tactic,
		.landing = c->landing,
		.resume = c->resume,
	};
	int err;

	err = ub_grow((void **)&plan->windows, &plan->windows_capacity, plan->nr_windows + 1,
		      sizeof(plan->windows[0]));
	if (!err)
		err = add_insns(p, c, 0);
	if (err)
		return err;
	plan->windows[plan->nr_windows++] = window;
	p->last_index = c->first;
	return 0;
}

/* The last window takes in everything through instruction @through. */
static int extend_window(struct ub_planner *p, struct ub_plan_window *window, s64 through,
			 enum ub_refusal *refusal)
{
	struct ub_candidate c;
	int err;

	*refusal = ub_tactic_window(p, p->last_index, through, &c);
	if (*refusal)
		return 0;
	err = add_insns(p, &c, window->nr_insns);
	if (err)
		return err;
	window->nr_insns = c.nr;
	window->len = window->claim = c.len;
	window->resume = c.resume;
	return 0;
}

/* Decodes what is needed of the function that @address is in. */
static int load_function(struct ub_planner *p, u64 address)
{
	struct ub_elf_function *function = ub_elf_function_at(p->elf, address);
	int err;

	if (p->flow.function && address >= p->flow.function->start &&
	    address < p->flow.function->end) {
		err = ub_flow_decode_to(p->elf, address, &p->flow);
		if (err || p->flow.function == function || ub_flow_find(&p->flow, address) >= 0)
			return err;
	}
	p->last_index = -1;
	if (!function)
		return 0;
	ub_flow_scan(p->elf, function);
	ub_flow_begin(p->elf, function, &p->flow);
	err = ub_flow_decode_to(p->elf, address, &p->flow);
	if (err || !function->gap || ub_flow_find(&p->flow, address) >= 0)
		return err;
	/* Between functions there is no start to count from: believe the point. */
	p->piece = *function;
	p->piece.start = address;
	ub_flow_begin(p->elf, &p->piece, &p->flow);
	return ub_flow_decode_to(p->elf, address, &p->flow);
}

/* Marks the instruction of @window at @address as wanted. */
static bool mark(struct ub_plan *plan, const struct ub_plan_window *window, u64 address, u32 point)
{
	for (u32 i = 0; i < window->nr_insns; i++) {
		struct ub_plan_insn *insn = &plan->insns[window->first_insn + i];

		if (insn->decoded.address == address) {
			insn->point = (s32)point;
			return true;
		}
	}
	return false;
}

/* @address lies within what the last windows overwrite: one of them has it, or nobody. */
static void plan_inside(struct ub_plan *plan, u64 address, u32 point)
{
	struct ub_plan_result *result = &plan->results[point];
	u32 i = plan->nr_windows - 1;

	/* Several may have been planned at once. */
	while (i && address < plan->windows[i].address)
		i--;
	if (!mark(plan, &plan->windows[i], address, point)) {
		result->refusal = UB_REFUSED_NO_INSN;
		return;
	}
	result->tactic = UB_TACTIC_INSIDE;
	result->window = i;
}

/*
 * Plans for instruction @i by the first tactic that serves; from @free on nobody else's bytes are
 * needed. *nr: how many windows that added. Without a tactic there is a reason.
 */
static int plan_insn(struct ub_planner *p, s64 i, u64 free, struct ub_plan_result *result, u32 *nr)
{
	struct ub_plan *plan = p->plan;
	struct ub_plan_window *last =
		plan->nr_windows ? &plan->windows[plan->nr_windows - 1] : NULL;
	struct ub_candidate c, chain[UB_PUN_MAX_CHAIN];
	enum ub_refusal refusal = ub_tactic_window(p, i, i, &c), other;
	int err = 0;

	*nr = 1;
	if (!refusal) {
		result->tactic = c.nr == 1 && p->flow.insns[i].len >= UB_JUMP_LEN
					 ? UB_TACTIC_JUMP
					 : UB_TACTIC_WINDOW;
		return add_window(p, &c, result->tactic);
	}
	result->refusal = refusal;
	if (refusal == UB_REFUSED_UNMOVABLE && !ub_relocatable(&p->flow.insns[i]))
		return 0;
	if (!ub_tactic_backward(p, i, free, &c)) {
		result->tactic = UB_TACTIC_BACKWARD;
		err = add_window(p, &c, UB_TACTIC_BACKWARD);
	} else if (last && p->last_index >= 0 && last->tactic != UB_TACTIC_PUN) {
		err = extend_window(p, last, i, &other);
		if (!other)
			result->tactic = UB_TACTIC_INSIDE;
	}
	if (!err && !result->tactic) {
		other = ub_tactic_pun(p, i, &c);
		if (!other) {
			result->tactic = UB_TACTIC_PUN;
			err = add_window(p, &c, UB_TACTIC_PUN);
		} else if (other == UB_REFUSED_NO_LANDING) {
			result->refusal = other;
		}
	}
	if (!err && !result->tactic) {
		other = ub_tactic_evict(p, i, chain, nr);
		if (other == UB_REFUSED_NO_LANDING)
			result->refusal = other;
		for (u32 k = 0; k < *nr && !err && !other; k++) {
			result->tactic = UB_TACTIC_EVICT;
			err = add_window(p, &chain[k],
					 k + 1 < *nr ? UB_TACTIC_EVICT : UB_TACTIC_PUN);
		}
	}
	if (result->tactic)
		result->refusal = UB_REFUSED_NOT;
	return err ? err : p->error;
}

static int plan_one(struct ub_planner *p, u64 address, u32 point)
{
	struct ub_plan *plan = p->plan;
	struct ub_plan_result *result = &plan->results[point];
	const struct ub_plan_window *last =
		plan->nr_windows ? &plan->windows[plan->nr_windows - 1] : NULL;
	const struct ub_elf_segment *segment = ub_elf_segment_at(p->elf, address);
	/* The bytes behind an overlapping jump are part of it. */
	const u64 free = last ? last->address + last->claim : 0;
	u32 nr;
	s64 i;
	int err;

	if (!segment || !segment->executable) {
		result->refusal = UB_REFUSED_NO_CODE;
		return 0;
	}
	if (ub_tactic_go_refuses(p, address)) {
		result->refusal = UB_REFUSED_GO_STACK;
		return 0;
	}
	if (last && address < last->address + last->len) {
		plan_inside(plan, address, point);
		return 0;
	}
	if (address < free) {
		result->refusal = UB_REFUSED_TARGET;
		return 0;
	}
	err = load_function(p, address);
	if (err)
		return err;
	i = p->flow.function ? ub_flow_find(&p->flow, address) : -1;
	if (i < 0) {
		result->refusal = UB_REFUSED_NO_INSN;
		return 0;
	}
	err = plan_insn(p, i, free, result, &nr);
	if (err || !result->tactic)
		return err;
	result->window = plan->nr_windows - nr;
	return mark(plan, &plan->windows[result->window], address, point) ? 0 : -EINVAL;
}

int ub_plan_make(struct ub_elf *elf, const u64 *addresses, u32 nr,
		 const struct ub_plan_options *options, struct ub_plan *plan)
{
	struct ub_planner p = {
		.elf = elf,
		.options = options,
		.plan = plan,
		.last_index = -1,
	};
	int err = 0;

	*plan = (struct ub_plan) { .nr_results = nr };
	plan->results = calloc(nr ? nr : 1, sizeof(plan->results[0]));
	if (!plan->results)
		return -ENOMEM;
	for (u32 i = 0; i < nr && !err; i++)
		err = plan_one(&p, addresses[i], i);
	ub_flow_insns_free(&p.flow);
	ub_flow_insns_free(&p.go);
	if (err)
		ub_plan_free(plan);
	return err;
}

struct ub_planner *ub_planner_new(struct ub_elf *elf, const struct ub_plan_options *options)
{
	struct ub_planner *planner = calloc(1, sizeof(*planner));
	struct ub_plan *plan = calloc(1, sizeof(*plan));

	if (plan)
		plan->results = calloc(1, sizeof(plan->results[0]));
	if (!planner || !plan || !plan->results) {
		free(planner);
		if (plan)
			free(plan->results);
		free(plan);
		return NULL;
	}
	*planner = (struct ub_planner) {
		.elf = elf, .options = options, .plan = plan, .last_index = -1
	};
	return planner;
}

void ub_planner_free(struct ub_planner *planner)
{
	if (!planner)
		return;
	ub_flow_insns_free(&planner->flow);
	ub_flow_insns_free(&planner->go);
	ub_plan_free(planner->plan);
	free(planner->plan);
	free(planner);
}

int ub_planner_try(struct ub_planner *planner, u64 address, struct ub_plan_result *result)
{
	struct ub_plan *plan = planner->plan;
	int err;

	plan->nr_windows = 0;
	plan->nr_insns = 0;
	plan->results[0] = (struct ub_plan_result) {};
	err = plan_one(planner, address, 0);
	if (!err)
		*result = plan->results[0];
	return err;
}

void ub_plan_free(struct ub_plan *plan)
{
	free(plan->windows);
	free(plan->insns);
	free(plan->results);
	*plan = (struct ub_plan) {};
}
