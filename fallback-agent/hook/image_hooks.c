// SPDX-License-Identifier: MIT
/*
 * Which files a request concerns, which instructions of them, and how these are hooked.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/grow.h>
#include <hook/image_build.h>

/* Link @index won't be probed. */
static void refuse_link(struct ub_image_build *build, u32 index)
{
	if (build->request->refused[index])
		return;
	build->request->refused[index] = true;
	build->nr_refused++;
}

int ub_image_find_file(struct ub_image_build *build, const struct ub_point *point,
		       struct ub_image_file **out, struct ub_reason *why)
{
	const struct ub_image_request *request = build->request;
	struct ub_image_file *grown, file = { .dev = point->dev, .ino = point->ino };
	int err;

	for (u32 i = 0; i < build->nr_files; i++) {
		if (build->files[i].dev == point->dev && build->files[i].ino == point->ino) {
			*out = &build->files[i];
			return 0;
		}
	}
	err = ub_modules_find(request->pid, &build->space, point->dev, point->ino, &file.modules,
			      &file.nr_modules, why);
	if (err)
		return err;
	grown = realloc(build->files, (build->nr_files + 1) * sizeof(build->files[0]));
	if (!grown) {
		ub_modules_free(file.modules, file.nr_modules);
		return -ENOMEM;
	}
	build->files = grown;
	build->files[build->nr_files] = file;
	*out = &build->files[build->nr_files++];
	return 0;
}

int ub_image_add_hook(struct ub_image_file *file, u64 address, u32 link, enum ub_hook_kind kind)
{
	int err = ub_grow((void **)&file->hooks, &file->hooks_capacity, file->nr_hooks + 1,
			  sizeof(file->hooks[0]));

	file->sorted = false;
	if (!err)
		file->hooks[file->nr_hooks++] = (struct ub_hook) { address, link, kind };
	return err;
}

static struct ub_image_file *file_of(struct ub_image_build *build, const struct ub_elf *elf)
{
	for (u32 i = 0; i < build->nr_files; i++)
		if (build->files[i].modules[0].elf == elf)
			return &build->files[i];
	return NULL;
}

/* Where a pointer of the target leads: struct ub_exit_resolver. */
static int resolve(void *opaque, struct ub_elf *elf, u64 pointer, struct ub_elf **to, u64 *address)
{
	struct ub_image_build *build = opaque;
	const struct ub_image_file *file = file_of(build, elf);
	_cleanup_close_ int fd = -1;
	char path[64];
	u64 value;

	if (!file)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d/mem", build->request->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &value, sizeof(value), (off_t)(pointer + file->modules[0].bias)) !=
			      sizeof(value))
		return -EFAULT;
	for (u32 i = 0; i < build->space.nr; i++) {
		const struct ub_mapping *mapping = &build->space.mappings[i];
		struct ub_image_file *target;
		struct ub_point point = {};
		int err;

		if (value < mapping->start || value >= mapping->end)
			continue;
		err = ub_mapping_file(build->request->pid, mapping, &point.dev, &point.ino);
		if (!err)
			err = ub_image_find_file(build, &point, &target, NULL);
		if (err)
			return err;
		*to = target->modules[0].elf;
		*address = value - target->modules[0].bias;
		return 0;
	}
	return -ENOENT;
}

int ub_image_add_link(struct ub_image_build *build, u32 index, struct ub_reason *why)
{
	static const enum ub_hook_kind kinds[] = {
		[UB_EXIT_RETURN] = UB_HOOK_RETURN,
		[UB_EXIT_NOTE] = UB_HOOK_NOTE,
		[UB_EXIT_NOTED] = UB_HOOK_NOTED,
		[UB_EXIT_DIVERT] = UB_HOOK_DIVERT,
	};
	const struct ub_exit_resolver resolver = { resolve, build };
	const struct ub_image_link *link = &build->request->links[index];
	_cleanup_free_ struct ub_exit *exits = NULL;
	struct ub_image_file *file;
	struct ub_elf *elf;
	u32 nr_exits = 0;
	u64 address;
	int err;

	err = ub_image_find_file(build, &link->point, &file, why);
	if (err)
		return err;
	elf = file->modules[0].elf;
	if (ub_elf_address(elf, link->point.offset, &address))
		return ub_reason_set(why, -EINVAL, "%s: file offset 0x%" PRIx64 " is not code",
				     file->modules[0].name, link->point.offset);
	if (link->point.kind == UB_POINT_ENTRY)
		return ub_image_add_hook(file, address, index, UB_HOOK_ENTRY);
	err = ub_exits_find(elf, address, &resolver, &exits, &nr_exits, why);
	if (err == -EOPNOTSUPP && build->request->refused) {
		refuse_link(build, index);
		return 0;
	}
	if (err)
		return ub_reason_prefix(why, err, "%s: return of 0x%" PRIx64,
					file_of(build, elf)->modules[0].name, link->point.offset);
	for (u32 i = 0; i < nr_exits && !err; i++) {
		build->needs_tails |= exits[i].kind == UB_EXIT_NOTE;
		build->needs_diverts |= exits[i].kind == UB_EXIT_DIVERT;
		file = file_of(build, exits[i].elf);
		err = file ? ub_image_add_hook(file, exits[i].address, index, kinds[exits[i].kind])
			   : -ENOENT;
	}
	return err;
}

