// SPDX-License-Identifier: MIT
#include <hook/module.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/foreign.h>

#define PAGE	 4096ull
#define REACH	 ((1ull << 31) - (1ull << 20)) /* of a 32-bit distance, less what lies around it */
#define USER_END 0x7ffffffff000ull
#define LOWEST	 0x10000ull /* vm.mmap_min_addr */
#define DISTANCE                                                                                   \
	(512ull << 20) /* kept from where the kernel maps next, so that nobody gets in first */

static int add_mapping(struct ub_address_space *space, const struct ub_mapping *mapping)
{
	if (space->nr == space->capacity) {
		u32 capacity = space->capacity ? space->capacity * 2 : 128;
		struct ub_mapping *grown =
			realloc(space->mappings, capacity * sizeof(space->mappings[0]));

		if (!grown)
			return -ENOMEM;
		space->mappings = grown;
		space->capacity = capacity;
	}
	space->mappings[space->nr++] = *mapping;
	return 0;
}

void ub_address_space_free(struct ub_address_space *space)
{
	for (u32 i = 0; i < space->nr; i++)
		free(space->mappings[i].name);
	free(space->mappings);
	*space = (struct ub_address_space) {};
}

int ub_address_space_read(pid_t pid, struct ub_address_space *space, struct ub_reason *why)
{
	_cleanup_fclose_ FILE *file = NULL;
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	char path[64];

	*space = (struct ub_address_space) {};
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	file = fopen(path, "re");
	if (!file) {
		int err = errno == ENOENT ? -ESRCH : -errno;

		return ub_reason_set(why, err, "can't read the mappings of process %d: %s", pid,
				     strerror(-err));
	}
	while (getline(&line, &capacity, file) > 0) {
		struct ub_mapping mapping = {};
		unsigned int major_nr, minor_nr;
		char perms[5] = "";
		int name_at = 0, err;
		u64 ino;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n",
			   &mapping.start, &mapping.end, perms, &mapping.offset, &major_nr,
			   &minor_nr, &ino, &name_at) < 7)
			continue;
		mapping.dev = makedev(major_nr, minor_nr);
		mapping.ino = ino;
		mapping.prot = (perms[0] == 'r' ? PROT_READ : 0) |
			       (perms[1] == 'w' ? PROT_WRITE : 0) |
			       (perms[2] == 'x' ? PROT_EXEC : 0);
		/* Not probed, as in the kernel: what is written there goes into the file. */
		if (perms[3] == 's')
			mapping.prot &= ~PROT_EXEC;
		line[strcspn(line, "\n")] = 0;
		mapping.name = strdup(name_at ? line + name_at : "");
		err = mapping.name ? add_mapping(space, &mapping) : -ENOMEM;
		if (err) {
			free(mapping.name);
			ub_address_space_free(space);
			return err;
		}
	}
	if (!space->nr)
		return ub_reason_set(why, -ESRCH,
				     "process %d has no memory: it is exiting or a kernel thread",
				     pid);
	return 0;
}

int ub_address_space_take(struct ub_address_space *space, u64 start, u64 end)
{
	struct ub_mapping mapping = { .start = start, .end = end, .taken = true };
	u32 at = space->nr;
	int err;

	mapping.name = strdup("");
	err = mapping.name ? add_mapping(space, &mapping) : -ENOMEM;
	if (err) {
		free(mapping.name);
		return err;
	}
	for (; at && space->mappings[at - 1].start > start; at--)
		space->mappings[at] = space->mappings[at - 1];
	space->mappings[at] = mapping;
	return 0;
}

void ub_address_space_release(struct ub_address_space *space)
{
	u32 kept = 0;

	for (u32 i = 0; i < space->nr; i++) {
		if (space->mappings[i].taken)
			free(space->mappings[i].name);
		else
			space->mappings[kept++] = space->mappings[i];
	}
	space->nr = kept;
}

