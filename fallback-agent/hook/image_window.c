// SPDX-License-Identifier: MIT
/*
 * Windows of one module: the trampoline for each, the site that leads there, and the moves of
 * instruction pointers that go with both.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <common/cleanup.h>
#include <hook/go.h>
#include <hook/grow.h>
#include <hook/image_build.h>
#include <hook/relocate.h>

#define MAX_INSNS  16
#define MAX_POINTS (6 * MAX_INSNS) /* of one window: one of each kind for each instruction */

static int add_move(struct ub_move **moves, u32 *nr, u32 *capacity, u64 from, u64 to, bool resumes)
{
	int err = ub_grow((void **)moves, capacity, *nr + 1, sizeof(**moves));

	if (!err)
		(*moves)[(*nr)++] = (struct ub_move) { from, to, resumes };
	return err;
}

static int add_move_in(struct ub_image_build *build, u64 from, u64 to)
{
	struct ub_image *image = build->image;

	return add_move(&image->moves_in, &image->nr_moves_in, &build->moves_in_capacity, from, to,
			false);
}

static int add_move_out(struct ub_image_build *build, u64 from, u64 to, bool resumes)
{
	struct ub_image *image = build->image;

	return add_move(&image->moves_out, &image->nr_moves_out, &build->moves_out_capacity, from,
			to, resumes);
}

struct window {
	struct ub_image_build *build;
	struct ub_image_zone *zone;
	const struct ub_image_file *file;
	const struct ub_module *module;
	const struct ub_plan_window *plan;
	const struct ub_trampoline_space *space;
	struct ub_flow_insns go; /* for ub_go_look() */
	u32 nr_points;
	struct ub_trampoline_point points[MAX_POINTS];
	struct ub_trampoline_cold cold[MAX_POINTS];
	struct ub_trampoline_null nulls[MAX_INSNS]; /* of each instruction */
	u64 continuations[MAX_INSNS]; /* of instructions that take the return address over */
};

static void window_free(struct window **w)
{
	if (*w)
		ub_flow_insns_free(&(*w)->go);
	free(*w);
}

static bool is_entry(const struct window *w, u64 address)
{
	const struct ub_elf_function *function = ub_elf_function_at(w->module->elf, address);

	return function && !function->gap && function->start == address &&
	       !function->loops_to_start;
}

/* Emits a probe of @kind for the hooks [@from, @to), all at one address. */
static int emit_probe_of(struct window *w, u64 ip, enum ub_trampoline_kind kind, u64 continuation,
			 u32 from, u32 to)
{
	struct ub_image_build *build = w->build;
	struct ub_trampoline_point *point = &w->points[w->nr_points];
	struct ub_trampoline_link *links = calloc(to - from, sizeof(*links));
	const u64 address = ip - w->module->bias;
	const bool go = ub_go_is_code(w->module->elf, address);
	struct ub_go_point state = {};
	int err = links ? 0 : -ENOMEM;

	if (!err && go)
		err = ub_go_look(w->module->elf, address, &w->go, &state);
	if (!err && state.refused)
		err = -EINVAL;
	if (err) {
		free(links);
		return err;
	}
	for (u32 i = from; i < to && kind != UB_TRAMPOLINE_UNDIVERT; i++) {
		const u32 index = w->file->hooks[i].link;
		const struct ub_image_link *link = &build->request->links[index];

		links[i - from] = (struct ub_trampoline_link) {
			.code = link->code,
			.ctx = link->program->ctx,
			.program = w->zone->programs[index],
			.info = build->infos[index],
			.maps = build->map_tables[index],
			.counters = index,
			.tail_calls = link->program->uses_tail_call,
		};
		/* Who has not been verified may read anything, as may who is tail-called. */
		if (!link->program->aux || link->program->uses_tail_call)
			links[i - from].ctx.escapes = true;
	}
	*point = (struct ub_trampoline_point) {
		.ip = ip,
		.kind = kind,
		.own_stack = go,
		.keep_registers = state.keep_registers,
		.look = state.look,
		.g_in_r14 = state.g_in_r14,
		.keep_flags = go ? state.keep_flags : !is_entry(w, address),
		.continuation = continuation,
		.nr_links = kind == UB_TRAMPOLINE_UNDIVERT ? 0 : to - from,
		.links = links,
	};
	ub_trampoline_probe(&w->zone->emit, w->space, point, &w->cold[w->nr_points]);
	w->nr_points++;
	return 0;
}