static int compare_hooks(const void *a, const void *b)
{
	const struct ub_hook *x = a;
	const struct ub_hook *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->link < y->link ? -1 : x->link > y->link;
}

/* Where threads that are still in the trampolines of what is there now will come back to: nothing
 * new may lie across. */
static int current_stops(const struct ub_image *current, const struct ub_module *module,
			 u64 **stops, u32 *nr)
{
	u64 *found;
	u32 count = 0;

	*stops = NULL;
	*nr = 0;
	if (!current || !current->nr_moves_out)
		return 0;
	found = malloc(current->nr_moves_out * sizeof(u64));
	if (!found)
		return -ENOMEM;
	for (u32 i = 0; i < current->nr_moves_out; i++) {
		u64 to = current->moves_out[i].to;

		if (to >= module->low && to < module->high && current->moves_out[i].resumes)
			found[count++] = to - module->bias;
	}
	*stops = found;
	*nr = count;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	const u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* Whether the return of link @index can be seen at its function's entry instead. */
static bool moves_to_entry(struct ub_image_build *build, u32 index)
{
	const struct ub_point *point = &build->request->links[index].point;
	struct ub_image_file *file;
	u64 address;

	return point->kind == UB_POINT_RETURN && !build->at_entry[index] &&
	       !ub_image_find_file(build, point, &file, NULL) &&
	       !ub_elf_address(file->modules[0].elf, point->offset, &address) &&
	       ub_exits_at_entry(file->modules[0].elf, address);
}

/* Unwinders can't be kept from what was taken over: nothing is, then. */
static void refuse_diverted(struct ub_image_build *build)
{
	for (u32 f = 0; f < build->nr_files; f++) {
		const struct ub_image_file *file = &build->files[f];

		for (u32 i = 0; i < file->nr_hooks; i++) {
			const struct ub_hook *hook = &file->hooks[i];

			if (hook->kind != UB_HOOK_DIVERT)
				continue;
			refuse_link(build, hook->link);
			build->dropped[hook->link] = build->again = true;
		}
	}
}

/* @hook can't be. Whether there will be an image all the same, with another hook of its link or
 * without the link. */
static bool refuse_hook(struct ub_image_build *build, const struct ub_hook *hook)
{
	const bool nobodys = hook->kind == UB_HOOK_UNDIVERT;

	if (!nobodys && moves_to_entry(build, hook->link)) {
		build->at_entry[hook->link] = true;
		build->dropped[hook->link] = build->again = true;
		return true;
	}
	if (!build->request->refused)
		return false;
	if (nobodys) {
		refuse_diverted(build);
		return true;
	}
	refuse_link(build, hook->link);
	/* At an entry there is no other hook of the link's that would have to go. */
	if (hook->kind != UB_HOOK_ENTRY && !build->at_entry[hook->link])
		build->dropped[hook->link] = build->again = true;
	return true;
}

/* Whether address number @i can be hooked, or all that is wanted there will be done without. */
static int check_result(struct ub_image_build *build, const struct ub_image_file *file, u32 i,
			struct ub_reason *why)
{
	const struct ub_module *module = &file->modules[0];
	const struct ub_hook *hooks = &file->hooks[file->first_hook[i]];
	const u32 nr = file->first_hook[i + 1] - file->first_hook[i];
	const struct ub_elf_segment *segment;
	bool without = true;

	if (file->plan.results[i].tactic)
		return 0;
	for (u32 k = 0; k < nr; k++)
		without &= refuse_hook(build, &hooks[k]);
	if (without && build->nr_refused < build->request->nr_links)
		return 0;
	segment = ub_elf_segment_at(module->elf, file->addresses[i]);
	return ub_reason_set(why, -EOPNOTSUPP,
			     "%s: the %sinstruction at offset 0x%" PRIx64 " can't be hooked: %s",
			     module->name, hooks->kind == UB_HOOK_ENTRY ? "" : "returning ",
			     segment ? file->addresses[i] - segment->address + segment->offset
				     : file->addresses[i],
			     ub_refusal_text(file->plan.results[i].refusal));
}

/* The hooks by address, and the addresses of their own. */
static int sort_hooks(struct ub_image_file *file)
{
	if (file->sorted)
		return 0;
	free(file->addresses);
	free(file->first_hook);
	file->addresses = NULL;
	file->first_hook = NULL;
	file->nr_addresses = 0;
	if (!file->nr_hooks)
		return 0; /* looked at only */
	qsort(file->hooks, file->nr_hooks, sizeof(file->hooks[0]), compare_hooks);
	file->addresses = calloc(file->nr_hooks + 1, sizeof(u64));
	file->first_hook = calloc(file->nr_hooks + 1, sizeof(u32));
	if (!file->addresses || !file->first_hook)
		return -ENOMEM;
	for (u32 i = 0; i < file->nr_hooks; i++) {
		if (i && file->hooks[i].address == file->hooks[i - 1].address)
			continue;
		file->first_hook[file->nr_addresses] = i;
		file->addresses[file->nr_addresses++] = file->hooks[i].address;
	}
	file->first_hook[file->nr_addresses] = file->nr_hooks;
	file->sorted = true;
	return 0;
}

struct landing {
	struct ub_image_build *build;
	struct ub_image_file *file;
};

/* Places in every module, or in none: struct ub_plan_options. */
static int land(void *opaque, u64 address, const struct ub_pun_chain *chain, const u8 *bytes,
		u32 *landing, u32 *claim)
{
	const struct landing *l = opaque;
	struct ub_image_file *file = l->file;
	const u32 nr = file->nr_modules;
	struct ub_pun_placed *placed;
	u32 end = 0;
	int err = ub_grow((void **)&file->placed, &file->placed_capacity, file->nr_placed + nr,
			  sizeof(file->placed[0]));

	if (err)
		return err;
	placed = &file->placed[file->nr_placed];
	for (u32 m = 0; m < nr; m++) {
		err = ub_pun_place(&l->build->puns, chain, address + file->modules[m].bias, bytes,
				   &placed[m]);
		if (err) {
			while (m--)
				ub_pun_give_back(&l->build->puns, &placed[m]);
			return err;
		}
		end = placed[m].end > end ? placed[m].end : end;
	}
	*landing = file->nr_placed / nr;
	*claim = end;
	file->nr_placed += nr;
	return 0;
}

static int plan_file(struct ub_image_build *build, struct ub_image_file *file, bool final)
{
	const struct ub_module *module = &file->modules[0];
	struct landing landing = { build, file };
	_cleanup_free_ u64 *stops = NULL;
	struct ub_plan_options options = {
		.single_instruction = module->elf->is_go,
		.land = final ? land : NULL,
		.opaque = &landing,
	};
	int err;

	ub_plan_free(&file->plan);
	file->nr_placed = 0;
	if (!file->nr_hooks)
		return 0; /* looked at only, or all that was wanted in it is refused */
	err = current_stops(build->request->current, module, &stops, &options.nr_stops);
	if (err)
		return err;
	if (stops)
		qsort(stops, options.nr_stops, sizeof(u64), compare_u64);
	options.stops = stops;
	build->image->single_instruction |= options.single_instruction;
	return ub_plan_make(module->elf, file->addresses, file->nr_addresses, &options,
			    &file->plan);
}

int ub_image_plan(struct ub_image_build *build, bool final, struct ub_reason *why)
{
	int err = 0;

	build->again = false;
	for (u32 f = 0; f < build->nr_files && !err; f++) {
		err = final ? 0 : sort_hooks(&build->files[f]);
		if (!err)
			err = plan_file(build, &build->files[f], final);
	}
	for (u32 f = 0; f < build->nr_files && final; f++)
		for (u32 i = 0; i < build->files[f].nr_addresses && !err; i++)
			err = check_result(build, &build->files[f], i, why);
	return err;
}

int ub_image_rehook(struct ub_image_build *build)
{
	int err = 0;

	for (u32 f = 0; f < build->nr_files; f++) {
		struct ub_image_file *file = &build->files[f];
		u32 kept = 0;

		for (u32 i = 0; i < file->nr_hooks; i++)
			if (file->hooks[i].kind == UB_HOOK_UNDIVERT ||
			    !build->dropped[file->hooks[i].link])
				file->hooks[kept++] = file->hooks[i];
		file->sorted &= kept == file->nr_hooks;
		file->nr_hooks = kept;
	}
	for (u32 i = 0; i < build->request->nr_links && !err; i++) {
		struct ub_image_file *file;
		u64 address;

		if (!build->dropped[i])
			continue;
		build->dropped[i] = false;
		if (build->request->refused && build->request->refused[i])
			continue;
		build->needs_diverts = true;
		err = ub_image_find_file(build, &build->request->links[i].point, &file, NULL);
		if (!err)
			err = ub_elf_address(file->modules[0].elf,
					     build->request->links[i].point.offset, &address);
		if (!err)
			err = ub_image_add_hook(file, address, i, UB_HOOK_DIVERT);
	}
	return err;
}
