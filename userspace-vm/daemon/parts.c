// SPDX-License-Identifier: MIT
#include "parts.h"

#include <errno.h>
#include <stdlib.h>

#include <program/program.h>

/* Where a map comes from, and who uses it. */
struct part_source {
	const struct ub_kernel_map *map;
	bool used;
	bool mixed; /* by programs of more than one kind */
	enum bpf_prog_type type;
	bool sleepable;
};

static int grow(void **array, u32 nr, size_t size)
{
	void *grown;

	/* Doubled whenever it is full: that is whenever the number is a power of two. */
	if (nr & (nr - 1))
		return 0;
	grown = reallocarray(*array, nr ? 2 * (size_t)nr : 1, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	return 0;
}

static int add_map(struct parts *parts, const struct ub_kernel_map *map, u32 *index)
{
	const u32 id = ub_kernel_map_id(map), nr = parts->nr_maps;
	int err;

	for (*index = 0; *index < nr; ++*index)
		if (parts->maps[*index].attr.id == id)
			return 0;
	err = grow((void **)&parts->maps, nr, sizeof(*parts->maps));
	if (!err)
		err = grow((void **)&parts->sources, nr, sizeof(*parts->sources));
	if (err)
		return err;
	parts->maps[nr] = (struct ub_image_map) {
		.attr = *ub_kernel_map_attr(map),
		.fd = ub_kernel_map_fd(map),
	};
	parts->maps[nr].attr.id = id;
	parts->sources[nr] = (struct part_source) { .map = map };
	parts->nr_maps++;
	return 0;
}

static void add_user(struct part_source *source, const struct ub_program *program)
{
	if (source->used &&
	    (source->type != program->type || source->sleepable != program->sleepable))
		source->mixed = true;
	source->used = true;
	source->type = program->type;
	source->sleepable = program->sleepable;
}

/* The indices of a program's maps. */
static int add_maps(struct parts *parts, const struct ub_program *program,
		    struct ub_kernel_map *const *maps, u32 nr, const u32 **out)
{
	u32 *indices = calloc(nr + 1, sizeof(*indices));

	*out = indices;
	if (!indices)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++) {
		int err = add_map(parts, maps[i], &indices[i]);

		if (err)
			return err;
		/* Only tests know links without programs. */
		if (program)
			add_user(&parts->sources[indices[i]], program);
	}
	return 0;
}

static int add_callee(struct parts *parts, const struct ub_link_view *view, u32 *index)
{
	const u32 nr = parts->nr_callees;
	int err;

	for (*index = 0; *index < nr; ++*index)
		if (parts->callees[*index].prog_id == view->prog_id)
			return 0;
	err = grow((void **)&parts->callees, nr, sizeof(*parts->callees));
	if (err)
		return err;
	parts->callees[nr] = (struct ub_image_callee) {
		.prog_id = view->prog_id,
		.program = view->program,
		.code = view->code,
		.nr_maps = view->nr_maps,
	};
	parts->nr_callees++;
	return add_maps(parts, view->program, view->maps, view->nr_maps, &parts->callees[nr].maps);
}

static int add_entry(struct parts *parts, u32 map, u32 slot, u32 index)
{
	const u32 nr = parts->maps[map].nr_entries;
	void *entries = (void *)parts->maps[map].entries;
	int err = grow(&entries, nr, sizeof(struct ub_image_entry));

	if (err)
		return err;
	parts->maps[map].entries = entries;
	((struct ub_image_entry *)entries)[nr] = (struct ub_image_entry) { slot, index };
	parts->maps[map].nr_entries++;
	return 0;
}

/* Programs of another kind than their caller's don't know its context: Linux refuses them. */
static int add_programs(struct parts *parts, u32 map)
{
	const struct part_source source = parts->sources[map];
	const u32 nr = ub_kernel_map_slots(source.map);

	for (u32 slot = 0; slot < nr; slot++) {
		struct ub_link_view view;
		u32 index;
		int err;

		if (!ub_kernel_map_program(source.map, slot, &view) ||
		    view.program->type != source.type ||
		    view.program->sleepable != source.sleepable)
			continue;
		err = add_callee(parts, &view, &index);
		if (!err)
			err = add_entry(parts, map, slot, index);
		if (err)
			return err;
	}
	return 0;
}

