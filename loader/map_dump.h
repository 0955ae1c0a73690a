/* SPDX-License-Identifier: MIT */
/*
 * The contents of a program's maps.
 */
#ifndef UB_LOADER_MAP_DUMP_H
#define UB_LOADER_MAP_DUMP_H

#include <json-c/json.h>
#include <sys/types.h>

#include "program.h"

enum { UB_DUMP_ENTRIES = 1 << 20 };

/* The value of key @pid (u32) in hash map @name, whose values are u64: 0 if there is none. */
u64 ub_map_count_of(const struct ub_programs *programs, const char *name, pid_t pid);

/* Calls @fn for each pid of such a map, in rising order. */
int __must_check ub_map_each_count(const struct ub_programs *programs, const char *name,
				   void (*fn)(void *opaque, pid_t pid, u64 count), void *opaque);

/* Removes the entry of a pid, when the pid belongs to a new process. */
void ub_map_forget(const struct ub_programs *programs, const char *name, pid_t pid);

/* The maps that the programs declare: {"map": [{"key": K, "value": V}, ...], ...}; values of
 * per-CPU maps are arrays. Entries are sorted by key; at most UB_DUMP_ENTRIES of each map. */
struct json_object *ub_maps_to_json(const struct ub_programs *programs);

/* Those of them that hold results: without a bundled program's working map. At most @max_entries of
 * each. */
struct json_object *ub_results_to_json(const struct ub_programs *programs, u32 max_entries);

#endif
