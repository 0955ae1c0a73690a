// SPDX-License-Identifier: MIT
#include "orphan.h"

#include <surgeon/surgeon.h>

int ub_orphan_find(const struct ub_tracee *target, struct ub_reason *why)
{
	return ub_surgeon_find(target->pid, why);
}

int ub_orphan_clean(const struct ub_tracee *target, struct ub_reason *why)
{
	int found = ub_orphan_find(target, why);

	if (found <= 0)
		return found;
	return ub_surgeon_repair(target->pid, false, why);
}
