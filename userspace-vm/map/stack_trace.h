/* SPDX-License-Identifier: MIT */
/* STACK_TRACE maps. Internal to map/ and helper/; freestanding. */
#ifndef UB_MAP_STACK_TRACE_H
#define UB_MAP_STACK_TRACE_H

#include <map/map.h>

/*
 * Memory for a trace on its way in, value_size bytes, so that nobody needs them on a stack that may
 * be small; *node is for ub_stack_trace_put(), which must follow. NULL: all that there are are in
 * use.
 */
u64 *ub_stack_trace_take(const struct ub_map *map, struct ub_run *run, u32 *node);
/*
 * Stores a trace of @nr instruction pointers and returns its id (>= 0): the same for the same
 * trace. @ips is what @node's memory holds, or, with UB_STACK_TRACE_NO_NODE, anybody's.
 * @flags: BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID as for bpf_get_stackid(). -EEXIST: the id is
 * taken by another trace; -ENOMEM: no room for one more in flight. With @nr 0 only gives @node
 * back: -EFAULT.
 */
#define UB_STACK_TRACE_NO_NODE 0xffffffffu
long ub_stack_trace_put(struct ub_map *map, u32 node, const u64 *ips, u32 nr, u64 flags,
			struct ub_run *run);

/* bpf(2): value_size bytes, zero-padded. -ENOENT. */
int ub_stack_trace_copy(struct ub_map *map, u32 id, void *value);
int ub_stack_trace_delete(struct ub_map *map, u32 id);
/* Smallest id in use from @id on, or -ENOENT. */
int ub_stack_trace_next(struct ub_map *map, u32 id, u32 *next);

#endif
