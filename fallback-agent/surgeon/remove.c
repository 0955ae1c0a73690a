// SPDX-License-Identifier: MIT
/* Taking an image out of a target whose threads are all stopped: see surgeon.c. */
#include <errno.h>
#include <string.h>

#include <surgeon/operation.h>
#include <surgeon/seize.h>

/* An image that was mapped and no more stays known as that: its fork page is recognised by it. */
static void note_stage(struct ub_target *t, const struct ub_image *image, enum ub_site_stage stage)
{
	struct ub_site_state state;

	if (ub_stage_known(t, image) && !ub_stage_get(t, image, &state) &&
	    state.stage != UB_STAGE_MAPPED)
		ub_stage_set(t, image, stage);
}

int ub_take_out(struct ub_target *t, const struct ub_image *image, const struct ub_image *keep,
		struct ub_ips *ips, struct ub_reason *why)
{
	struct ub_report *report = t->report;
	int err;

	note_stage(t, image, UB_STAGE_REMOVING);
	err = ub_sites_restore(t, image, &report->nr_restored);
	if (!err && keep)
		err = ub_sites_put_back(t, keep);
	if (err)
		return ub_reason_set(why, err, "cannot restore the text of process %d: %s", t->pid,
				     strerror(-err));
	/* With something in its place, threads leave by themselves: a hit might be counted twice
	 * else. */
	if (!t->replaced)
		ub_ips_move_out(t, ips, image, keep);
	err = ub_diverts_undo(t, image);
	if (err)
		return ub_reason_set(why, err, "cannot put return addresses of process %d back: %s",
				     t->pid, strerror(-err));
	if (!ub_quiescent(t, ips, image, &report->surgery.left))
		return 1;
	note_stage(t, image, UB_STAGE_REMOVED);
	if ((t->seccomp && !t->suspended) || t->filtered) {
		ub_reason_set(&report->surgery.left, 0,
			      "process %d has put itself under a %s, so its bytes are "
			      "restored and the mapping stays until it exits",
			      t->pid,
			      t->seccomp ? "seccomp filter"
					 : "seccomp filter or system call dispatcher");
		report->hopeless = 1;
		return 1;
	}
	if (!t->host_in_use) {
		err = ub_remote_begin(t, why);
		if (err == -EBUSY) {
			report->surgery.left = *why;
			return 1;
		}
		if (err)
			return err;
	}
	/* While the site table is there, for whoever comes after us; and before anybody runs who
	 * might write to those pages himself. */
	ub_drop_copies(t, image);
	return 0;
}

int ub_unmap(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	int err;

	ub_release_others(t);
	err = ub_unmap_parts(t, image, why);
	return err ? err : ub_fault(t, UB_FAULT_unmapped);
}
