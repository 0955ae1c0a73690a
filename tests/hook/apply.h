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

/* Builds what is asked for and applies it, again where -EAGAIN says so: 0 or -errno, which was
 * said. */
int __must_check build_and_apply(const struct ub_image_request *request, struct ub_image **image);

/* The exit status of a child that could not hook what somebody else has hooked: kernel uprobes in
 * libc, say.
 */
#define CHILD_BUSY 75
/* @run in a child of its own, which does not outlive this process: its wait status. Tries again for
 * some time while it is busy. */
int run_in_child(int (*run)(void *opaque), void *opaque);
/* What main() returns after @failed tests: 77 if all that could be run passed, but some could
 * not. */
int end_of_tests(int failed);
/* @times calls in each of @nr_threads threads; in this one if it is 1. */
int __must_check call_in_threads(void (*call)(void), u32 times, u32 nr_threads);

/* The point of a function in this program. */
struct ub_point point_of(const void *code, enum ub_point_kind kind);

/* A program with one array map (map 0): adds 1 to the 64-bit value at @offset of element 0. */
struct ub_program *counting_program(u32 offset);
/* Copies word @word of struct pt_regs to offset 8, then counts at 0. */
struct ub_program *context_program(u32 word);
/* Stores bpf_get_current_pid_tgid() at offset 8, then counts at 0. */
struct ub_program *identity_program(void);
/* Calls a helper, and might look at all of its context. */
struct ub_program *busy_program(void);
/* Reads 16 bytes each where rdi and rsp point to. */
struct ub_program *reading_program(void);
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
