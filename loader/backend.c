// SPDX-License-Identifier: MIT
#include "backend.h"

#include <string.h>

const struct ub_backend *const ub_backends[] = { &ub_backend_kernel, &ub_backend_userspace };
const size_t ub_nr_backends = ub_array_size(ub_backends);

const struct ub_backend *ub_backend_find(const char *name)
{
	for (size_t i = 0; i < ub_nr_backends; i++) {
		if (!strcmp(ub_backends[i]->name, name))
			return ub_backends[i];
	}
	return NULL;
}

const struct ub_backend *ub_backend_choose(struct ub_reason *why)
{
	if (!ub_backend_kernel_try(why)) {
		ub_reason_set(why, 0, "the kernel lets this process load programs");
		return &ub_backend_kernel;
	}
	return &ub_backend_userspace;
}
