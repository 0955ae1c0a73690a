/* SPDX-License-Identifier: MIT */
/*
 * Reading DWARF's encodings out of a file's bytes, which are hostile. For eh_frame.c and unwind.c.
 */
#ifndef UB_HOOK_CURSOR_H
#define UB_HOOK_CURSOR_H

#include <string.h>

#include <hook/elf_file.h>

#define DW_EH_PE_omit	  0xff
#define DW_EH_PE_indirect 0x80
#define DW_EH_PE_pcrel	  0x10

#define MAX_LEB_BITS (16 * 7)

/* A reader over mapped bytes; once it ran out, everything reads as zero and `bad` is set. */
struct ub_cursor {
	const u8 *at;
	const u8 *end;
	u64 address; /* of `at` */
	bool bad;
};

static inline void ub_cursor_skip(struct ub_cursor *c, u64 size)
{
	if (size > (u64)(c->end - c->at)) {
		c->bad = true;
		size = (u64)(c->end - c->at);
	}
	c->at += size;
	c->address += size;
}

static inline u64 ub_cursor_fixed(struct ub_cursor *c, u32 size)
{
	u64 value = 0;

	if (size > (u64)(c->end - c->at)) {
		ub_cursor_skip(c, size);
		return 0;
	}
	memcpy(&value, c->at, size);
	ub_cursor_skip(c, size);
	return value;
}

/* The bits of a LEB128 number, how many there are in @bits, and its last byte in @last (DWARF 5,
 * 7.6). No number is longer than 64 bits take, and a few bytes that an assembler left room for. */
static inline u64 ub_cursor_leb(struct ub_cursor *c, u32 *bits, u8 *last)
{
	u64 value = 0;

	*bits = 0;
	do {
		*last = (u8)ub_cursor_fixed(c, 1);
		if (*bits < 64)
			value |= (u64)(*last & 0x7f) << *bits;
		*bits += 7;
	} while ((*last & 0x80) && !c->bad && *bits < MAX_LEB_BITS);
	c->bad |= *last & 0x80;
	return value;
}

static inline u64 ub_cursor_uleb(struct ub_cursor *c)
{
	u32 bits;
	u8 last;

	return ub_cursor_leb(c, &bits, &last);
}

static inline s64 ub_cursor_sleb(struct ub_cursor *c)
{
	u32 bits;
	u8 last;
	u64 value = ub_cursor_leb(c, &bits, &last);

	if (bits < 64 && (last & 0x40))
		value |= ~0ull << bits;
	return (s64)value;
}

static inline u64 ub_cursor_encoded(struct ub_cursor *c, u8 encoding)
{
	u64 base = (encoding & 0x70) == DW_EH_PE_pcrel ? c->address : 0;
	u64 value;

	if (encoding == DW_EH_PE_omit)
		return 0;
	switch (encoding & 0xf) {
	case 0x0:
	case 0x4:
	case 0xc:
		value = ub_cursor_fixed(c, 8);
		break;
	case 0x1:
		value = ub_cursor_uleb(c);
		break;
	case 0x2:
		value = ub_cursor_fixed(c, 2);
		break;
	case 0x3:
		value = ub_cursor_fixed(c, 4);
		break;
	case 0x9:
		value = (u64)ub_cursor_sleb(c);
		break;
	case 0xa:
		value = (u64)(s64)(s16)ub_cursor_fixed(c, 2);
		break;
	case 0xb:
		value = (u64)(s64)(s32)ub_cursor_fixed(c, 4);
		break;
	default:
		c->bad = true;
		return 0;
	}
	if (!value)
		return 0;
	return (encoding & DW_EH_PE_indirect) ? 0 : value + base;
}

#endif
