/* SPDX-License-Identifier: MIT */
/*
 * Shared memory into a target, and out again.
 *
 * The descriptors come by pass.c, into a process of its own (helper.c).
 *
 * An operation that dies in between leaves mappings. They are found without a log, by their names;
 * the one that has no name by the site table, which is mapped first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static int map_part(struct ub_target *t, const struct ub_part *part, s32 fd, struct ub_reason *why)
{
	int flags = part->flags | MAP_FIXED_NOREPLACE;
	u64 one = 1;
	s64 result;
	int err;

	err = ub_remote_do(t, "mmap", SYS_mmap, part->address, part->size, part->prot, flags, fd, 0,
			   &result, why);
	if (err == -EEXIST) {
		t->taken = true;
		return ub_reason_set(why, -EAGAIN, "address %lx in process %d was taken meanwhile",
				     part->address, t->pid);
	}
	/* Not an invitation to try again: it locks all of its memory and may not lock more. */
	if (err == -EAGAIN)
		return ub_reason_set(why, -ENOMEM,
				     "process %d locks its memory (mlockall) and has reached its "
				     "limit: raise it (prlimit --memlock)",
				     t->pid);
	if (err == -ENOMEM)
		return ub_reason_set(
			why, err,
			"process %d may not map %lu more bytes: raise its limits (prlimit "
			"--as, --data) or vm.max_map_count",
			t->pid, part->size);
	if (err)
		return err;
	if ((u64)result != part->address) {
		/* A kernel before 4.17 takes the address for a hint. */
		err = ub_remote_do(t, "munmap", SYS_munmap, result, part->size, 0, 0, 0, 0, &result,
				   why);
		t->taken = true;
		return err ? err : -EAGAIN;
	}
	err = ub_fault(t, UB_FAULT_mapping);
	if (err || part->kind != UB_PART_FORK)
		return err;
	err = ub_remote_do(t, "madvise", SYS_madvise, part->address, part->size, MADV_WIPEONFORK, 0,
			   0, 0, &result, why);
	return err ? err : ub_target_write(t, part->address, &one, sizeof(one));
}

static int map_batch(struct ub_target *t, const struct ub_image *image, u32 first, u32 nr, int end,
		     s32 socket, struct ub_reason *why)
{
	int fds[UB_PASS_FDS];
	s32 there[UB_PASS_FDS];
	u32 nr_fds = 0, got = 0, next = 0;
	s64 result;
	int err = 0;

	for (u32 i = first; i < first + nr; i++) {
		if (image->parts[i].kind != UB_PART_FORK)
			fds[nr_fds++] = image->parts[i].fd;
	}
	if (!nr_fds)
		return 0;
	err = ub_pass_fds(t, end, socket, fds, there, nr_fds, &got, why);
	for (u32 i = first; i < first + nr && !err; i++) {
		if (image->parts[i].kind != UB_PART_FORK)
			err = map_part(t, &image->parts[i], there[next++], why);
	}
	/* Numbers rise, and whatever lies between them is a copy. */
	if (!err && first + nr < image->nr_parts)
		err = ub_remote_call(t, SYS_close_range, socket + 1, ~0u, 0, 0, 0, 0, &result);
	return err;
}

/* Last, because it bears no name: by now the site table says where it is. */
static int map_fork_page(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	for (u32 i = 0; i < image->nr_parts; i++) {
		int err;

		if (image->parts[i].kind != UB_PART_FORK)
			continue;
		t->report->fork_tried = 1;
		err = map_part(t, &image->parts[i], -1, why);
		if (err) {
			/* Somebody else's: it must not be taken for ours when this is undone. */
			t->report->fork_tried = err != -EAGAIN;
			return err;
		}
	}
	return 0;
}

static int map_all(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	_cleanup_close_ int end = -1;
	s32 socket = -1;
	u32 nr;
	int err;

	err = ub_pass_begin(t, &end, &socket, why);
	for (u32 i = 0; i < image->nr_parts && !err; i += nr) {
		nr = image->nr_parts - i < UB_PASS_FDS ? image->nr_parts - i : UB_PASS_FDS;
		err = map_batch(t, image, i, nr, end, socket, why);
	}
	return err ? err : map_fork_page(t, image, why);
}

