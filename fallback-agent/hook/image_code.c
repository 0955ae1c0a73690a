// SPDX-License-Identifier: MIT
/*
 * Emission: for each zone the agent, the programs and, for each window of each module in reach, the
 * trampoline (image_window.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <agent/blob.h>
#include <common/cleanup.h>
#include <helper/helper.h>
#include <hook/image_build.h>
#include <hook/memfd.h>

#define PAGE	   4096ull
#define MAX_CHANGE 8 /* instructions that a point's window has more than it had in another plan */

/* --- programs -------------------------------------------------------------------------------- */

static void helper_addresses(u64 agent, u64 *helpers)
{
	for (u32 id = 0; id < UB_MAX_HELPER; id++)
		helpers[id] = id < UB_AGENT_HELPERS && ub_agent_helpers[id]
				      ? agent + ub_agent_helpers[id] - 1
				      : 0;
}

/* Whether two links may share one placed program: same code, same maps. */
static bool same_program(const struct ub_image_link *a, const struct ub_image_link *b)
{
	return a->code == b->code && a->nr_maps == b->nr_maps &&
	       (!a->nr_maps || !memcmp(a->maps, b->maps, a->nr_maps * sizeof(a->maps[0])));
}

static int place_code(struct ub_image_build *build, struct ub_image_zone *zone,
		      const struct ub_code *code, const u32 *indices, u32 nr_maps,
		      const u64 *helpers, u64 *placed, struct ub_reason *why)
{
	_cleanup_free_ struct ub_map *maps = NULL;
	_cleanup_free_ u64 *addresses = NULL;
	_cleanup_free_ u8 *bytes = NULL;
	struct ub_code_space space;
	int err;

	ub_emit_align(&zone->emit, 64);
	maps = calloc(nr_maps + 1, sizeof(maps[0]));
	addresses = calloc(nr_maps + 1, sizeof(addresses[0]));
	bytes = malloc(code->size ? code->size : 1);
	if (!maps || !addresses || !bytes)
		return -ENOMEM;
	for (u32 i = 0; i < nr_maps; i++) {
		maps[i] = build->maps[indices[i]];
		addresses[i] = build->map_addresses[indices[i]];
	}
	space = (struct ub_code_space) {
		.base = ub_emit_here(&zone->emit),
		.helpers = helpers,
		.maps = maps,
		.map_addresses = addresses,
	};
	err = ub_code_place(code, &space, bytes, why);
	if (err)
		return err;
	*placed = space.base;
	ub_emit_bytes(&zone->emit, bytes, code->size);
	return zone->emit.error;
}

static int place_program(struct ub_image_build *build, struct ub_image_zone *zone, u32 link_index,
			 const u64 *helpers, struct ub_reason *why)
{
	const struct ub_image_request *request = build->request;
	const struct ub_image_link *link = &request->links[link_index];

	/* Links of one program mostly follow each other. */
	for (u32 i = link_index, tries = 0; i-- > 0 && tries < 64; tries++) {
		if (zone->programs[i] && same_program(&request->links[i], link)) {
			zone->programs[link_index] = zone->programs[i];
			return 0;
		}
	}
	return place_code(build, zone, link->code, link->maps, link->nr_maps, helpers,
			  &zone->programs[link_index], why);
}

/* A tail call jumps anywhere, so one copy serves all zones. */
static int place_callees(struct ub_image_build *build, struct ub_image_zone *zone,
			 const u64 *helpers, struct ub_reason *why)
{
	int err = 0;

	for (u32 i = 0; i < build->request->nr_callees && !err; i++) {
		const struct ub_image_callee *callee = &build->request->callees[i];

		err = place_code(build, zone, callee->code, callee->maps, callee->nr_maps, helpers,
				 &build->callees[i], why);
	}
	return err;
}

/* --- zones ----------------------------------------------------------------------------------- */

/* Points that another plan might do otherwise. */
static u64 nr_uncertain(const struct ub_image_file *file)
{
	u64 nr = 0;

	for (u32 i = 0; i < file->plan.nr_results; i++)
		nr += file->plan.results[i].tactic == UB_TACTIC_NONE ||
		      file->plan.results[i].tactic >= UB_TACTIC_PUN;
	return nr;
}

