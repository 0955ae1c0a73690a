/* SPDX-License-Identifier: MIT */
/*
 * What of the userspace backend works on this machine, for this user: found out by trying it.
 */
#ifndef UB_CLIENT_DOCTOR_H
#define UB_CLIENT_DOCTOR_H

#include <common/types.h>

enum ub_health {
	UB_HEALTH_WORKS,
	UB_HEALTH_LIMITED, /* something else is used instead, or not everything works */
	UB_HEALTH_FAILS,
};

struct ub_finding {
	const char *what; /* "ptrace of other processes" */
	enum ub_health health;
	char why[400];	  /* what was tried and what came of it; "" for plain success */
	char advice[400]; /* what to do about it; "" if nothing has to be done */
};

#define UB_MAX_FINDINGS 16

/* Tries everything (a few short-lived processes, some ten milliseconds). Number of findings. */
u32 ub_client_doctor(struct ub_finding findings[UB_MAX_FINDINGS]);

#endif
