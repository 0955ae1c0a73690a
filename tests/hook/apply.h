/* SPDX-License-Identifier: MIT */
/*
 * An image put into this very process, without any surgeon: mapped, and its sites written.
 */
#ifndef UB_TEST_APPLY_H
#define UB_TEST_APPLY_H

#include <hook/image_private.h>

/* 0 or -errno; -EAGAIN: the builder's own memory went where the image should (it is built in the
 * process that it is for), so build again. No other thread may run code of the sites meanwhile. */
int __must_check apply_image(const struct ub_image *image);
/* Restores the sites and unmaps the parts. */
void remove_image(const struct ub_image *image);

/* The point of a function in this program. */
struct ub_point point_of(const void *code, enum ub_point_kind kind);

/* A program with one array map (map 0): adds 1 to the 64-bit value at @offset of element 0. */
struct ub_program *counting_program(u32 offset);
/* Copies word @word of struct pt_regs to offset 8, then counts at 0. */
struct ub_program *context_program(u32 word);
/* Stores bpf_get_current_pid_tgid() at offset 8, then counts at 0. */
struct ub_program *identity_program(void);
/* Does nothing. */
struct ub_program *empty_program(void);

/* An array map of one element with @size bytes, in this process. */
struct test_map {
	struct ub_image_map image;
	struct ub_map map;
};
int __must_check test_map_create_as(const struct ub_map_attr *attr, u32 nr_cpus,
				    struct test_map *map);
int __must_check test_map_create(u32 size, struct test_map *map);
void test_map_destroy(struct test_map *map);
u64 *test_map_values(const struct test_map *map);

#endif
