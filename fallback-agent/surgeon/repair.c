/* SPDX-License-Identifier: MIT */
/*
 * Cleaning up after a daemon that is gone, from what the target itself records.
 *
 * Everything found in the target may be a forgery by its owner, so the site table is checked as a
 * whole (hook/site_table.h), a site is restored only to what its file holds, and nothing is
 * unmapped that does not bear our name. All of it happens in the target's own memory: a forger
 * harms himself only.
 */
#include <errno.h>
#include <string.h>

#include <surgeon/recorded.h>
#include <surgeon/seize.h>

/* Mappings that no table tells of: an attach was killed before it had mapped one, so nothing leads
 * there. */
static bool told_of(const struct ub_loaded *tables, u32 nr, u64 address)
{
	for (u32 i = 0; i < nr; i++) {
		const struct ub_image *image = &tables[i].recorded.image;

		for (u32 k = 0; k < image->nr_parts; k++) {
			if (address - image->parts[k].address < image->parts[k].size)
				return true;
		}
	}
	return false;
}

static int unmap_untold(struct ub_target *t, const struct ub_loaded *tables, u32 nr,
			struct ub_ips *ips, struct ub_reason *why)
{
	struct ub_part parts[UB_MAX_TABLES];
	struct ub_image image = { .pid = t->pid, .parts = parts };
	int err;

	for (u32 i = 0; i < t->nr_mappings && image.nr_parts < UB_MAX_TABLES; i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (ub_mapping_is_trace(t, m) && !told_of(tables, nr, m->start))
			parts[image.nr_parts++] = (struct ub_part) {
				.kind = UB_PART_CODE,
				.address = m->start,
				.size = m->end - m->start,
				.fd = -1,
			};
	}
	if (!image.nr_parts)
		return 0;
	err = ub_take_out(t, &image, NULL, ips, why);
	return err ? err : ub_unmap(t, &image, why);
}

static int take_out_recorded(struct ub_target *t, struct ub_loaded *tables, u32 nr,
			     struct ub_reason *why)
{
	struct ub_ips ips = { 0 };
	bool out[UB_MAX_TABLES] = { 0 };
	int err = ub_ips_collect(t, &ips), inside = 0;

	for (u32 i = 0; i < nr && err >= 0; i++) {
		struct ub_image *image = &tables[i].recorded.image;

		ub_recorded_check_files(t, image);
		err = ub_semaphores_take(t, image);
		if (!err)
			err = ub_take_out(t, image, NULL, &ips, why);
		if (err == 1) {
			inside = 1;
			err = 0;
		} else {
			out[i] = !err;
		}
	}
	if (!err && !inside)
		err = unmap_untold(t, tables, nr, &ips, why);
	for (u32 i = 0; i < nr && err >= 0; i++) {
		int unmapped = out[i] ? ub_unmap(t, &tables[i].recorded.image, why) : 0;

		err = unmapped ? unmapped : err;
	}
	ub_ips_free(&ips);
	if (inside || err == 1) {
		t->report->again = 1;
		err = err < 0 ? err : 0;
	}
	return err;
}

int ub_repair_stopped(struct ub_target *t, const struct ub_operation *op, struct ub_reason *why)
{
	struct ub_loaded tables[UB_MAX_TABLES] = { 0 };
	u32 nr = 0;
	int err;

	err = ub_target_open(t, op->pid, op->pidfd, why);
	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	if (err)
		return err;
	err = ub_recorded_load(t, tables, &nr, why);
	/* What is to be unmapped is no place to find instructions: those mappings are left out by
	 * name. */
	if (!err)
		err = ub_remote_prepare(t, NULL, NULL, why);
	if (!err)
		err = ub_fault(t, UB_FAULT_looked);
	if (!err) {
		ub_watchdog_start(t->report, 5000);
		err = ub_seize(t, why);
	}
	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	/* Until it stopped somebody else may have attached to it: an image of his must not be taken
	 * for one that no table tells of. */
	if (!err) {
		ub_recorded_unload(tables, &nr);
		err = ub_recorded_load(t, tables, &nr, why);
		if (err)
			ub_release(t);
	}
	if (!err)
		err = ub_remote_choose(t, why);
	if (!err) {
		err = take_out_recorded(t, tables, nr, why);
		ub_remote_end(t);
		ub_release(t);
		ub_touch_dropped(t);
	}
	ub_recorded_unload(tables, &nr);
	return err;
}
