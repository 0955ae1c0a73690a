/* SPDX-License-Identifier: MIT */
/* STACK_TRACE maps. Internal to map/ and helper/; freestanding. */
#ifndef UB_MAP_STACK_TRACE_H
#define UB_MAP_STACK_TRACE_H

#include <map/map.h>

/*
 * Stores a trace of @nr instruction pointers and returns its id (>= 0): the same for the same
 * trace.
 * @flags: BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID as for bpf_get_stackid(). -EEXIST: the id is
 * taken by another trace; -ENOMEM: no room for one more in flight.
 */
long ub_stack_trace_put(struct ub_map *map, const u64 *ips, u32 nr, u64 flags, struct ub_run *run);

/* bpf(2): value_size bytes, zero-padded. -ENOENT. */
int ub_stack_trace_copy(struct ub_map *map, u32 id, void *value);
int ub_stack_trace_delete(struct ub_map *map, u32 id);
/* Smallest id in use from @id on, or -ENOENT. */
int ub_stack_trace_next(struct ub_map *map, u32 id, u32 *next);

#endif
