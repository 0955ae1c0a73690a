/* SPDX-License-Identifier: MIT */
#include "verifier_fuzz.h"

#include <stdlib.h>
#include <unistd.h>

bool fuzz_init(struct fuzz *fuzz, int argc, char **argv)
{
	u32 seconds = 5;
	int opt;

	*fuzz = (struct fuzz) { .seed = (u64)time(NULL) * 1000003 };
	while ((opt = getopt(argc, argv, "t:n:s:v")) != -1) {
		switch (opt) {
		case 't':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			fuzz->limit = strtoull(optarg, NULL, 0);
			break;
		case 's':
			fuzz->seed = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			fuzz->verbose = true;
			break;
		default:
			return false;
		}
	}
	fuzz->end = time(NULL) + seconds;
	return true;
}

bool fuzz_next(struct fuzz *fuzz)
{
	if (fuzz->started) {
		fuzz->seed++;
		fuzz->tried++;
	}
	fuzz->started = true;
	return fuzz->limit ? fuzz->tried < fuzz->limit : time(NULL) < fuzz->end;
}