/* Emits the probes for the hooks [@from, @to) of instruction @insn. */
static int emit_probes(struct window *w, const struct ub_plan_insn *insn, u32 from, u32 end)
{
	static const enum ub_trampoline_kind kinds[] = {
		[UB_HOOK_ENTRY] = UB_TRAMPOLINE_RUN,
		[UB_HOOK_RETURN] = UB_TRAMPOLINE_RETURN,
		[UB_HOOK_NOTED] = UB_TRAMPOLINE_NOTED,
		[UB_HOOK_NOTE] = UB_TRAMPOLINE_NOTE,
		[UB_HOOK_DIVERT] = UB_TRAMPOLINE_DIVERT,
		[UB_HOOK_UNDIVERT] = UB_TRAMPOLINE_UNDIVERT,
	};
	const struct ub_hook *hooks = w->file->hooks;
	const u64 ip = insn->decoded.address + w->module->bias;
	const u64 number = (u64)(insn - (w->file->plan.insns + w->plan->first_insn));
	int err = 0;

	while (!err && from < end) {
		u32 to = from + 1;

		while (to < end && hooks[to].kind == hooks[from].kind)
			to++;
		err = emit_probe_of(w, ip, kinds[hooks[from].kind], w->continuations[number], from,
				    to);
		from = to;
	}
	return err;
}

/* First of the hooks [@from, @to) that concerns the jump itself, not the instruction. */
static u32 first_of_jump(const struct window *w, u32 from, u32 to)
{
	while (from < to && w->file->hooks[from].kind != UB_HOOK_NOTE &&
	       w->file->hooks[from].kind != UB_HOOK_DIVERT)
		from++;
	return from;
}

/*
 * A conditional tail jump notes only where it is taken:
 *	jcc 1f; jmp 2f; 1: [note]; jmp target; 2:
 */
static int emit_noting_branch(struct window *w, const struct ub_plan_insn *insn,
			      const struct ub_decoded *moved, u32 from, u32 to)
{
	struct ub_emit *emit = &w->zone->emit;
	struct ub_decoded branch = *moved;
	u32 over;
	int err;

	/* Where it goes is known only afterwards: 6 bytes of jcc, or 9 of loop and jrcxz, then the
	 * jump over. */
	branch.target = ub_emit_here(emit) +
			(moved->opcode >= 0xe0 && moved->opcode <= 0xe3 ? moved->len + 7u : 6u) +
			5u;
	err = ub_relocate(emit, &branch, insn->bytes);
	if (err)
		return err;
	over = ub_emit_jmp_forward(emit);
	if (!emit->error && ub_emit_here(emit) != branch.target)
		return -EINVAL;
	err = emit_probes(w, insn, from, to);
	ub_emit_jmp(emit, moved->target);
	ub_emit_land(emit, over);
	return err;
}

/* Emits the look at a null pointer before an instruction that may follow one. */
static bool look_at_null(struct window *w, const struct ub_plan_insn *insn)
{
	const u64 address = insn->decoded.address;
	struct ub_trampoline_null *null =
		&w->nulls[insn - (w->file->plan.insns + w->plan->first_insn)];
	const bool overwrites = insn->decoded.flags & UB_DECODED_FLAGS_WRITE;
	struct ub_trampoline_point point = { .ip = address + w->module->bias };

	if (!(insn->decoded.flags & UB_DECODED_NULLABLE))
		return false;
	point.own_stack = ub_go_is_code(w->module->elf, address);
	if (point.own_stack) {
		struct ub_go_point state;

		/* The planner moves none for which there are no registers. */
		if (ub_go_look(w->module->elf, address, &w->go, &state) || state.refused)
			return false;
		point.keep_registers = state.keep_registers;
		point.keep_flags = state.keep_flags && !overwrites;
		point.look = state.look;
		point.g_in_r14 = state.g_in_r14;
	} else {
		point.keep_flags = !is_entry(w, address) && !overwrites;
	}
	ub_trampoline_null(&w->zone->emit, &insn->decoded, &point, null);
	return null->insn;
}

