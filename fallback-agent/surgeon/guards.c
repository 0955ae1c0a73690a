// SPDX-License-Identifier: MIT
/* Whether a program runs on a thread, by the guard that its trampoline sets. */
#include <agent/data.h>
#include <surgeon/operation.h>

static bool guard_set(struct ub_target *t, const struct ub_recorded_image *recorded, u64 fs_base,
		      u64 sp, bool elsewhere)
{
	u32 nr = recorded->nr_guards < 65536 ? recorded->nr_guards : 65536;
	struct ub_thread_slot slot;

	for (u32 i = 0; recorded->guards && i < nr; i++) {
		if (ub_target_read(t, recorded->guards + i * sizeof(slot), &slot, sizeof(slot)))
			return false;
		if (slot.key == fs_base + 1)
			return slot.guard && (elsewhere || sp <= slot.guard);
	}
	return false;
}

bool ub_thread_inside(struct ub_target *t, const struct ub_image *image,
		      const struct ub_thread *thread, bool elsewhere)
{
	u64 fs_base = thread->regs.fs_base;

	if (thread->state != UB_THREAD_STOPPED)
		return false;
	if (image->process)
		return ub_image_thread_inside(image, fs_base, thread->sp, elsewhere);
	/* Recorded images have no process here; hand-made parts lists no sites, so nobody enters.
	 */
	if (!image->nr_sites)
		return false;
	return guard_set(t, (const struct ub_recorded_image *)image, fs_base, thread->sp,
			 elsewhere);
}
