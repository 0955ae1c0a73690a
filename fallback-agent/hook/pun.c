// SPDX-License-Identifier: MIT
/*
 * Overlapping jumps.
 *
 *   bytes of the file   W ... | N N N N   W: the window, fewer than 5 bytes; N: what follows it
 *   overwritten         e9 f  | N N N N   f: low bytes of the distance, ours to choose
 *   or, with prefixes   2e e9 | N N N N   that mean nothing before a jump
 *
 * The jump's distance ends with bytes of N, which stay what they are: whoever comes there by another
 * way, or comes back there, finds the instruction. Where the code ends within N, what pads it is ours
 * again:
 *
 *   bytes of the file   48 8b 40 08 | c3 | cc cc	mov 8(%rax),%rax; ret
 *   overwritten         2e e9 f  f  | c3 | f
 *
 * Each choice of prefixes, and of bytes behind the end, gives a range of 256^f addresses where the jump
 * can lead; a page there that is free in the target gets a jump to the trampoline.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hook/image_build.h>

#define PAGE	    4096ull
#define STUB	    14 /* jmp *0(%rip) and the address */
#define MAX_PAGES   1024
#define MAX_TRIES   64	/* pages looked at in one range */
#define MAX_CHOICES 512 /* of bytes behind the end of the code */

static struct ub_image_pun_page *find_page(const struct ub_image_build *build, u64 address)
{
	for (u32 i = 0; i < build->nr_pun_pages; i++)
		if (build->pun_pages[i].address == address)
			return &build->pun_pages[i];
	return NULL;
}

static bool is_used(const struct ub_image_pun_page *page, u32 at)
{
	for (u32 i = at; i < at + STUB; i++)
		if (page->used[i / 64] & 1ull << i % 64)
			return true;
	return false;
}

