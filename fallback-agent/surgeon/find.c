// SPDX-License-Identifier: MIT
/* Whether a process holds anything of ours: for whoever wants to attach, or to patch there by other
 * means. Nothing is stopped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <hook/site_table.h>
#include <surgeon/recorded.h>
#include <surgeon/target.h>

int ub_surgeon_find(pid_t pid, struct ub_reason *why)
{
	struct ub_target t = { .mem = -1, .pid = pid };
	int found = 0;

	if (ub_target_proc(&t) || ub_target_read_mappings(&t)) {
		bool forbidden = errno == EACCES;

		ub_target_close(&t);
		return ub_reason_set(why, forbidden ? -EPERM : -ESRCH,
				     "cannot look into process %d: %s", pid,
				     forbidden ? "not permitted" : "it is gone");
	}
	for (u32 i = 0; i < t.nr_mappings; i++)
		found |= ub_mapping_is_trace(&t, &t.mappings[i]);
	ub_target_close(&t);
	return found;
}

int ub_surgeon_find_deserted(pid_t pid, struct ub_reason *why)
{
	struct ub_target t = { .mem = -1, .pid = pid };
	bool owned = false, deserted = false;
	int err;

	/* Most processes hold nothing, and may be looked at by more people than may be read. */
	err = ub_surgeon_find(pid, why);
	if (!err && ub_is_traced_by_ours(pid))
		return ub_reason_set(why, -EAGAIN, "process %d is being operated on", pid);
	if (err <= 0)
		return err;
	err = ub_target_open(&t, pid, -1, why);
	if (!err && ub_target_read_mappings(&t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", pid);
	for (u32 i = 0; i < t.nr_mappings && !err; i++) {
		const struct ub_mapping *m = &t.mappings[i];

		if (!ub_mapping_is_trace(&t, m) ||
		    !strstr(ub_mapping_name(&t, m), UB_SITE_TABLE_NAME))
			continue;
		if (ub_recorded_is_owned(&t, m))
			owned = true;
		else
			deserted = true;
	}
	ub_target_close(&t);
	/* Mappings without a table are of an attach that was killed, or is under way. */
	return err ? err : deserted || !owned;
}

/* Whether memory still differs from the file at @site. What can't be read is taken for ours. */
static bool is_patched(const struct ub_target *t, const struct ub_site_record *site)
{
	u8 now[UB_SITE_BYTES];

	return site->len > sizeof(now) || ub_target_read(t, site->address, now, site->len) ||
	       memcmp(now, site->old, site->len);
}

/*
 * Offsets are compared, not files: over some file systems /proc/PID/maps and stat() disagree about
 * device and inode, and to refuse once too often is harmless where the contrary kills a process.
 */
static bool table_holds(const struct ub_target *t, const struct ub_mapping *m, u64 offset, u64 size)
{
	struct ub_site_table_view view;
	struct ub_site_table header;
	_cleanup_free_ void *bytes = NULL;

	if (ub_target_read(t, m->start, &header, sizeof(header)) || header.size < sizeof(header) ||
	    header.size > UB_SITE_TABLE_MAX || header.size > m->end - m->start)
		return true;
	bytes = malloc(header.size);
	if (!bytes || ub_target_read(t, m->start, bytes, header.size) ||
	    ub_site_table_check(bytes, header.size, &view, NULL))
		return true;
	for (u32 i = 0; i < view.header->nr_sites; i++) {
		const struct ub_site_record *site = &view.sites[i];

		if (site->offset < offset + size && offset < site->offset + site->len &&
		    is_patched(t, site))
			return true;
	}
	return false;
}

int ub_surgeon_holds(pid_t pid, u64 offset, u64 size, struct ub_reason *why)
{
	struct ub_target t = { .mem = -1, .pid = pid };
	bool traces = false, tables = false, holds = false;
	int err;

	/* Most processes hold nothing, and may be looked at by more people than may be read. */
	err = ub_surgeon_find(pid, why);
	if (err <= 0)
		return err;
	err = ub_target_open(&t, pid, -1, why);
	if (!err && ub_target_read_mappings(&t))
		err = -ESRCH;
	for (u32 i = 0; i < t.nr_mappings && !err; i++) {
		const struct ub_mapping *m = &t.mappings[i];

		if (!ub_mapping_is_trace(&t, m))
			continue;
		traces = true;
		if (!strstr(ub_mapping_name(&t, m), UB_SITE_TABLE_NAME))
			continue;
		tables = true;
		holds |= table_holds(&t, m, offset, size);
	}
	ub_target_close(&t);
	/* Code that no table tells of may have led anywhere. */
	return err ? err : holds || (traces && !tables);
}
