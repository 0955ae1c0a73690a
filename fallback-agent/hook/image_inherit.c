// SPDX-License-Identifier: MIT
/*
 * Returns in flight while an image is replaced.
 *
 * A return probe that patches every `ret` needs nothing: the thread meets the new image's. But
 * functions that leave by tail jumps have left something behind that says what is to be done at the
 * return: a note of the place of the return address (agent/tail.c), or a return address taken over
 * (agent/divert.c). Both are the old image's. They are handed to the new one, for all links that
 * wait for the function's return there: as in the kernel, where what a return runs is decided when
 * it returns.
 *
 * The old image's memory is the target's to write: here it only tells which of the new image's own
 * places are filled with what the target could write there, too. All of it happens in the pause, so
 * notes beyond what many threads can have are left: only a target that forges them has more, and the
 * pause is his.
 */
#include <agent/data.h>
#include <hook/image_build.h>

#define NEAR	 4096	    /* a trampoline's frame and what it calls */
#define MAX_WORK (4u << 20) /* links and notes looked at: some milliseconds */

/* The function whose return @code, a continuation of @image, waits for, or 0. */
static u64 function_of(const struct ub_image *image, u64 code)
{
	const struct ub_image_counting *counting = image->counting;

	for (u32 i = 0; i < counting->nr_continuations; i++)
		if (counting->continuations[i].code == code)
			return counting->functions[counting->continuations[i].link];
	return 0;
}

u64 ub_image_continuation(const struct ub_image *old, u64 code, const struct ub_image *new)
{
	const struct ub_image_counting *counting = new->counting;
	const u64 function = function_of(old, code);

	/* Whichever: all links of a function have their continuations in common. */
	for (u32 i = 0; function && i < counting->nr_continuations; i++)
		if (counting->functions[counting->continuations[i].link] == function)
			return counting->continuations[i].code;
	return 0;
}

static struct ub_thread_slot *slots_of(const struct ub_image *image)
{
	return (struct ub_thread_slot *)((u8 *)image->process + UB_DATA_SLOTS);
}

/* As one of the threads without a slot. */
static void count_miss(const struct ub_image *image, u32 link)
{
	const struct ub_image_counting *counting = image->counting;
	struct ub_hit_counters *counters =
		(struct ub_hit_counters *)((u8 *)image->process + counting->counters_offset +
					   counting->nr_slots * counting->counters_stride);

	__atomic_fetch_add(&counters[link].misses, 1, __ATOMIC_RELAXED);
}

void ub_image_missed(const struct ub_image *old, u64 code, const struct ub_image *new)
{
	const u64 function = function_of(old, code);

	for (u32 i = 0; function && i < new->counting->nr_links; i++)
		if (new->counting->functions[i] == function)
			count_miss(new, i);
}

/* The slot that the thread with @key will find in @image, claimed for it as agent/glue.S does. */
static bool claim_slot(const struct ub_image *image, u64 key, u32 *number)
{
	const struct ub_image_counting *counting = image->counting;
	const u32 hash = (u32)key * 0x9e3779b1u >> (32 - counting->slot_bits);
	struct ub_thread_slot *slots = slots_of(image);

	for (u32 i = 0; i < UB_SLOT_PROBES; i++) {
		const u32 n = (hash + i) & (counting->nr_slots - 1);
		struct ub_thread_slot *slot = &slots[n];

		if (slot->key && slot->key != key)
			continue;
		slot->counters = image->data_address + counting->counters_offset +
				 n * counting->counters_stride;
		slot->holds = image->data_address + counting->holds_offset + n * UB_HOLDS_SIZE;
		slot->tails = image->data_address + counting->tails_offset + n * UB_TAILS_SIZE;
		if (counting->stacks_offset)
			slot->stack = image->data_address + counting->stacks_offset +
				      ((n + 1ull) << UB_STACK_SHIFT);
		slot->key = key;
		*number = n;
		return true;
	}
	return false;
}

static struct ub_thread_tails *tails_of(const struct ub_image *image, u32 slot)
{
	return (struct ub_thread_tails *)((u8 *)image->process + image->counting->tails_offset +
					  slot * UB_TAILS_SIZE);
}

static bool is_own_business(u64 key, u64 place, const struct ub_thread_stack *inside, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		if (inside[i].fs_base + 1 == key && place - inside[i].sp < NEAR)
			return true;
	return false;
}

/* Whether the note found room. */
static bool add_note(const struct ub_image *image, u64 key, u64 place, u32 link)
{
	struct ub_thread_tails *tails;
	u32 slot;

	if (!image->counting->tails_offset || !claim_slot(image, key, &slot))
		return false;
	tails = tails_of(image, slot);
	for (u32 i = 0; i < UB_MAX_TAILS; i++)
		if (tails->entries[i].place == place && tails->entries[i].group == link)
			return true;
	for (u32 i = 0; i < UB_MAX_TAILS; i++) {
		if (tails->entries[i].place)
			continue;
		tails->entries[i].place = place;
		tails->entries[i].group = link;
		tails->pending++;
		return true;
	}
	return false;
}

/* For all links of the function: the note was of one of them. How much was looked at. */
static u32 hand_over(const struct ub_image *image, u64 key, u64 place, u64 function)
{
	u32 work = image->counting->nr_links;

	for (u32 i = 0; function && i < image->counting->nr_links; i++) {
		if (image->counting->functions[i] != function)
			continue;
		if (!add_note(image, key, place, i))
			count_miss(image, i);
		work += 2 * UB_MAX_TAILS;
	}
	return work;
}

void ub_image_inherit_tails(const struct ub_image *old, const struct ub_image *new,
			    const struct ub_thread_stack *inside, u32 nr)
{
	const struct ub_image_counting *from = old->counting;
	u32 work = 0;

	if (!from->tails_offset)
		return;
	for (u32 slot = 0; slot < from->nr_slots && work < MAX_WORK; slot++) {
		const u64 key = ub_read_once(slots_of(old)[slot].key);
		const struct ub_thread_tails *tails = tails_of(old, slot);

		if (!key || !ub_read_once(tails->pending))
			continue;
		for (u32 i = 0; i < UB_MAX_TAILS && work < MAX_WORK; i++) {
			const u64 place = ub_read_once(tails->entries[i].place);
			const u64 group = ub_read_once(tails->entries[i].group);

			if (!place || group >= from->nr_links)
				continue;
			work += nr;
			if (!is_own_business(key, place, inside, nr))
				work += hand_over(new, key, place, from->functions[group]);
		}
	}
}
