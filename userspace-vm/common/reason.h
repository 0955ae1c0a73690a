/* SPDX-License-Identifier: MIT */
/*
 * The one clear line that explains a failure. A fallible function returns -errno; the function that
 * has the context also fills the caller's ub_reason. Nobody prints but the command that was asked.
 */
#ifndef UB_COMMON_REASON_H
#define UB_COMMON_REASON_H

#include <common/types.h>

struct ub_reason {
	char text[512]; /* no trailing newline; "" = nothing said */
};

/* Replaces the text of @reason (which may be NULL) and returns @err, so that one statement says
 * why and fails: return ub_reason_set(why, -EPERM, "..."). */
int ub_reason_set(struct ub_reason *reason, int err, const char *fmt, ...) __printf_like(3, 4);

/* Puts "TEXT: " in front of what stands in @reason; returns @err. */
int ub_reason_prefix(struct ub_reason *reason, int err, const char *fmt, ...) __printf_like(3, 4);

#endif
