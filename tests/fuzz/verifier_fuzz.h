/* SPDX-License-Identifier: MIT */
/*
 * The loop of the verifier's fuzzers:
 *   PROGRAM [-t SECONDS] [-n PROGRAMS] [-s SEED] [-v]
 * One program for each seed, counting up from SEED (else from the clock), for SECONDS (5) or
 * PROGRAMS of them.
 */
#ifndef TESTS_FUZZ_VERIFIER_FUZZ_H
#define TESTS_FUZZ_VERIFIER_FUZZ_H

#include <time.h>

#include <common/types.h>

struct fuzz {
	u64 seed; /* of the program whose turn it is */
	u64 tried;
	u64 limit;
	time_t end;
	bool verbose;
	bool started;
};

/* False: bad usage, exit with 2. */
bool fuzz_init(struct fuzz *fuzz, int argc, char **argv);
/* Goes on to the next seed; false: that was all. */
bool fuzz_next(struct fuzz *fuzz);

#endif
