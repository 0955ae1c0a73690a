/* SPDX-License-Identifier: MIT */
/*
 * Session: a running `run` or `load`, with its programs, their maps and the processes they are
 * attached to. It prints once a second and takes orders over its control socket until it is told to
 * end.
 */
#ifndef UB_LOADER_SESSION_H
#define UB_LOADER_SESSION_H

#include "backend.h"

struct ub_session_options {
	const struct ub_backend *backend;
	const char *program;
	char *const *args; /* of the program */
	u32 nr_args;
	const pid_t *pids; /* attach to these at the start */
	u32 nr_pids;
	char *const *command; /* or start this and attach to it; NULL-terminated, or NULL */
	bool everybody;	      /* or attach to every process within reach */
	bool stay;	      /* go on without processes (load) */
	bool follow_forks;    /* attach children of attached processes */
	bool json;
	int verbose;
	double seconds;	 /* end after so long; 0 = never */
	double interval; /* seconds between prints */
};

/* Runs a session from entering the backend to the last detach, and returns the exit status. */
int ub_session_run(const struct ub_session_options *options);

#endif
