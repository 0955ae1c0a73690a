// SPDX-License-Identifier: MIT
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <hook/image_build.h>

#define PAGE	  4096ull
#define ZONE_SPAN (1ull << 30) /* modules within this of each other share code */

static void build_deinit(struct ub_image_build *build)
{
	for (u32 i = 0; i < build->nr_files; i++) {
		struct ub_image_file *file = &build->files[i];

		ub_modules_free(file->modules, file->nr_modules);
		free(file->hooks);
		free(file->addresses);
		free(file->first_hook);
		free(file->placed);
		ub_plan_free(&file->plan);
	}
	free(build->files);
	for (u32 i = 0; i < build->nr_zones; i++) {
		ub_emit_free(&build->zones[i].emit);
		free(build->zones[i].programs);
	}
	free(build->zones);
	free(build->maps);
	free(build->map_addresses);
	free(build->map_tables);
	free(build->infos);
	free(build->callees);
	free(build->at_entry);
	free(build->dropped);
	ub_pun_pages_free(&build->puns);
	ub_address_space_free(&build->space);
}

static void image_cleanup(struct ub_image **image)
{
	ub_image_free(*image);
}

/* Thread pointers may be trusted if all makers of processes that share the memory are watched: the
 * file that has them, or NULL. */
static struct ub_image_file *sharing_file(struct ub_image_build *build)
{
	const struct ub_mapping *glibc = ub_runtime_glibc(&build->space);
	struct ub_image_file *file;
	struct ub_point point = {};

	if (!glibc || !ub_sharing_wanted(build->request) ||
	    ub_mapping_file(build->request->pid, glibc, &point.dev, &point.ino) ||
	    ub_image_find_file(build, &point, &file, NULL))
		return NULL;
	return file->nr_modules == 1 ? file : NULL;
}

/* Once it is known what probes overwrite. */
static void plan_sharing(struct ub_image_build *build, struct ub_image_file *file)
{
	if (file && !ub_sharing_find(build, file))
		build->image->trust_tid = true;
	else
		build->nr_sharing = 0;
}

/* --- where the code goes --------------------------------------------------------------------- */

static int compare_zones(const void *a, const void *b)
{
	const struct ub_image_zone *x = a;
	const struct ub_image_zone *y = b;

	return x->low < y->low ? -1 : x->low > y->low;
}

