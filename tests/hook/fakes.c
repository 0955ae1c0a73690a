// SPDX-License-Identifier: MIT
/* Stand-ins, weak, for what may not be linked in. */
#include <map/event_ring.h>

__attribute__((weak)) u64 ub_event_ring_size(u32 data_size)
{
	return data_size + 4096u;
}

__attribute__((weak)) void ub_event_ring_format(struct ub_event_ring *ring, u32 data_size)
{
}