static int add_page(struct ub_image_build *build, u64 address, struct ub_image_pun_page **out)
{
	struct ub_image_pun_page *grown;
	int err;

	if (build->nr_pun_pages == MAX_PAGES)
		return -ENOSPC;
	grown = realloc(build->pun_pages, (build->nr_pun_pages + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	build->pun_pages = grown;
	err = ub_address_space_take(&build->space, address, address + PAGE);
	if (err)
		return err;
	*out = &grown[build->nr_pun_pages++];
	**out = (struct ub_image_pun_page) { .address = address };
	memset((*out)->bytes, 0xcc, sizeof((*out)->bytes));
	return 0;
}

/* A landing in @page at an address in [@low, @high], if there is room. */
static bool put(struct ub_image_pun_page *page, u64 low, u64 high, u64 trampoline, u64 *landing)
{
	static const u8 jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	const u64 start = page->address;
	u64 from, to;

	if (high < start || low > start + PAGE - STUB)
		return false;
	from = low > start ? low - start : 0;
	to = high - start < PAGE - STUB ? high - start : PAGE - STUB;
	for (u64 at = from; at <= to; at++) {
		if (is_used(page, (u32)at))
			continue;
		memcpy(page->bytes + at, jump, sizeof(jump));
		memcpy(page->bytes + at + sizeof(jump), &trampoline, 8);
		for (u64 i = at; i < at + STUB; i++)
			page->used[i / 64] |= 1ull << i % 64;
		*landing = start + at;
		return true;
	}
	return false;
}

/* Takes an address in [@low, @high] for a landing. */
static int take(struct ub_image_build *build, u64 low, u64 high, u64 trampoline, u64 *landing)
{
	u32 tries = 0;

	for (u32 i = 0; i < build->nr_pun_pages; i++)
		if (put(&build->pun_pages[i], low, high, trampoline, landing))
			return 0;
	for (u64 page_at = low & ~(PAGE - 1); page_at <= high && tries < MAX_TRIES; tries++) {
		if (!find_page(build, page_at) &&
		    ub_address_space_is_free(&build->space, page_at, PAGE)) {
			struct ub_image_pun_page *page;
			int err = add_page(build, page_at, &page);

			if (err)
				return err;
			if (put(page, low, high, trampoline, landing))
				return 0;
		}
		/* A long range is looked at here and there. */
		page_at += high - low > PAGE * MAX_TRIES
				   ? ((high - low) / MAX_TRIES & ~(PAGE - 1)) + PAGE
				   : PAGE;
	}
	return -ENOSPC;
}

/* A jump behind @prefixes: which bytes of its distance are ours. */
struct shape {
	u64 end;    /* of the jump: where the distance counts from */
	u32 nr_low; /* bytes at its lower end */
	u32 nr_high;
	u32 fixed; /* all others, in place */
};

static struct shape shape_of(const struct ub_site *site, u32 keep, const u8 *bytes, u32 prefixes)
{
	struct shape shape = { .end = site->address + prefixes + 5 };
	const u32 at = prefixes + 1;

	while (shape.nr_low < 4 && !(keep & 1u << (at + shape.nr_low)))
		shape.nr_low++;
	while (shape.nr_low + shape.nr_high < 4 && !(keep & 1u << (at + 3 - shape.nr_high)))
		shape.nr_high++;
	for (u32 i = shape.nr_low; i < 4 - shape.nr_high; i++)
		shape.fixed |= (u32)bytes[at + i] << 8 * i;
	return shape;
}

/* Finds a landing for @shape; *distance leads there. */
static int place(struct ub_image_build *build, const struct shape *shape, u64 trampoline,
		 u64 *landing, u32 *distance)
{
	const u64 span = (1ull << 8 * shape->nr_low) - 1;
	const u32 choices = shape->nr_high > 1 ? MAX_CHOICES : 1u << 8 * shape->nr_high;
	int err = -ENOSPC;

	for (u32 high = 0; high < choices && err == -ENOSPC; high++) {
		const u32 rel =
			shape->fixed | (shape->nr_high ? high << 8 * (4 - shape->nr_high) : 0);
		const u64 low = shape->end + (u64)(s64)(s32)rel;

		err = take(build, low, low + span, trampoline, landing);
	}
	*distance = (u32)(*landing - shape->end);
	return err;
}

int ub_pun_place(struct ub_image_build *build, struct ub_site *site, u32 keep, const u8 *bytes,
		 u64 trampoline, u64 *landing)
{
	const u32 len = site->len;

	for (u32 prefixes = 0; prefixes < len; prefixes++) {
		const struct shape shape = shape_of(site, keep, bytes, prefixes);
		u32 distance;
		int err = place(build, &shape, trampoline, landing, &distance);

		if (err == -ENOSPC)
			continue;
		if (err)
			return err;
		if (shape.nr_high)
			site->len = prefixes + 5;
		else if (prefixes + 1 + shape.nr_low > len)
			site->len = prefixes + 1 + shape.nr_low;
		memcpy(site->old, bytes, site->len);
		memset(site->new, 0x2e, prefixes);
		site->new[prefixes] = 0xe9;
		/* Bytes that are kept are what they were. */
		memcpy(site->new + prefixes + 1, &distance, 4);
		return 0;
	}
	return -ENOSPC;
}

int ub_pun_finish(struct ub_image_build *build, struct ub_reason *why)
{
	for (u32 i = 0; i < build->nr_pun_pages; i++) {
		const struct ub_image_pun_page *page = &build->pun_pages[i];
		struct ub_part part = {
			.kind = UB_PART_CODE,
			.address = page->address,
			.size = PAGE,
			.prot = PROT_READ | PROT_EXEC,
			.flags = MAP_PRIVATE,
			.owned = true,
		};
		int err;

		part.fd = ub_image_sealed(UB_NAME_PREFIX "code", page->bytes, PAGE, PAGE);
		if (part.fd < 0)
			return ub_reason_set(why, part.fd, "can't make memory for code: %s",
					     strerror(-part.fd));
		err = ub_image_add_part(build->image, &part);
		if (err) {
			close(part.fd);
			return err;
		}
	}
	return 0;
}