static int emit_insn(struct window *w, const struct ub_plan_insn *insn)
{
	u32 end = 0, of_jump = 0;
	struct ub_emit *emit = &w->zone->emit;
	const u64 bias = w->module->bias;
	const u64 ip = insn->decoded.address + bias;
	struct ub_decoded moved = insn->decoded;
	int err;

	if (ip != w->plan->address + bias) {
		err = add_move_in(w->build, ip, ub_emit_here(emit));
		if (err)
			return err;
	}
	if (insn->point >= 0) {
		const u32 from = w->file->first_hook[insn->point];

		of_jump = end = w->file->first_hook[insn->point + 1];
		if (insn->decoded.flow == UB_FLOW_BRANCH)
			of_jump = first_of_jump(w, from, end);
		err = add_move_out(w->build, ub_emit_here(emit), ip, false);
		if (!err)
			err = emit_probes(w, insn, from, of_jump);
		if (err)
			return err;
	}
	err = add_move_out(w->build, ub_emit_here(emit), ip, false);
	if (err)
		return err;
	if (look_at_null(w, insn)) {
		err = add_move_out(w->build, ub_emit_here(emit), ip, false);
		if (err)
			return err;
	}
	moved.address += bias;
	moved.target += bias;
	moved.mem += bias;
	if (of_jump < end)
		return emit_noting_branch(w, insn, &moved, of_jump, end);
	return ub_relocate(emit, &moved, insn->bytes);
}

static int note_continuation(struct window *w, u64 code, u32 link)
{
	struct ub_image_counting *counting = w->build->image->counting;
	int err = ub_grow((void **)&counting->continuations, &counting->continuations_capacity,
			  counting->nr_continuations + 1, sizeof(counting->continuations[0]));

	if (!err)
		counting->continuations[counting->nr_continuations++] =
			(struct ub_image_continuation) { code, link };
	return err;
}

/*
 * For the instructions of the window that take return addresses over: what runs when those return,
 * as before a `ret`. Before it stand the links' numbers, then how many (agent/divert.c).
 */
static int emit_continuations(struct window *w)
{
	struct ub_emit *emit = &w->zone->emit;

	for (u32 i = 0; i < w->plan->nr_insns; i++) {
		const struct ub_plan_insn *insn = &w->file->plan.insns[w->plan->first_insn + i];
		u32 from, to;
		int err = 0;

		if (insn->point < 0)
			continue;
		from = w->file->first_hook[insn->point];
		to = w->file->first_hook[insn->point + 1];
		while (from < to && w->file->hooks[from].kind != UB_HOOK_DIVERT)
			from++;
		while (from < to && w->file->hooks[to - 1].kind != UB_HOOK_DIVERT)
			to--;
		if (from == to)
			continue;
		for (u32 k = to; k > from; k--)
			ub_emit_u32(emit, w->file->hooks[k - 1].link);
		ub_emit_u32(emit, to - from);
		w->continuations[i] = ub_emit_here(emit);
		for (u32 k = from; k < to && !err; k++)
			err = note_continuation(w, w->continuations[i], w->file->hooks[k].link);
		if (err)
			return err;
		err = emit_probe_of(w, insn->decoded.address + w->module->bias,
				    UB_TRAMPOLINE_RETURN, 0, from, to);
		if (err)
			return err;
		ub_emit_u8(emit, 0xc3); /* ret */
	}
	return 0;
}

