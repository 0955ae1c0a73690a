/* SPDX-License-Identifier: MIT */
/*
 * Residue oracle: what a process is, as far as an attachment could have changed it, as a sorted
 * list of lines. Two snapshots, before attach and after detach, must be equal.
 *
 *   map   every mapping; anonymous writable ones and guards next to each other count as one,
 * because an allocator moves the borders between them; [heap] and [stack] without their ends text
 * each executable mapping of a file: kB of Anonymous, number of bytes that differ from the file fd
 * each descriptor and what it refers to task  each thread (full: with its blocked signals, tracer
 * and seccomp mode) proc  tracer; full: caught and ignored signals, limits
 */
#ifndef UB_TEST_RESIDUE_H
#define UB_TEST_RESIDUE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum {
	UB_RESIDUE_FULL =
		1 << 0, /* per-thread state, signals, limits, bytes of text against the file */
	UB_RESIDUE_NO_TASKS = 1 << 1, /* threads come and go by themselves */
	UB_RESIDUE_NO_ANON =
		1 << 2, /* anonymous memory and descriptors come and go by themselves */
};

struct ub_residue;

/* -ESRCH, -EACCES, -ENOMEM. */
int ub_residue_snapshot(pid_t pid, unsigned int flags, struct ub_residue **out);
void ub_residue_free(struct ub_residue *residue);
int ub_residue_save(const struct ub_residue *residue, FILE *to);
int ub_residue_load(FILE *from, struct ub_residue **out);

/* Whether text is not its file's already: somebody else (a uprobe, a debugger) is at work there. */
bool ub_residue_touched(const struct ub_residue *residue);

/* Number of lines in which they differ; each is written to @to (may be NULL) as "- before" or "+
 * after". */
int ub_residue_diff(const struct ub_residue *before, const struct ub_residue *after, FILE *to);

/* Compares @pid now with @before, again and again for up to @patience_ms: what changes by itself (a
 * signal blocked for a moment) goes away, residue does not. Number of differences at last, or
 * -errno. */
int ub_residue_check(pid_t pid, const struct ub_residue *before, unsigned int flags,
		     int patience_ms, FILE *to);

#endif
