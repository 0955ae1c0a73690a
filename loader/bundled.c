// SPDX-License-Identifier: MIT
#include "bundled.h"

#include <string.h>

#include <malloc.skel.h>

const struct ub_bundled ub_bundled[] = {
	{
		.name = "malloc",
		.help = "calls of libc's malloc per process",
		.elf = malloc_bpf__elf_bytes,
		.pid_map = "malloc_calls",
		.pid_label = "malloc calls",
	},
};

const size_t ub_nr_bundled = ub_array_size(ub_bundled);

const struct ub_bundled *ub_bundled_find(const char *name)
{
	for (size_t i = 0; i < ub_nr_bundled; i++) {
		if (!strcmp(ub_bundled[i].name, name))
			return &ub_bundled[i];
	}
	return NULL;
}
