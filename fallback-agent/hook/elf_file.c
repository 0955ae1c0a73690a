// SPDX-License-Identifier: MIT
/*
 * What is known of a file, once elf_analysis.c has found it out.
 */
#include <hook/elf_file.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct ub_elf_segment *ub_elf_segment_at(struct ub_elf *elf, u64 address)
{
	for (u32 i = 0; i < elf->nr_segments; i++)
		if (address - elf->segments[i].address < elf->segments[i].size)
			return &elf->segments[i];
	return NULL;
}

int ub_elf_address(const struct ub_elf *elf, u64 offset, u64 *address)
{
	for (u32 i = 0; i < elf->nr_segments; i++) {
		const struct ub_elf_segment *segment = &elf->segments[i];

		if (segment->executable && offset - segment->offset < segment->size) {
			*address = segment->address + (offset - segment->offset);
			return 0;
		}
	}
	return -ENOENT;
}

bool ub_elf_load(struct ub_elf *elf, struct ub_elf_segment *segment)
{
	u64 done = 0;
	u8 *bytes;

	if (segment->bytes)
		return true;
	bytes = calloc(1, segment->size + 16);
	if (!bytes)
		return false;
	while (done < segment->size) {
		ssize_t n = pread(elf->fd, bytes + done, segment->size - done,
				  (off_t)(segment->offset + done));

		if (n <= 0)
			break; /* shorter than its headers say: the rest reads as zero */
		done += (u64)n;
	}
	segment->bytes = bytes;
	return true;
}

const u8 *ub_elf_bytes(struct ub_elf *elf, u64 address, u64 *size)
{
	struct ub_elf_segment *segment = ub_elf_segment_at(elf, address);

	if (!segment || !ub_elf_load(elf, segment))
		return NULL;
	*size = segment->address + segment->size - address;
	return segment->bytes + (address - segment->address);
}

bool ub_elf_is_target(struct ub_elf *elf, u64 address)
{
	struct ub_elf_segment *segment = ub_elf_segment_at(elf, address);
	u64 bit;

	if (!segment || !segment->targets)
		return false;
	bit = address - segment->address;
	return segment->targets[bit / 8] & 1u << bit % 8;
}

void ub_elf_add_target(struct ub_elf *elf, u64 address)
{
	struct ub_elf_segment *segment = ub_elf_segment_at(elf, address);
	u64 bit;

	if (!segment || !segment->targets)
		return;
	bit = address - segment->address;
	segment->targets[bit / 8] |= (u8)(1u << bit % 8);
}

void ub_elf_add_label(struct ub_elf *elf, u64 address)
{
	struct ub_elf_segment *segment = ub_elf_segment_at(elf, address);
	u64 bit;

	if (!segment || !segment->targets)
		return;
	bit = address - segment->address;
	segment->targets[bit / 8] |= (u8)(1u << bit % 8);
	segment->labels[bit / 8] |= (u8)(1u << bit % 8);
}

bool ub_elf_has_label(struct ub_elf *elf, u64 from, u64 to)
{
	const struct ub_elf_segment *segment = ub_elf_segment_at(elf, from);

	if (!segment || !segment->labels)
		return false;
	if (to > segment->address + segment->size)
		to = segment->address + segment->size;
	for (u64 bit = from - segment->address; bit < to - segment->address; bit++)
		if (segment->labels[bit / 8] & 1u << bit % 8)
			return true;
	return false;
}

/* Number of the first function that starts above @address. */
static u32 first_above(const struct ub_elf *elf, u64 address)
{
	u32 low = 0, high = elf->nr_functions;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (elf->functions[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct ub_elf_function *ub_elf_function_at(struct ub_elf *elf, u64 address)
{
	const u32 above = first_above(elf, address);

	if (!above || address >= elf->functions[above - 1].end)
		return NULL;
	return &elf->functions[above - 1];
}

u64 ub_elf_next_start(const struct ub_elf *elf, u64 address)
{
	const u32 above = first_above(elf, address);

	return above < elf->nr_functions ? elf->functions[above].start : UINT64_MAX;
}

u64 ub_elf_previous_start(const struct ub_elf *elf, u64 address)
{
	const u32 above = first_above(elf, address);

	return above ? elf->functions[above - 1].start : 0;
}
