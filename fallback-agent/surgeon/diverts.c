// SPDX-License-Identifier: MIT
/*
 * Return addresses that an image took over (agent/divert.c), before it goes: handed to the image
 * that takes its place, where that one waits for the same returns, else put back. Threads that are
 * still inside would take over more, but nobody would put those back for an unwinder: so the table
 * is closed. It lies in the target: whatever it says, only words that hold an address of the
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

/* The table of @image as it is now: 0, or 1 if there is none. */
static int read_table(struct ub_target *t, const struct ub_image *image, u64 *address,
		      struct ub_diverts **out)
{
	_cleanup_free_ struct ub_diverts *diverts = NULL;
	const struct ub_part *part = NULL;
	int err;

	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_DIVERTS)
			part = &image->parts[i];
	if (!part || part->size < sizeof(*diverts))
		return 1;
	diverts = malloc(sizeof(*diverts));
	if (!diverts)
		return -ENOMEM;
	err = ub_target_read(t, part->address, diverts, sizeof(*diverts));
	/* Not mapped yet, or no more: nobody came here. */
	if (err || !ub_image_inside(image, diverts->code))
		return err == -ESRCH ? err : 1;
	*address = part->address;
	*out = TAKE_PTR(diverts);
	return 0;
}

int ub_diverts_undo(struct ub_target *t, const struct ub_image *image)
{
	_cleanup_free_ struct ub_diverts *diverts = NULL;
	const u64 closed = 1;
	u64 address;
	int err = read_table(t, image, &address, &diverts);

	if (!err)
		err = ub_target_write(t, address + offsetof(struct ub_diverts, closed), &closed,
				      sizeof(closed));
	if (err)
		return err < 0 ? err : 0;
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

/* --- handing over ---------------------------------------------------------------------------- */

struct handover {
	struct ub_target *t;
	const struct ub_image *old, *new;
	struct ub_diverts *from, *to;
	u64 to_address;
	const struct ub_thread_stack *inside; /* threads in OLD's code */
	u32 nr_inside;
};

/* Whoever is in OLD's code may be putting return addresses back, for an unwinder that looks next:
 * it would not know NEW's. */
static bool may_be_put_back(const struct handover *h, const struct ub_divert *entry)
{
	for (u32 i = 0; i < h->nr_inside; i++)
		if (h->inside[i].fs_base == entry->thread ||
		    entry->place - h->inside[i].sp < UB_DIVERT_NEAR)
			return true;
	return false;
}

/*
 * Entry @i of OLD becomes one of NEW, as do those behind it that are left by the same return. What
 * the stack shall hold in its place.
 */
static int hand_over(struct handover *h, u32 i, u64 *value)
{
	u32 chain[16], nr = 0;
	u64 next = h->from->code + (u64)i * UB_DIVERT_ENTRY;
	const u64 place = h->from->entries[i].place;
	int err = 0;

	while (is_entry(h->from, next) && nr < ub_array_size(chain)) {
		chain[nr] = (u32)((next - h->from->code) / UB_DIVERT_ENTRY);
		next = h->from->entries[chain[nr++]].original;
	}
	next = original_of(h->from, next);
	while (nr-- && !err) {
		const struct ub_divert *entry = &h->from->entries[chain[nr]];
		u64 continuation;

		if (entry->place != place)
			continue;
		continuation = may_be_put_back(h, entry)
				       ? 0
				       : ub_image_continuation(h->old, entry->continuation, h->new);
		if (!continuation) {
			ub_image_missed(h->old, entry->continuation, h->new);
			continue;
		}
		h->to->entries[chain[nr]] =
			(struct ub_divert) { place, next, continuation, entry->thread };
		h->to->pending++;
		next = h->to->code + (u64)chain[nr] * UB_DIVERT_ENTRY;
		err = ub_target_write(h->t,
				      h->to_address + offsetof(struct ub_diverts, entries) +
					      chain[nr] * sizeof(*entry),
				      &h->to->entries[chain[nr]], sizeof(*entry));
	}
	*value = next;
	return err;
}

static int hand_over_all(struct handover *h)
{
	int err = 0;

	for (u32 i = 0; i < UB_MAX_DIVERTS && !err; i++) {
		const u64 place = h->from->entries[i].place;
		u64 value;

		/* BUSY: its thread is about to see that the table is closed. */
		if (!place || place & UB_DIVERT_BUSY ||
		    ub_target_read(h->t, place, &value, sizeof(value)) ||
		    value != h->from->code + (u64)i * UB_DIVERT_ENTRY)
			continue;
		err = hand_over(h, i, &value);
		if (!err)
			err = ub_target_write(h->t,
					      h->to_address + offsetof(struct ub_diverts, pending),
					      &h->to->pending, sizeof(h->to->pending));
		if (!err)
			err = ub_target_write(h->t, place, &value, sizeof(value));
	}
	return err;
}

/* Threads in @image's code, or in handlers on top of it. */
static struct ub_thread_stack *find_inside(struct ub_target *t, const struct ub_image *image,
					   const struct ub_ips *ips, u32 *nr)
{
	struct ub_thread_stack *inside = calloc(t->nr_threads + 1, sizeof(*inside));

	*nr = 0;
	for (u32 i = 0, k = 0; inside && i < t->nr_threads; i++) {
		const struct ub_thread *thread = &t->threads[i];
		bool within = false, elsewhere = false;

		for (; k < ips->nr && ips->ips[k].thread <= i; k++) {
			within |= ips->ips[k].thread == i && ub_image_inside(image, ips->ips[k].ip);
			elsewhere |= ips->ips[k].thread == i && ips->ips[k].where;
		}
		if (thread->state != UB_THREAD_GONE &&
		    (within || ub_thread_inside(t, image, thread, elsewhere)))
			inside[(*nr)++] =
				(struct ub_thread_stack) { thread->regs.fs_base, thread->sp };
	}
	return inside;
}

int ub_returns_hand_over(struct ub_target *t, const struct ub_image *old,
			 const struct ub_image *new, const struct ub_ips *ips)
{
	_cleanup_free_ struct ub_thread_stack *inside = NULL;
	_cleanup_free_ struct ub_diverts *from = NULL, *to = NULL;
	struct handover h = { .t = t, .old = old, .new = new };
	u64 address;
	int err;

	if (!old->process || !new->process)
		return 0;
	inside = find_inside(t, old, ips, &h.nr_inside);
	if (!inside)
		return -ENOMEM;
	ub_image_inherit_tails(old, new, inside, h.nr_inside);
	err = read_table(t, old, &address, &from);
	if (!err && from->pending)
		err = read_table(t, new, &h.to_address, &to);
	if (err || !to)
		return err < 0 ? err : 0;
	h.from = from;
	h.to = to;
	h.inside = inside;
	return hand_over_all(&h);
}
