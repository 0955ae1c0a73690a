// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include <surgeon/text.h>

#define PAGE 4096ull

static u64 page_of(u64 address)
{
	return address & ~(PAGE - 1);
}

static bool is_across(const struct ub_site *site)
{
	return page_of(site->address) != page_of(site->address + site->len - 1);
}

static u32 nr_pages(const struct ub_text_span *span)
{
	const u64 start = span->sites->address;

	return (u32)((page_of(start + span->size - 1) - page_of(start)) / PAGE) + 1;
}

/* The sites from @first on that lie on @max neighbouring pages at most. At least itself. */
static struct ub_text_span make_span(const struct ub_site *first, const struct ub_site *end,
				     u32 max)
{
	const u64 limit = page_of(first->address) + max * PAGE;
	const struct ub_site *last = first, *next = first + 1;

	while (!is_across(first) && next < end && !is_across(next) && next->address < limit &&
	       page_of(next->address) - page_of(last->address) <= PAGE)
		last = next++;
	return (struct ub_text_span) {
		.sites = first,
		.nr = (u32)(last - first) + 1,
		.size = (u32)(last->address + last->len - first->address),
	};
}

/* --- reading ---------------------------------------------------------------------------------- */

void ub_text_begin(struct ub_text *text, const struct ub_image *image)
{
	text->next = image->sites;
	text->end = image->sites + image->nr_sites;
	text->nr = 0;
}

static int read_one_by_one(const struct ub_target *t, struct ub_text *text)
{
	for (u32 i = 0; i < text->nr; i++) {
		struct ub_text_span *span = &text->spans[i];
		int err = ub_target_read(t, span->sites->address, span->bytes, span->size);

		if (err == -ESRCH)
			return err;
		span->readable = !err;
	}
	return 1;
}

int ub_text_next(const struct ub_target *t, struct ub_text *text)
{
	struct iovec here[UB_TEXT_PAGES], there[UB_TEXT_PAGES];
	ssize_t want = 0;

	text->nr = 0;
	for (u32 pages = 0; text->next < text->end && pages < UB_TEXT_PAGES;) {
		struct ub_text_span *span = &text->spans[text->nr];

		*span = make_span(text->next, text->end, UB_TEXT_PAGES - pages);
		span->bytes = text->bytes + want;
		span->readable = true;
		here[text->nr] = (struct iovec) { span->bytes, span->size };
		there[text->nr] = (struct iovec) { (void *)span->sites->address, span->size };
		want += span->size;
		pages += nr_pages(span);
		text->next += span->nr;
		text->nr++;
	}
	if (!text->nr)
		return 0;
	if (process_vm_readv(t->alive, here, text->nr, there, text->nr, 0) == want)
		return 1;
	return read_one_by_one(t, text);
}

u8 *ub_text_at(const struct ub_text_span *span, const struct ub_site *site)
{
	return span->bytes + (site->address - span->sites->address);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Where /proc/PID/mem refuses what ptrace may (proc_mem.force_override). */
static int poke(struct ub_target *t, u64 address, const u8 *bytes, u32 len)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		u64 start = address & ~7ull, words[UB_SITE_BYTES / 8 + 2];
		u32 nr = (address + len - start + 7) / 8;

		if (t->threads[i].state != UB_THREAD_STOPPED)
			continue;
		if (ub_target_read(t, start, words, nr * 8))
			return -EFAULT;
		memcpy((u8 *)words + (address - start), bytes, len);
		for (u32 k = 0; k < nr; k++) {
			if (ptrace(PTRACE_POKETEXT, t->threads[i].tid, start + 8 * k, words[k]))
				return -errno;
		}
		return 0;
	}
	return -EACCES;
}

/* A write across two pages can be cut in half by a SIGKILL. Own copies of both beforehand, so that
 * nothing is left to wait for in between. */
static int write_across(const struct ub_target *t, const struct ub_text_span *span)
{
	u8 same[UB_SITE_BYTES];
	int err;

	if (!ub_target_read(t, span->sites->address, same, span->size)) {
		err = ub_target_write(t, span->sites->address, same, span->size);
		if (err)
			return err;
	}
	return ub_target_write(t, span->sites->address, span->bytes, span->size);
}

/* The kernel copies a page's bytes at once, and looks for a SIGKILL before the next page if the
 * vector is cut where pages begin. */
static int write_pages(const struct ub_target *t, const struct ub_text_span *span)
{
	const u64 start = span->sites->address, end = start + span->size;
	struct iovec from[UB_TEXT_PAGES];
	ssize_t n;
	int nr = 0;

	for (u64 at = start, next; at < end; at = next) {
		next = page_of(at) + PAGE < end ? page_of(at) + PAGE : end;
		from[nr++] = (struct iovec) { span->bytes + (at - start), next - at };
	}
	n = pwritev(t->mem, from, nr, (off_t)start);
	if (n == (ssize_t)span->size)
		return 0;
	return n ? -EFAULT : -ESRCH;
}

int ub_text_write(struct ub_target *t, const struct ub_text_span *span)
{
	int err = is_across(span->sites) ? write_across(t, span) : write_pages(t, span);

	if (!err || err == -ESRCH)
		return err;
	err = 0;
	for (u32 i = 0; i < span->nr && !err; i++) {
		const struct ub_site *site = &span->sites[i];

		err = poke(t, site->address, ub_text_at(span, site), site->len);
	}
	return err;
}
