// SPDX-License-Identifier: MIT
/*
 * Return addresses that an image took over (agent/divert.c), put back before it goes. Threads that
 * are still inside would take over more, but nobody would put those back for an unwinder: so the
 * table is closed. It lies in the target: whatever it says, only words that hold an address of the
 * image's own code are written.
 */
#include <errno.h>
#include <stdlib.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <surgeon/target.h>

static bool is_entry(const struct ub_diverts *diverts, u64 address)
{
	return address - diverts->code < (u64)UB_MAX_DIVERTS * UB_DIVERT_ENTRY;
}

/* Where a return to @address leads in the end. */
static u64 original_of(const struct ub_diverts *diverts, u64 address)
{
	for (u32 hops = 0; hops < UB_MAX_DIVERTS && is_entry(diverts, address); hops++)
		address = diverts->entries[(address - diverts->code) / UB_DIVERT_ENTRY].original;
	return address;
}

int ub_diverts_undo(struct ub_target *t, const struct ub_image *image)
{
	_cleanup_free_ struct ub_diverts *diverts = NULL;
	const struct ub_part *part = NULL;
	const u64 closed = 1;
	int err;

	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_DIVERTS)
			part = &image->parts[i];
	if (!part || part->size < sizeof(*diverts))
		return 0;
	diverts = malloc(sizeof(*diverts));
	if (!diverts)
		return -ENOMEM;
	err = ub_target_read(t, part->address, diverts, sizeof(*diverts));
	/* Not mapped yet, or no more: nobody came here. */
	if (err || !ub_image_inside(image, diverts->code))
		return err == -ESRCH ? err : 0;
	err = ub_target_write(t, part->address + offsetof(struct ub_diverts, closed), &closed,
			      sizeof(closed));
	if (err)
		return err;
	for (u32 i = 0; i < UB_MAX_DIVERTS; i++) {
		const struct ub_divert *entry = &diverts->entries[i];
		u64 value, original = original_of(diverts, entry->original);
		u64 place = entry->place & ~UB_DIVERT_BUSY;

		if (!place || ub_target_read(t, place, &value, sizeof(value)) ||
		    value != diverts->code + (u64)i * UB_DIVERT_ENTRY)
			continue;
		err = ub_target_write(t, place, &original, sizeof(original));
		if (err)
			return err;
	}
	return 0;
}
