/* SPDX-License-Identifier: MIT */
/*
 * Writing to text gave the target private copies of its pages. Once the bytes are the file's again
 * the copies are given up, so that the memory is shared with everybody else as before.
 *
 * It is done while nobody runs who might write to such a page himself, so it is part of the pause:
 * pages are compared many at a time, the file's having been fetched from the disk before, and given
 * up by as few system calls of the target as its kernel allows. That they come back into its page
 * tables can wait until it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <common/cleanup.h>
#include <common/foreign.h>
#include <surgeon/target.h>

#define PAGE	4096ull
#define MAX_RUN 16 /* pages compared by one call */
/* Pages without a site that a run goes on over: to compare them costs less than another call. */
#define MAX_GAP 8

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD -10000
#endif

/* What is behind @path, if that is the file of @m. */
static int open_same(const struct ub_mapping *m, const char *path)
{
	/* By now the name may be that of a FIFO. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;

	/* Some file systems have one device for maps and another for stat(). */
	return fd >= 0 && !fstat(fd, &stat) && stat.st_ino == m->inode ? TAKE_FD(fd) : -1;
}

int ub_open_mapped(const struct ub_target *t, const struct ub_mapping *m)
{
	char path[4352];
	int fd;

	snprintf(path, sizeof(path), "%s/map_files/%lx-%lx", t->proc, m->start, m->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (!ub_foreign_path(t->proc, ub_mapping_name(t, m), path, sizeof(path)))
		fd = open_same(m, path);
	if (fd >= 0)
		return fd;
	/* A program that was replaced on disk is still there. */
	snprintf(path, sizeof(path), "%s/exe", t->proc);
	return open_same(m, path);
}

/* --- pages with sites, and those of the files behind them ------------------------------------- */

static int compare_pages(const void *a, const void *b)
{
	return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

/* The pages of @image's sites, each once. Number of them, or -ENOMEM. */
static int list_pages(const struct ub_image *image, u64 **out)
{
	u64 *pages = malloc((2 * (size_t)image->nr_sites + 1) * sizeof(*pages));
	u32 nr = 0, kept = 0;

	if (!pages)
		return -ENOMEM;
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];

		pages[nr++] = site->address & ~(PAGE - 1);
		if (((site->address + site->len - 1) & ~(PAGE - 1)) != pages[nr - 1])
			pages[nr++] = (site->address + site->len - 1) & ~(PAGE - 1);
	}
	qsort(pages, nr, sizeof(*pages), compare_pages);
	for (u32 i = 0; i < nr; i++) {
		if (!kept || pages[i] != pages[kept - 1])
			pages[kept++] = pages[i];
	}
	*out = pages;
	return (int)kept;
}

/* Pages from the first to the last of some in @pages that lie close together in one file. */
struct run {
	const struct ub_target *t;
	const struct ub_mapping *m;
	const u64 *pages;
	u32 nr_pages;
	u64 start;
	u32 size;
	u8 *file;   /* what the file holds */
	u8 *memory; /* and room for what memory does */
};

static bool is_text(const struct ub_mapping *m)
{
	return m && !m->shared && !(m->prot & PROT_WRITE) && m->inode;
}

static u32 run_length(const struct ub_mapping *m, const u64 *pages, u32 nr)
{
	u32 n = 1;

	while (n < nr && pages[n] < m->end && pages[n] - pages[0] < MAX_RUN * PAGE &&
	       pages[n] - pages[n - 1] <= (MAX_GAP + 1) * PAGE)
		n++;
	return n;
}

/* Has @act look at every run of pages of @image's sites, with the file's bytes read. */
static void for_each_run(struct ub_target *t, const struct ub_image *image,
			 void (*act)(struct ub_target *t, const struct run *run))
{
	_cleanup_free_ u64 *pages = NULL;
	_cleanup_free_ u8 *file = malloc(MAX_RUN * PAGE), *memory = malloc(MAX_RUN * PAGE);
	_cleanup_close_ int fd = -1;
	struct run run = { .t = t, .file = file, .memory = memory };
	int nr = list_pages(image, &pages);

	if (!file || !memory)
		return;
	for (int i = 0; i < nr; i += (int)run.nr_pages) {
		if (!run.m || pages[i] < run.m->start || pages[i] >= run.m->end) {
			run.m = ub_target_mapping(t, pages[i]);
			if (fd >= 0)
				close(fd);
			fd = is_text(run.m) ? ub_open_mapped(t, run.m) : -1;
		}
		run.nr_pages = 1;
		if (fd < 0)
			continue;
		run.pages = &pages[i];
		run.nr_pages = run_length(run.m, run.pages, (u32)(nr - i));
		run.start = pages[i];
		run.size = (u32)(pages[i + (int)run.nr_pages - 1] + PAGE - run.start);
		memset(file, 0, run.size); /* beyond its end */
		if (pread(fd, file, run.size, (off_t)(run.m->offset + (run.start - run.m->start))) >
		    0)
			act(t, &run);
	}
}

