// SPDX-License-Identifier: MIT
/*
 * The ways to make room for a jump, in the order in which plan.c tries them.
 */
#include <hook/tactics.h>

#include <errno.h>

#include <hook/go.h>
#include <hook/relocate.h>

#define LOWEST		 0x10000 /* vm.mmap_min_addr */
#define MAX_BACK	 5	 /* instructions before the point */
#define MAX_WINDOW_INSNS 16

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
bool ub_tactic_go_refuses(struct ub_planner *p, u64 address)
{
	struct ub_go_point point;

	return ub_go_is_code(p->elf, address) &&
	       (ub_go_look(p->elf, address, &p->go, &point) || point.refused);
}

/* Whether an instruction that is moved only because of others may fault away from its place: see
 * x86_64/null.c. */
static bool may_fault(struct ub_planner *p, const struct ub_decoded *insn)
{
	return insn->flags & UB_DECODED_NULLABLE && ub_tactic_go_refuses(p, insn->address);
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

/*
 * Tries the window that starts with instruction @first of the decoded function, contains at least
 * @through and is at least UB_JUMP_LEN bytes long.
 */
enum ub_refusal ub_tactic_window(struct ub_planner *p, s64 first, s64 through,
				 struct ub_candidate *out)
{
	const struct ub_decoded *insns = p->flow.insns;
	const struct ub_decoded *last = NULL;
	u32 len = 0;
	s64 i;

	for (i = first; i <= through || len < UB_JUMP_LEN; i++) {
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
	while (len < UB_JUMP_LEN) {
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
		if (p->options->single_instruction && insns[first].len < UB_JUMP_LEN)
			return UB_REFUSED_SAVED_IPS;
		if (function->unknown_jumps && insns[first].address != function->start)
			return UB_REFUSED_UNKNOWN_JUMPS;
	}
	*out = (struct ub_candidate) {
		.first = first,
		.nr = (u32)(i - first),
		.len = len,
		.claim = len,
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

/* Whether the jumps of the windows from @address on could lead anywhere. */
static bool could_land(struct ub_elf *elf, u64 address, const struct ub_pun_chain *chain,
		       const u8 *file)
{
	struct ub_pun_bytes bytes;
	int err = 0;

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

/* Takes places for the jumps of the windows from that of @first on, the last of which is @last. */
static enum ub_refusal land(struct ub_planner *p, const struct ub_pun_chain *chain,
			    struct ub_candidate *first, struct ub_candidate *last)
{
	const u64 address = p->flow.insns[first->first].address;
	u64 size = 0, len = 0;
	const u8 *file = ub_elf_bytes(p->elf, address, &size);
	u32 claim;

	for (u32 i = 0; i < chain->nr; i++)
		len += chain->len[i];
	claim = (u32)len + UB_JUMP_LEN - 1;
	if (!file || size < claim || !could_land(p->elf, address, chain, file))
		return UB_REFUSED_TARGET;
	if (p->options->land && !p->error) {
		p->error = p->options->land(p->options->opaque, address, chain, file,
					    &first->landing, &claim);
		if (p->error == -ENOSPC) {
			p->error = 0;
			return UB_REFUSED_NO_LANDING;
		}
	}
	claim -= (u32)(len - chain->len[chain->nr - 1]);
	last->claim = claim > last->len ? claim : last->len;
	return UB_REFUSED_NOT;
}

/* Bytes from the window's start on, through where an overlapping jump may end, that stay as they
 * are: those of instructions from number @next on. What pads the code behind them need not. */
static u32 kept_bytes(const struct ub_planner *p, u64 address, u32 len, s64 next, bool goes)
{
	const struct ub_decoded *insns = p->flow.insns;
	const u32 all = (1u << (len + UB_JUMP_LEN - 1)) - 1;
	u32 keep = 0, at = len;

	while (at < len + UB_JUMP_LEN - 1) {
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
 * high bytes of the distance; whether there is room where it leads, the process decides.
 */
enum ub_refusal ub_tactic_pun(struct ub_planner *p, s64 first, struct ub_candidate *out)
{
	const struct ub_decoded *insns = p->flow.insns;
	const struct ub_decoded *last = &insns[first];
	u64 available = 0;
	u32 len = last->len;
	struct ub_pun_chain chain;
	s64 i;

	if (!ub_relocatable(last) || len >= UB_JUMP_LEN)
		return UB_REFUSED_UNMOVABLE;
	for (i = first + 1; i < p->flow.nr; i++) {
		const struct ub_decoded *insn = &insns[i];

		if (p->options->single_instruction || p->flow.function->unknown_jumps ||
		    !goes_on(last) || is_call(last) || insn->address != last->address + last->len ||
		    is_target(p, insn->address) || !ub_relocatable(insn) ||
		    len + insn->len >= UB_JUMP_LEN)
			break;
		len += insn->len;
		last = insn;
	}
	if (!ub_elf_bytes(p->elf, insns[first].address, &available) || available < UB_JUMP_LEN + 3)
		return UB_REFUSED_END;
	if (is_needed(p, insns[first].address, len + UB_JUMP_LEN - 1))
		return UB_REFUSED_NEEDED;
	chain = (struct ub_pun_chain) {
		.nr = 1,
		.len = { len },
		.keep = kept_bytes(p, insns[first].address, len, i, goes_on(last)),
	};
	*out = (struct ub_candidate) {
		.first = first,
		.nr = (u32)(i - first),
		.len = len,
		.resume = goes_on(last) ? last->address + last->len : 0,
	};
	return land(p, &chain, out, out);
}

/*
 * Where no overlapping jump leads anywhere, the bytes behind may be made to suit: the next
 * instructions become jumps, too, whatever comes to them. @out: *nr windows.
 */
enum ub_refusal ub_tactic_evict(struct ub_planner *p, s64 first,
				struct ub_candidate out[UB_PUN_MAX_CHAIN], u32 *nr)
{
	const struct ub_decoded *insns = &p->flow.insns[first];
	struct ub_pun_chain chain = { .nr = 1, .len = { insns[0].len } };
	enum ub_refusal refusal = UB_REFUSED_TARGET, other = UB_REFUSED_NOT;
	u64 available = 0, len = insns[0].len;

	if (!ub_relocatable(insns))
		return UB_REFUSED_UNMOVABLE;
	out[0] = (struct ub_candidate) {
		.first = first, .nr = 1, .len = insns[0].len, .claim = insns[0].len
	};
	while (chain.nr < UB_PUN_MAX_CHAIN && insns[chain.nr - 1].len < UB_JUMP_LEN &&
	       first + chain.nr < p->flow.nr) {
		const u32 i = chain.nr++;
		const struct ub_decoded *insn = &insns[i];

		if (insn->address != insns[0].address + len || !ub_relocatable(insn) ||
		    may_fault(p, insn))
			other = UB_REFUSED_UNMOVABLE;
		else if (!ub_elf_bytes(p->elf, insn->address, &available) ||
			 available < insn->len + UB_JUMP_LEN)
			other = UB_REFUSED_END;
		else if (is_needed(p, insns[0].address, (u32)len + insn->len + UB_JUMP_LEN - 1))
			other = UB_REFUSED_NEEDED;
		/* That there is no memory is closer to the point. */
		if (other)
			return refusal == UB_REFUSED_NO_LANDING ? refusal : other;
		len += insn->len;
		/* Of an instruction longer than a jump the rest is dead. */
		chain.len[i] = insn->len < UB_JUMP_LEN ? insn->len : UB_JUMP_LEN;
		chain.keep = kept_bytes(p, insn->address, insn->len, first + i + 1, goes_on(insn));
		out[i - 1].resume = goes_on(&insns[i - 1]) ? insn->address : 0;
		out[i] = (struct ub_candidate) {
			.first = first + i,
			.nr = 1,
			.len = insn->len,
			.claim = insn->len,
			.resume = goes_on(insn) ? insn->address + insn->len : 0,
		};
		other = land(p, &chain, &out[0], &out[i]);
		if (!other) {
			*nr = chain.nr;
			return UB_REFUSED_NOT;
		}
		if (other == UB_REFUSED_NO_LANDING)
			refusal = other;
		other = UB_REFUSED_NOT;
	}
	return refusal;
}

/* Where a window may start before instruction @i, given that the last window ends at @free. */
enum ub_refusal ub_tactic_backward(struct ub_planner *p, s64 i, u64 free, struct ub_candidate *c)
{
	const struct ub_decoded *insns = p->flow.insns;

	for (s64 first = i - 1; first >= 0 && i - first <= MAX_BACK; first--) {
		if (insns[first].address < free || is_call(&insns[first]) ||
		    !goes_on(&insns[first]))
			break;
		if (insns[first].address + insns[first].len != insns[first + 1].address ||
		    is_target(p, insns[first + 1].address))
			break;
		if (!ub_tactic_window(p, first, i, c))
			return UB_REFUSED_NOT;
	}
	return UB_REFUSED_TARGET;
}
