/* SPDX-License-Identifier: MIT */
/*
 * Fault points: named places in an operation at which a test has somebody killed. Always compiled
 * in, so that what is tested is what is shipped; set only by the process that asks for the
 * operation.
 */
#ifndef UB_SURGEON_FAULT_H
#define UB_SURGEON_FAULT_H

#include <common/types.h>

enum ub_fault_kind {
	UB_FAULT_NONE = 0,
	UB_FAULT_KILL_SURGEON = 1,
	UB_FAULT_KILL_TARGET = 2,
	UB_FAULT_KILL_BOTH = 3, /* the surgeon and whoever asked for the operation */
	UB_FAULT_FAIL = 4,	/* the step reports -EIO: everything must be undone */
	UB_FAULT_STOP_TARGET = 5,
	UB_FAULT_HOLD_SURGEON = 6, /* the surgeon waits there for a SIGCONT */
};

/* The next operations meet @kind at @point ("" = nowhere), on its @nth passage (1 = first). The
 * environment variable UBPF_FAULT=KIND@POINT[:NTH], KIND one of surgeon, target, both, fail, stop,
 * hold, does the same. */
void ub_fault_set(enum ub_fault_kind kind, const char *point, u32 nth);
/* Name of fault point @i, or NULL after the last. */
const char *ub_fault_point(u32 i);

#endif
