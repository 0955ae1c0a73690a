// SPDX-License-Identifier: MIT
/*
 * Finding jump targets.
 *
 * A window of several instructions may be overwritten only if nothing enters it in the middle. Ways
 * in, and who finds them:
 *
 *   32-bit jumps, branches, calls   any byte sequence that could be one, over all code
 *                                   (elf_analysis.c)
 *   8-bit jumps, branches, loops    decoding all functions within their reach (here)
 *   function starts, labels         symbols and .eh_frame (elf_analysis.c)
 *   code addresses in data          relocations, absolute words in fixed-address files
 *                                   (elf_analysis.c)
 *   tables of distances (switch)    here: each address that the function computes with lea is
 *                                   tried as a table of 32-bit distances from itself, as long as
 *                                   they lead into code
 *   landing pads                    exception tables (eh_frame.c)
 *   returns from calls              the planner: a call is the last of a window, never before
 *
 * All of them err towards too many targets. A function that jumps by a table that was not
 * recognised is marked unknown_jumps: then only its entry may be a window of several instructions.
 */
#include <hook/flow.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hook/eh_frame.h>
#include <hook/grow.h>

#define SHORT_REACH   130	  /* bytes that an 8-bit jump bridges, instruction included */
#define MAX_TABLE     65536	  /* entries of a jump table */
#define MAX_TABLES    (1u << 20)  /* of all tables of a function */
#define MAX_DECODED   (16u << 20) /* bytes of a function looked at: no real one is larger */
#define TABLE_WINDOW  12	  /* instructions from a table load to its jump */
#define OPCODE_MOVSXD 0x63

/* Distances from @table that lead into code. Returns how many. */
static u32 read_table(struct ub_elf *elf, u64 table, u32 *left)
{
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, table, &size);
	u32 nr = 0;

	if (!bytes)
		return 0;
	for (; nr < MAX_TABLE && *left && size >= 4; bytes += 4, size -= 4, nr++, --*left) {
		const struct ub_elf_segment *segment;
		s32 distance;

		memcpy(&distance, bytes, sizeof(distance));
		segment = ub_elf_segment_at(elf, table + (u64)(s64)distance);
		if (!distance || !segment || !segment->executable)
			break;
		ub_elf_add_target(elf, table + (u64)(s64)distance);
	}
	return nr;
}

/* Loads from tables, on the way through a function. */
struct table_loads {
	u32 since; /* instructions ago */
	bool distances;
};

/* Jumps through registers stay inside the function where they go by one of its own tables: of
 * distances (loaded with movslq), or of addresses, if data holds any that lead inside of it. */
static bool by_own_table(const struct ub_elf_function *function, struct ub_elf *elf,
			 const struct table_loads *loads)
{
	return loads->since < TABLE_WINDOW &&
	       (loads->distances || ub_elf_has_label(elf, function->start + 1, function->end));
}

static void add_way(struct ub_elf *elf, struct ub_elf_function *function, const struct ub_way *way)
{
	const u32 nr = function->nr_ways;

	if (elf->nr_ways == UB_FLOW_MAX_WAYS) {
		function->too_many = true;
		return;
	}
	if (!(nr & (nr - 1))) {
		struct ub_way *grown = realloc(function->ways, (nr ? nr * 2 : 1) * sizeof(*grown));

		if (!grown) {
			function->no_memory = true;
			return;
		}
		function->ways = grown;
	}
	function->ways[function->nr_ways++] = *way;
	elf->nr_ways++;
}

static void note_way(struct ub_elf *elf, struct ub_elf_function *function,
		     const struct ub_decoded *insn, const struct table_loads *loads)
{
	struct ub_way way = { .address = insn->address };

	switch (insn->flow) {
	case UB_FLOW_RET:
		way.kind = UB_WAY_RETURN;
		break;
	case UB_FLOW_JUMP:
	case UB_FLOW_BRANCH:
		if (insn->target >= function->start && insn->target < function->end)
			return;
		way.kind = UB_WAY_JUMP;
		way.to = insn->target;
		break;
	case UB_FLOW_JUMP_MEM:
		way.kind = insn->flags & UB_DECODED_RIP ? UB_WAY_POINTER : UB_WAY_UNKNOWN;
		way.to = insn->mem;
		if (way.kind == UB_WAY_UNKNOWN && by_own_table(function, elf, loads))
			return;
		break;
	default:
		return;
	}
	add_way(elf, function, &way);
}

