// SPDX-License-Identifier: MIT
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <daemon/daemon.h>

#include "backend.h"
#include "enter.h"
#include "output.h"

static char run_dir[] = "/tmp/ubpf-backend-XXXXXX";

static void remove_run_dir(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	if (system(command))
		fprintf(stderr, "%s is left\n", run_dir);
}

int enter_backend(int argc, char **argv, const struct ub_backend **out)
{
	struct ub_reason why = { 0 };
	char log[64];
	int err;

	/* The client starts the daemon by executing the program that it is in. */
	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		return ub_daemon_main((int)strtol(argv[2], NULL, 10));
	*out = argc == 2 ? ub_backend_find(argv[1]) : NULL;
	if (!*out) {
		fprintf(stderr, "usage: %s kernel|userspace\n", argv[0]);
		return 2;
	}
	/* A daemon of its own: another's would log elsewhere. */
	if (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1) || atexit(remove_run_dir))
		return 1;
	snprintf(log, sizeof(log), "%s/log", run_dir);
	if (setenv("UBPF_DAEMON_LOG", log, 1))
		return 1;
	ub_libbpf_log(0);
	signal(SIGPIPE, SIG_IGN);
	err = (*out)->enter(&why);
	if (!err)
		return -1;
	if (err == -EPERM && *out == &ub_backend_kernel) {
		printf("skip: %s\n", why.text);
		return 77;
	}
	fprintf(stderr, "%s\n", why.text);
	return 1;
}
