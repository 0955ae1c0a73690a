/* SPDX-License-Identifier: MIT */
/*
 * Backend: a kernel that programs run on. Everything above (commands, sessions, link manager,
 * output) is the same code for each.
 *
 * To add a backend: write backend_NAME.c with one struct ub_backend, add it to the list in
 * backend.c and an option to main.c, then run tests/backend/contract.c against it (add its name
 * there): what passes is a backend.
 */
#ifndef UB_LOADER_BACKEND_H
#define UB_LOADER_BACKEND_H

#include <common/reason.h>

#include "program.h"
#include "tracee.h"

struct ub_backend_link;

/* How a removal ended. */
struct ub_removal_report {
	bool clean;	       /* nothing of ours is left in the process */
	struct ub_reason left; /* else what is left, and why */
};

struct ub_backend {
	const char *name;
	/* It looks at a site and takes it in one step, with the process stopped (site_lock.h). */
	bool stops_targets;

	/* Required. Places this process under the kernel: from then on libbpf's system calls go
	 * there. Called once, before any program is opened. Tries for real: -EPERM and such with
	 * @why if this backend does not work here. */
	int (*enter)(struct ub_reason *why);

	/* Required. Attaches @probe to @target alone, at @offset of @file, and gives a link that
	 * attach's undo and detach destroy. The process has been checked by ub_tracee_open(). */
	int (*attach)(const struct ub_probe *probe, const struct ub_tracee *target,
		      const struct ub_tracee_file *file, u64 offset, struct ub_backend_link **out,
		      struct ub_reason *why);

	/* Required. Destroys a link: after it, the program does not run for it any more. Can't
	 * fail. */
	void (*detach)(struct ub_backend_link *link);

	/* Optional. Attaches @probe at @offset of @file in every process, now and later; without
	 * it, processes are attached one by one. */
	int (*attach_everywhere)(const struct ub_probe *probe, const struct ub_tracee_file *file,
				 u64 offset, struct ub_backend_link **out, struct ub_reason *why);

	/* Optional. Refuses a process that this backend can't operate on, with a reason that people
	 * understand, before anything is done. */
	int (*check_target)(const struct ub_tracee *target, struct ub_reason *why);

	/* Optional. Whether links that were attached to @target are not in it yet, and why ("" if there
	 * was no time yet); without it, they are from attach on. */
	bool (*is_waiting)(const struct ub_tracee *target, struct ub_reason *why);

	/* Optional. What is left in @target after the last detach; without it, removals are clean.
	 */
	void (*report_removal)(const struct ub_tracee *target, struct ub_removal_report *report);

	/* Optional. Records so far that programs could not put into ring buffer @map_id for want of
	 * room; Linux does not count them. */
	u64 (*lost_ring_records)(u32 map_id);
};

extern const struct ub_backend ub_backend_kernel;
extern const struct ub_backend ub_backend_userspace;

extern const struct ub_backend *const ub_backends[];
extern const size_t ub_nr_backends;

const struct ub_backend *ub_backend_find(const char *name);

/* Whether Linux lets this process load and attach programs, found out by doing it: 0 or -errno and
 * @why. Must not be asked once this process is under the userspace kernel. */
int __must_check ub_backend_kernel_try(struct ub_reason *why);

/* The choice when the user made none: the kernel if it works for us, else userspace. @why says why.
 */
const struct ub_backend *ub_backend_choose(struct ub_reason *why);

#endif
