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
#include <string.h>

#include <hook/flow.h>
#include <hook/go.h>
#include <hook/grow.h>
#include <hook/pun.h>
#include <hook/relocate.h>

#define JUMP_LEN	 5
#define LOWEST		 0x10000 /* vm.mmap_min_addr */
#define MAX_BACK	 5	 /* instructions before the point */
#define MAX_WINDOW_INSNS 16

struct ub_planner {
	struct ub_elf *elf;
	const struct ub_plan_options *options;
	struct ub_plan *plan;
	struct ub_flow_insns flow;
	struct ub_flow_insns go;      /* for ub_go_look() */
	struct ub_elf_function piece; /* a gap from a point on, decoded as a function */
	/* Where the last window's instructions lie in flow, if they are of the function in there.
	 */
	s64 last_index;
};

static bool is_stop(const struct ub_plan_options *options, u64 address)
{
	u32 low = 0, high = options->nr_stops;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (options->stops[middle] == address)
			return true;
		if (options->stops[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static bool is_target(const struct ub_planner *p, u64 address)
{
	return ub_elf_is_target(p->elf, address) || is_stop(p->options, address);
}

/* Length of the padding instruction at @address, or 0. */
static u32 filler(const struct ub_planner *p, u64 address)
{
	u64 size = 0;
	const u8 *bytes;
	struct ub_decoded insn;

	if (is_target(p, address))
		return 0;
	bytes = ub_elf_bytes(p->elf, address, &size);
	if (!bytes)
		return 0;
	if (*bytes == 0xcc)
		return 1;
	/* Zeros pad up to an aligned address; from one on they are a table (hand-written code keeps
	 * its constants there). */
	if (*bytes == 0x00 && address % 4)
		return 1;
	if (ub_decode(bytes, size, address, &insn) || !(insn.flags & UB_DECODED_NOP) ||
	    (insn.flags & UB_DECODED_ENDBR))
		return 0;
	for (u32 i = 1; i < insn.len; i++)
		if (is_target(p, address + i))
			return 0;
	return insn.len;
}

static bool goes_on(const struct ub_decoded *insn)
{
	return insn->flow == UB_FLOW_NEXT || insn->flow == UB_FLOW_BRANCH ||
	       insn->flow == UB_FLOW_CALL || insn->flow == UB_FLOW_CALL_MEM;
}

/* Whether a trampoline finds nothing to work with at @address. */
static bool is_go_refused(struct ub_planner *p, u64 address)
{
	struct ub_go_point point;

	return ub_go_is_code(p->elf, address) &&
	       (ub_go_look(p->elf, address, &p->go, &point) || point.refused);
}

/* Whether an instruction that is moved only because of others may fault away from its place: see
 * x86_64/null.c. */
static bool may_fault(struct ub_planner *p, const struct ub_decoded *insn)
{
	return insn->flags & UB_DECODED_NULLABLE && is_go_refused(p, insn->address);
}

static bool is_call(const struct ub_decoded *insn)
{
	return insn->flow == UB_FLOW_CALL || insn->flow == UB_FLOW_CALL_MEM;
}

/* Whether the @len bytes at @address hold what the surgeon makes system calls by. */
static bool is_needed(const struct ub_planner *p, u64 address, u32 len)
{
	for (u32 i = 0; i < ub_array_size(p->elf->gadgets); i++) {
		const struct ub_elf_gadget *gadget = &p->elf->gadgets[i];

		if (address < gadget->address + gadget->len && gadget->address < address + len)
			return true;
	}
	return false;
}

struct candidate {
	s64 first; /* in flow */
	u32 nr;
	u32 len; /* with padding */
	u32 keep;
	u64 resume;
};

/*
 * Tries the window that starts with instruction @first of the decoded function, contains at least
 * @through and is at least JUMP_LEN bytes long.
 */
static enum ub_refusal try_window(struct ub_planner *p, s64 first, s64 through,
				  struct candidate *out)
{
	const struct ub_decoded *insns = p->flow.insns;
	const struct ub_decoded *last = NULL;
	u32 len = 0;
	s64 i;

	for (i = first; i <= through || len < JUMP_LEN; i++) {
		const struct ub_decoded *insn = &insns[i];

		if (last && !goes_on(last))
			break;
		if (i >= p->flow.nr || i - first >= MAX_WINDOW_INSNS)
			return UB_REFUSED_END;
		if (last && insn->address != last->address + last->len)
			return UB_REFUSED_NO_INSN;
		if (last && is_call(last))
			return UB_REFUSED_CALL;
		if (last && is_target(p, insn->address))
			return UB_REFUSED_TARGET;
		if (!ub_relocatable(insn))
			return UB_REFUSED_UNMOVABLE;
		len += insn->len;
		last = insn;
	}
	if (i <= through)
		return UB_REFUSED_END;
	while (len < JUMP_LEN) {
		u32 padding = filler(p, insns[first].address + len);

		if (!padding)
			return is_target(p, insns[first].address + len) ? UB_REFUSED_TARGET
									: UB_REFUSED_END;
		len += padding;
	}
	if (is_needed(p, insns[first].address, len))
		return UB_REFUSED_NEEDED;
	if (i - first > 1) {
		const struct ub_elf_function *function = p->flow.function;

		for (s64 k = first; k < i; k++)
			if (may_fault(p, &insns[k]))
				return UB_REFUSED_SAVED_IPS;

		/* Whoever comes back to an instruction whose bytes are as they were does no harm.
		 */
		if (p->options->single_instruction && insns[first].len < JUMP_LEN)
			return UB_REFUSED_SAVED_IPS;
		if (function->unknown_jumps && insns[first].address != function->start)
			return UB_REFUSED_UNKNOWN_JUMPS;
	}
	*out = (struct candidate) {
		.first = first,
		.nr = (u32)(i - first),
		.len = len,
		.resume = goes_on(last) ? last->address + last->len : 0,
	};
	return UB_REFUSED_NOT;
}

/* Whether some of the addresses [@from, @to] may be free in a process: outside of the file itself
 * and, where it is loaded is known, not below what can be mapped. */
static bool may_be_free(const struct ub_elf *elf, u64 from, u64 to)
{
	u64 low = UINT64_MAX, high = 0;

	for (u32 i = 0; i < elf->nr_segments; i++) {
		const struct ub_elf_segment *segment = &elf->segments[i];

		low = segment->address < low ? segment->address : low;
		high = segment->address + segment->size > high ? segment->address + segment->size
							       : high;
	}
	if (!elf->position_independent && (s64)from < LOWEST)
		from = LOWEST;
	if (!elf->position_independent && (s64)to < LOWEST)
		return false;
	return (s64)from < (s64)low || (s64)to >= (s64)high;
}

/* Whether the jumps of the windows from @address on can lead anywhere. */
static bool pun_leads_somewhere(struct ub_elf *elf, u64 address, const struct ub_pun_chain *chain)
{
	u64 size = 0, len = 0;
	const u8 *file = ub_elf_bytes(elf, address, &size);
	struct ub_pun_bytes bytes;
	int err = 0;

	for (u32 i = 0; i < chain->nr; i++)
		len += chain->len[i];
	if (!file || size < len + JUMP_LEN - 1)
		return false;
	for (u32 choice = 0; err != -ENOENT; choice++) {
		u32 good = 0;

		err = ub_pun_choose(chain, file, choice, &bytes);
		for (u32 i = 0; i < chain->nr && !err; i++) {
			const u32 from = bytes.distance[i];
			u32 rel = 0, span = 0;
			u64 low;

			for (u32 k = 0; k < 4; k++) {
				if (bytes.fixed >> (from + k) & 1)
					rel |= (u32)bytes.value[from + k] << 8 * k;
				else
					span |= 0xffu << 8 * k;
			}
			low = address + from + 4 + (u64)(s64)(s32)rel;
			good += span >> 24 || may_be_free(elf, low, low + span);
		}
		if (!err && good == chain->nr)
			return true;
	}
	return false;
}

/* Bytes from the window's start on, through where an overlapping jump may end, that stay as they are: those of
 * instructions from number @next on. What pads the code behind them need not. */
static u32 kept_bytes(const struct ub_planner *p, u64 address, u32 len, s64 next, bool goes)
{
	const struct ub_decoded *insns = p->flow.insns;
	const u32 all = (1u << (len + JUMP_LEN - 1)) - 1;
	u32 keep = 0, at = len;

	while (at < len + JUMP_LEN - 1) {
		if (!goes) {
			const u32 padding = filler(p, address + at);

			if (!padding)
				return (keep | ~((1u << at) - 1)) & all;
			at += padding;
		} else if (next < p->flow.nr && insns[next].address == address + at) {
			keep |= ((1u << insns[next].len) - 1) << at;
			at += insns[next].len;
			goes = goes_on(&insns[next++]);
		} else {
			return (keep | ~((1u << at) - 1)) & all;
		}
	}
	return keep & all;
}

/*
 * Jumps that overlap what follows (punning, e9patch, PLDI'20): the window is shorter than a jump,
 * whose last bytes are the first bytes of the next instruction, as they are. They decide about the
 * high bytes of the distance; whether there is room where it leads is found out when the image is
 * built.
 */
static enum ub_refusal try_pun(const struct ub_planner *p, s64 first, struct candidate *out)
{
	const struct ub_decoded *insns = p->flow.insns;
	const struct ub_decoded *last = &insns[first];
	u64 available = 0;
	u32 len = last->len, keep;
	struct ub_pun_chain chain;
	s64 i;

	if (!ub_relocatable(last) || len >= JUMP_LEN)
		return UB_REFUSED_UNMOVABLE;
	for (i = first + 1; i < p->flow.nr; i++) {
		const struct ub_decoded *insn = &insns[i];

		if (p->options->single_instruction || p->flow.function->unknown_jumps ||
		    !goes_on(last) || is_call(last) || insn->address != last->address + last->len ||
		    is_target(p, insn->address) || !ub_relocatable(insn) ||
		    len + insn->len >= JUMP_LEN)
			break;
		len += insn->len;
		last = insn;
	}
	if (!ub_elf_bytes(p->elf, insns[first].address, &available) || available < JUMP_LEN + 3)
		return UB_REFUSED_END;
	if (is_needed(p, insns[first].address, len + JUMP_LEN - 1))
		return UB_REFUSED_NEEDED;
	keep = kept_bytes(p, insns[first].address, len, i, goes_on(last));
	chain = (struct ub_pun_chain) { .nr = 1, .len = { len }, .keep = keep };
	if (!pun_leads_somewhere(p->elf, insns[first].address, &chain))
		return UB_REFUSED_TARGET;
	*out = (struct candidate) {
		.first = first,
		.nr = (u32)(i - first),
		.len = len,
		.keep = keep,
		.resume = goes_on(last) ? last->address + last->len : 0,
	};
	return UB_REFUSED_NOT;
}

/*
 * Where no overlapping jump leads anywhere, the bytes behind may be made to suit: the next instructions
 * become jumps, too, whatever comes to them. @out: *nr windows.
 */
static enum ub_refusal try_evict(struct ub_planner *p, s64 first,
				 struct candidate out[UB_PUN_MAX_CHAIN], u32 *nr)
{
	const struct ub_decoded *insns = &p->flow.insns[first];
	struct ub_pun_chain chain = { .nr = 1, .len = { insns[0].len } };
	u64 available = 0, len = insns[0].len;

	if (!ub_relocatable(insns))
		return UB_REFUSED_UNMOVABLE;
	out[0] = (struct candidate) { .first = first, .nr = 1, .len = insns[0].len };
	while (chain.nr < UB_PUN_MAX_CHAIN && insns[chain.nr - 1].len < JUMP_LEN &&
	       first + chain.nr < p->flow.nr) {
		const u32 i = chain.nr++;
		const struct ub_decoded *insn = &insns[i];

		if (insn->address != insns[0].address + len || !ub_relocatable(insn) ||
		    may_fault(p, insn))
			return UB_REFUSED_UNMOVABLE;
		if (!ub_elf_bytes(p->elf, insn->address, &available) ||
		    available < insn->len + JUMP_LEN)
			return UB_REFUSED_END;
		len += insn->len;
		if (is_needed(p, insns[0].address, (u32)len + JUMP_LEN - 1))
			return UB_REFUSED_NEEDED;
		chain.len[i] = insn->len;
		chain.keep = kept_bytes(p, insn->address, insn->len, first + i + 1, goes_on(insn));
		out[i - 1].resume = goes_on(&insns[i - 1]) ? insn->address : 0;
		out[i] = (struct candidate) {
			.first = first + i,
			.nr = 1,
			.len = insn->len,
			.keep = chain.keep,
			.resume = goes_on(insn) ? insn->address + insn->len : 0,
		};
		if (!pun_leads_somewhere(p->elf, insns[0].address, &chain))
			continue;
		*nr = chain.nr;
		return UB_REFUSED_NOT;
	}
	return UB_REFUSED_TARGET;
}

/* Appends the candidate's instructions from number @from on. */
static int add_insns(struct ub_planner *p, const struct candidate *c, u32 from)
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

static int add_window(struct ub_planner *p, const struct candidate *c, enum ub_tactic tactic)
{
	struct ub_plan *plan = p->plan;
	struct ub_plan_window window = {
		.address = p->flow.insns[c->first].address,
		.len = c->len,
		.first_insn = plan->nr_insns,
		.nr_insns = c->nr,
		.keep = c->keep,
		.claim = tactic == UB_TACTIC_PUN && c->len < JUMP_LEN + UB_PUN_MAX_PREFIXES
				 ? c->len + JUMP_LEN - 1
				 : c->len,
		.tactic = tactic,
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
	struct candidate c;
	int err;

	*refusal = try_window(p, p->last_index, through, &c);
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

static int load_function(struct ub_planner *p, u64 address)
{
	const struct ub_elf_function *function = ub_elf_function_at(p->elf, address);
	int err;

	if (p->flow.function && address >= p->flow.function->start &&
	    address < p->flow.function->end &&
	    (p->flow.function == function || ub_flow_find(&p->flow, address) >= 0))
		return 0;
	p->last_index = -1;
	if (!function)
		return 0;
	ub_flow_scan(p->elf, function->start, function->end);
	err = ub_flow_decode(p->elf, function, &p->flow);
	if (err || !function->gap || ub_flow_find(&p->flow, address) >= 0)
		return err;
	/* Between functions there is no start to count from: believe the point. */
	p->piece = *function;
	p->piece.start = address;
	return ub_flow_decode(p->elf, &p->piece, &p->flow);
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

/* Where a window may start before instruction @i, given that the last window ends at @free. */
static enum ub_refusal try_backward(struct ub_planner *p, s64 i, u64 free, struct candidate *c)
{
	const struct ub_decoded *insns = p->flow.insns;

	for (s64 first = i - 1; first >= 0 && i - first <= MAX_BACK; first--) {
		if (insns[first].address < free || is_call(&insns[first]) ||
		    !goes_on(&insns[first]))
			break;
		if (insns[first].address + insns[first].len != insns[first + 1].address ||
		    is_target(p, insns[first + 1].address))
			break;
		if (!try_window(p, first, i, c))
			return UB_REFUSED_NOT;
	}
	return UB_REFUSED_TARGET;
}

static int plan_one(struct ub_planner *p, u64 address, u32 point)
{
	struct ub_plan *plan = p->plan;
	struct ub_plan_result *result = &plan->results[point];
	struct ub_plan_window *last =
		plan->nr_windows ? &plan->windows[plan->nr_windows - 1] : NULL;
	const struct ub_elf_segment *segment = ub_elf_segment_at(p->elf, address);
	u64 end = last ? last->address + last->len : 0;
	/* The bytes behind an overlapping jump are part of it: it starts with the window's last
	 * byte at the latest. */
	u64 free = last ? last->address + last->claim : 0;
	struct candidate c, chain[UB_PUN_MAX_CHAIN];
	u32 nr = 1; /* windows */
	enum ub_refusal refusal, other;
	s64 i;
	int err;

	if (!segment || !segment->executable) {
		result->refusal = UB_REFUSED_NO_CODE;
		return 0;
	}
	if (is_go_refused(p, address)) {
		result->refusal = UB_REFUSED_GO_STACK;
		return 0;
	}
	if (address < end) {
		/* Several may have been planned at once. */
		while (last > plan->windows && address < last->address)
			last--;
		if (mark(plan, last, address, point)) {
			result->tactic = UB_TACTIC_INSIDE;
			result->window = (u32)(last - plan->windows);
		} else {
			result->refusal = UB_REFUSED_NO_INSN;
		}
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
	refusal = try_window(p, i, i, &c);
	if (!refusal) {
		result->tactic = c.nr == 1 && p->flow.insns[i].len >= JUMP_LEN ? UB_TACTIC_JUMP
									       : UB_TACTIC_WINDOW;
		err = add_window(p, &c, result->tactic);
	} else if (refusal != UB_REFUSED_UNMOVABLE || ub_relocatable(&p->flow.insns[i])) {
		if (!try_backward(p, i, free, &c)) {
			result->tactic = UB_TACTIC_BACKWARD;
			err = add_window(p, &c, UB_TACTIC_BACKWARD);
		} else if (last && p->last_index >= 0 && last->tactic != UB_TACTIC_PUN) {
			err = extend_window(p, last, i, &other);
			if (!other)
				result->tactic = UB_TACTIC_INSIDE;
		}
		if (!err && !result->tactic && !try_pun(p, i, &c)) {
			result->tactic = UB_TACTIC_PUN;
			err = add_window(p, &c, UB_TACTIC_PUN);
		}
		if (!err && !result->tactic && !try_evict(p, i, chain, &nr)) {
			result->tactic = UB_TACTIC_EVICT;
			for (u32 k = 0; k < nr && !err; k++)
				err = add_window(p, &chain[k],
						 k + 1 < nr ? UB_TACTIC_EVICT : UB_TACTIC_PUN);
		}
	}
	if (err)
		return err;
	if (!result->tactic) {
		result->refusal = refusal;
		return 0;
	}
	result->window = plan->nr_windows - nr;
	if (!mark(plan, &plan->windows[result->window], address, point))
		return -EINVAL;
	return 0;
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