static bool in_zone(const struct ub_module *module, const struct ub_image_zone *zone)
{
	return module->low >= zone->low && module->high <= zone->high;
}

u64 ub_image_zone_bound(const struct ub_image_build *build, const struct ub_image_zone *zone)
{
	const struct ub_image_request *request = build->request;
	u64 bound = ub_agent_blob_size + PAGE + UB_MAX_SHARING * 256;

	for (u32 i = 0; i < request->nr_links; i++)
		if (!i || !same_program(&request->links[i - 1], &request->links[i]))
			bound += request->links[i].code->size + 128;
	for (u32 i = 0; i < request->nr_callees; i++)
		bound += request->callees[i].code->size + 128;
	for (u32 f = 0; f < build->nr_files; f++) {
		const struct ub_image_file *file = &build->files[f];
		u64 size = 0;
		u32 nr = 0;

		for (u32 m = 0; m < file->nr_modules; m++)
			nr += in_zone(&file->modules[m], zone);
		size += file->plan.nr_insns * (80ull + UB_TRAMPOLINE_NULL_BOUND) +
			file->plan.nr_windows * 32ull;
		/* Of overlapping jumps there may be more if some find no free memory. */
		size += nr_uncertain(file) * (MAX_CHANGE * (80ull + UB_TRAMPOLINE_NULL_BOUND) +
					      UB_PUN_MAX_CHAIN * 32ull);
		size += file->nr_addresses * 3ull * ub_trampoline_bound(0);
		size += file->nr_hooks * (u64)(ub_trampoline_bound(1) - ub_trampoline_bound(0));
		/* Once more as continuations. */
		if (build->needs_diverts)
			size *= 2;
		bound += size * nr;
	}
	if (build->needs_diverts)
		bound += UB_TRAMPOLINE_DIVERTS_BOUND;
	return ub_round_up(bound, PAGE);
}

static int emit_zone(struct ub_image_build *build, struct ub_image_zone *zone,
		     struct ub_reason *why)
{
	struct ub_trampoline_space space = {
		.data = build->image->data_address,
		.slot_bits = build->slot_bits,
		.shared_counters = build->image->data_address + build->counters_offset +
				   ((u64)build->counters_stride << build->slot_bits),
		.self_pointer = build->self_pointer,
		.has_rseq = build->image->process->has_rseq,
		.rseq_cpu = (s32)build->image->process->rseq_offset + 4,
	};
	struct ub_emit *emit = &zone->emit;
	u64 helpers[UB_MAX_HELPER];
	int err = 0;

	zone->programs = calloc(build->request->nr_links + 1, sizeof(u64));
	if (!zone->programs)
		return -ENOMEM;
	emit->address = zone->address;
	ub_emit_bytes(emit, ub_agent_blob, ub_agent_blob_size);
	helper_addresses(zone->address, helpers);
	space.slot_function = zone->address + ub_agent_slot_offset;
	space.note_function = zone->address + ub_agent_tail_note_offset;
	space.noted_function = zone->address + ub_agent_tail_noted_offset;
	space.divert_function = zone->address + ub_agent_divert_offset;
	space.undivert_function = zone->address + ub_agent_undivert_offset;
	space.null_function = zone->address + ub_agent_null_offset;
	space.diverts = build->diverts;
	if (build->needs_diverts && zone == build->zones)
		build->divert_code = ub_trampoline_diverts(emit, build->diverts);
	for (u32 i = 0; i < build->request->nr_links && !err; i++)
		err = place_program(build, zone, i, helpers, why);
	if (!err && zone == build->zones)
		err = place_callees(build, zone, helpers, why);
	for (u32 f = 0; f < build->nr_files && !err; f++) {
		const struct ub_image_file *file = &build->files[f];

		for (u32 m = 0; m < file->nr_modules && !err; m++) {
			const struct ub_module *module = &file->modules[m];

			if (in_zone(module, zone))
				err = ub_image_emit_module(build, zone, file, module, &space, why);
		}
	}
	if (!err)
		err = emit->error;
	if (!err && emit->size > zone->bound)
		err = ub_reason_set(why, -ENOSPC, "trampolines are larger than was reckoned");
	return err;
}

