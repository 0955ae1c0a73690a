/* SPDX-License-Identifier: MIT */
/* The parts of bench_maps: programs of 1000 operations on a map, here and on Linux. */
#ifndef UB_TESTS_BENCH_MAPS_H
#define UB_TESTS_BENCH_MAPS_H

#include <jit/jit.h>
#include <map/event_ring.h>
#include <run/run.h>

#include "../map/sides.h"

#define BENCH_MAP_OPS 1000

enum operation { LOOKUP, UPDATE, DELETE, PUSH, POP, RINGBUF };

struct row {
	const char *type_name;
	u32 type;
	enum operation operation;
};

/* Our side, and the kernel's where there is one. */
struct prepared {
	struct ub_map map;
	struct ub_jitted *jitted;
	struct ub_event_ring *ring;
	struct ub_event_reader *reader;
	struct ub_process process;
	struct ub_map *maps[1];
	int kernel_map, kernel_program;
};

struct ub_map_attr bench_map_attr_of(const struct row *row);
/* fd of the row's program on Linux, or -errno. */
int bench_map_load_kernel(const struct row *row, int map);
/* One run of it; nanoseconds, or 0: it could not be run. */
u64 bench_map_run_kernel(int program);
int bench_map_prepare_ours(const struct row *row, struct prepared *p);

#endif
