// SPDX-License-Identifier: MIT
/*
 * exec: any eBPF tool, as it is, on the userspace backend.
 */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <client/client.h>

#include "commands.h"
#include "output.h"

#define MAX_PIDS 1024

enum { KEY_NO_LISTENER = 0x100 };

static const struct argp_option options_of_exec[] = {
	{ "pid", 'p', "PID", 0, "A process that the tool reaches when it asks for all (repeatable)",
	  0 },
	{ "preload", KEY_NO_LISTENER, NULL, 0,
	  "Use the preloaded library even where a seccomp listener can be had", 0 },
	{ 0 }
};

struct exec_arguments {
	struct ub_options *options;
	pid_t pids[MAX_PIDS];
	u32 nr_pids;
	bool no_listener;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct exec_arguments *arguments = state->input;
	char *end;
	long pid;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = arguments->options;
		break;
	case 'p':
		errno = 0;
		pid = strtol(arg, &end, 10);
		if (errno || *end || end == arg || pid <= 0 || pid > INT32_MAX)
			argp_error(state, "not a process id: '%s'", arg);
		if (arguments->nr_pids == MAX_PIDS)
			argp_error(state, "more than %d processes", MAX_PIDS);
		arguments->pids[arguments->nr_pids++] = (pid_t)pid;
		break;
	case KEY_NO_LISTENER:
		arguments->no_listener = true;
		break;
	case ARGP_KEY_ARG:
		/* The tool's name: everything from here on is the tool's. */
		argp_error(state, "write -- in front of the tool: ubpf-run exec -- %s", arg);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int cmd_exec(struct ub_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { &ub_options_argp }, { 0 } };
	static const struct argp argp = {
		.options = options_of_exec,
		.parser = parse_option,
		.args_doc = "-- TOOL [ARGS...]",
		.doc = "Runs any unmodified eBPF tool on the userspace backend: its uprobes, uretprobes "
		       "and USDT probes work without privileges. Probes for a process reach that "
		       "process; probes for all reach those of -p, or else every process of this user.",
		.children = children,
	};
	struct exec_arguments arguments = { .options = options };
	struct ub_exec_options exec_options;
	struct ub_reason why = {};
	int rest, err;

	err = ub_parse(&argp, argc, argv, &arguments, &rest);
	if (err || !rest || rest >= argc) {
		ub_error("exec: no tool to run: ubpf-run exec -- TOOL [ARGS...]");
		return UB_EXIT_USAGE;
	}
	if (options->kernel) {
		ub_error("exec: --kernel: run %s itself, it uses the kernel", argv[rest]);
		return UB_EXIT_USAGE;
	}
	exec_options = (struct ub_exec_options) {
		.pids = arguments.pids,
		.nr_pids = arguments.nr_pids,
		.no_listener = arguments.no_listener,
	};
	for (u32 i = 0; i < arguments.nr_pids; i++) {
		if (kill(arguments.pids[i], 0) && errno == ESRCH) {
			ub_error("exec: no process %d", arguments.pids[i]);
			return UB_EXIT_FAILED;
		}
	}
	/* The tool shall not inherit that we ignore it. */
	signal(SIGPIPE, SIG_DFL);
	err = ub_client_exec(argv + rest, &exec_options, &why);
	ub_error("exec: %s", why.text[0] ? why.text : "failed");
	/* As a shell says it. */
	return err == -ENOENT ? 127 : 126;
}