/* Number of the first mapping that ends above @address. */
static u32 first_ending_above(const struct ub_address_space *space, u64 address)
{
	u32 low = 0, high = space->nr;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (space->mappings[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct ub_mapping *ub_address_space_at(const struct ub_address_space *space, u64 address)
{
	const u32 i = first_ending_above(space, address);

	return i < space->nr && space->mappings[i].start <= address ? &space->mappings[i] : NULL;
}

/* --- free places ----------------------------------------------------------------------------- */

/* Puts @size bytes into [@low, @high), @margin below its end. */
static bool place_high(u64 low, u64 high, u64 size, u64 margin, u64 *address)
{
	if (high <= low || high - low < size + margin)
		return false;
	*address = (high - margin - size) & ~(PAGE - 1);
	return *address >= low;
}

static bool find_with_margin(const struct ub_address_space *space, u64 from, u64 to, u64 low,
			     u64 size, u64 margin, u64 *address)
{
	for (s64 i = (s64)space->nr; i >= 0; i--) {
		u64 gap_low = i ? space->mappings[i - 1].end : LOWEST;
		u64 gap_high = i < space->nr ? space->mappings[i].start : USER_END;

		if (gap_high > low)
			continue;
		if (place_high(gap_low > from ? gap_low : from, gap_high < to ? gap_high : to, size,
			       margin, address))
			return true;
	}
	for (u32 i = 0; i <= space->nr; i++) {
		u64 gap_low = i ? space->mappings[i - 1].end : LOWEST;
		u64 gap_high = i < space->nr ? space->mappings[i].start : USER_END;
		u64 end = gap_high < to ? gap_high : to;

		if (gap_high <= low)
			continue;
		/* The stack grows down to its limit. */
		if (i < space->nr && !strcmp(space->mappings[i].name, "[stack]") &&
		    end == gap_high && end > gap_low)
			end -= (end - gap_low) / 2;
		if (place_high(gap_low > from ? gap_low : from, end, size, margin, address))
			return true;
	}
	return false;
}

/*
 * Gaps below the modules come first: above them are the heap, which grows, and the stack. Large
 * gaps come before small ones, and a distance is kept from a gap's upper end: there the kernel maps
 * next.
 */
int ub_address_space_find(const struct ub_address_space *space, u64 low, u64 high, u64 size,
			  u64 *address)
{
	u64 from = high > REACH ? high - REACH : LOWEST;
	u64 to = low + REACH < USER_END ? low + REACH : USER_END;

	if (from < LOWEST)
		from = LOWEST;
	from = ub_round_up(from, PAGE);
	for (u64 margin = DISTANCE; margin; margin = margin > PAGE ? margin / 16 : 0)
		if (find_with_margin(space, from, to, low, size, margin, address))
			return 0;
	return find_with_margin(space, from, to, low, size, 0, address) ? 0 : -ENOSPC;
}

bool ub_address_space_is_free(const struct ub_address_space *space, u64 start, u64 size)
{
	u32 i;

	if (start < LOWEST || start >= USER_END || size > USER_END - start)
		return false;
	i = first_ending_above(space, start);
	return i == space->nr || space->mappings[i].start >= start + size;
}

#define MAX_SHIFT (64ull << 20) /* by which segments lie farther apart in memory than in the file */

/* The next mapping in direction @step that continues what *index is of, or NULL. Anonymous ones are
 * between segments, or in place of code. */
static const struct ub_mapping *next_segment(const struct ub_address_space *space, u32 *index,
					     int step)
{
	const struct ub_mapping *from = &space->mappings[*index];

	for (u32 i = *index + (u32)step; i < space->nr; i += (u32)step) {
		const struct ub_mapping *to = &space->mappings[i];
		const u64 shift = (to->start - to->offset) - (from->start - from->offset);

		if (!to->ino)
			continue;
		*index = i;
		if (strcmp(to->name, from->name))
			return NULL;
		/* Two segments may share a page of the file; its first one begins another copy. */
		if (to->offset == from->offset && to->offset &&
		    (step > 0 ? from->end == to->start : to->end == from->start))
			return to;
		if (step > 0 ? to->offset > from->offset && shift < MAX_SHIFT
			     : to->offset < from->offset && -shift < MAX_SHIFT)
			return to;
		return NULL;
	}
	return NULL;
}

bool ub_address_space_is_loaded(const struct ub_address_space *space, u32 index)
{
	const struct ub_mapping *mapping = &space->mappings[index];
	bool code = mapping->prot & PROT_EXEC, start = !mapping->offset;
	u32 i = index;

	while ((mapping = next_segment(space, &i, -1))) {
		code |= mapping->prot & PROT_EXEC;
		start = !mapping->offset;
	}
	i = index;
	while (!code && (mapping = next_segment(space, &i, 1)))
		code = mapping->prot & PROT_EXEC;
	return code && start;
}

/* --- files ----------------------------------------------------------------------------------- */

static int check_file(int fd, dev_t dev, ino_t ino)
{
	struct stat stat;

	return !fstat(fd, &stat) && stat.st_dev == dev && stat.st_ino == ino ? 0 : -ESTALE;
}

static int path_in_target(pid_t pid, const struct ub_mapping *mapping, char *path, size_t size)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	return ub_foreign_path(proc, mapping->name, path, size);
}

/* Opens the mapped file itself (privileged), or what the target sees under its name. */
static int open_mapped(pid_t pid, const struct ub_mapping *mapping, dev_t dev, ino_t ino)
{
	char path[PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, mapping->start,
		 mapping->end);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && !check_file(fd, dev, ino))
		return fd;
	if (fd >= 0)
		close(fd);
	fd = path_in_target(pid, mapping, path, sizeof(path))
		     ? -1
		     : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && !check_file(fd, dev, ino))
		return fd;
	if (fd >= 0)
		close(fd);
	/* A program that was replaced on disk is still there through exe. */
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && !check_file(fd, dev, ino))
		return fd;
	if (fd >= 0)
		close(fd);
	return -ENOENT;
}

