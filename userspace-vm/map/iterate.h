/* SPDX-License-Identifier: MIT */
/* Walking over a map's elements from a program: bpf_for_each_map_elem(). Freestanding. */
#ifndef UB_MAP_ITERATE_H
#define UB_MAP_ITERATE_H

#include <map/map.h>

/* Zeroed before the first step. */
struct ub_map_iter {
	u64 bucket;
	u64 link;  /* hash: of the next node, 0: the bucket's head */
	u64 steps; /* so far, over all buckets */
	u32 index;
};

/* Whether the kernel's maps of this type have map_for_each_callback. */
bool ub_map_iterable(const struct ub_map *map);
/* True and the next element; false at the end. Elements that come or go meanwhile may or may not be
 * met. */
bool ub_map_iterate(struct ub_map *map, struct ub_map_iter *iter, const void **key, void **value,
		    struct ub_run *run);

#endif