static void nothing(struct ub_target *t, const struct run *run)
{
	(void)t;
	(void)run;
}

void ub_fetch_files(struct ub_target *t, const struct ub_image *image)
{
	for_each_run(t, image, nothing);
}

/* --- giving up -------------------------------------------------------------------------------- */

static void add_range(struct ub_target *t, u64 start, u64 end)
{
	struct ub_range *last = t->nr_dropped ? &t->dropped[t->nr_dropped - 1] : NULL;
	struct ub_range *more;

	if (last && last->end == start) {
		last->end = end;
		return;
	}
	more = realloc(t->dropped, (t->nr_dropped + 1) * sizeof(*more));
	if (!more)
		return;
	t->dropped = more;
	t->dropped[t->nr_dropped++] = (struct ub_range) { start, end };
}

/* Notes the ranges that equal the file, each from one of our pages to another. */
static void compare_run(struct ub_target *t, const struct run *run)
{
	struct iovec here = { run->memory, run->size }, there = { (void *)run->start, run->size };
	u64 start = 0, end = 0;
	u32 next = 0;

	if (process_vm_readv(t->alive, &here, 1, &there, 1, 0) != (ssize_t)run->size &&
	    ub_target_read(t, run->start, run->memory, run->size))
		return;
	for (u64 page = run->start; page < run->start + run->size; page += PAGE) {
		const u64 at = page - run->start;
		const bool ours = next < run->nr_pages && run->pages[next] == page;

		next += ours;
		if (memcmp(run->memory + at, run->file + at, PAGE) != 0) {
			if (end)
				add_range(t, start, end);
			end = 0;
			continue;
		}
		if (!ours)
			continue;
		if (!end)
			start = page;
		end = page + PAGE;
	}
	if (end)
		add_range(t, start, end);
}

static bool drop_one(struct ub_target *t, const struct ub_range *range)
{
	const u64 size = range->end - range->start;
	s64 result = 0;

	if (ub_remote_call(t, SYS_madvise, range->start, size, MADV_DONTNEED_LOCKED, 0, 0, 0,
			   &result))
		return false;
	return result != -EINVAL ||
	       !ub_remote_call(t, SYS_madvise, range->start, size, MADV_DONTNEED, 0, 0, 0, &result);
}

/* Many by one call, since Linux 6.15: a process may advise itself so, and has a name for itself
 * that is no descriptor. How many it was. */
static u32 drop_many(struct ub_target *t, const struct ub_range *ranges, u32 nr)
{
	enum { MAX = UB_REMOTE_ARGUMENTS / sizeof(struct iovec) };
	struct iovec vector[MAX];
	const u64 at = ub_remote_arguments(t);
	u64 size = 0;
	s64 result = 0;

	/* Filters of ours are tried with madvise() only (filters.c). */
	if (nr < 2 || t->nr_harmless_filters)
		return 0;
	if (nr > MAX)
		nr = MAX;
	for (u32 i = 0; i < nr; i++) {
		vector[i] =
			(struct iovec) { (void *)ranges[i].start, ranges[i].end - ranges[i].start };
		size += vector[i].iov_len;
	}
	if (ub_target_write(t, at, vector, nr * sizeof(*vector)) ||
	    ub_remote_call(t, SYS_process_madvise, (u64)PIDFD_SELF_THREAD, at, nr,
			   MADV_DONTNEED_LOCKED, 0, 0, &result))
		return 0;
	return result == (s64)size ? nr : 0;
}

void ub_drop_copies(struct ub_target *t, const struct ub_image *image)
{
	const u32 first = t->nr_dropped;
	bool many = true; /* until it was not done: an older kernel does it for none */

	for_each_run(t, image, compare_run);
	for (u32 i = first, n; i < t->nr_dropped; i += n) {
		n = many ? drop_many(t, &t->dropped[i], t->nr_dropped - i) : 0;
		many = n;
		if (n)
			continue;
		n = 1;
		if (!drop_one(t, &t->dropped[i]))
			break;
	}
	(void)ub_fault(t, UB_FAULT_dropped);
}

/* --- and back into its page tables, as they were ---------------------------------------------- */

void ub_touch_dropped(struct ub_target *t)
{
	enum { BATCH = 256 };
	struct iovec there[BATCH];
	u8 bytes[BATCH] = { 0 };
	u32 nr = 0;

	for (u32 i = 0; i < t->nr_dropped; i++) {
		for (u64 page = t->dropped[i].start; page < t->dropped[i].end; page += PAGE) {
			there[nr++] = (struct iovec) { (void *)page, 1 };
			if (nr < BATCH)
				continue;
			process_vm_readv(t->alive, &(struct iovec) { bytes, nr }, 1, there, nr, 0);
			nr = 0;
		}
	}
	if (nr)
		process_vm_readv(t->alive, &(struct iovec) { bytes, nr }, 1, there, nr, 0);
	t->nr_dropped = 0;
}