/* Whether the mapping is of the file with @dev and @ino. On btrfs and overlayfs maps prints another
 * device than stat: the inode decides then, and the file behind the name. */
static bool is_file(pid_t pid, const struct ub_mapping *mapping, dev_t dev, ino_t ino, bool by_name)
{
	char path[PATH_MAX + 32];
	struct stat stat;

	if (!mapping->ino || mapping->name[0] != '/')
		return false;
	if (!by_name)
		return mapping->dev == dev && mapping->ino == ino;
	return !path_in_target(pid, mapping, path, sizeof(path)) && !lstat(path, &stat) &&
	       stat.st_dev == dev && stat.st_ino == ino;
}

void ub_modules_free(struct ub_module *modules, u32 nr)
{
	for (u32 i = 0; modules && i < nr; i++) {
		ub_elf_put(modules[i].elf);
		free(modules[i].name);
	}
	free(modules);
}

static int module_bias(const struct ub_elf *elf, const struct ub_mapping *mapping, u64 *bias)
{
	for (u32 i = 0; i < elf->nr_segments; i++) {
		const struct ub_elf_segment *segment = &elf->segments[i];

		if (segment->executable &&
		    segment->offset < mapping->offset + (mapping->end - mapping->start) &&
		    segment->offset + segment->size > mapping->offset) {
			*bias = mapping->start - mapping->offset + segment->offset -
				segment->address;
			return 0;
		}
	}
	return -ENOENT;
}

/* The range of addresses that @elf covers at @bias. */
static void module_span(struct ub_module *module)
{
	module->low = UINT64_MAX;
	module->high = 0;
	for (u32 i = 0; i < module->elf->nr_segments; i++) {
		const struct ub_elf_segment *segment = &module->elf->segments[i];
		u64 low = module->bias + segment->address;

		if (low < module->low)
			module->low = low;
		if (low + segment->size > module->high)
			module->high = low + segment->size;
	}
}

