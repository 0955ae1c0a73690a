// SPDX-License-Identifier: MIT
/*
 * Return probes without touching return addresses: every way out of a function is an instruction
 * that can be probed like any other.
 *
 * A `ret` of the function is the simple case. A tail jump leaves the function to another one, which
 * returns in its place. The stack pointer then still points at the same return address, so: before
 * the jump the thread notes where its return address lies (UB_EXIT_NOTE), and at each `ret` of the
 * function jumped to, and of those that it jumps to in turn, it looks whether that place is noted
 * (UB_EXIT_NOTED). Nothing on the stack changes, so exceptions, unwinders and longjmp see nothing;
 * what they skip stays noted until the place is used again.
 *
 * Jumps through the PLT are followed to where the target's GOT leads now. Where a jump can't be
 * followed (through a register, through a pointer that is not bound yet, on and on), the return
 * address is taken over right before the function's own jump (UB_EXIT_DIVERT, agent/divert.c). Go
 * moves its stacks and knows its frames by return addresses: there such functions are refused. The
 * same is done at the function's entry if one of its exits can't be hooked (ub_exits_at_entry()).
 *
 * Which instructions leave a function is found out once per file (ub_flow_ways()).
 */
#include <hook/returns.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <hook/flow.h>

#define MAX_FUNCTIONS 16

struct visit {
	struct ub_elf *elf;
	u64 start;
	bool root; /* the probed function itself: its rets are returns, whoever called */
};

struct search {
	const struct ub_exit_resolver *resolver;
	struct ub_reason *why;
	struct ub_elf *elf;
	const struct ub_elf_function *root;
	const struct ub_elf_function *cold; /* the root's part elsewhere, if it has one */
	bool lost;			    /* a jump could not be followed */
	u32 nr_visits;
	struct visit visits[MAX_FUNCTIONS];
	struct ub_exit *exits;
	u32 nr_exits;
};

static int add_exit(struct search *s, struct ub_elf *elf, u64 address, enum ub_exit_kind kind)
{
	struct ub_exit *grown;

	if (!(s->nr_exits & (s->nr_exits - 1))) {
		grown = realloc(s->exits,
				(s->nr_exits ? s->nr_exits * 2 : 1) * sizeof(s->exits[0]));
		if (!grown)
			return -ENOMEM;
		s->exits = grown;
	}
	s->exits[s->nr_exits++] = (struct ub_exit) { elf, address, kind };
	return 0;
}

static void add_visit(struct search *s, struct ub_elf *elf, u64 start, bool root)
{
	for (u32 i = 0; i < s->nr_visits; i++)
		if (s->visits[i].elf == elf && s->visits[i].start == start &&
		    s->visits[i].root == root)
			return;
	if (s->nr_visits == MAX_FUNCTIONS)
		s->lost = true;
	else
		s->visits[s->nr_visits++] = (struct visit) { elf, start, root };
}

/* Whether @part is a piece of @function that the compiler moved away (.cold): it jumps back inside.
 */
static bool jumps_back(struct ub_elf *elf, struct ub_elf_function *part,
		       const struct ub_elf_function *function)
{
	const struct ub_way *ways;
	u32 nr;

	if (ub_flow_ways(elf, part, &ways, &nr))
		return false;
	for (u32 i = 0; i < nr; i++)
		if (ways[i].kind == UB_WAY_JUMP && ways[i].to > function->start &&
		    ways[i].to < function->end)
			return true;
	return false;
}

/* The pointer that the PLT entry at @address jumps through, or 0: it is none. */
static u64 plt_pointer(struct ub_elf *elf, u64 address)
{
	struct ub_decoded insn;
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, address, &size);

	for (u32 i = 0; bytes && i < 2; i++) {
		if (ub_decode(bytes, size, address, &insn))
			return 0;
		if (insn.flow == UB_FLOW_JUMP_MEM && (insn.flags & UB_DECODED_RIP))
			return insn.mem;
		if (!(insn.flags & UB_DECODED_ENDBR))
			return 0;
		bytes += insn.len;
		size -= insn.len;
		address += insn.len;
	}
	return 0;
}

/* The second half of a PLT entry, where a pointer leads that the loader has not bound yet: push $n;
 * jmp. */
static bool is_lazy(struct ub_elf *elf, u64 address)
{
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, address, &size);

	static const u8 endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };

	if (bytes && size >= 12 && !memcmp(bytes, endbr64, sizeof(endbr64))) {
		bytes += sizeof(endbr64);
		return bytes[0] == 0x68 && (bytes[5] == 0xe9 || bytes[5] == 0xf2);
	}
	return bytes && size >= 6 && bytes[0] == 0x68 && bytes[5] == 0xe9;
}

