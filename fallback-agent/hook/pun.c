// SPDX-License-Identifier: MIT
/*
 * Overlapping jumps.
 *
 *   bytes of the file   W ... | N N N N   W: the window, fewer than 5 bytes; N: what follows it
 *   overwritten         e9 f  | N N N N   f: low bytes of the distance, ours to choose
 *   or, with prefixes   2e e9 | N N N N   that mean nothing before a jump
 *
 * The jump's distance ends with bytes of N, which stay what they are: whoever comes there by
 * another way, or comes back there, finds the instruction. Where the code ends within N, what pads
 * it is ours again:
 *
 *   bytes of the file   48 8b 40 08 | c3 | cc cc	mov 8(%rax),%rax; ret
 *   overwritten         2e e9 f  f  | c3 | f
 *
 * Each choice of prefixes, and of bytes behind the end, gives a range of 256^f addresses where the
 * jump can lead; a page there that is free in the target gets a jump to the trampoline.
 *
 * In a program at a fixed low address half of all bytes N lead below zero. There the instructions
 * behind make way, too (UB_TACTIC_EVICT), up to three: where each stood, a jump leads to its own
 * copy, for whoever comes to it by another way, and the bytes of the jumps are chosen so that all
 * lead somewhere:
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
#include <hook/memfd.h>
#include <hook/pun.h>

#define PAGE	    4096ull
#define JMP_REL32   0xe9
#define STUB	    14 /* jmp *0(%rip) and the address */
#define MAX_PAGES   1024
#define MAX_TRIES   64	/* pages looked at in one range; choices of prefixes tried */
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

int ub_pun_choose(const struct ub_pun_chain *chain, const u8 *file, u32 choice,
		  struct ub_pun_bytes *bytes)
{
	/* Of no meaning before a jump. Those of evicted instructions become high bytes of
	 * distances. */
	static const struct {
		u32 nr;
		u8 prefixes[2];
	} options[] = { { 0, {} },	 { 1, { 0x2e } }, { 2, { 0x2e, 0x2e } }, { 1, { 0x36 } },
			{ 1, { 0x3e } }, { 1, { 0x26 } }, { 1, { 0x64 } } };
	const u32 nr_first = chain->len[0] < 4 ? chain->len[0] : 4;
	u32 at = 0, total = nr_first;

	for (u32 i = 1; i < chain->nr; i++)
		total *= ub_array_size(options);
	if (choice >= total)
		return -ENOENT;
	*bytes = (struct ub_pun_bytes) {};
	for (u32 i = 0; i < chain->nr; i++) {
		const u32 len = chain->len[i];
		const bool last = i + 1 == chain->nr;
		const u32 nr = i ? ub_array_size(options) : nr_first;
		const u32 option = choice % nr;
		const u32 prefixes = i ? options[option].nr : option;

		choice /= nr;
		/* Each jump starts with its window's last byte at the latest. */
		if (prefixes >= len)
			return -ERANGE;
		if (at + len + 4 > UB_PUN_MAX_BYTES)
			return -ERANGE;
		memcpy(bytes->value + at, file + at, last ? len + 4 : len);
		for (u32 k = 0; k < prefixes; k++)
			bytes->value[at + k] = i ? options[option].prefixes[k] : 0x2e;
		bytes->value[at + prefixes] = JMP_REL32;
		bytes->fixed |= ((1ull << (prefixes + 1)) - 1) << at;
		if (last)
			bytes->fixed |= (u64)chain->keep << at;
		bytes->at[i] = at;
		bytes->distance[i] = at + prefixes + 1;
		at += len;
	}
	return 0;
}

static bool is_fixed(const struct ub_pun_bytes *bytes, u32 at)
{
	return bytes->fixed >> at & 1;
}

/* A landing at @end + a distance whose bytes of @mask are those of @rel, in a page that is
 * there. */
static bool reuse(struct ub_image_build *build, u64 end, u32 rel, u32 mask, u64 trampoline,
		  u64 *landing)
{
	/* Only every so many addresses can have the right low bytes. */
	const u64 step = !(mask & 0xff) ? 1 : !(mask & 0xff00) ? 0x100 : 0x10000;

	for (u32 i = 0; i < build->nr_pun_pages; i++) {
		struct ub_image_pun_page *page = &build->pun_pages[i];

		for (u64 at = (end + rel - page->address) & (step - 1); at <= PAGE - STUB;
		     at += step) {
			const u64 distance = page->address + at - end;

			if (((u32)distance ^ rel) & mask || (u64)(s64)(s32)distance != distance ||
			    is_used(page, (u32)at))
				continue;
			use(page, at, trampoline);
			*landing = page->address + at;
			return true;
		}
	}
	return false;
}

