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
 *
 * In a program at a fixed low address half of all bytes N lead below zero. There the instruction behind
 * makes way, too (UB_TACTIC_EVICT): where it stood, a jump leads to its own copy, for whoever comes to it
 * by another way, and the bytes of that jump are chosen so that both lead somewhere:
 *
 *   bytes of the file   84 00 | e9 79 e5 fe ff	test %al,(%rax); jmp ..
 *   overwritten         e9 f  | e9 f  f  d  d	f: in both distances
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

static void use(struct ub_image_pun_page *page, u64 at, u64 trampoline)
{
	static const u8 jump[] = { 0xff, 0x25, 0, 0, 0, 0 };

	memcpy(page->bytes + at, jump, sizeof(jump));
	memcpy(page->bytes + at + sizeof(jump), &trampoline, 8);
	for (u64 i = at; i < at + STUB; i++)
		page->used[i / 64] |= 1ull << i % 64;
}

/* A landing in @page at an address in [@low, @high], if there is room. */
static bool put(struct ub_image_pun_page *page, u64 low, u64 high, u64 trampoline, u64 *landing)
{
	const u64 start = page->address;
	u64 from, to;

	if (high < start || low > start + PAGE - STUB)
		return false;
	from = low > start ? low - start : 0;
	to = high - start < PAGE - STUB ? high - start : PAGE - STUB;
	for (u64 at = from; at <= to; at++) {
		if (is_used(page, (u32)at))
			continue;
		use(page, at, trampoline);
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

	for (u32 i = 0; i < choices && err == -ENOSPC; i++) {
		/* Near ones, and where that is the program itself, far ones. */
		const u32 high = i < MAX_CHOICES / 2 ? i : (i & 0xff) << 8 * (shape->nr_high - 1);
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

/*
 * The jump of an evicted instruction, behind @prefixes: its distance's lowest @nr_given bytes are in
 * *distance, others that are kept in @bytes.
 */
static int place_given(struct ub_image_build *build, const struct ub_site *site, u32 keep,
		       const u8 *bytes, u32 prefixes, u32 nr_given, u64 trampoline, u64 *landing,
		       u32 *distance)
{
	const u64 end = site->address + prefixes + 5;
	const u64 step = 1ull << 8 * nr_given;
	u32 nr_free = 0, base = *distance & (u32)(step - 1);
	u64 nr;

	while (nr_given + nr_free < 4 && !(keep & 1u << (prefixes + 1 + nr_given + nr_free)))
		nr_free++;
	for (u32 i = nr_given + nr_free; i < 4; i++)
		base |= (u32)bytes[prefixes + 1 + i] << 8 * i;
	nr = 1ull << 8 * nr_free;
	if (!nr_given && nr_free == 4) {
		const s64 direct = (s64)(trampoline - end);

		if (direct != (s32)direct)
			return -ENOSPC;
		*landing = 0;
		*distance = (u32)direct;
		return 0;
	}
	if (!nr_given) {
		const u64 low = end + (u64)(s64)(s32)base;
		const int err = take(build, low, low + nr - 1, trampoline, landing);

		*distance = (u32)(*landing - end);
		return err;
	}
	/* Pages that are there, then new ones all over the range. */
	for (u32 i = 0; i < build->nr_pun_pages; i++) {
		struct ub_image_pun_page *page = &build->pun_pages[i];
		u64 at = (end + base - page->address) & (step - 1);

		for (; at <= PAGE - STUB; at += step) {
			const u64 rel = page->address + at - end;

			if ((u64)(s64)(s32)rel != rel || is_used(page, (u32)at) ||
			    ((u32)rel & ~(u32)((nr - 1) * step)) != base)
				continue;
			use(page, at, trampoline);
			*landing = page->address + at;
			*distance = (u32)rel;
			return 0;
		}
	}
	for (u32 i = 0; i < MAX_CHOICES; i++) {
		const u64 value = nr > MAX_CHOICES ? nr / MAX_CHOICES * i : i;
		const u32 rel = base | (u32)(value * step);
		const u64 address = end + (u64)(s64)(s32)rel;
		int err;

		if (value >= nr)
			break;
		err = take(build, address, address, trampoline, landing);
		if (err == -ENOSPC)
			continue;
		*distance = rel;
		return err;
	}
	return -ENOSPC;
}

static void fill(struct ub_site *site, u32 keep, const u8 *bytes, const u8 *prefixes,
		 u32 nr_prefixes, u32 distance)
{
	const u32 end = nr_prefixes + 5;

	/* Up to its last byte that is not as it was. */
	while (site->len < end && !(keep & 1u << (end - 1)) && site->len < UB_SITE_BYTES)
		site->len++;
	memcpy(site->old, bytes, site->len);
	memcpy(site->new, bytes, site->len);
	memcpy(site->new, prefixes, nr_prefixes);
	site->new[nr_prefixes] = 0xe9;
	for (u32 i = 0; i < 4 && nr_prefixes + 1 + i < site->len; i++)
		site->new[nr_prefixes + 1 + i] = (u8)(distance >> 8 * i);
}

static int place_pair(struct ub_image_build *build, struct ub_site *sites, u32 keep,
		      const u8 *bytes, const u64 *trampolines, const u8 *prefixes, u32 nr_own,
		      u32 nr_behind, u64 *landings)
{
	static const u8 own_prefixes[UB_INSN_MAX] = { 0x2e, 0x2e, 0x2e, 0x2e };
	const u32 len = sites[0].len;
	u8 changed[UB_INSN_MAX + 8] = {};
	u32 distances[2] = {}, given;
	struct shape shape;
	int err;

	memcpy(changed, bytes, len + 8);
	memcpy(changed + len, prefixes, nr_behind);
	changed[len + nr_behind] = 0xe9;
	shape = shape_of(&sites[0], (keep | ((1u << (nr_behind + 1)) - 1)) << len, changed, nr_own);
	err = place(build, &shape, trampolines[0], &landings[0], &distances[0]);
	if (err)
		return err;
	/* Bytes that are in both. */
	given = nr_own + 5 > len + nr_behind + 1 ? nr_own + 5 - (len + nr_behind + 1) : 0;
	if (given)
		distances[1] = distances[0] >> 8 * (4 - given);
	err = place_given(build, &sites[1], keep, bytes + len, nr_behind, given, trampolines[1],
			  &landings[1], &distances[1]);
	if (err)
		return err;
	fill(&sites[0], ~0u << len, bytes, own_prefixes, nr_own, distances[0]);
	fill(&sites[1], keep, bytes + len, prefixes, nr_behind, distances[1]);
	return 0;
}

int ub_pun_place_pair(struct ub_image_build *build, struct ub_site *sites, u32 keep,
		      const u8 *bytes, const u64 *trampolines, u64 *landings)
{
	/* Of no meaning before a jump. The first may become the high byte of a distance. */
	static const u8 prefixes[][UB_PUN_MAX_EVICTED_PREFIXES] = {
		{ 0x2e, 0x2e }, { 0x36, 0x2e }, { 0x3e, 0x2e }, { 0x26, 0x2e }, { 0x64, 0x2e },
	};

	for (u32 behind = 0; behind < UB_PUN_MAX_EVICTED_PREFIXES; behind++) {
		if (keep & ((1u << (behind + 1)) - 1))
			break;
		for (u32 own = 0; own < sites[0].len; own++) {
			for (u32 i = 0; i < (behind ? ub_array_size(prefixes) : 1); i++) {
				int err = place_pair(build, sites, keep, bytes, trampolines,
						     prefixes[i], own, behind, landings);

				if (err != -ENOSPC)
					return err;
			}
		}
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