static int find_zones(struct ub_image_build *build, struct ub_reason *why)
{
	u32 nr = 0, kept = 0;

	for (u32 i = 0; i < build->nr_files; i++)
		nr += build->files[i].nr_modules;
	free(build->zones);
	build->nr_zones = 0;
	build->zones = calloc(nr + 1, sizeof(build->zones[0]));
	if (!build->zones)
		return -ENOMEM;
	for (u32 i = 0; i < build->nr_files; i++) {
		for (u32 m = 0; m < build->files[i].nr_modules; m++) {
			const struct ub_module *module = &build->files[i].modules[m];

			build->zones[build->nr_zones++] =
				(struct ub_image_zone) { .low = module->low, .high = module->high };
		}
	}
	qsort(build->zones, build->nr_zones, sizeof(build->zones[0]), compare_zones);
	for (u32 i = 1; i < build->nr_zones; i++) {
		struct ub_image_zone *last = &build->zones[kept];
		const struct ub_image_zone *next = &build->zones[i];

		if (next->high - last->low < ZONE_SPAN) {
			if (next->high > last->high)
				last->high = next->high;
		} else {
			build->zones[++kept] = *next;
		}
	}
	build->nr_zones = build->nr_zones ? kept + 1 : 0;

	for (u32 i = 0; i < build->nr_zones; i++) {
		struct ub_image_zone *zone = &build->zones[i];
		const u64 bound = ub_image_zone_bound(build, zone);
		int err = ub_address_space_find(&build->space, zone->low, zone->high, bound,
						&zone->address);

		if (err)
			return ub_reason_set(why, err,
					     "no room for %" PRIu64
					     " bytes of code within reach of 0x%" PRIx64
					     " in process %d",
					     bound, zone->low, build->request->pid);
		zone->bound = bound;
		err = ub_address_space_take(&build->space, zone->address, zone->address + bound);
		if (err)
			return err;
	}
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------- */

static int check_maps(const struct ub_image_request *request, struct ub_reason *why)
{
	for (u32 i = 0; i < request->nr_callees; i++) {
		const struct ub_image_callee *callee = &request->callees[i];

		for (u32 k = 0; k < callee->nr_maps; k++)
			if (callee->maps[k] >= request->nr_maps)
				return ub_reason_set(why, -EINVAL, "program %u: no map number %u",
						     callee->prog_id, callee->maps[k]);
	}
	for (u32 i = 0; i < request->nr_maps; i++) {
		const struct ub_image_map *map = &request->maps[i];
		const bool programs = map->attr.type == BPF_MAP_TYPE_PROG_ARRAY;
		const u32 nr = programs ? request->nr_callees : request->nr_maps;

		for (u32 k = 0; k < map->nr_entries; k++)
			if (map->entries[k].index >= nr ||
			    (programs && map->entries[k].slot >= map->attr.max_entries))
				return ub_reason_set(why, -EINVAL, "map %u: bad entry %u",
						     map->attr.id, map->entries[k].slot);
	}
	return 0;
}

static int check_request(const struct ub_image_request *request, struct ub_reason *why)
{
	if (!request->nr_links || !request->nr_cpus)
		return ub_reason_set(why, -EINVAL, "an image needs links and CPUs");
	for (u32 i = 0; i < request->nr_links; i++) {
		const struct ub_image_link *link = &request->links[i];

		if (!link->program || !link->code)
			return ub_reason_set(why, -EINVAL, "link %u has no program", link->link_id);
		for (u32 k = 0; k < link->nr_maps; k++)
			if (link->maps[k] >= request->nr_maps)
				return ub_reason_set(why, -EINVAL, "link %u: no map number %u",
						     link->link_id, link->maps[k]);
	}
	return check_maps(request, why);
}

static int start_image(struct ub_image_build *build)
{
	const struct ub_image_request *request = build->request;
	struct ub_image *image = calloc(1, sizeof(*image));

	if (!image)
		return -ENOMEM;
	build->image = image;
	if (request->refused)
		memset(request->refused, 0, request->nr_links * sizeof(request->refused[0]));
	build->at_entry = calloc(request->nr_links, sizeof(build->at_entry[0]));
	build->dropped = calloc(request->nr_links, sizeof(build->dropped[0]));
	if (!build->at_entry || !build->dropped)
		return -ENOMEM;
	image->pid = request->pid;
	image->generation = request->generation;
	image->own_filter = request->own_filter;
	image->counting = calloc(1, sizeof(*image->counting));
	if (!image->counting)
		return -ENOMEM;
	image->counting->link_ids = calloc(request->nr_links, sizeof(u32));
	image->counting->functions = calloc(request->nr_links, sizeof(u64));
	image->counting->sums = calloc(request->nr_links, sizeof(struct ub_hit_counters));
	if (!image->counting->link_ids || !image->counting->functions || !image->counting->sums)
		return -ENOMEM;
	image->counting->nr_links = request->nr_links;
	for (u32 i = 0; i < request->nr_links; i++)
		image->counting->link_ids[i] = request->links[i].link_id;
	return 0;
}

/* The function whose entry or return a link probes, for bpf_get_func_ip(). */
static void fill_func_ips(struct ub_image_build *build)
{
	u8 *data = (u8 *)build->image->process;
	struct ub_link_info *infos = (struct ub_link_info *)(data + build->infos_offset);

	for (u32 f = 0; f < build->nr_files; f++) {
		const struct ub_image_file *file = &build->files[f];

		for (u32 i = 0; i < file->nr_hooks; i++) {
			const struct ub_hook *hook = &file->hooks[i];
			const struct ub_point *point = &build->request->links[hook->link].point;
			u64 address;

			if (point->dev != file->dev || point->ino != file->ino ||
			    (build->request->refused && build->request->refused[hook->link]) ||
			    ub_elf_address(file->modules[0].elf, point->offset, &address))
				continue;
			address += file->modules[0].bias;
			infos[hook->link].func_ip = address;
			if (point->kind == UB_POINT_RETURN)
				build->image->counting->functions[hook->link] = address;
		}
	}
}

static int add_site_table(struct ub_image_build *build, struct ub_reason *why)
{
	struct ub_image *image = build->image;
	u64 room = ub_image_site_table_bound(build), address;
	struct ub_part table;
	int err;

	err = ub_address_space_find(&build->space, image->data_address, image->data_address, room,
				    &address);
	if (err)
		return ub_reason_set(why, err, "no room for the site table in process %d",
				     image->pid);
	err = ub_image_add_site_table(build, address, room, why);
	if (err)
		return err;
	/* First to be mapped, last to go: whatever else is there, it names it. */
	table = image->parts[image->nr_parts - 1];
	memmove(image->parts + 1, image->parts, (image->nr_parts - 1) * sizeof(table));
	image->parts[0] = table;
	return 0;
}

/*
 * Which bytes change, with room for the code. Overlapping jumps need free memory at places that the
 * bytes decide about, and the code needs a lot of it anywhere, whose size depends on the plan: so
 * there is one plan for the size and, once that is taken, another. If links lose hooks by what is
 * refused, others may find the room that they do not need: again, once for each link and for each
 * of its two ways at most.
 */
static int make_plan(struct ub_image_build *build, struct ub_reason *why)
{
	struct ub_image_file *sharing = sharing_file(build);
	const u32 nr_files = build->nr_files;
	int err;

	do {
		err = build->again ? ub_image_rehook(build) : 0;
		if (!err && build->needs_diverts && !build->hooked_unwinders) {
			err = ub_image_hook_unwinders(build, why);
			build->hooked_unwinders = true;
		}
		ub_pun_pages_free(&build->puns);
		ub_address_space_release(&build->space);
		build->puns.space = &build->space;
		if (!err)
			err = ub_image_plan(build, false, why);
		if (!err)
			err = find_zones(build, why);
		if (!err)
			err = ub_image_plan(build, true, why);
	} while (!err && build->again);
	if (!err && sharing)
		plan_sharing(build, build->nr_files == nr_files ? sharing : sharing_file(build));
	return err;
}

static int build_image(struct ub_image_build *build, struct ub_reason *why)
{
	const struct ub_image_request *request = build->request;
	int err;

	err = ub_address_space_read(request->pid, &build->space, why);
	if (!err)
		err = ub_runtime_check(request->pid, &build->space, why);
	for (u32 i = 0; i < request->nr_links && !err; i++)
		err = ub_image_add_link(build, i, why);
	if (!err && build->nr_refused == request->nr_links)
		return -EOPNOTSUPP;
	if (!err)
		err = make_plan(build, why);
	if (!err)
		err = ub_image_find_semaphores(build, why);
	if (!err)
		err = ub_image_lay_out_data(build, why);
	if (!err)
		err = ub_image_fill_data(build, why);
	if (err)
		return err;
	if (!build->image->process->has_fsgsbase &&
	    (!build->self_pointer || build->image->single_instruction))
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"this processor (or kernel) has no rdfsbase, and process %d does not use "
			"glibc: its threads can't be told apart",
			request->pid);
	fill_func_ips(build);
	build->image->counting->nr_slots = 1u << build->slot_bits;
	build->image->counting->counters_offset = build->counters_offset;
	build->image->counting->counters_stride = build->counters_stride;
	build->image->counting->slot_bits = build->slot_bits;
	build->image->counting->holds_offset = build->holds_offset;
	build->image->counting->tails_offset = build->needs_tails ? build->tails_offset : 0;
	build->image->counting->stacks_offset =
		build->image->single_instruction ? build->stacks_offset : 0;
	err = ub_image_emit(build, why);
	if (!err)
		err = ub_image_tables_fill(build);
	if (!err)
		ub_image_add_unwind(build);
	if (!err)
		err = add_site_table(build, why);
	if (!err)
		err = ub_image_check_memory(build, why);
	return err;
}

int ub_image_build(const struct ub_image_request *request, struct ub_image **out,
		   struct ub_reason *why)
{
	struct ub_image_build build = { .request = request };
	_cleanup_(image_cleanup) struct ub_image *image = NULL;
	int err = check_request(request, why);

	if (err)
		return err;
	err = start_image(&build);
	image = build.image;
	if (!err)
		err = build_image(&build, why);
	build_deinit(&build);
	if (!err)
		*out = TAKE_PTR(image);
	return err;
}
