/* SPDX-License-Identifier: MIT */
/*
 * Images as a target itself records them, in its site tables: for repair.c. Whatever stands there
 * may be forged; it was checked as a whole.
 */
#ifndef UB_SURGEON_RECORDED_H
#define UB_SURGEON_RECORDED_H

#include <hook/site_table.h>
#include <surgeon/operation.h>

#define UB_MAX_TABLES 16

struct ub_loaded {
	void *bytes;
	struct ub_recorded_image recorded;
};

/* Reads the tables that are mapped now: *nr of @tables, UB_MAX_TABLES at most, all zeros before;
 * also in part. -EBUSY: one belongs to somebody who lives. */
int __must_check ub_recorded_load(struct ub_target *t, struct ub_loaded *tables, u32 *nr,
				  struct ub_reason *why);
/* Whether who made @table, found in @t, lives, or may live where we do not see him. */
bool ub_owner_lives(const struct ub_target *t, const struct ub_site_table *table);
/* Whether the numbers of processes in @table are ours: it was made in our pid namespace. */
bool ub_owner_is_here(const struct ub_site_table *table);
/* Whether the owner of the table that is mapped at @m lives. */
bool ub_recorded_is_owned(const struct ub_target *t, const struct ub_mapping *m);
/* All zeros again. */
void ub_recorded_unload(struct ub_loaded *tables, u32 *nr);
/* Leaves only those sites whose old bytes are what the file holds. */
void ub_recorded_check_files(const struct ub_target *t, struct ub_image *image);

#endif
