// SPDX-License-Identifier: MIT
/*
 * Maps that hold programs or maps. Their shared memory holds ids, which any process that has the
 * map may write: nothing is ever reached by them but through a table of the process's own (struct
 * ub_map.inner, in the data part), which says where the programs of a PROG_ARRAY were placed and
 * where the inner maps of a map of maps are. What is not in the table is not there. So before
 * something new is published, an image that has it takes the place of the one that has not; taking
 * something out is one store into the table.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <hook/image_build.h>

struct ub_image_table {
	u32 map_id;
	u64 *slots; /* PROG_ARRAY: the target's table, as mapped here */
	u32 nr;
	struct {
		u32 slot;
		u32 id;
	} * held; /* sorted by slot */
};

struct ub_image_tables {
	u32 nr_maps;
	u32 *map_ids;
	u32 nr;
	struct ub_image_table *table;
};

static bool holds_programs(const struct ub_image_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_PROG_ARRAY;
}

/* Entries of the target's table. */
static u32 table_length(const struct ub_image_map *map)
{
	if (!map->nr_entries)
		return 0;
	/* With gaps: a search for an id that is not there ends nowhere sooner, but mostly one finds
	 * at once. */
	return holds_programs(map) ? map->attr.max_entries : 2 * map->nr_entries;
}

u64 ub_image_tables_size(const struct ub_image_request *request)
{
	u64 size = 0;

	for (u32 i = 0; i < request->nr_maps; i++)
		size += table_length(&request->maps[i]) * sizeof(u64);
	return size;
}

void ub_image_tables_bind(struct ub_image_build *build)
{
	u64 address = build->image->data_address + build->inner_offset;

	for (u32 i = 0; i < build->request->nr_maps; i++) {
		const u32 length = table_length(&build->request->maps[i]);

		if (!length)
			continue;
		build->maps[i].inner = (struct ub_map **)(uintptr_t)address;
		build->maps[i].nr_inner = length;
		address += length * sizeof(u64);
	}
}

static void fill_table(const struct ub_image_build *build, const struct ub_image_map *map,
		       u64 *slots)
{
	const u32 length = table_length(map);

	for (u32 i = 0; i < map->nr_entries; i++) {
		const struct ub_image_entry *entry = &map->entries[i];
		u32 at = entry->slot;

		if (holds_programs(map)) {
			slots[at] = build->callees[entry->index];
			continue;
		}
		/* As ub_map_inner_add() does. */
		for (at %= length; slots[at]; at = (at + 1) % length)
			;
		slots[at] = build->map_addresses[entry->index];
	}
}

static int note_table(const struct ub_image_request *request, const struct ub_image_map *map,
		      u64 *slots, struct ub_image_table *table)
{
	table->map_id = map->attr.id;
	table->slots = holds_programs(map) ? slots : NULL;
	table->held = calloc(map->nr_entries, sizeof(table->held[0]));
	if (!table->held)
		return -ENOMEM;
	for (u32 i = 0; i < map->nr_entries; i++) {
		const struct ub_image_entry *entry = &map->entries[i];

		table->held[i].slot = entry->slot;
		table->held[i].id = holds_programs(map) ? request->callees[entry->index].prog_id
							: request->maps[entry->index].attr.id;
	}
	table->nr = map->nr_entries;
	return 0;
}

int ub_image_tables_fill(struct ub_image_build *build)
{
	const struct ub_image_request *request = build->request;
	u64 *slots = (u64 *)((u8 *)build->image->process + build->inner_offset);
	struct ub_image_tables *tables = calloc(1, sizeof(*tables));
	int err = 0;

	build->image->tables = tables;
	if (!tables)
		return -ENOMEM;
	tables->map_ids = calloc(request->nr_maps + 1, sizeof(tables->map_ids[0]));
	tables->table = calloc(request->nr_maps + 1, sizeof(tables->table[0]));
	if (!tables->map_ids || !tables->table)
		return -ENOMEM;
	for (u32 i = 0; i < request->nr_maps && !err; i++) {
		const struct ub_image_map *map = &request->maps[i];

		tables->map_ids[tables->nr_maps++] = map->attr.id;
		if (!map->nr_entries)
			continue;
		fill_table(build, map, slots);
		err = note_table(request, map, slots, &tables->table[tables->nr++]);
		slots += table_length(map);
	}
	return err;
}

void ub_image_tables_free(struct ub_image_tables *tables)
{
	if (!tables)
		return;
	for (u32 i = 0; tables->table && i < tables->nr; i++)
		free(tables->table[i].held);
	free(tables->table);
	free(tables->map_ids);
	free(tables);
}

/* --- for the daemon -------------------------------------------------------------------------- */

bool ub_image_has_map(const struct ub_image *image, u32 map_id)
{
	const struct ub_image_tables *tables = image->tables;

	for (u32 i = 0; i < tables->nr_maps; i++)
		if (tables->map_ids[i] == map_id)
			return true;
	return false;
}

struct ub_image_table *ub_image_table(const struct ub_image *image, u32 map_id)
{
	const struct ub_image_tables *tables = image->tables;

	for (u32 i = 0; i < tables->nr; i++)
		if (tables->table[i].map_id == map_id)
			return &tables->table[i];
	return NULL;
}

/* Index of the first entry that is not before @slot. */
static u32 find_slot(const struct ub_image_table *table, u32 slot)
{
	u32 low = 0, high = table->nr;

	while (low < high) {
		const u32 middle = (low + high) / 2;

		if (table->held[middle].slot < slot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

u32 ub_image_table_get(const struct ub_image_table *table, u32 slot)
{
	const u32 i = find_slot(table, slot);

	return i < table->nr && table->held[i].slot == slot ? table->held[i].id : 0;
}

void ub_image_table_clear(struct ub_image_table *table, u32 slot)
{
	const u32 i = find_slot(table, slot);

	if (i == table->nr || table->held[i].slot != slot || !table->slots)
		return;
	table->held[i].id = 0;
	__atomic_store_n(&table->slots[slot], 0, __ATOMIC_SEQ_CST);
}
