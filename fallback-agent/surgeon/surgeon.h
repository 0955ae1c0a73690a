/* SPDX-License-Identifier: MIT */
/*
 * Surgeon: the only code that stops, changes and resumes a target. Each operation runs in a
 * short-lived process of its own with a complete plan and its signals blocked; it finishes even if
 * the daemon is killed. If the surgeon itself is killed the target goes on unharmed, and what was
 * left is found by ub_surgeon_repair() from the target's own site table.
 */
#ifndef UB_SURGEON_SURGEON_H
#define UB_SURGEON_SURGEON_H

#include <sys/types.h>

#include <common/reason.h>
#include <hook/image.h>

/* What happened to the old image. */
enum ub_removal {
	UB_REMOVED_CLEAN = 0, /* nothing of it is left (or there was none) */
	UB_REMOVED_LATER =
		1, /* a thread is still inside: mapping left, call ub_surgeon_collect() again */
	UB_REMOVED_GONE = 2, /* the process exited or exec'd: nothing to remove */
};

struct ub_surgery {
	enum ub_removal removal;
	u64 pause_ns;	/* from the first INTERRUPT of all threads to the last's resume */
	u64 alone_ns;	/* that one thread alone was held before and after */
	u32 nr_threads; /* stopped */
	u32 nr_passing_filters; /* of its own, of each thread, that let pass what is done in it; 0: not known */
	struct ub_reason left; /* why the mapping stays, for UB_REMOVED_LATER */
};

/*
 * Replaces what @pid holds (@old, or NULL) by @new (or NULL: take everything out), all or nothing.
 * 0 and *result; or -errno and @why, and the target is as before (result->removal UB_REMOVED_LATER:
 * but for
 * @new's mapping, for which ub_surgeon_collect(new) is to be called). -EAGAIN: memory that @new was
 * planned for was taken meanwhile, or its code unmapped: build it again; -EINTR: the surgeon was
 * killed. -ESRCH gone; -EPERM may not be traced; -EBUSY traced by somebody else (named), sites
 * changed, or a thread stays inside the bytes of one; -ETIMEDOUT a thread did not stop; -EOPNOTSUPP
 * seccomp'd, 32-bit, kernel thread, ... @pidfd guards against pid reuse.
 */
int __must_check ub_surgeon_replace(pid_t pid, int pidfd, struct ub_image *old,
				    struct ub_image *new, struct ub_surgery *result,
				    struct ub_reason *why);

/* Second half of a removal that ended UB_REMOVED_LATER. */
int __must_check ub_surgeon_collect(pid_t pid, int pidfd, struct ub_image *old,
				    struct ub_surgery *result, struct ub_reason *why);

/* Cleans a process of everything of ours that no living daemon owns, and of what it inherited from
 * a process that the caller operated on, from its own site table: for `detach PID` and `doctor
 * --repair`. @own_filter: as struct ub_image_request says. Returns number of sites restored, or
 * -errno as above. -EBUSY also if it belongs to a living one. */
int __must_check ub_surgeon_repair(pid_t pid, bool own_filter, struct ub_reason *why);
/* Waits, for 3 s at most, while another daemon, guard or loader of ours operates on process
 * @pid. */
void ub_surgeon_await(pid_t pid);
/* Whether @pid holds anything of ours: 1, 0 or -errno. */
int __must_check ub_surgeon_find(pid_t pid, struct ub_reason *why);
/* Whether it does, and no living daemon or loader owns it: what ub_surgeon_repair() would clean.
 * -EAGAIN: a surgeon is at work there that has not got so far. */
int __must_check ub_surgeon_find_deserted(pid_t pid, struct ub_reason *why);
/* Whether all files that @image patches are still mapped as it left them, by one site of each.
 * @mem: /proc/PID/mem of the memory that holds it. If not, a library was unloaded (and perhaps
 * loaded again): the image should be built anew. */
bool ub_surgeon_stands(int mem, const struct ub_image *image);
/* Whether bytes [@offset, @offset + @size) of a file are patched by us in @pid: 1, 0 or -errno. In
 * doubt 1. */
int __must_check ub_surgeon_holds(pid_t pid, u64 offset, u64 size, struct ub_reason *why);

#endif
