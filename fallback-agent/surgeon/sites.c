/* SPDX-License-Identifier: MIT */
/*
 * Bytes in the target's text. Before anything is written, everything is compared: memory must hold
 * what we believe it to hold. Writes go through the /proc/PID/mem that was opened before the stop:
 * it means that memory for ever, so a program that has been executed since is never hit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <surgeon/text.h>

#define JMP_REL32 0xe9
#define PAGE	  4096ull

static const struct ub_site *find_site(const struct ub_image *image, u64 address)
{
	u32 low = 0, high = image ? image->nr_sites : 0;

	while (low < high) {
		u32 mid = (low + high) / 2;

		if (image->sites[mid].address == address)
			return &image->sites[mid];
		if (image->sites[mid].address < address)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* Bytes which @image holds in [address, address + len), laid over @bytes. */
static void overlay(const struct ub_image *image, u64 address, u32 len, bool new_bytes, u8 *bytes)
{
	for (u32 low = 0, high = image ? image->nr_sites : 0; low < high;) {
		u32 mid = (low + high) / 2;
		const struct ub_site *site = &image->sites[mid];

		if (site->address + site->len <= address) {
			low = mid + 1;
			continue;
		}
		if (mid > low &&
		    image->sites[mid - 1].address + image->sites[mid - 1].len > address) {
			high = mid;
			continue;
		}
		for (; mid < image->nr_sites && image->sites[mid].address < address + len; mid++) {
			site = &image->sites[mid];
			for (u32 i = 0; i < site->len; i++) {
				if (site->address + i - address < len)
					bytes[site->address + i - address] =
						new_bytes ? site->new[i] : site->old[i];
			}
		}
		return;
	}
}

/* Whether what @site was written to is no more there: its library has been unloaded, and perhaps
 * loaded again. */
static bool site_is_gone(const struct ub_target *t, const struct ub_site *site, const u8 *bytes)
{
	const struct ub_mapping *m = ub_target_mapping(t, site->address);

	return !m || !(m->prot & PROT_EXEC) || m->inode != site->ino ||
	       m->offset + (site->address - m->start) != site->offset ||
	       !memcmp(bytes, site->old, site->len);
}

static int gone(const struct ub_target *t, struct ub_reason *why)
{
	return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
}

/* OLD's sites on one span that are still as it wrote them, into t->standing; others must be
 * gone. */
static int keep_standing(struct ub_target *t, const struct ub_text_span *span,
			 struct ub_reason *why)
{
	for (u32 i = 0; i < span->nr && span->readable; i++) {
		const struct ub_site *site = &span->sites[i];
		const u8 *now = ub_text_at(span, site);

		if (!memcmp(now, site->new, site->len))
			t->standing.sites[t->standing.nr_sites++] = *site;
		else if (!site_is_gone(t, site, now))
			return ub_refuse_bytes(t, site, now, why);
	}
	return 0;
}

static int find_standing(struct ub_target *t, const struct ub_image *old, struct ub_reason *why)
{
	struct ub_site *sites = calloc(old->nr_sites + 1, sizeof(*sites));
	struct ub_text text;
	int more, err = 0;

	if (!sites)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	free(t->standing.sites);
	t->standing = *old;
	t->standing.sites = sites;
	t->standing.nr_sites = 0;
	ub_text_begin(&text, old);
	while (!err && (more = ub_text_next(t, &text)) > 0) {
		for (u32 i = 0; i < text.nr && !err; i++)
			err = keep_standing(t, &text.spans[i], why);
	}
	return !err && more < 0 ? gone(t, why) : err;
}

bool ub_surgeon_stands(int mem, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 bytes[UB_SITE_BYTES];

		if (i && site->ino == site[-1].ino && site->dev == site[-1].dev)
			continue;
		if (pread(mem, bytes, site->len, (off_t)site->address) != (ssize_t)site->len ||
		    memcmp(bytes, site->new, site->len))
			return false;
	}
	return true;
}