/* The site of window @plan, of which the image has room for one more; @bytes: the file's. */
static int start_site(struct window *w, const struct ub_plan_window *plan, struct ub_site *site,
		      const u8 **bytes, struct ub_reason *why)
{
	struct ub_elf_segment *segment = ub_elf_segment_at(w->module->elf, plan->address);
	u64 available = 0;

	*bytes = ub_elf_bytes(w->module->elf, plan->address, &available);
	if (!segment || !*bytes || available < 5)
		return ub_reason_set(why, -ERANGE, "%s: the code ends", w->module->name);
	*site = (struct ub_site) {
		.address = plan->address + w->module->bias,
		.dev = w->module->dev,
		.ino = w->module->ino,
		.offset = plan->address - segment->address + segment->offset,
	};
	return 0;
}

/* The distance to @trampoline in @bytes, which are those at @address. */
static int put_distance(const struct window *w, u8 *bytes, u64 address, u64 trampoline,
			struct ub_reason *why)
{
	const s64 distance = (s64)(trampoline - (address + 4));
	const s32 rel = (s32)distance;

	if (rel != distance)
		return ub_reason_set(why, -ERANGE, "%s: trampoline out of reach", w->module->name);
	memcpy(bytes, &rel, sizeof(rel));
	return 0;
}

/* The site of a window that leads straight to its trampoline. */
static int add_site(struct window *w, u64 trampoline, struct ub_reason *why)
{
	struct ub_image *image = w->build->image;
	struct ub_site *site;
	const u8 *bytes;
	int err;

	err = ub_grow((void **)&image->sites, &w->build->sites_capacity, image->nr_sites + 1,
		      sizeof(image->sites[0]));
	if (err)
		return err;
	site = &image->sites[image->nr_sites];
	err = start_site(w, w->plan, site, &bytes, why);
	if (err)
		return err;
	site->len = 5;
	site->to = trampoline;
	memcpy(site->old, bytes, site->len);
	site->new[0] = 0xe9;
	image->nr_sites++;
	return put_distance(w, site->new + 1, site->address + 1, trampoline, why);
}

/* The sites of the @nr windows from w->plan on, whose jumps overlap. */
static int add_chain(struct window *w, u32 nr, const u64 *trampolines, struct ub_reason *why)
{
	struct ub_image_build *build = w->build;
	struct ub_image *image = build->image;
	const u32 module = (u32)(w->module - w->file->modules);
	struct ub_pun_placed *placed =
		&w->file->placed[w->plan->landing * w->file->nr_modules + module];
	int err;

	if (placed->nr != nr)
		return -EINVAL;
	err = ub_grow((void **)&image->sites, &build->sites_capacity, image->nr_sites + nr,
		      sizeof(image->sites[0]));
	for (u32 i = 0; i < nr && !err; i++) {
		struct ub_site *site = &image->sites[image->nr_sites];
		const u8 *bytes;

		err = start_site(w, &w->plan[i], site, &bytes, why);
		if (err)
			break;
		site->len = placed->len[i];
		site->to = trampolines[i];
		if (placed->landing[i]) {
			site->to = placed->landing[i];
			ub_pun_lead(&build->puns, site->to, trampolines[i]);
			err = add_move_out(build, site->to, site->address, false);
		} else {
			err = put_distance(w, placed->value + placed->distance[i],
					   site->address - placed->at[i] + placed->distance[i],
					   trampolines[i], why);
		}
		memcpy(site->old, bytes, site->len);
		memcpy(site->new, placed->value + placed->at[i], site->len);
		image->nr_sites++;
	}
	return err;
}

/* The code of a window. */
static int emit_code(struct window *w, u64 *trampoline)
{
	struct ub_emit *emit = &w->zone->emit;
	int err;

	if (w->plan->nr_insns > MAX_INSNS)
		return -EINVAL;
	ub_emit_align(emit, 16);
	err = emit_continuations(w);
	ub_emit_align(emit, 16);
	*trampoline = ub_emit_here(emit);
	for (u32 i = 0; i < w->plan->nr_insns && !err; i++)
		err = emit_insn(w, &w->file->plan.insns[w->plan->first_insn + i]);
	if (!err && w->plan->resume) {
		err = add_move_out(w->build, ub_emit_here(emit), w->plan->resume + w->module->bias,
				   true);
		ub_emit_jmp(emit, w->plan->resume + w->module->bias);
	}
	for (u32 i = 0; i < w->nr_points; i++) {
		ub_trampoline_cold(emit, w->space, &w->cold[i]);
		free((void *)w->points[i].links);
	}
	w->nr_points = 0;
	for (u32 i = 0; i < w->plan->nr_insns; i++) {
		ub_trampoline_null_cold(emit, w->space, &w->nulls[i]);
		w->nulls[i].insn = NULL;
	}
	return err ? err : emit->error;
}

