/* SPDX-License-Identifier: MIT */
/*
 * Arrays that grow.
 */
#ifndef UB_HOOK_GROW_H
#define UB_HOOK_GROW_H

#include <errno.h>
#include <stdlib.h>

#include <common/types.h>

/* Makes room for @needed elements of @size bytes: 0 or -ENOMEM. */
static inline int __must_check ub_grow(void **array, u32 *capacity, u32 needed, size_t size)
{
	u32 larger = *capacity ? *capacity : 16;
	void *grown;

	if (needed <= *capacity)
		return 0;
	while (larger < needed)
		larger *= 2;
	grown = realloc(*array, larger * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = larger;
	return 0;
}

#endif