static void scan_function(struct ub_elf *elf, struct ub_elf_function *function)
{
	u64 size = 0, at = function->start;
	const u8 *bytes = ub_elf_bytes(elf, at, &size);
	struct table_loads loads = { .since = TABLE_WINDOW };
	u32 nr_tables = 0, left = MAX_TABLES;
	bool table_jump = false;

	function->scanned = true;
	if (!bytes)
		return;
	if (size > function->end - at)
		size = function->end - at;
	while (size) {
		struct ub_decoded insn;

		if (ub_decode(bytes, size, at, &insn)) {
			bytes++;
			at++;
			size--;
			continue;
		}
		if (insn.target)
			ub_elf_add_target(elf, insn.target);
		if (insn.target == function->start && insn.flow != UB_FLOW_CALL)
			function->loops_to_start = true;
		if (insn.flags & UB_DECODED_LEA_RIP) {
			const struct ub_elf_segment *segment = ub_elf_segment_at(elf, insn.mem);

			if (segment && !segment->writable)
				nr_tables += read_table(elf, insn.mem, &left) > 0;
			/* A computed goto takes the address of a label. */
			ub_elf_add_target(elf, insn.mem);
		}
		loads.since++;
		if (insn.flags & UB_DECODED_TABLE_LOAD)
			loads = (struct table_loads) { 0, insn.opcode == OPCODE_MOVSXD };
		if (insn.flow == UB_FLOW_JUMP_MEM && !(insn.flags & UB_DECODED_RIP) &&
		    loads.since < TABLE_WINDOW)
			table_jump = true;
		note_way(elf, function, &insn, &loads);
		bytes += insn.len;
		at += insn.len;
		size -= insn.len;
	}
	function->has_tables = table_jump;
	function->unknown_jumps = table_jump && !nr_tables && elf->position_independent;
	if (function->lsda)
		ub_eh_frame_landing_pads(elf, function->start, function->lsda);
}

void ub_flow_scan_range(struct ub_elf *elf, u64 from, u64 to)
{
	u64 at = from > SHORT_REACH ? from - SHORT_REACH : 0;

	while (at < to + SHORT_REACH) {
		struct ub_elf_function *function = ub_elf_function_at(elf, at);

		if (!function) {
			at = ub_elf_next_start(elf, at);
			continue;
		}
		if (!function->scanned)
			scan_function(elf, function);
		/* Functions may overlap (aliases into the middle): go by starts. */
		at = function->end;
		if (ub_elf_next_start(elf, function->start) < at)
			at = ub_elf_next_start(elf, function->start);
	}
}

void ub_flow_scan(struct ub_elf *elf, struct ub_elf_function *function)
{
	if (!function->surveyed)
		ub_flow_scan_range(elf, function->start, function->end);
	function->surveyed = true;
}

int ub_flow_ways(struct ub_elf *elf, struct ub_elf_function *function, const struct ub_way **ways,
		 u32 *nr)
{
	if (!function->scanned)
		scan_function(elf, function);
	if (function->no_memory || function->too_many)
		return function->no_memory ? -ENOMEM : -E2BIG;
	*ways = function->ways;
	*nr = function->nr_ways;
	return 0;
}

static bool reaches(const struct ub_flow_insns *insns, u64 through)
{
	return insns->nr >= UB_FLOW_AHEAD &&
	       insns->insns[insns->nr - UB_FLOW_AHEAD].address > through;
}

int ub_flow_decode_to(struct ub_elf *elf, u64 through, struct ub_flow_insns *insns)
{
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, insns->next, &size);

	if (size > insns->end - insns->next)
		size = insns->end - insns->next;
	while (bytes && size && !reaches(insns, through)) {
		struct ub_decoded *insn;
		int err = ub_grow((void **)&insns->insns, &insns->capacity, insns->nr + 1,
				  sizeof(insns->insns[0]));
		u32 len = 1;

		if (err)
			return err;
		insn = &insns->insns[insns->nr];
		if (!ub_decode(bytes, size, insns->next, insn)) {
			len = insn->len;
			insns->nr++;
		}
		bytes += len;
		insns->next += len;
		size -= len;
	}
	return 0;
}

void ub_flow_begin(struct ub_elf *elf, const struct ub_elf_function *function,
		   struct ub_flow_insns *insns)
{
	u64 size = 0;

	insns->nr = 0;
	insns->next = function->start;
	insns->end = function->end - function->start > MAX_DECODED ? function->start + MAX_DECODED
								   : function->end;
	insns->function = ub_elf_bytes(elf, function->start, &size) ? function : NULL;
}

int ub_flow_decode(struct ub_elf *elf, const struct ub_elf_function *function,
		   struct ub_flow_insns *insns)
{
	int err;

	ub_flow_begin(elf, function, insns);
	err = ub_flow_decode_to(elf, UINT64_MAX, insns);
	if (err)
		insns->function = NULL;
	return err;
}

void ub_flow_insns_free(struct ub_flow_insns *insns)
{
	free(insns->insns);
	*insns = (struct ub_flow_insns) {};
}

s64 ub_flow_find(const struct ub_flow_insns *insns, u64 address)
{
	u32 low = 0, high = insns->nr;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (insns->insns[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < insns->nr && insns->insns[low].address == address)
		return low;
	return -1;
}