static int by_slot(const void *a, const void *b)
{
	const struct ub_image_entry *x = a, *y = b;

	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* An inner map may be there more than once, and once is enough. */
static int add_inner(struct parts *parts, u32 map)
{
	const struct ub_kernel_map *outer = parts->sources[map].map;
	const u32 nr = ub_kernel_map_slots(outer);
	struct ub_image_entry *entries;
	u32 kept = 0;

	for (u32 i = 0; i < nr; i++) {
		const struct ub_kernel_map *inner = ub_kernel_map_inner(outer, i);
		u32 index;
		int err;

		if (!inner)
			continue;
		err = add_map(parts, inner, &index);
		if (!err)
			err = add_entry(parts, map, ub_kernel_map_id(inner), index);
		if (err)
			return err;
	}
	entries = (struct ub_image_entry *)parts->maps[map].entries;
	if (!entries)
		return 0;
	qsort(entries, parts->maps[map].nr_entries, sizeof(*entries), by_slot);
	for (u32 i = 1; i < parts->maps[map].nr_entries; i++) {
		if (entries[i].slot != entries[kept].slot)
			kept++;
		entries[kept] = entries[i];
	}
	parts->maps[map].nr_entries = kept + 1;
	return 0;
}

/* What the maps hold, and what that holds: each map and program once, so circles end. */
static int add_held(struct parts *parts)
{
	int err = 0;

	for (u32 i = 0; i < parts->nr_maps && !err; i++) {
		switch (parts->maps[i].attr.type) {
		case BPF_MAP_TYPE_PROG_ARRAY:
			err = add_programs(parts, i);
			break;
		case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		case BPF_MAP_TYPE_HASH_OF_MAPS:
			err = add_inner(parts, i);
			break;
		}
	}
	for (u32 i = 0; i < parts->nr_maps; i++)
		if (parts->sources[i].mixed && parts->maps[i].attr.type == BPF_MAP_TYPE_PROG_ARRAY)
			parts->maps[i].nr_entries = 0;
	return err;
}

int ub_daemon_parts_find(struct parts *parts, struct link *const *links, u32 nr)
{
	*parts = (struct parts) {};
	parts->links = calloc(nr + 1, sizeof(*parts->links));
	if (!parts->links)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++) {
		const struct link *link = links[i];
		int err;

		parts->links[parts->nr_links++] = (struct ub_image_link){
			.point = {
				.kind = link->is_return ? UB_POINT_RETURN : UB_POINT_ENTRY,
				.dev = link->dev,
				.ino = link->ino,
				.offset = link->offset,
				.ref_ctr_offset = link->ref_ctr_offset,
			},
			.link_id = link->id,
			.prog_id = link->prog_id,
			.cookie = link->cookie,
			.program = link->program,
			.code = link->code,
			.nr_maps = link->nr_maps,
		};
		err = add_maps(parts, link->program, link->maps, link->nr_maps,
			       &parts->links[i].maps);
		if (err)
			return err;
	}
	return add_held(parts);
}

void ub_daemon_parts_free(struct parts *parts)
{
	for (u32 i = 0; i < parts->nr_links; i++)
		free((void *)parts->links[i].maps);
	for (u32 i = 0; i < parts->nr_callees; i++)
		free((void *)parts->callees[i].maps);
	for (u32 i = 0; i < parts->nr_maps; i++)
		free((void *)parts->maps[i].entries);
	free(parts->links);
	free(parts->callees);
	free(parts->maps);
	free(parts->sources);
}

/* --- changes --------------------------------------------------------------------------------- */

bool ub_daemon_parts_changed(const struct ub_image *image, const struct ub_kernel_map *map)
{
	const bool programs = ub_kernel_map_attr(map)->type == BPF_MAP_TYPE_PROG_ARRAY;
	struct ub_image_table *table = ub_image_table(image, ub_kernel_map_id(map));
	const u32 nr = ub_kernel_map_slots(map);
	bool wanted = false;

	for (u32 slot = 0; slot < nr; slot++) {
		const struct ub_kernel_map *inner = ub_kernel_map_inner(map, slot);
		const u32 inner_id = inner ? ub_kernel_map_id(inner) : 0;
		struct ub_link_view view;

		if (!programs) {
			wanted |= inner && !(table && ub_image_table_get(table, inner_id));
		} else if (ub_kernel_map_program(map, slot, &view)) {
			wanted |= !table || ub_image_table_get(table, slot) != view.prog_id;
		} else if (table) {
			ub_image_table_clear(table, slot);
		}
	}
	return wanted;
}
