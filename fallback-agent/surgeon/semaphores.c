// SPDX-License-Identifier: MIT
/*
 * How far an operation came, as the target itself keeps it (struct ub_site_state), and USDT
 * semaphores, which are counted by steps that can be told from it after a kill at any instant.
 */
#include <errno.h>
#include <string.h>

#include <agent/layout.h>
#include <surgeon/target.h>

/* --- progress, as the target itself keeps it ----------------------------------------------- */

static u64 state_address(const struct ub_image *image)
{
	const struct ub_site_state *here = ub_image_state(image);

	for (u32 i = 0; here && i < image->nr_parts; i++) {
		const struct ub_part *part = &image->parts[i];
		u64 offset = (const u8 *)here - part->here;

		if (part->here && (const u8 *)here >= part->here && offset < part->size)
			return part->address + offset;
	}
	return image->data_address + UB_DATA_STATE;
}

bool ub_stage_known(const struct ub_target *t, const struct ub_image *image)
{
	const struct ub_mapping *m = ub_target_mapping(t, state_address(image));

	return m && strstr(ub_mapping_name(t, m), UB_NAME_PREFIX);
}

static int write_state(struct ub_target *t, const struct ub_image *image,
		       const struct ub_site_state *state)
{
	/* The mapping is shared with the process that it was made for. */
	if (t->copy)
		return 0;
	return ub_target_write(t, state_address(image), state, sizeof(*state));
}

int ub_stage_get(struct ub_target *t, const struct ub_image *image, struct ub_site_state *state)
{
	return ub_target_read(t, state_address(image), state, sizeof(*state));
}

void ub_stage_set(struct ub_target *t, const struct ub_image *image, enum ub_site_stage stage)
{
	struct ub_site_state state = { .stage = stage };

	if (ub_stage_get(t, image, &state))
		return;
	state.stage = stage;
	if (write_state(t, image, &state))
		return; /* gone: nothing to keep track of */
}

/* --- semaphores ---------------------------------------------------------------------------- */

static bool has_sites_of(const struct ub_image *image, u64 inode)
{
	for (u32 i = 0; i < image->nr_sites; i++) {
		if (image->sites[i].ino == inode)
			return true;
	}
	return false;
}

/* Whether the library of a semaphore was unloaded: its address may be anybody's now. Loaded again,
 * it counts from the start. */
static bool semaphore_is_gone(const struct ub_target *t, const struct ub_image *image, u64 address)
{
	const struct ub_mapping *m = ub_target_mapping(t, address);

	if (!m || !m->inode || m->shared)
		return true;
	return t->standing.data_address == image->data_address && has_sites_of(image, m->inode) &&
	       !has_sites_of(&t->standing, m->inode);
}

/* One semaphore by @delta, so that whoever comes after a SIGKILL at any instant knows whether it
 * was done: `before` is written, then the semaphore, then `next`. */
static int count(struct ub_target *t, const struct ub_image *image, u32 i, bool add,
		 struct ub_site_state *state)
{
	const struct ub_semaphore *semaphore = &image->semaphores[i];
	u16 value, changed;
	int err;

	if (semaphore_is_gone(t, image, semaphore->address))
		return 0;
	err = ub_target_read(t, semaphore->address, &value, sizeof(value));
	if (err)
		return err == -EFAULT ? 0 : err;
	state->next = i;
	state->before = value;
	err = write_state(t, image, state);
	if (err)
		return err;
	changed = add			      ? value + semaphore->count
		  : value >= semaphore->count ? value - semaphore->count
					      : 0;
	err = ub_target_write(t, semaphore->address, &changed, sizeof(changed));
	if (err)
		return err;
	state->next = add ? i + 1 : i;
	state->before = 0x10000; /* done */
	err = write_state(t, image, state);
	return err ? err : ub_fault(t, UB_FAULT_semaphores);
}

int ub_semaphores_add(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state = { .stage = UB_STAGE_SEMAPHORES, .before = 0x10000 };
	int err = 0;

	if (!image || !image->nr_semaphores)
		return 0;
	err = write_state(t, image, &state);
	for (u32 i = 0; i < image->nr_semaphores && !err; i++)
		err = count(t, image, i, true, &state);
	return err;
}

int ub_semaphores_take(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state;
	u16 value;
	u32 nr;
	int err;

	if (!image || !image->nr_semaphores || !ub_stage_known(t, image))
		return 0;
	err = ub_stage_get(t, image, &state);
	if (err)
		return err == -EFAULT ? 0 : err;
	switch (state.stage) {
	case UB_STAGE_LIVE:
		nr = image->nr_semaphores;
		break;
	case UB_STAGE_SEMAPHORES:
	case UB_STAGE_UNCOUNTING:
		/* Interrupted: was the one in work done? */
		nr = state.next;
		if (nr < image->nr_semaphores && state.before <= 0xffff &&
		    !ub_target_read(t, image->semaphores[nr].address, &value, sizeof(value))) {
			bool changed = value != (u16)state.before;

			if (state.stage == UB_STAGE_SEMAPHORES ? changed : !changed)
				nr++;
		}
		break;
	default:
		return 0;
	}
	if (nr > image->nr_semaphores)
		nr = image->nr_semaphores;
	state = (struct ub_site_state) { UB_STAGE_UNCOUNTING, nr, 0x10000, { 0 } };
	err = write_state(t, image, &state);
	while (nr && !err)
		err = count(t, image, --nr, false, &state);
	return err;
}

int ub_semaphores_put_back(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state;
	u32 first;
	int err;

	if (!image->nr_semaphores)
		return 0;
	err = ub_stage_get(t, image, &state);
	if (err || (state.stage != UB_STAGE_UNCOUNTING && state.stage != UB_STAGE_SEMAPHORES))
		return err;
	first = state.next;
	/* The one in work is there if it was counted up, or was not yet counted down. */
	if (first < image->nr_semaphores && state.before <= 0xffff) {
		u16 value;

		if (!ub_target_read(t, image->semaphores[first].address, &value, sizeof(value)) &&
		    (value != (u16)state.before) == (state.stage == UB_STAGE_SEMAPHORES))
			first++;
	}
	state.stage = UB_STAGE_SEMAPHORES;
	for (u32 i = first; i < image->nr_semaphores && !err; i++)
		err = count(t, image, i, true, &state);
	if (!err)
		ub_stage_set(t, image, UB_STAGE_LIVE);
	return err;
}
