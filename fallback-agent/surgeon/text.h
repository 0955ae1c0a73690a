/* SPDX-License-Identifier: MIT */
/*
 * A target's text at an image's sites, read and written a page at a time: each access costs a walk
 * to its page, and one for each of 1 000 sites would be most of the pause.
 */
#ifndef UB_SURGEON_TEXT_H
#define UB_SURGEON_TEXT_H

#include <surgeon/target.h>

/* From the first of some sites to the end of the last: all that lie on one page, or one that lies
 * across two. */
struct ub_text_span {
	const struct ub_site *sites;
	u32 nr;
	u32 size;
	u8 *bytes;     /* what memory holds from sites[0].address on */
	bool readable; /* else it is not mapped (any more) */
};

struct ub_text {
	struct ub_text_span *spans;
	u32 nr;
	u8 *bytes; /* of all of them */
};

/* Spans of @nr sites, sorted by address; nothing is read yet. -ENOMEM. */
int __must_check ub_text_make(const struct ub_site *sites, u32 nr, struct ub_text *out);
void ub_text_free(struct ub_text *text);
/* Reads all spans, many at a time. -ESRCH. */
int __must_check ub_text_read(const struct ub_target *t, struct ub_text *text);
/* Reads one. -ESRCH. */
int __must_check ub_text_read_span(const struct ub_target *t, struct ub_text_span *span);
/* What memory holds at @site, one of @span's. */
u8 *ub_text_at(const struct ub_text_span *span, const struct ub_site *site);
/* Writes @span's bytes, changed at its sites. Those in between are written as well, so they were
 * read with all threads stopped and just now: the kernel may put breakpoints there, and take them
 * away, at any time. A kill leaves all bytes written or none, except for a site across two
 * pages. */
int __must_check ub_text_write(struct ub_target *t, const struct ub_text_span *span);

#endif
