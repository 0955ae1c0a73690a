/* SPDX-License-Identifier: MIT */
/* The same map on both sides: the kernel's by bpf(2), ours in shared memory. For tests. */
#ifndef UB_TESTS_MAP_SIDES_H
#define UB_TESTS_MAP_SIDES_H

#include <linux/bpf.h>

#include <map/map.h>
#include <run/run.h>

struct sides {
	struct ub_map ours;
	int kernel; /* fd, -1: there is none */
};

/* CPUs that per-CPU values have. */
unsigned int possible_cpus(void);
/*
 * Whether there is a kernel to compare with: Linux 6.18, whose errno and limits these are (others
 * differ here and there), that lets us call bpf(2). Else says why not, as a test that is skipped
 * does.
 */
bool kernel_comparable(void);
long kernel_bpf(int command, union bpf_attr *attr);
/* fd or -errno. */
int kernel_map_create(const struct ub_map_attr *attr);
int kernel_lookup(int fd, const void *key, void *value, u64 flags);
int kernel_update(int fd, const void *key, const void *value, u64 flags);
int kernel_delete(int fd, const void *key);
int kernel_take(int fd, const void *key, void *value, u64 flags);
int kernel_next_key(int fd, const void *key, void *next);

/* Maps formatted shared memory and binds @map to it; fails the program if that can't be. */
void our_map_create(struct ub_map *map, const struct ub_map_attr *attr);
void our_map_destroy(struct ub_map *map);

#endif
