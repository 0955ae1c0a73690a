// SPDX-License-Identifier: MIT
#include "orphan.h"

#include <string.h>

#include <common/cleanup.h>
#include <surgeon/surgeon.h>

#define MAPPING_NAME "memfd:ubpf-run"

int ub_orphan_find(const struct ub_tracee *target, struct ub_reason *why)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	char path[64];
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", target->pid);
	maps = fopen(path, "re");
	if (!maps)
		return ub_reason_set(why, -errno, "cannot look at process %d (%s): %s", target->pid,
				     target->comm, strerror(errno));
	while (getline(&line, &size, maps) > 0) {
		if (strstr(line, MAPPING_NAME))
			return 1;
	}
	return 0;
}

int ub_orphan_clean(const struct ub_tracee *target, struct ub_reason *why)
{
	int found = ub_orphan_find(target, why);

	if (found <= 0)
		return found;
	return ub_surgeon_repair(target->pid, why);
}
