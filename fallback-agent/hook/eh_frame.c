// SPDX-License-Identifier: MIT
#include <hook/eh_frame.h>

#include <errno.h>

#include <hook/cursor.h>

#define MAX_AUGMENTATION    16 /* characters; "zPLRSB" has six */
#define DW_CFA_set_loc	    0x01
#define DW_CFA_advance_loc4 0x04
#define DW_CFA_advance_loc  0x40

static struct ub_cursor cursor_at(struct ub_elf *elf, u64 address)
{
	u64 size = 0;
	const u8 *bytes = ub_elf_bytes(elf, address, &size);

	return (struct ub_cursor) { bytes, bytes ? bytes + size : NULL, address, !bytes };
}

struct cie {
	u8 pointers; /* encoding of addresses */
	u8 lsda;
	bool augmented;
	bool signal;
	u64 code_align;
	s64 data_align;
	struct ub_cursor program;
};

static bool read_cie(struct ub_elf *elf, u64 address, struct cie *cie)
{
	struct ub_cursor c = cursor_at(elf, address);
	u64 length = ub_cursor_fixed(&c, 4);
	const char *augmentation;
	u8 version;

	*cie = (struct cie) { .pointers = 0, .lsda = DW_EH_PE_omit };
	if (length == 0xffffffff)
		length = ub_cursor_fixed(&c, 8);
	if (c.bad || length > (u64)(c.end - c.at))
		return false;
	c.end = c.at + length;
	if (ub_cursor_fixed(&c, 4) != 0)
		return false;
	version = (u8)ub_cursor_fixed(&c, 1);
	augmentation = (const char *)c.at;
	while (ub_cursor_fixed(&c, 1) && c.at < (const u8 *)augmentation + MAX_AUGMENTATION)
		;
	if (c.bad || c.at[-1] || (version != 1 && version != 3))
		return false;
	cie->code_align = ub_cursor_uleb(&c);
	cie->data_align = ub_cursor_sleb(&c);
	if (version == 1)
		ub_cursor_fixed(&c, 1);
	else
		ub_cursor_uleb(&c);
	cie->program = c;
	if (*augmentation != 'z')
		return !*augmentation && !c.bad;
	cie->augmented = true;
	length = ub_cursor_uleb(&c);
	cie->program = c;
	ub_cursor_skip(&cie->program, length);
	for (augmentation++; *augmentation; augmentation++) {
		if (*augmentation == 'R') {
			cie->pointers = (u8)ub_cursor_fixed(&c, 1);
		} else if (*augmentation == 'L') {
			cie->lsda = (u8)ub_cursor_fixed(&c, 1);
		} else if (*augmentation == 'P') {
			u8 encoding = (u8)ub_cursor_fixed(&c, 1);

			ub_cursor_encoded(&c, encoding);
		} else if (*augmentation == 'S') {
			cie->signal = true;
		} else if (*augmentation != 'B') {
			break;
		}
	}
	return !c.bad && !cie->program.bad;
}

/* At a function's entry the state is the CIE's, and only instructions change it: its unwinding
 * program starts with a step forward. */
bool ub_eh_entry_is_fragment(const struct ub_eh_entry *entry)
{
	struct ub_cursor program = entry->program;
	const u8 first = (u8)ub_cursor_fixed(&program, 1);

	return !program.bad && first && first >> 6 != DW_CFA_advance_loc >> 6 &&
	       (first < DW_CFA_set_loc || first > DW_CFA_advance_loc4);
}

int ub_eh_frame_each(struct ub_elf *elf, int (*fn)(void *opaque, const struct ub_eh_entry *entry),
		     void *opaque)
{
	struct ub_cursor c;
	u64 cie_address = 0;
	struct cie cie = {};
	bool cie_ok = false;
	u8 encoding;
	u64 frames;

	if (!elf->eh_frame_hdr)
		return -ENOENT;
	c = cursor_at(elf, elf->eh_frame_hdr);
	if (ub_cursor_fixed(&c, 1) != 1)
		return -ENOENT;
	encoding = (u8)ub_cursor_fixed(&c, 1);
	ub_cursor_skip(&c, 2);
	frames = ub_cursor_encoded(&c, encoding);
	if (c.bad || !frames)
		return -ENOENT;

	c = cursor_at(elf, frames);
	while (!c.bad && c.at < c.end) {
		u64 length = ub_cursor_fixed(&c, 4);
		struct ub_cursor entry;
		u64 start, size, lsda = 0, id_address, augmentation = 0;
		struct ub_eh_entry found;
		u32 id;
		int err;

		if (length == 0xffffffff)
			length = ub_cursor_fixed(&c, 8);
		if (!length || length > (u64)(c.end - c.at))
			break;
		entry = c;
		entry.end = c.at + length;
		ub_cursor_skip(&c, length);

		id_address = entry.address;
		id = (u32)ub_cursor_fixed(&entry, 4);
		if (!id)
			continue; /* a CIE */
		if (id_address - id != cie_address || !cie_ok) {
			cie_address = id_address - id;
			cie_ok = read_cie(elf, cie_address, &cie);
		}
		if (!cie_ok)
			continue;
		start = ub_cursor_encoded(&entry, cie.pointers);
		size = ub_cursor_encoded(&entry, cie.pointers & 0x0f);
		if (cie.augmented)
			augmentation = ub_cursor_uleb(&entry);
		found = (struct ub_eh_entry) {
			.start = start,
			.end = start + size,
			.signal = cie.signal,
			.code_align = cie.code_align,
			.data_align = cie.data_align,
			.common = cie.program,
			.program = entry,
		};
		ub_cursor_skip(&found.program, augmentation);
		if (cie.augmented)
			lsda = ub_cursor_encoded(&entry, cie.lsda);
		found.lsda = lsda;
		if (entry.bad || !size || start + size < start)
			continue;
		err = fn(opaque, &found);
		if (err)
			return err;
	}
	return 0;
}

void ub_eh_frame_landing_pads(struct ub_elf *elf, u64 start, u64 lsda)
{
	struct ub_cursor c = cursor_at(elf, lsda);
	u64 base = start;
	u8 encoding;
	u64 size;

	encoding = (u8)ub_cursor_fixed(&c, 1);
	if (encoding != DW_EH_PE_omit) {
		u64 landing_base = ub_cursor_encoded(&c, encoding);

		if (landing_base)
			base = landing_base;
	}
	encoding = (u8)ub_cursor_fixed(&c, 1);
	if (encoding != DW_EH_PE_omit)
		ub_cursor_uleb(&c); /* type table */
	encoding = (u8)ub_cursor_fixed(&c, 1);
	size = ub_cursor_uleb(&c);
	if (c.bad || size > (u64)(c.end - c.at))
		return;
	c.end = c.at + size;
	while (!c.bad && c.at < c.end) {
		u64 pad;

		ub_cursor_encoded(&c, encoding & 0x0f);
		ub_cursor_encoded(&c, encoding & 0x0f);
		pad = ub_cursor_encoded(&c, encoding & 0x0f);
		ub_cursor_uleb(&c);
		if (!c.bad && pad)
			ub_elf_add_target(elf, base + pad);
	}
}
