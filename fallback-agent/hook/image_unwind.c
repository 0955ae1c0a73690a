// SPDX-License-Identifier: MIT
/*
 * The unwind tables of all files that a target runs, as parts of its image: one sealed table per
 * file, shared by all processes that run it, and a list of where the files are mapped. Only
 * programs that look at stacks need them. What could not be read or has no place is left out: there
 * the frame pointers remain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/image_build.h>
#include <hook/memfd.h>
#include <hook/unwind.h>

#define PAGE	  4096ull
#define MAX_FILES (2 * UB_UNWIND_MODULES) /* looked at; they may have no tables */

static bool calls(const struct ub_code *code, u32 helper)
{
	for (u32 i = 0; i < code->nr_relocs; i++)
		if (code->relocs[i].kind == UB_RELOC_HELPER && code->relocs[i].index == helper)
			return true;
	return false;
}

static bool looks_at_stacks(const struct ub_code *code)
{
	return calls(code, BPF_FUNC_get_stack) || calls(code, BPF_FUNC_get_stackid);
}

static bool is_wanted(const struct ub_image_request *request)
{
	for (u32 i = 0; i < request->nr_links; i++)
		if (looks_at_stacks(request->links[i].code))
			return true;
	for (u32 i = 0; i < request->nr_callees; i++)
		if (looks_at_stacks(request->callees[i].code))
			return true;
	return false;
}

static int take(struct ub_image_build *build, u64 size, u64 *address)
{
	const u64 near = build->image->data_address;
	int err = ub_address_space_find(&build->space, near, near, size, address);

	return err ? err : ub_address_space_take(&build->space, *address, *address + size);
}

static int add_part(struct ub_image_build *build, int fd, u64 size, u64 *address)
{
	struct ub_part part = {
		.kind = UB_PART_UNWIND,
		.size = size,
		.prot = PROT_READ,
		.flags = MAP_PRIVATE,
		.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
		.owned = true,
	};
	int err = part.fd < 0 ? -errno : take(build, size, &part.address);

	if (!err)
		err = ub_image_add_part(build->image, &part);
	if (err && part.fd >= 0)
		close(part.fd);
	if (!err)
		*address = part.address;
	return err;
}

static int by_start(const void *a, const void *b)
{
	const struct ub_unwind_module *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int add_module(struct ub_image_build *build, const struct ub_module *module,
		      struct ub_unwind *list)
{
	struct ub_unwind_module *entry = &list->modules[list->nr_modules];
	const struct ub_unwind_table *table;
	int err = ub_unwind_table(module->elf, &table);

	*entry = (struct ub_unwind_module) { 0 };
	if (err)
		return err;
	entry->base = module->bias + table->base;
	entry->start = entry->base;
	entry->end = entry->base + table->size;
	entry->nr_rows = table->nr_rows;
	/* A file may describe what it likes, but speaks for itself only. */
	if (entry->start < module->low || entry->end > module->high || entry->start >= entry->end)
		return -EBADMSG;
	for (u64 i = 0; i < list->nr_modules; i++)
		if (list->modules[i].start < entry->end && list->modules[i].end > entry->start)
			return -EEXIST;
	err = add_part(build, table->fd, table->memory, &entry->rows);
	if (!err)
		list->nr_modules++;
	return err;
}

/* Whether an earlier mapping is of the same file. */
static bool is_known(const struct ub_address_space *space, u32 index)
{
	const struct ub_mapping *mapping = &space->mappings[index];

	for (u32 i = 0; i < index; i++)
		if (space->mappings[i].prot & PROT_EXEC && space->mappings[i].ino == mapping->ino &&
		    space->mappings[i].dev == mapping->dev)
			return true;
	return false;
}

static void add_file(struct ub_image_build *build, u32 index, struct ub_unwind *list)
{
	struct ub_module *modules = NULL;
	u32 nr = 0;

	if (ub_modules_find_mapping(build->request->pid, &build->space,
				    &build->space.mappings[index], &modules, &nr))
		return;
	for (u32 i = 0; i < nr && list->nr_modules < UB_UNWIND_MODULES; i++)
		if (add_module(build, &modules[i], list))
			break;
	ub_modules_free(modules, nr);
}

void ub_image_add_unwind(struct ub_image_build *build)
{
	const u64 size =
		sizeof(struct ub_unwind) + UB_UNWIND_MODULES * sizeof(struct ub_unwind_module);
	_cleanup_free_ struct ub_unwind *list = NULL;
	_cleanup_close_ int fd = -1;
	u32 nr_files = 0;
	u64 address;

	if (!is_wanted(build->request))
		return;
	list = calloc(1, size);
	if (!list)
		return;
	/* Taking places puts mappings into the list, which are no files: so by index. One may come
	 * twice for it, and then overlaps with itself. */
	for (u32 i = 0; i < build->space.nr && list->nr_modules < UB_UNWIND_MODULES; i++) {
		const struct ub_mapping *mapping = &build->space.mappings[i];

		if (!mapping->ino || !(mapping->prot & PROT_EXEC) || mapping->name[0] != '/' ||
		    !strncmp(mapping->name, "/memfd:", 7) || is_known(&build->space, i))
			continue;
		if (++nr_files > MAX_FILES)
			break;
		add_file(build, i, list);
	}
	if (!list->nr_modules)
		return;
	qsort(list->modules, list->nr_modules, sizeof(list->modules[0]), by_start);
	fd = ub_memfd_sealed(UB_NAME_PREFIX "unwind", list, size, ub_round_up(size, PAGE));
	if (fd >= 0 && !add_part(build, fd, ub_round_up(size, PAGE), &address))
		build->image->process->unwind = address;
}
