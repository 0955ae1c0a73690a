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
 * In a program at a fixed low address half of all bytes N lead below zero; elsewhere the heap may
 * lie where they lead. There the instructions behind make way, too (UB_TACTIC_EVICT), up to three:
 * where each stood, a jump leads to its own copy, for whoever comes to it by another way, and the
 * bytes of the jumps are chosen so that all lead somewhere:
 *
 *   bytes of the file   84 00 | e9 79 e5 fe ff	test %al,(%rax); jmp ..
 *   overwritten         e9 f  | e9 f  f  d  d	f: in both distances
 */
#include <hook/pun.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hook/grow.h>

#define JMP_REL32   0xe9
#define MAX_PAGES   8192 /* each is a mapping of the target's, which may have 65530 */
#define MAX_TRIES   64	 /* pages looked at in one range; choices of prefixes tried */
#define MAX_CHOICES 512	 /* of bytes behind the end of the code */

/* --- pages where jumps lead to --------------------------------------------------------------- */

/* Number of the first page at @address or above. */
static u32 first_page(const struct ub_pun_pages *pages, u64 address)
{
	u32 low = 0, high = pages->nr;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (pages->addresses[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct ub_pun_page *find_page(const struct ub_pun_pages *pages, u64 address)
{
	const u32 i = first_page(pages, address);

	return i < pages->nr && pages->addresses[i] == address ? pages->pages[i] : NULL;
}

static bool bit(const u64 *bits, u64 at)
{
	return bits[at / 64] >> at % 64 & 1;
}

static int add_page(struct ub_pun_pages *pages, u64 address, struct ub_pun_page **out)
{
	struct ub_pun_page *page;
	u32 at;
	int err;

	if (pages->nr == MAX_PAGES)
		return -ENOSPC;
	err = ub_grow((void **)&pages->pages, &pages->capacity, pages->nr + 1,
		      sizeof(pages->pages[0]));
	if (!err)
		err = ub_grow((void **)&pages->addresses, &pages->addresses_capacity, pages->nr + 1,
			      sizeof(pages->addresses[0]));
	if (err)
		return err;
	page = calloc(1, sizeof(*page));
	err = page ? ub_address_space_take(pages->space, address, address + UB_PUN_PAGE) : -ENOMEM;
	if (err) {
		free(page);
		return err;
	}
	page->address = address;
	memset(page->bytes, 0xcc, sizeof(page->bytes));
	for (u64 i = 0; i <= UB_PUN_PAGE - UB_PUN_STUB; i++)
		page->room[i / 64] |= 1ull << i % 64;
	at = first_page(pages, address);
	memmove(pages->pages + at + 1, pages->pages + at,
		(pages->nr - at) * sizeof(pages->pages[0]));
	memmove(pages->addresses + at + 1, pages->addresses + at,
		(pages->nr - at) * sizeof(pages->addresses[0]));
	pages->pages[at] = page;
	pages->addresses[at] = address;
	pages->nr++;
	*out = page;
	return 0;
}

static void use(struct ub_pun_page *page, u64 at)
{
	for (u64 i = at; i < at + UB_PUN_STUB; i++)
		page->used[i / 64] |= 1ull << i % 64;
	for (u64 i = at < UB_PUN_STUB ? 0 : at - UB_PUN_STUB + 1; i < at + UB_PUN_STUB; i++)
		page->room[i / 64] &= ~(1ull << i % 64);
	page->nr_used++;
}

static void give_back(struct ub_pun_pages *pages, u64 landing)
{
	struct ub_pun_page *page = landing ? find_page(pages, landing & ~(UB_PUN_PAGE - 1)) : NULL;
	const u64 at = landing & (UB_PUN_PAGE - 1);
	u64 nr_free = 0;

	if (!page)
		return;
	for (u64 i = at; i < at + UB_PUN_STUB; i++)
		page->used[i / 64] &= ~(1ull << i % 64);
	page->nr_used--;
	/* Backwards: a place has room if as many bytes are free from there on. */
	for (u64 i = at + 2 * UB_PUN_STUB < UB_PUN_PAGE ? at + 2 * UB_PUN_STUB : UB_PUN_PAGE;
	     i-- > (at < UB_PUN_STUB ? 0 : at - UB_PUN_STUB + 1);) {
		nr_free = bit(page->used, i) ? 0 : nr_free + 1;
		if (nr_free >= UB_PUN_STUB && i < at + UB_PUN_STUB)
			page->room[i / 64] |= 1ull << i % 64;
	}
}

/* A landing in @page at an address in [@low, @high], if there is room. */
static bool put(struct ub_pun_page *page, u64 low, u64 high, u64 *landing)
{
	const u64 start = page->address;
	u64 from, to;

	if (high < start || low > start + UB_PUN_PAGE - UB_PUN_STUB)
		return false;
	from = low > start ? low - start : 0;
	to = high - start < UB_PUN_PAGE - UB_PUN_STUB ? high - start : UB_PUN_PAGE - UB_PUN_STUB;
	for (u64 word = from / 64; word <= to / 64; word++) {
		u64 room = page->room[word], at;

		if (word == from / 64)
			room &= ~0ull << from % 64;
		if (!room)
			continue;
		at = word * 64 + (u64)__builtin_ctzll(room);
		if (at > to)
			return false;
		use(page, at);
		*landing = start + at;
		return true;
	}
	return false;
}

/* Takes an address in [@low, @high] for a landing. */
static int take(struct ub_pun_pages *pages, u64 low, u64 high, u64 *landing)
{
	const u64 first = low & ~(UB_PUN_PAGE - 1);
	/* A long range is looked at here and there. */
	const u64 step = high - low > UB_PUN_PAGE * MAX_TRIES
				 ? ((high - low) / MAX_TRIES & ~(UB_PUN_PAGE - 1)) + UB_PUN_PAGE
				 : UB_PUN_PAGE;
	u32 tries = 0;

	if (high < low)
		return -ENOSPC;
	for (u32 i = first_page(pages, first); i < pages->nr; i++) {
		if (pages->addresses[i] > high)
			break;
		if (put(pages->pages[i], low, high, landing))
			return 0;
	}
	for (u64 at = first; at <= high && tries < MAX_TRIES; tries++, at += step) {
		struct ub_pun_page *page;
		int err;

		if (!ub_address_space_is_free(pages->space, at, UB_PUN_PAGE))
			continue;
		err = add_page(pages, at, &page);
		if (err)
			return err;
		if (put(page, low, high, landing))
			return 0;
	}
	return -ENOSPC;
}

void ub_pun_pages_free(struct ub_pun_pages *pages)
{
	for (u32 i = 0; i < pages->nr; i++)
		free(pages->pages[i]);
	free(pages->pages);
	free(pages->addresses);
	*pages = (struct ub_pun_pages) {};
}

void ub_pun_lead(struct ub_pun_pages *pages, u64 landing, u64 trampoline)
{
	static const u8 jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	struct ub_pun_page *page = find_page(pages, landing & ~(UB_PUN_PAGE - 1));
	const u64 at = landing & (UB_PUN_PAGE - 1);

	_Static_assert(sizeof(jump) + sizeof(trampoline) == UB_PUN_STUB,
		       "jmp *0(%rip) and the address");
	if (!page || at > UB_PUN_PAGE - UB_PUN_STUB)
		return;
	memcpy(page->bytes + at, jump, sizeof(jump));
	memcpy(page->bytes + at + sizeof(jump), &trampoline, sizeof(trampoline));
}

/* --- the jumps' bytes ------------------------------------------------------------------------ */

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
static bool reuse(struct ub_pun_pages *pages, u64 end, u32 rel, u32 mask, u64 *landing)
{
	/* Only every so many addresses can have the right low bytes. */
	const u64 step = !(mask & 0xff) ? 1 : !(mask & 0xff00) ? 0x100 : 0x10000;
	/* Where the high byte is given, what can be reached is 16 MiB. */
	const s64 low = (s64)end + (mask >> 24 ? (s32)(rel & mask) : INT32_MIN);
	const s64 high = (s64)end + (mask >> 24 ? (s32)(rel | ~mask) : INT32_MAX);

	for (u32 i = first_page(pages, low < 0 ? 0 : (u64)low & ~(UB_PUN_PAGE - 1));
	     i < pages->nr && (s64)pages->addresses[i] <= high; i++) {
		const u64 address = pages->addresses[i];

		for (u64 at = (end + rel - address) & (step - 1); at <= UB_PUN_PAGE - UB_PUN_STUB;
		     at += step) {
			const u64 distance = address + at - end;

			if (((u32)distance ^ rel) & mask || (u64)(s64)(s32)distance != distance ||
			    !bit(pages->pages[i]->room, at))
				continue;
			use(pages->pages[i], at);
			*landing = address + at;
			return true;
		}
	}
	return false;
}

/* Finds a landing for the chain's jump number @i, and fixes the bytes of its distance. A distance of
 * which nothing is given yet stays open: it leads to the trampoline itself. */
static int place(struct ub_pun_pages *pages, struct ub_pun_bytes *bytes, u32 i, u64 address,
		 u64 *landing)
{
	const u32 from = bytes->distance[i];
	const u64 end = address + from + 4;
	u32 rel = 0, mask = 0, nr_low = 0, nr_free = 0, free_at[4] = {}, tries;
	int err = -ENOSPC;

	*landing = 0;
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
		err = 0;
	} else if (!nr_low && nr_free && reuse(pages, end, rel, mask, landing)) {
		rel = (u32)(*landing - end);
		err = 0;
	}
	tries = !nr_free ? 1 : nr_free == 1 ? 256 : MAX_CHOICES;
	for (u32 n = 0; n < tries && err == -ENOSPC; n++) {
		/* Near ones, and where that is the program itself, far ones. */
		const u32 which = n < 256 ? 0 : nr_free - 1;
		const u32 chosen = nr_free ? rel | (n & 0xff) << free_at[which] : rel;
		const u64 low = end + (u64)(s64)(s32)chosen;

		err = take(pages, low, low + (1ull << 8 * nr_low) - 1, landing);
		if (!err)
			rel = (u32)(*landing - end);
	}
	memcpy(bytes->value + from, &rel, 4);
	bytes->fixed |= 0xfull << from;
	return err;
}

int ub_pun_place(struct ub_pun_pages *pages, const struct ub_pun_chain *chain, u64 address,
		 const u8 *file, struct ub_pun_placed *placed)
{
	struct ub_pun_bytes bytes;
	u32 tried = 0;
	int err = 0;

	for (u32 choice = 0; err != -ENOENT && tried < MAX_TRIES; choice++) {
		u64 landing[UB_PUN_MAX_CHAIN] = {};
		u32 nr = 0, last = chain->nr - 1, len;

		err = ub_pun_choose(chain, file, choice, &bytes);
		if (err)
			continue;
		tried++;
		for (; nr < chain->nr && !err; nr++)
			err = place(pages, &bytes, nr, address, &landing[nr]);
		if (err) {
			while (--nr)
				give_back(pages, landing[nr - 1]);
			if (err == -ENOSPC)
				continue;
			return err;
		}
		/* The last through its last byte that changes. */
		len = bytes.distance[last] + 4 - bytes.at[last];
		while (len > chain->len[last] && chain->keep & 1u << (len - 1))
			len--;
		*placed = (struct ub_pun_placed) { .nr = chain->nr };
		for (u32 i = 0; i < chain->nr; i++) {
			const u32 end = bytes.distance[i] + 4;

			placed->at[i] = (u8)bytes.at[i];
			placed->len[i] = (u8)(i == last ? len : chain->len[i]);
			placed->distance[i] = (u8)bytes.distance[i];
			placed->landing[i] = landing[i];
			placed->end = end > placed->end ? (u8)end : placed->end;
		}
		memcpy(placed->value, bytes.value, sizeof(placed->value));
		return 0;
	}
	return -ENOSPC;
}

void ub_pun_give_back(struct ub_pun_pages *pages, const struct ub_pun_placed *placed)
{
	for (u32 i = 0; i < placed->nr; i++)
		give_back(pages, placed->landing[i]);
}
