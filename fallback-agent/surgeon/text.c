// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/text.h>

#define PAGE  4096ull
#define BATCH 256 /* spans read by one call */

/* The sites from @first on that lie on its page, and on no other. At least itself. */
static struct ub_text_span make_span(const struct ub_site *first, const struct ub_site *end)
{
	const u64 page = first->address & ~(PAGE - 1);
	const struct ub_site *last = first, *next = first;

	while (next < end && next->address + next->len <= page + PAGE)
		last = next++;
	return (struct ub_text_span) {
		.sites = first,
		.nr = (u32)(last - first) + 1,
		.size = (u32)(last->address + last->len - first->address),
	};
}

int ub_text_make(const struct ub_site *sites, u32 nr, struct ub_text *out)
{
	_cleanup_(ub_text_free) struct ub_text text = { 0 };
	const struct ub_site *end = sites + nr;
	size_t size = 0;

	text.spans = calloc(nr + 1, sizeof(*text.spans));
	if (!text.spans)
		return -ENOMEM;
	while (sites < end) {
		text.spans[text.nr] = make_span(sites, end);
		size += text.spans[text.nr].size;
		sites += text.spans[text.nr++].nr;
	}
	text.bytes = malloc(size + 1);
	if (!text.bytes)
		return -ENOMEM;
	size = 0;
	for (u32 i = 0; i < text.nr; i++) {
		text.spans[i].bytes = text.bytes + size;
		size += text.spans[i].size;
	}
	*out = text;
	text = (struct ub_text) { 0 };
	return 0;
}

void ub_text_free(struct ub_text *text)
{
	free(text->spans);
	free(text->bytes);
	*text = (struct ub_text) { 0 };
}

int ub_text_read_span(const struct ub_target *t, struct ub_text_span *span)
{
	int err = ub_target_read(t, span->sites->address, span->bytes, span->size);

	span->readable = !err;
	return err == -ESRCH ? err : 0;
}

static int read_batch(const struct ub_target *t, struct ub_text_span *spans, u32 nr)
{
	struct iovec here[BATCH], there[BATCH];
	ssize_t want = 0;
	int err = 0;

	for (u32 i = 0; i < nr; i++) {
		here[i] = (struct iovec) { spans[i].bytes, spans[i].size };
		there[i] = (struct iovec) { (void *)spans[i].sites->address, spans[i].size };
		spans[i].readable = true;
		want += spans[i].size;
	}
	if (process_vm_readv(t->alive, here, nr, there, nr, 0) == want)
		return 0;
	for (u32 i = 0; i < nr && !err; i++)
		err = ub_text_read_span(t, &spans[i]);
	return err;
}

int ub_text_read(const struct ub_target *t, struct ub_text *text)
{
	int err = 0;

	for (u32 i = 0; i < text->nr && !err; i += BATCH)
		err = read_batch(t, &text->spans[i], text->nr - i < BATCH ? text->nr - i : BATCH);
	return err;
}

u8 *ub_text_at(const struct ub_text_span *span, const struct ub_site *site)
{
	return span->bytes + (site->address - span->sites->address);
}

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
static int own_both_pages(const struct ub_target *t, const struct ub_text_span *span)
{
	u8 same[UB_SITE_BYTES];
	int err;

	if ((span->sites->address & (PAGE - 1)) + span->size <= PAGE ||
	    ub_target_read(t, span->sites->address, same, span->size))
		return 0;
	err = ub_target_write(t, span->sites->address, same, span->size);
	return err == -EFAULT ? 0 : err;
}

int ub_text_write(struct ub_target *t, const struct ub_text_span *span)
{
	int err = own_both_pages(t, span);

	if (!err)
		err = ub_target_write(t, span->sites->address, span->bytes, span->size);
	if (!err || err == -ESRCH)
		return err;
	err = 0;
	for (u32 i = 0; i < span->nr && !err; i++) {
		const struct ub_site *site = &span->sites[i];

		err = poke(t, site->address, ub_text_at(span, site), site->len);
	}
	return err;
}
