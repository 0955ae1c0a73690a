/* SPDX-License-Identifier: MIT */
/*
 * residue [-c] [-t] [-a] snapshot PID > FILE
 * residue [-c] [-t] [-a] [-w MS] diff FILE PID
 *
 * -c cheap: mappings, Anonymous of text, descriptors, threads; without it also signals, limits and
 * every byte of text. -t: threads come and go by themselves: leave them out. -a: so do anonymous
 * memory and descriptors. -w: for so long what is different may still go away (30000).
 *
 * diff exits with 0: nothing left, 1: these lines differ, 2: could not tell. Use the same options
 * for both.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "residue.h"

static int usage(void)
{
	fputs("usage: residue [-c] [-t] [-a] snapshot PID > FILE\n"
	      "       residue [-c] [-t] [-a] [-w MS] diff FILE PID\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int flags = UB_RESIDUE_FULL;
	struct ub_residue *residue = NULL;
	FILE *file;
	int opt, err, patience_ms = 30000;

	while ((opt = getopt(argc, argv, "ctaw:")) != -1) {
		if (opt == 'c')
			flags &= ~UB_RESIDUE_FULL;
		else if (opt == 't')
			flags |= UB_RESIDUE_NO_TASKS;
		else if (opt == 'a')
			flags |= UB_RESIDUE_NO_ANON;
		else if (opt == 'w')
			patience_ms = atoi(optarg);
		else
			return usage();
	}
	argc -= optind;
	argv += optind;
	if (argc == 2 && !strcmp(argv[0], "snapshot")) {
		err = ub_residue_snapshot(atoi(argv[1]), flags, &residue);
		if (!err)
			err = ub_residue_save(residue, stdout);
	} else if (argc == 3 && !strcmp(argv[0], "diff")) {
		file = fopen(argv[1], "re");
		if (!file) {
			fprintf(stderr, "residue: %s: %s\n", argv[1], strerror(errno));
			return 2;
		}
		err = ub_residue_load(file, &residue);
		fclose(file);
		if (!err)
			err = ub_residue_check(atoi(argv[2]), residue, flags, patience_ms, stdout);
	} else {
		return usage();
	}
	ub_residue_free(residue);
	if (err < 0) {
		fprintf(stderr, "residue: %s: %s\n", argv[argc - 1], strerror(-err));
		return 2;
	}
	return err ? 1 : 0;
}