/* What overlapping jumps lead to; neighbouring pages are one part. */
static int add_pun_pages(struct ub_image_build *build, struct ub_reason *why)
{
	const struct ub_pun_pages *puns = &build->puns;

	for (u32 i = 0, nr; i < puns->nr; i += nr) {
		struct ub_part part = {
			.kind = UB_PART_CODE,
			.address = puns->pages[i]->address,
			.prot = PROT_READ | PROT_EXEC,
			.flags = MAP_PRIVATE,
			.owned = true,
		};
		_cleanup_free_ u8 *bytes = NULL;
		int err;

		for (nr = 1; i + nr < puns->nr &&
			     puns->pages[i + nr]->address == part.address + nr * UB_PUN_PAGE;
		     nr++)
			;
		part.size = nr * UB_PUN_PAGE;
		bytes = malloc(part.size);
		if (!bytes)
			return -ENOMEM;
		for (u32 k = 0; k < nr; k++)
			memcpy(bytes + k * UB_PUN_PAGE, puns->pages[i + k]->bytes, UB_PUN_PAGE);
		part.fd = ub_memfd_sealed(UB_NAME_PREFIX "code", bytes, part.size, part.size);
		if (part.fd < 0)
			return ub_reason_set(why, part.fd, "can't make memory for code: %s",
					     strerror(-part.fd));
		err = ub_image_add_part(build->image, &part);
		if (err) {
			close(part.fd);
			return err;
		}
	}
	return 0;
}

/* The file's bytes at @site: struct ub_jumps_check(). */
static const u8 *file_bytes(void *opaque, const struct ub_site *site, u64 *available)
{
	const struct ub_image_build *build = opaque;

	for (u32 f = 0; f < build->nr_files; f++) {
		const struct ub_image_file *file = &build->files[f];

		for (u32 m = 0; m < file->nr_modules; m++) {
			const struct ub_module *module = &file->modules[m];

			if (site->address >= module->low && site->address < module->high)
				return ub_elf_bytes(module->elf, site->address - module->bias,
						    available);
		}
	}
	return NULL;
}

static int compare_moves(const void *a, const void *b)
{
	const struct ub_move *x = a;
	const struct ub_move *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static int compare_sites(const void *a, const void *b)
{
	const struct ub_site *x = a;
	const struct ub_site *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Several instructions may have the same place in the copy (nops leave nothing): the last one
 * counts, and all are equivalent there. */
static void sort_moves(struct ub_move *moves, u32 *nr)
{
	u32 kept = 0;

	if (!*nr)
		return;
	qsort(moves, *nr, sizeof(*moves), compare_moves);
	for (u32 i = 1; i < *nr; i++) {
		if (moves[i].from != moves[kept].from)
			kept++;
		moves[kept] = moves[i];
	}
	*nr = kept + 1;
}

int ub_image_emit(struct ub_image_build *build, struct ub_reason *why)
{
	struct ub_image *image = build->image;
	int err;

	for (u32 i = 0; i < build->nr_zones; i++) {
		struct ub_image_zone *zone = &build->zones[i];
		struct ub_part part = {
			.kind = UB_PART_CODE,
			.address = zone->address,
			.prot = PROT_READ | PROT_EXEC,
			.flags = MAP_PRIVATE,
			.owned = true,
		};
		err = emit_zone(build, zone, why);
		if (err)
			return err;
		part.size = ub_round_up((u64)zone->emit.size, PAGE);
		part.fd = ub_memfd_sealed(UB_NAME_PREFIX "code", zone->emit.bytes, zone->emit.size,
					  part.size);
		if (part.fd < 0)
			return ub_reason_set(why, part.fd, "can't make memory for code: %s",
					     strerror(-part.fd));
		err = ub_image_add_part(image, &part);
		if (err) {
			close(part.fd);
			return err;
		}
	}
	err = add_pun_pages(build, why);
	if (!err && build->needs_diverts)
		err = ub_image_add_diverts(build, why);
	if (err)
		return err;
	sort_moves(image->moves_in, &image->nr_moves_in);
	sort_moves(image->moves_out, &image->nr_moves_out);
	qsort(image->sites, image->nr_sites, sizeof(image->sites[0]), compare_sites);
	return ub_jumps_check(image->sites, image->nr_sites, file_bytes, build, why);
}