int ub_map_parts(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	int err, ended;

	t->report->changed = 1;
	err = ub_helper_start(t, why);
	if (err)
		return err;
	err = map_all(t, image, why);
	/* Only the first, largest batch can meet a full table, and then nothing is mapped yet. */
	if (err == -EMFILE && !ub_helper_make_room(t, 2 + UB_PASS_FDS))
		err = map_all(t, image, why);
	if (err == -EMFILE)
		ub_reason_set(why, err,
			      "process %d has no free file descriptors and may not have more: "
			      "raise its limit (prlimit --nofile)",
			      t->pid);
	ended = ub_helper_end(t);
	if (!err)
		err = ended;
	return err ? err : ub_fault(t, UB_FAULT_mapped);
}

static bool named_part_mapped(const struct ub_target *t, const struct ub_part *part)
{
	const struct ub_mapping *m = ub_target_mapping(t, part->address);

	return m && m->start == part->address && strstr(ub_mapping_name(t, m), UB_NAME_PREFIX);
}

/* Whether smaps shows MADV_WIPEONFORK at @address: nearly nothing else uses it. */
static bool wiped_on_fork(const struct ub_target *t, u64 address)
{
	char path[96], line[1024];
	_cleanup_fclose_ FILE *smaps = NULL;
	unsigned long start, end;
	bool here = false;

	snprintf(path, sizeof(path), "%s/smaps", t->proc);
	smaps = fopen(path, "re");
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = address >= start && address < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			return strstr(line, " wf") != NULL;
	}
	return false;
}

/* Documentation/admin-guide/mm/pagemap.rst; other bits, soft-dirty say, may be set for a hole
 * too. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)

/* Never touched, in an image that never became live: mapped, but not yet marked, when we were
 * killed. */
static bool fresh_page(struct ub_target *t, const struct ub_image *image, u64 address)
{
	struct ub_site_state state;
	char path[96];
	u64 entry = PAGEMAP_PRESENT;
	FILE *pagemap;

	if (!ub_stage_known(t, image) || ub_stage_get(t, image, &state) ||
	    state.stage != UB_STAGE_MAPPED)
		return false;
	snprintf(path, sizeof(path), "%s/pagemap", t->proc);
	pagemap = fopen(path, "re");
	if (!pagemap)
		return false;
	if (fseek(pagemap, address / 4096 * 8, SEEK_SET) || fread(&entry, 8, 1, pagemap) != 1)
		entry = PAGEMAP_PRESENT;
	fclose(pagemap);
	return !(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
}

/* The fork page bears no name. It is ours if the image was complete and its neighbour in memory is
 * still there (both go with one munmap), or if we know that we mapped it, or if it looks like it.
 */
static bool fork_page_mapped(struct ub_target *t, const struct ub_image *image,
			     const struct ub_part *part)
{
	const struct ub_mapping *m = ub_target_mapping(t, part->address);

	if (!m || m->shared || ub_mapping_name(t, m)[0])
		return false;
	if (t->partial)
		return t->report->fork_tried;
	if (t->recorded)
		return wiped_on_fork(t, part->address) || fresh_page(t, image, part->address);
	for (u32 k = 0; k < image->nr_parts; k++) {
		if (image->parts[k].address == part->address + part->size)
			return named_part_mapped(t, &image->parts[k]);
	}
	return false;
}

static bool part_mapped(struct ub_target *t, const struct ub_image *image,
			const struct ub_part *part)
{
	return part->kind == UB_PART_FORK ? fork_page_mapped(t, image, part)
					  : named_part_mapped(t, part);
}

bool ub_parts_mapped(const struct ub_target *t, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_parts; i++) {
		if (named_part_mapped(t, &image->parts[i]))
			return true;
	}
	return false;
}

static int unmap(struct ub_target *t, u64 address, u64 size, struct ub_reason *why)
{
	s64 result;
	int err;

	if (!size)
		return 0;
	err = ub_fault(t, UB_FAULT_unmapping);
	if (err)
		return err;
	return ub_remote_do(t, "munmap", SYS_munmap, address, size, 0, 0, 0, 0, &result, why);
}

/* The sites part goes last: while anything else is there, it can be found from it. */
int ub_unmap_parts(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	u64 start = 0, size = 0;
	int err = 0;

	for (u32 pass = 0; pass < 2 && !err; pass++) {
		for (u32 i = 0; i < image->nr_parts && !err; i++) {
			const struct ub_part *part = &image->parts[i];

			if ((part->kind == UB_PART_SITES) != (pass == 1))
				continue;
			if (!part_mapped(t, image, part))
				continue;
			if (size && start + size == part->address) {
				size += part->size;
				continue;
			}
			err = unmap(t, start, size, why);
			start = part->address;
			size = part->size;
		}
		if (!err)
			err = unmap(t, start, size, why);
		size = 0;
	}
	return err;
}
