// SPDX-License-Identifier: MIT
#include "bundled.h"

#include <string.h>

#include <funclatency.skel.h>
#include <malloc.skel.h>
#include <mallocsize.skel.h>
#include <usdtargs.skel.h>

const struct ub_bundled ub_bundled[] = {
	{
		.name = "malloc",
		.help = "calls of libc's malloc per process",
		.elf = malloc_bpf__elf_bytes,
		.pid_map = "malloc_calls",
		.pid_label = "malloc calls",
	},
	{
		.name = "mallocsize",
		.help = "histogram of the sizes asked of malloc",
		.elf = mallocsize_bpf__elf_bytes,
	},
	{
		.name = "funclatency",
		.help = "histogram of how long calls of LIB:FUNCTION take (default libc:malloc)",
		.elf = funclatency_bpf__elf_bytes,
		.default_args = { "libc:malloc" },
		.working_map = "entered",
		.timed_maps = { "nanoseconds" },
	},
	{
		.name = "usdtargs",
		.help = "hits of the USDT probe LIB:PROVIDER:NAME, sum and histogram of argument=N",
		.elf = usdtargs_bpf__elf_bytes,
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