/* Code that was planned on, of any link: another plan may do without it. */
static int unmapped(struct ub_target *t, u64 address, struct ub_reason *why)
{
	t->taken = true;
	return ub_reason_set(why, -EAGAIN, "process %d: the code at %#lx is not mapped any more",
			     t->pid, (unsigned long)address);
}

static int check_span(struct ub_target *t, const struct ub_text_span *span,
		      const struct ub_image *over, struct ub_reason *why)
{
	if (!span->readable)
		return unmapped(t, span->sites->address, why);
	for (u32 i = 0; i < span->nr; i++) {
		const struct ub_site *site = &span->sites[i];
		u8 expected[UB_SITE_BYTES];

		memcpy(expected, site->old, site->len);
		overlay(over, site->address, site->len, true, expected);
		if (memcmp(ub_text_at(span, site), expected, site->len))
			return ub_refuse_bytes(t, site, ub_text_at(span, site), why);
	}
	return 0;
}

static int check_sites(struct ub_target *t, const struct ub_image *image,
		       const struct ub_image *over, struct ub_reason *why)
{
	struct ub_text text;
	int more, err = 0;

	ub_text_begin(&text, image);
	while (!err && (more = ub_text_next(t, &text)) > 0) {
		for (u32 i = 0; i < text.nr && !err; i++)
			err = check_span(t, &text.spans[i], over, why);
	}
	return !err && more < 0 ? gone(t, why) : err;
}

/*
 * A jump that overlaps the code behind its site (hook/pun.c) leads where bytes say that are not
 * ours. If somebody has changed those, by a breakpoint say, it would lead anywhere.
 */
static int check_overlapping(struct ub_target *t, const struct ub_image *image,
			     const struct ub_image *over, struct ub_reason *why)
{
	enum { MAX_JUMP = UB_SITE_BYTES + 5 };

	for (u32 i = 0; image && i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 bytes[MAX_JUMP];
		u32 opcode = 0;
		s32 distance;

		while (opcode < site->len && site->new[opcode] != JMP_REL32)
			opcode++;
		if (opcode == site->len || opcode + 5 <= site->len)
			continue;
		if (ub_target_read(t, site->address, bytes, opcode + 5))
			return unmapped(t, site->address, why);
		overlay(over, site->address, opcode + 5, false, bytes);
		overlay(image, site->address, opcode + 5, true, bytes);
		memcpy(&distance, bytes + opcode + 1, sizeof(distance));
		if (!ub_image_inside(image, site->address + opcode + 5 + (s64)distance))
			return ub_reason_set(
				why, -EBUSY,
				"process %d: somebody else has changed the code behind "
				"%#lx (a breakpoint?), where a jump of ours would overlap it",
				t->pid, (unsigned long)site->address);
	}
	return 0;
}

int ub_sites_check(struct ub_target *t, const struct ub_image *old, const struct ub_image *new,
		   struct ub_reason *why)
{
	int err = old ? find_standing(t, old, why) : 0;

	old = old ? &t->standing : NULL;
	if (!err)
		err = check_sites(t, new, old, why);
	if (!err)
		err = check_overlapping(t, new, old, why);
	return err ? err : ub_fault(t, UB_FAULT_checked);
}

/* --- writing ------------------------------------------------------------------------------- */

/* What @site shall hold instead of @now, in @bytes; false: it is left as it is. */
typedef bool choose_fn(const struct ub_image *other, const struct ub_site *site, const u8 *now,
		       u8 *bytes);

/* Has @choose decide about each of @span's sites. How many it changed. */
static u32 change(const struct ub_text_span *span, choose_fn *choose, const struct ub_image *other)
{
	u32 changed = 0;

	for (u32 i = 0; i < span->nr && span->readable; i++) {
		const struct ub_site *site = &span->sites[i];
		u8 *now = ub_text_at(span, site), bytes[UB_SITE_BYTES];

		if (!choose(other, site, now, bytes))
			continue;
		memcpy(now, bytes, site->len);
		changed++;
	}
	return changed;
}

