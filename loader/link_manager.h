/* SPDX-License-Identifier: MIT */
/*
 * Link manager: one table, process -> attachment, for both backends.
 *
 *   DETACHED -> ATTACHING -> ATTACHED -> DETACHING -> DETACHED
 *
 * A process that is not in the table is DETACHED; nothing else anywhere says whether it is
 * attached. Attaching is all or nothing; detaching always ends in DETACHED with the entry gone.
 * Processes are told apart by pidfd, so a pid's next owner is another process. Not thread-safe: a
 * session is one thread.
 */
#ifndef UB_LOADER_LINK_MANAGER_H
#define UB_LOADER_LINK_MANAGER_H

#include "backend.h"

enum ub_attach_state { UB_DETACHED, UB_ATTACHING, UB_ATTACHED, UB_DETACHING };

struct ub_link_manager;

/* A process under this session, as others see it. */
struct ub_attachment {
	struct ub_tracee target;
	enum ub_attach_state state;
	u32 nr_links;
	u64 number; /* 1 for the session's first attach, counting up */
};

enum ub_detach_result {
	UB_WAS_NOT_ATTACHED, /* nothing to do */
	UB_DETACH_CLEAN,
	UB_DETACH_LEFT, /* detached, but a mapping stays for now: see the report */
	UB_DETACH_GONE, /* the process had ended */
};

struct ub_detach_outcome {
	enum ub_detach_result result;
	struct ub_tracee target; /* for messages; its pidfd is closed */
	struct ub_reason left;	 /* for UB_DETACH_LEFT */
};

/* Manages @programs on @backend, both of which must live longer. NULL if out of memory. */
struct ub_link_manager *ub_link_manager_new(const struct ub_backend *backend,
					    const struct ub_programs *programs);
/* Detaches from everything first. */
void ub_link_manager_free(struct ub_link_manager *manager);

/* Called with one line for each link that is made: "uprobe libc:malloc at /lib/libc.so.6 +
 * 0x9d3a0". */
void ub_link_manager_on_link(struct ub_link_manager *manager,
			     void (*fn)(void *opaque, const struct ub_tracee *target,
					const char *line),
			     void *opaque);

/* Where @probe goes in @target: which file of its, and which offset there. */
int __must_check ub_probe_locate(const struct ub_probe *probe, const struct ub_tracee *target,
				 struct ub_tracee_file *file, u64 *offset, struct ub_reason *why);

/* Attaches all programs to process @pid, or none: 0; -EALREADY if it is attached; else what failed,
 * with
 * @why naming the probe and the reason. */
int __must_check ub_link_manager_attach(struct ub_link_manager *manager, pid_t pid,
					struct ub_reason *why);

/* Takes the programs out of @pid, whatever state it is in. Never fails; *outcome (may be NULL) says
 * what was found. */
void ub_link_manager_detach(struct ub_link_manager *manager, pid_t pid,
			    struct ub_detach_outcome *outcome);

/* Drops one process that has ended: true and *outcome, or false if there is none. */
bool ub_link_manager_reap(struct ub_link_manager *manager, struct ub_detach_outcome *outcome);

enum ub_attach_state ub_link_manager_state(const struct ub_link_manager *manager, pid_t pid);
u32 ub_link_manager_count(const struct ub_link_manager *manager);
/* The @index-th attachment in order of attaching, or NULL. Valid until the table changes. */
const struct ub_attachment *ub_link_manager_at(const struct ub_link_manager *manager, u32 index);

#endif
