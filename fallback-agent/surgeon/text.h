/* SPDX-License-Identifier: MIT */
/*
 * A target's text at an image's sites, read and written some pages at a time: each access costs a
 * system call and a walk to its page, and one for each of 1 000 sites would be most of the pause.
 *
 * What lies between the sites of a page is written as well, so it was read just before, with all
 * threads stopped: the kernel may put breakpoints there, and take them away, at any time.
 */
#ifndef UB_SURGEON_TEXT_H
#define UB_SURGEON_TEXT_H

#include <surgeon/target.h>

#define UB_TEXT_PAGES 16

/* From the first of some sites to the end of the last: all that lie on neighbouring pages, or one
 * that lies across two. */
struct ub_text_span {
	const struct ub_site *sites;
	u32 nr;
	u32 size;
	u8 *bytes;     /* what memory holds from sites[0].address on */
	bool readable; /* else it is not mapped (any more) */
};

/* Spans of UB_TEXT_PAGES pages at most, from an image's sites in the order of their addresses. */
struct ub_text {
	const struct ub_site *next, *end; /* sites that come after those */
	struct ub_text_span spans[UB_TEXT_PAGES];
	u32 nr;
	u8 bytes[(UB_TEXT_PAGES + 1) * 4096];
};

void ub_text_begin(struct ub_text *text, const struct ub_image *image);
/* Reads the next spans: 1, 0 at the end, -ESRCH. */
int __must_check ub_text_next(const struct ub_target *t, struct ub_text *text);
/* What memory holds at @site, one of @span's. */
u8 *ub_text_at(const struct ub_text_span *span, const struct ub_site *site);
/* Writes @span's bytes, changed at its sites. After a kill each page has them or has not; a site
 * across two pages may be cut in half. */
int __must_check ub_text_write(struct ub_target *t, const struct ub_text_span *span);

#endif
