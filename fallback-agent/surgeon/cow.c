/* SPDX-License-Identifier: MIT */
/*
 * Writing to text gave the target private copies of its pages. Once the bytes are the file's again
 * the copies are given up, so that the memory is shared with everybody else as before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <common/cleanup.h>
#include <common/foreign.h>
#include <surgeon/target.h>

#define PAGE 4096ull

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

int ub_open_mapped(const struct ub_target *t, const struct ub_mapping *m)
{
	char path[4352];
	int fd;

	snprintf(path, sizeof(path), "%s/map_files/%lx-%lx", t->proc, m->start, m->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	/* By now the name may be that of a FIFO. */
	if (ub_foreign_path(t->proc, ub_mapping_name(t, m), path, sizeof(path)))
		return -1;
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* Whether the page in memory is the file's. */
static bool page_equals_file(const struct ub_target *t, const struct ub_mapping *m, int fd,
			     u64 page)
{
	u8 memory[PAGE], file[PAGE] = { 0 };
	ssize_t n = pread(fd, file, PAGE, m->offset + (page - m->start));

	return n > 0 && !ub_target_read(t, page, memory, PAGE) && !memcmp(memory, file, PAGE);
}

static void drop(struct ub_target *t, u64 start, u64 end)
{
	s64 result = 0;
	u8 byte;

	if (start == end)
		return;
	if (ub_remote_call(t, SYS_madvise, start, end - start, MADV_DONTNEED_LOCKED, 0, 0, 0,
			   &result))
		return;
	if (result == -EINVAL &&
	    ub_remote_call(t, SYS_madvise, start, end - start, MADV_DONTNEED, 0, 0, 0, &result))
		return;
	/* Back into its page tables, as they were. */
	for (u64 page = start; page < end; page += PAGE) {
		if (pread(t->mem, &byte, 1, page) != 1)
			return;
	}
}

static int compare_pages(const void *a, const void *b)
{
	return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

void ub_drop_copies(struct ub_target *t, const struct ub_image *image)
{
	_cleanup_free_ u64 *pages = malloc((2 * image->nr_sites + 1) * sizeof(*pages));
	const struct ub_mapping *m = NULL;
	_cleanup_close_ int fd = -1;
	u64 start = 0, end = 0;
	u32 nr = 0;

	if (!pages)
		return;
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];

		pages[nr++] = site->address & ~(PAGE - 1);
		if (((site->address + site->len - 1) & ~(PAGE - 1)) != pages[nr - 1])
			pages[nr++] = (site->address + site->len - 1) & ~(PAGE - 1);
	}
	qsort(pages, nr, sizeof(*pages), compare_pages);
	for (u32 i = 0; i < nr; i++) {
		if (i && pages[i] == pages[i - 1])
			continue;
		if (!m || pages[i] < m->start || pages[i] >= m->end) {
			m = ub_target_mapping(t, pages[i]);
			if (fd >= 0)
				close(fd);
			fd = m && !m->shared && !(m->prot & PROT_WRITE) && m->inode
				     ? ub_open_mapped(t, m)
				     : -1;
		}
		if (fd < 0 || !page_equals_file(t, m, fd, pages[i]))
			continue;
		if (pages[i] == end) {
			end += PAGE;
			continue;
		}
		drop(t, start, end);
		start = pages[i];
		end = start + PAGE;
	}
	drop(t, start, end);
	(void)ub_fault(t, UB_FAULT_dropped);
}
