/* SPDX-License-Identifier: MIT */
/*
 * One program as target, and probes on it, for tests that end with the first failure.
 */
#ifndef UB_TESTS_TARGETS_OPERATE_H
#define UB_TESTS_TARGETS_OPERATE_H

#include <stdio.h>
#include <sys/types.h>

#include <hook/image.h>

extern pid_t pid;
extern FILE *to, *from; /* its input and output */

void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...);
double now(void); /* seconds */

/* Starts argv[0] and waits until its output holds @ready. */
void start(char **argv, const char *ready);
/* Waits until it has ended as it should. */
void finish(void);

/* Attaches and replaces, again and again while the machine is too busy for it. */
struct ub_image *attach(const struct ub_image_link *links, u32 nr_links);
/* The same, but what can't be probed is reported: -EOPNOTSUPP, @why, and which links (a flag for
 * each). */
int try_attach(const struct ub_image_link *links, u32 nr_links, struct ub_image **image,
	       bool *refused, struct ub_reason *why);
/* @old is gone afterwards, but for its counters. */
struct ub_image *replace(struct ub_image *old, const struct ub_image_link *links, u32 nr_links);
void detach(struct ub_image *image);

#endif
