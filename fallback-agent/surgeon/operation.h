/* SPDX-License-Identifier: MIT */
/*
 * Private to surgeon/: what one surgeon is sent to do.
 */
#ifndef UB_SURGEON_OPERATION_H
#define UB_SURGEON_OPERATION_H

#include <surgeon/target.h>

enum ub_operation_kind {
	UB_OPERATION_IN,     /* take in new, and old out */
	UB_OPERATION_OUT,    /* take out old; new stays, or comes back */
	UB_OPERATION_REPAIR, /* take out what the target itself records */
};

struct ub_operation {
	enum ub_operation_kind kind;
	pid_t pid;
	int pidfd;
	const struct ub_image *old;
	const struct ub_image *new;
	bool own_filter; /* as struct ub_image_request says */
	bool partial;	 /* old may have been mapped in part only */
	bool replaced;	 /* old has been replaced by another image that stays */
};

/* An image read from a target's site table. */
struct ub_recorded_image {
	struct ub_image image; /* first; .process is NULL */
	u64 guards;
	u32 nr_guards;
};

#define UB_MAX_DETACHES 64 /* more threads than this are better released by the surgeon's exit */

/* operate.c, repair.c: the whole operation, from open to release. */
int __must_check ub_operate(struct ub_target *t, const struct ub_operation *op,
			    struct ub_reason *why);
int __must_check ub_repair_stopped(struct ub_target *t, const struct ub_operation *op,
				   struct ub_reason *why);
/* remove.c: @image out of use in a stopped target; @keep stays or comes back. 1: a thread is
 * inside, or it can't be unmapped now. Else it is to be unmapped next, after which other threads
 * may run again. */
int __must_check ub_take_out(struct ub_target *t, const struct ub_image *image,
			     const struct ub_image *keep, struct ub_ips *ips,
			     struct ub_reason *why);
int __must_check ub_unmap(struct ub_target *t, const struct ub_image *image, struct ub_reason *why);

#endif
