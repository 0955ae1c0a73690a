// SPDX-License-Identifier: MIT
#include <hook/eh_frame.h>

#include <errno.h>
#include <string.h>

#define DW_EH_PE_omit	  0xff
#define DW_EH_PE_indirect 0x80
#define DW_EH_PE_pcrel	  0x10

#define DW_CFA_set_loc	    0x01
#define DW_CFA_advance_loc4 0x04
#define DW_CFA_advance_loc  0x40

/* A reader over mapped bytes; once it ran out, everything reads as zero and `bad` is set. */
struct cursor {
	const u8 *at;
	const u8 *end;
	u64 address; /* of `at` */
	bool bad;
};

static void skip(struct cursor *c, u64 size)
{
	if (size > (u64)(c->end - c->at)) {
		c->bad = true;
		size = (u64)(c->end - c->at);
	}
	c->at += size;
	c->address += size;
}

static u64 fixed(struct cursor *c, u32 size)
{
	u64 value = 0;

	if (size > (u64)(c->end - c->at)) {
		skip(c, size);
		return 0;
	}
	memcpy(&value, c->at, size);
	skip(c, size);
	return value;
}

static u64 uleb(struct cursor *c)
{
	u64 value = 0;
	u32 shift = 0;
	u8 byte;

	do {
		byte = (u8)fixed(c, 1);
		if (shift < 64)
			value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while ((byte & 0x80) && !c->bad);
	return value;
}

static s64 sleb(struct cursor *c)
{
	u64 value = 0;
	u32 shift = 0;
	u8 byte;

	do {
		byte = (u8)fixed(c, 1);
		if (shift < 64)
			value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while ((byte & 0x80) && !c->bad);
	if (shift < 64 && (byte & 0x40))
		value |= ~0ull << shift;
	return (s64)value;
}

static u64 encoded(struct cursor *c, u8 encoding)
{
	u64 base = (encoding & 0x70) == DW_EH_PE_pcrel ? c->address : 0;
	u64 value;

	if (encoding == DW_EH_PE_omit)
		return 0;
	switch (encoding & 0xf) {
	case 0x0:
	case 0x4:
	case 0xc:
		value = fixed(c, 8);
		break;
	case 0x1:
		value = uleb(c);
		break;
	case 0x2:
		value = fixed(c, 2);
		break;
	case 0x3:
		value = fixed(c, 4);
		break;
	case 0x9:
		value = (u64)sleb(c);
		break;
	case 0xa:
		value = (u64)(s64)(s16)fixed(c, 2);
		break;
	case 0xb:
		value = (u64)(s64)(s32)fixed(c, 4);
		break;
	default:
		c->bad = true;
		return 0;
	}
	if (!value)
		return 0;
	return (encoding & DW_EH_PE_indirect) ? 0 : value + base;
}

static struct cursor cursor_at(struct ub_elf *elf, u64 address)
{
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, address, &size);

	return (struct cursor) { bytes, bytes ? bytes + size : NULL, address, !bytes };
}

struct cie {
	u8 pointers; /* encoding of addresses */
	u8 lsda;
	bool augmented;
};

static bool read_cie(struct ub_elf *elf, u64 address, struct cie *cie)
{
	struct cursor c = cursor_at(elf, address);
	u64 length = fixed(&c, 4);
	const char *augmentation;
	u8 version;

	*cie = (struct cie) { .pointers = 0, .lsda = DW_EH_PE_omit };
	if (length == 0xffffffff)
		length = fixed(&c, 8);
	if (c.bad || length > (u64)(c.end - c.at) || fixed(&c, 4) != 0)
		return false;
	version = (u8)fixed(&c, 1);
	augmentation = (const char *)c.at;
	while (fixed(&c, 1))
		;
	if (c.bad || (version != 1 && version != 3))
		return false;
	uleb(&c);
	sleb(&c);
	if (version == 1)
		fixed(&c, 1);
	else
		uleb(&c);
	if (*augmentation != 'z')
		return !*augmentation && !c.bad;
	cie->augmented = true;
	uleb(&c);
	for (augmentation++; *augmentation; augmentation++) {
		if (*augmentation == 'R') {
			cie->pointers = (u8)fixed(&c, 1);
		} else if (*augmentation == 'L') {
			cie->lsda = (u8)fixed(&c, 1);
		} else if (*augmentation == 'P') {
			u8 encoding = (u8)fixed(&c, 1);

			encoded(&c, encoding);
		} else if (*augmentation != 'S' && *augmentation != 'B') {
			break;
		}
	}
	return !c.bad;
}

/*
 * Whether the unwinding program at @c starts with something else than a step forward: at a function's
 * entry the state is the CIE's, and only instructions change it.
 */
static bool is_fragment(struct cursor *c)
{
	const u8 first = (u8)fixed(c, 1);

	return !c->bad && first && first >> 6 != DW_CFA_advance_loc >> 6 &&
	       (first < DW_CFA_set_loc || first > DW_CFA_advance_loc4);
}

int ub_eh_frame_each(struct ub_elf *elf,
		     int (*fn)(void *opaque, const struct ub_eh_frame_function *function),
		     void *opaque)
{
	struct cursor c;
	u64 cie_address = 0;
	struct cie cie = {};
	bool cie_ok = false;
	u8 encoding;
	u64 frames;

	if (!elf->eh_frame_hdr)
		return -ENOENT;
	c = cursor_at(elf, elf->eh_frame_hdr);
	if (fixed(&c, 1) != 1)
		return -ENOENT;
	encoding = (u8)fixed(&c, 1);
	skip(&c, 2);
	frames = encoded(&c, encoding);
	if (c.bad || !frames)
		return -ENOENT;

	c = cursor_at(elf, frames);
	while (!c.bad && c.at < c.end) {
		u64 length = fixed(&c, 4);
		struct cursor entry;
		u64 start, size, lsda = 0, id_address;
		bool fragment = false;
		u32 id;
		int err;

		if (length == 0xffffffff)
			length = fixed(&c, 8);
		if (!length || length > (u64)(c.end - c.at))
			break;
		entry = c;
		entry.end = c.at + length;
		skip(&c, length);

		id_address = entry.address;
		id = (u32)fixed(&entry, 4);
		if (!id)
			continue; /* a CIE */
		if (id_address - id != cie_address || !cie_ok) {
			cie_address = id_address - id;
			cie_ok = read_cie(elf, cie_address, &cie);
		}
		if (!cie_ok)
			continue;
		start = encoded(&entry, cie.pointers);
		size = encoded(&entry, cie.pointers & 0x0f);
		if (cie.augmented) {
			const u64 augmentation = uleb(&entry);
			struct cursor program = entry;

			lsda = encoded(&entry, cie.lsda);
			skip(&program, augmentation);
			entry.bad |= program.bad;
			fragment = is_fragment(&program);
		}
		if (entry.bad || !size || start + size < start)
			continue;
		err = fn(opaque, &(const struct ub_eh_frame_function) { start, start + size, lsda,
									fragment });
		if (err)
			return err;
	}
	return 0;
}

void ub_eh_frame_landing_pads(struct ub_elf *elf, u64 start, u64 lsda)
{
	struct cursor c = cursor_at(elf, lsda);
	u64 base = start;
	u8 encoding;
	u64 size;

	encoding = (u8)fixed(&c, 1);
	if (encoding != DW_EH_PE_omit) {
		u64 landing_base = encoded(&c, encoding);

		if (landing_base)
			base = landing_base;
	}
	encoding = (u8)fixed(&c, 1);
	if (encoding != DW_EH_PE_omit)
		uleb(&c); /* type table */
	encoding = (u8)fixed(&c, 1);
	size = uleb(&c);
	if (c.bad || size > (u64)(c.end - c.at))
		return;
	c.end = c.at + size;
	while (!c.bad && c.at < c.end) {
		u64 pad;

		encoded(&c, encoding & 0x0f);
		encoded(&c, encoding & 0x0f);
		pad = encoded(&c, encoding & 0x0f);
		uleb(&c);
		if (!c.bad && pad)
			ub_elf_add_target(elf, base + pad);
	}
}
