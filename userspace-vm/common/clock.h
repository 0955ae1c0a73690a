/* SPDX-License-Identifier: MIT */
/* The clock by which we wait and measure. */
#ifndef UB_COMMON_CLOCK_H
#define UB_COMMON_CLOCK_H

#include <time.h>

#include <common/types.h>

/* CLOCK_MONOTONIC in ns. */
static inline u64 ub_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

#endif