/* Has @choose decide about each of @image's sites that can be read. *nr: how many it changed. */
static int rewrite(struct ub_target *t, const struct ub_image *image, choose_fn *choose,
		   const struct ub_image *other, enum ub_fault_id fault, u32 *nr)
{
	struct ub_text text;
	int more, err = 0;

	ub_text_begin(&text, image);
	while (!err && (more = ub_text_next(t, &text)) > 0) {
		for (u32 i = 0; i < text.nr && !err; i++) {
			u32 changed = change(&text.spans[i], choose, other);

			if (!changed)
				continue;
			err = ub_text_write(t, &text.spans[i]);
			if (!err)
				err = ub_fault(t, fault);
			*nr += changed;
		}
	}
	return !err && more < 0 ? more : err;
}

/* A site of OLD that NEW does not hold as well: what stays patched at the same place with the same
 * length is overwritten once, by NEW. */
static bool choose_old(const struct ub_image *new, const struct ub_site *site, const u8 *now,
		       u8 *bytes)
{
	const struct ub_site *next = find_site(new, site->address);

	(void)now;
	if (next && next->len >= site->len)
		return false;
	memcpy(bytes, site->old, site->len);
	overlay(new, site->address, site->len, true, bytes);
	return true;
}

static bool choose_new(const struct ub_image *other, const struct ub_site *site, const u8 *now,
		       u8 *bytes)
{
	(void)other;
	(void)now;
	memcpy(bytes, site->new, site->len);
	return true;
}

int ub_sites_write(struct ub_target *t, const struct ub_image *old, const struct ub_image *new,
		   struct ub_reason *why)
{
	u32 nr = 0;
	/* Only what ub_sites_check() has found there. */
	int err = old ? rewrite(t, &t->standing, choose_old, new, UB_FAULT_writing, &nr) : 0;

	nr = 0;
	if (!err)
		err = rewrite(t, new, choose_new, NULL, UB_FAULT_writing, &nr);
	/* Whatever was unmapped since it was checked. */
	if (!err && nr < new->nr_sites)
		err = -EFAULT;
	if (err)
		return ub_reason_set(why, err, "cannot write to the text of process %d: %s", t->pid,
				     strerror(-err));
	return ub_fault(t, UB_FAULT_written);
}

/* Whether memory holds the site's new bytes, or is torn between new and old at a page border, by a
 * kill while they were written or taken back. */
static bool holds_new(const struct ub_site *site, const u8 *bytes)
{
	u32 first = PAGE - (site->address & (PAGE - 1));

	if (!memcmp(bytes, site->new, site->len))
		return true;
	if (first >= site->len)
		return false;
	return (!memcmp(bytes, site->new, first) &&
		!memcmp(bytes + first, site->old + first, site->len - first)) ||
	       (!memcmp(bytes, site->old, first) &&
		!memcmp(bytes + first, site->new + first, site->len - first));
}

/* The others are restored already, or overwritten by somebody else. */
static bool choose_ours(const struct ub_image *other, const struct ub_site *site, const u8 *now,
			u8 *bytes)
{
	(void)other;
	if (!holds_new(site, now) || !memcmp(now, site->old, site->len))
		return false;
	memcpy(bytes, site->old, site->len);
	return true;
}

int ub_sites_restore(struct ub_target *t, const struct ub_image *image, u32 *restored)
{
	int err = rewrite(t, image, choose_ours, NULL, UB_FAULT_restoring, restored);

	return err ? err : ub_fault(t, UB_FAULT_restored);
}

static bool choose_files(const struct ub_image *other, const struct ub_site *site, const u8 *now,
			 u8 *bytes)
{
	(void)other;
	if (memcmp(now, site->old, site->len) != 0)
		return false;
	memcpy(bytes, site->new, site->len);
	return true;
}

int ub_sites_put_back(struct ub_target *t, const struct ub_image *image)
{
	u32 nr = 0;

	return rewrite(t, image, choose_files, NULL, UB_FAULT_restoring, &nr);
}