/* @nr windows from w->plan on: one, or those whose jumps overlap. */
static int emit_windows(struct window *w, u32 nr, struct ub_reason *why)
{
	const struct ub_plan_window *first = w->plan;
	u64 trampolines[UB_PUN_MAX_CHAIN];
	int err = nr > UB_PUN_MAX_CHAIN ? -EINVAL : 0;

	for (u32 i = 0; i < nr && !err; i++) {
		w->plan = &first[i];
		err = emit_code(w, &trampolines[i]);
	}
	w->plan = first;
	if (err)
		return err;
	return first[nr - 1].tactic == UB_TACTIC_PUN ? add_chain(w, nr, trampolines, why)
						     : add_site(w, trampolines[0], why);
}

/* The sites of sharing.c in @module. */
static int emit_sharing(struct window *w, struct ub_reason *why)
{
	struct ub_image_build *build = w->build;
	const u64 bias = w->module->bias;

	for (u32 i = 0; i < build->nr_sharing; i++) {
		const struct ub_plan_window window = { .address = build->sharing[i],
						       .len = 7,
						       .tactic = UB_TACTIC_JUMP };
		const u64 address = build->sharing[i] + bias;
		u64 size = 0, trampoline, syscall_at, back_at;
		int err;

		ub_emit_align(&w->zone->emit, 16);
		trampoline = ub_emit_here(&w->zone->emit);
		ub_sharing_emit(&w->zone->emit, build->image->data_address,
				ub_elf_bytes(w->module->elf, build->sharing[i], &size), address + 7,
				&syscall_at, &back_at);
		w->plan = &window;
		err = add_move_out(build, trampoline, address, false);
		if (!err)
			err = add_move_out(build, syscall_at, address + 5, false);
		if (!err)
			err = add_move_out(build, back_at, address + 7, true);
		if (!err)
			err = add_move_in(build, address + 5, syscall_at);
		if (!err)
			err = add_site(w, trampoline, why);
		if (err)
			return err;
	}
	return 0;
}

/* Whether the @nr windows from w->plan on are mapped in this module: of several, one may be a part
 * only, and a uprobe is where its byte of the file is. */
static bool are_mapped(const struct window *w, u32 nr)
{
	const struct ub_address_space *space = &w->build->space;
	const struct ub_plan_window *last = &w->plan[nr - 1];

	return w->file->nr_modules == 1 ||
	       (ub_module_has(space, w->module, w->plan->address + w->module->bias, PROT_EXEC) &&
		ub_module_has(space, w->module, last->address + last->len - 1 + w->module->bias,
			      PROT_EXEC));
}

int ub_image_emit_module(struct ub_image_build *build, struct ub_image_zone *zone,
			 const struct ub_image_file *file, const struct ub_module *module,
			 const struct ub_trampoline_space *space, struct ub_reason *why)
{
	_cleanup_(window_free) struct window *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->build = build;
	w->zone = zone;
	w->file = file;
	w->module = module;
	w->space = space;
	for (u32 i = 0, nr; i < file->plan.nr_windows; i += nr) {
		int err;

		w->plan = &file->plan.windows[i];
		for (nr = 1; w->plan[nr - 1].tactic == UB_TACTIC_EVICT; nr++)
			;
		if (!are_mapped(w, nr))
			continue;
		err = emit_windows(w, nr, why);
		if (err)
			return ub_reason_prefix(why, err, "%s: 0x%llx", module->name,
						(unsigned long long)w->plan->address);
	}
	if (build->nr_sharing && file == &build->files[build->sharing_file])
		return emit_sharing(w, why);
	return 0;
}