/* Finds a landing for the chain's jump number @i, and fixes the bytes of its distance. */
static int place(struct ub_image_build *build, struct ub_pun_bytes *bytes, u32 i, u64 address,
		 u64 trampoline, u64 *landing)
{
	const u32 from = bytes->distance[i];
	const u64 end = address + from + 4;
	u32 rel = 0, mask = 0, nr_low = 0, nr_free = 0, free_at[4] = { 0 }, tries;
	int err = -ENOSPC;

	for (u32 k = 0; k < 4; k++) {
		if (is_fixed(bytes, from + k)) {
			rel |= (u32)bytes->value[from + k] << 8 * k;
			mask |= 0xffu << 8 * k;
		} else if (nr_low == k) {
			nr_low++;
		} else {
			free_at[nr_free++] = 8 * k;
		}
	}
	if (nr_low == 4) {
		const s64 direct = (s64)(trampoline - end);

		rel = (u32)direct;
		*landing = 0;
		err = direct == (s32)direct ? 0 : -ENOSPC;
	} else if (!nr_low && nr_free && reuse(build, end, rel, mask, trampoline, landing)) {
		rel = (u32)(*landing - end);
		err = 0;
	}
	tries = nr_low == 4 ? 0 : !nr_free ? 1 : nr_free == 1 ? 256 : MAX_CHOICES;
	for (u32 n = 0; n < tries && err == -ENOSPC; n++) {
		/* Near ones, and where that is the program itself, far ones. */
		const u32 which = n < 256 ? 0 : nr_free - 1;
		const u32 chosen = nr_free ? rel | (n & 0xff) << free_at[which] : rel;
		const u64 low = end + (u64)(s64)(s32)chosen;

		err = take(build, low, low + (1ull << 8 * nr_low) - 1, trampoline, landing);
		if (!err)
			rel = (u32)(*landing - end);
	}
	memcpy(bytes->value + from, &rel, 4);
	bytes->fixed |= 0xfull << from;
	return err;
}

static void give_back(struct ub_image_build *build, u64 landing)
{
	struct ub_image_pun_page *page = landing ? find_page(build, landing & ~(PAGE - 1)) : NULL;
	const u64 at = landing & (PAGE - 1);

	for (u64 i = at; page && i < at + STUB; i++) {
		page->used[i / 64] &= ~(1ull << i % 64);
		page->bytes[i] = 0xcc;
	}
}

int ub_pun_place(struct ub_image_build *build, const struct ub_pun_chain *chain,
		 struct ub_site *sites, const u8 *file, const u64 *trampolines, u64 *landings)
{
	const struct ub_site *first = &sites[0];
	struct ub_pun_bytes bytes;
	u32 tried = 0;
	int err = 0;

	for (u32 choice = 0; err != -ENOENT && tried < MAX_TRIES; choice++) {
		u32 nr = 0, last = chain->nr - 1, len;

		err = ub_pun_choose(chain, file, choice, &bytes);
		if (err)
			continue;
		tried++;
		for (; nr < chain->nr && !err; nr++)
			err = place(build, &bytes, nr, first->address, trampolines[nr],
				    &landings[nr]);
		if (err == -ENOSPC) {
			while (--nr)
				give_back(build, landings[nr - 1]);
			continue;
		}
		if (err)
			return err;
		/* The last through its last byte that changes. */
		len = bytes.distance[last] + 4 - bytes.at[last];
		while (len > chain->len[last] && chain->keep & 1u << (len - 1))
			len--;
		for (u32 i = 0; i < chain->nr; i++) {
			sites[i].len = i == last ? len : chain->len[i];
			memcpy(sites[i].old, file + bytes.at[i], sites[i].len);
			memcpy(sites[i].new, bytes.value + bytes.at[i], sites[i].len);
		}
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

		part.fd = ub_memfd_sealed(UB_NAME_PREFIX "code", page->bytes, PAGE, PAGE);
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