bool ub_module_has(const struct ub_address_space *space, const struct ub_module *module,
		   u64 address, int prot)
{
	const struct ub_elf_segment *segment =
		ub_elf_segment_at(module->elf, address - module->bias);
	const struct ub_mapping *mapping = ub_address_space_at(space, address);

	return segment && mapping && mapping->ino && (mapping->prot & prot) == prot &&
	       !strcmp(mapping->name, module->name) &&
	       address - mapping->start + mapping->offset ==
		       address - module->bias - segment->address + segment->offset;
}

/* Puts one in front that begins with the file's first segment. */
static void sort_modules(const struct ub_address_space *space, struct ub_module *modules, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		const struct ub_module module = modules[i];

		if (!module.elf->nr_segments ||
		    !ub_module_has(space, &module, module.bias + module.elf->segments[0].address,
				   0))
			continue;
		modules[i] = modules[0];
		modules[0] = module;
		return;
	}
}

int ub_modules_find(pid_t pid, const struct ub_address_space *space, dev_t dev, ino_t ino,
		    struct ub_module **modules, u32 *nr, struct ub_reason *why)
{
	struct ub_module *found = NULL;
	u32 count = 0;
	int err = 0;

	for (int by_name = 0; by_name <= 1 && !count && !err; by_name++) {
		for (u32 i = 0; i < space->nr && !err; i++) {
			const struct ub_mapping *mapping = &space->mappings[i];
			_cleanup_close_ int fd = -1;
			struct ub_module module = { .dev = dev, .ino = ino };
			struct ub_module *grown;
			bool known = false;

			if (!(mapping->prot & PROT_EXEC) ||
			    !is_file(pid, mapping, dev, ino, by_name))
				continue;
			fd = open_mapped(pid, mapping, dev, ino);
			if (fd < 0) {
				err = ub_reason_set(
					why, -ENOENT,
					"%s was deleted or replaced since process %d mapped it, and "
					"only root can still read what is mapped",
					mapping->name, pid);
				break;
			}
			err = ub_elf_open(fd, &module.elf, why);
			if (err) {
				ub_reason_prefix(why, err, "%s", mapping->name);
				break;
			}
			if (module_bias(module.elf, mapping, &module.bias)) {
				ub_elf_put(module.elf);
				continue;
			}
			for (u32 k = 0; k < count; k++)
				known |= found[k].bias == module.bias;
			module_span(&module);
			grown = known ? NULL : realloc(found, (count + 1) * sizeof(*found));
			module.name = known ? NULL : strdup(mapping->name);
			if (!grown || !module.name) {
				if (grown)
					found = grown;
				free(module.name);
				ub_elf_put(module.elf);
				err = known ? 0 : -ENOMEM;
				continue;
			}
			found = grown;
			found[count++] = module;
		}
	}
	if (!err && !count)
		err = -ENOENT;
	if (err) {
		ub_modules_free(found, count);
		return err;
	}
	sort_modules(space, found, count);
	*modules = found;
	*nr = count;
	return 0;
}

int ub_mapping_file(pid_t pid, const struct ub_mapping *mapping, dev_t *dev, ino_t *ino)
{
	char path[PATH_MAX + 32];
	struct stat stat;

	if (!mapping->ino || mapping->name[0] != '/')
		return -ENOENT;
	if (path_in_target(pid, mapping, path, sizeof(path)) || lstat(path, &stat) ||
	    stat.st_ino != mapping->ino)
		return -ENOENT;
	*dev = stat.st_dev;
	*ino = stat.st_ino;
	return 0;
}

int ub_modules_find_mapping(pid_t pid, const struct ub_address_space *space,
			    const struct ub_mapping *mapping, struct ub_module **modules, u32 *nr)
{
	dev_t dev;
	ino_t ino;
	int err = ub_mapping_file(pid, mapping, &dev, &ino);

	return err ? err : ub_modules_find(pid, space, dev, ino, modules, nr, NULL);
}
