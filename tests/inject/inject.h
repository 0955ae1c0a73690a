/* SPDX-License-Identifier: MIT */
/*
 * What the surgeon's tests share: victims, images with an empty program, and the checks that every
 * case ends with.
 */
#ifndef UB_TEST_INJECT_H
#define UB_TEST_INJECT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include <hook/image.h>
#include <surgeon/fault.h>
#include <surgeon/surgeon.h>

#include "residue.h"

/* Fails the test with a message. */
#define check(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, test_case);             \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* What is being tried, for messages. */
extern char test_case[128];

void skip(const char *reason) __attribute__((noreturn));

struct victim {
	pid_t pid;
	int pidfd;
	int in, out; /* its stdin and stdout */
};

/* Starts tests/lib's ubpf-victim with these arguments, up to NULL, and waits until it is ready. */
void victim_start(struct victim *v, const char *arg, ...);
/* Runs any program. */
void victim_exec(struct victim *v, const char *const *argv);
/* One command of an interactive victim; returns its answer (static buffer). */
const char *victim_ask(struct victim *v, const char *command);
/* Sends a line. */
void victim_tell(struct victim *v, const char *line);
const char *victim_line(struct victim *v);
/* Kills it, and fails if it had died before. */
void victim_end(struct victim *v);
/* Kills it, whatever happened. */
void victim_reap(struct victim *v);
bool victim_alive(const struct victim *v);
/* Its state by /proc: R, S, D, T, Z. */
char victim_state(const struct victim *v);

/* An image that runs an empty program at these functions of @file (NULL: libc), up to NULL. */
struct ub_image *image_of(pid_t pid, const struct ub_image *current, const char *file,
			  const char *symbol, ...);
/* At @nr functions all over libc, malloc among them. */
struct ub_image *image_of_many(pid_t pid, u32 nr);
u64 image_first_site(const struct ub_image *image);
const char *libc_file(void);
/* File offset of a function of libc. */
u64 libc_symbol(const char *symbol);
u64 image_hits(const struct ub_image *image);

/* How often an operation was tried again because a thread did not stop in time. */
extern u32 nr_too_late;
/* ub_surgeon_replace(), again for up to half a minute if somebody else is busy with the victim or a thread gets no CPU. */
int replace_patiently(struct victim *v, struct ub_image *old, struct ub_image *new,
		      struct ub_surgery *result, struct ub_reason *why);
/* replace_patiently() that must succeed; a removal must end clean. */
void must_replace(struct victim *v, struct ub_image *old, struct ub_image *new,
		  struct ub_surgery *result);
/* Takes a snapshot; later, that nothing is left (patiently). */
struct ub_residue *before(struct victim *v, unsigned int flags);
void must_be_clean(struct victim *v, struct ub_residue *snapshot, unsigned int flags);

/* Path of tests/lib's victim: $UBPF_BUILD/tests/lib/NAME, or next to this test. */
const char *victim_path(const char *name);
u64 monotonic_ns(void);
/* Sleeps until @done() or 30 s are over. */
bool wait_until(bool (*done)(void *), void *opaque);

#endif