/* A jump goes to @target in @elf, or through @pointer: follow it. */
static void follow(struct search *s, struct ub_elf *elf, u64 target, u64 pointer)
{
	const struct ub_elf_function *function = NULL;

	for (u32 hops = 0; hops < 4; hops++) {
		if (pointer) {
			struct ub_elf *to = NULL;

			if (!s->resolver ||
			    s->resolver->resolve(s->resolver->opaque, elf, pointer, &to, &target)) {
				s->lost = true;
				return;
			}
			elf = to;
		}
		function = ub_elf_function_at(elf, target);
		/* The PLT as a whole may look like a function (.eh_frame describes it). */
		pointer = plt_pointer(elf, target);
		if (!pointer)
			break;
		function = NULL;
	}
	if (!function || function->gap || is_lazy(elf, target))
		s->lost = true;
	else
		add_visit(s, elf, function->start, false);
}

static bool within(const struct ub_elf_function *function, u64 address)
{
	return function && address >= function->start && address < function->end;
}

static int visit_jump(struct search *s, const struct visit *v, const struct ub_way *way)
{
	int err;

	if (v->root && way->kind == UB_WAY_JUMP) {
		struct ub_elf_function *to = ub_elf_function_at(v->elf, way->to);

		if (within(s->root, way->to) || within(s->cold, way->to))
			return 0;
		if (to && !to->gap && !s->cold && jumps_back(v->elf, to, s->root)) {
			s->cold = to;
			add_visit(s, v->elf, to->start, true);
			return 0;
		}
	}
	err = v->root ? add_exit(s, v->elf, way->address, UB_EXIT_NOTE) : 0;
	if (way->kind == UB_WAY_UNKNOWN)
		s->lost = true;
	else
		follow(s, v->elf, way->kind == UB_WAY_JUMP ? way->to : 0,
		       way->kind == UB_WAY_POINTER ? way->to : 0);
	return err;
}

static int visit_function(struct search *s, const struct visit *v)
{
	struct ub_elf_function *function = ub_elf_function_at(v->elf, v->start);
	const struct ub_way *ways;
	u32 nr;
	int err;

	if (!function)
		return -EINVAL;
	err = ub_flow_ways(v->elf, function, &ways, &nr);
	for (u32 i = 0; !err && i < nr; i++)
		err = ways[i].kind == UB_WAY_RETURN
			      ? add_exit(s, v->elf, ways[i].address,
					 v->root ? UB_EXIT_RETURN : UB_EXIT_NOTED)
			      : visit_jump(s, v, &ways[i]);
	return err;
}

/* Not all jumps could be followed: whatever the function jumps to, its return address is taken over
 * before. */
static int divert(struct search *s)
{
	u32 kept = 0;

	if (s->elf->is_go)
		return ub_reason_set(s->why, -EOPNOTSUPP,
				     "the function leaves by a jump to code that is not known, and "
				     "in Go its return address can't be taken over, so its return "
				     "can't be seen");
	for (u32 i = 0; i < s->nr_exits; i++) {
		struct ub_exit exit = s->exits[i];

		if (exit.kind == UB_EXIT_NOTED)
			continue;
		if (exit.kind == UB_EXIT_NOTE)
			exit.kind = UB_EXIT_DIVERT;
		s->exits[kept++] = exit;
	}
	s->nr_exits = kept;
	return 0;
}

bool ub_exits_at_entry(struct ub_elf *elf, u64 address)
{
	struct ub_elf_function *function = ub_elf_function_at(elf, address);

	if (!function || function->gap || function->start != address || elf->is_go)
		return false;
	ub_flow_scan(elf, function);
	/* Only there, and only once, the stack pointer points to the return address. */
	return function->described && !function->fragment && !function->loops_to_start;
}

int ub_exits_find(struct ub_elf *elf, u64 address, const struct ub_exit_resolver *resolver,
		  struct ub_exit **exits, u32 *nr, struct ub_reason *why)
{
	_cleanup_free_ struct search *s = calloc(1, sizeof(*s));
	int err = 0;

	if (!s)
		return -ENOMEM;
	s->resolver = resolver;
	s->why = why;
	s->elf = elf;
	s->root = ub_elf_function_at(elf, address);
	if (!s->root || s->root->gap || s->root->start != address)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "no function is known to start at 0x%" PRIx64
				     ", so its ways out are not known",
				     address);
	if (s->root->fragment)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "what starts at 0x%" PRIx64
				     " is part of a function: it is jumped to, so it never returns",
				     address);
	add_visit(s, elf, address, true);
	for (u32 i = 0; i < s->nr_visits && !err; i++) {
		const struct visit v = s->visits[i];

		if (v.root || !s->lost)
			err = visit_function(s, &v);
	}
	if (!err && s->lost)
		err = divert(s);
	if (!err && !s->nr_exits)
		err = ub_reason_set(why, -EOPNOTSUPP, "the function never returns");
	if (err == -E2BIG)
		err = ub_reason_set(why, -EOPNOTSUPP,
				    "the file has more than %u returns and jumps out of functions, "
				    "which are too many to follow",
				    UB_FLOW_MAX_WAYS);
	if (err) {
		free(s->exits);
		return err;
	}
	*exits = s->exits;
	*nr = s->nr_exits;
	return 0;
}
