// SPDX-License-Identifier: MIT
/*
 * run and load: the commands that are sessions themselves.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>

#include "cmd_run.h"
#include "output.h"
#include "session.h"

enum { MAX_PIDS = 1024, MAX_ARGS = 32 };

struct run_args {
	struct ub_options *options;
	bool is_load;
	const char *program;
	char *args[MAX_ARGS];
	u32 nr_args;
	pid_t pids[MAX_PIDS];
	u32 nr_pids;
	bool follow_forks;
	double seconds;
	double interval;
};

static const struct argp_option run_options[] = {
	{ "pid", 'p', "PID", 0, "Attach to this process (may be given again)" },
	{ "duration", 'd', "SECONDS", 0, "End after so many seconds" },
	{ "interval", 'i', "SECONDS", 0, "Print so often (default: 1)" },
	{ "follow-forks", 'f', NULL, 0,
	  "Attach to children of attached processes too, as soon as they are seen" },
	{ 0 }
};

static const struct argp_option load_options[] = {
	{ "duration", 'd', "SECONDS", 0, "End after so many seconds" },
	{ "interval", 'i', "SECONDS", 0, "Print so often (default: 1)" },
	{ "follow-forks", 'f', NULL, 0,
	  "Attach to children of attached processes too, as soon as they are seen" },
	{ 0 }
};

static double parse_seconds(const char *text, struct argp_state *state)
{
	char *end;
	double seconds = strtod(text, &end);

	if (!*text || *end || !(seconds > 0 && seconds < 1e8))
		argp_error(state, "'%s' is not a number of seconds above 0", text);
	return seconds;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->options;
		break;
	case 'p':
		if (args->nr_pids == MAX_PIDS)
			argp_error(state, "more than %d processes", MAX_PIDS);
		if (ub_parse_pid(arg, &args->pids[args->nr_pids++]))
			argp_error(state, "'%s' is not a process id", arg);
		break;
	case 'd':
		args->seconds = parse_seconds(arg, state);
		break;
	case 'i':
		args->interval = parse_seconds(arg, state);
		break;
	case 'f':
		args->follow_forks = true;
		break;
	case ARGP_KEY_ARG:
		if (!args->program)
			args->program = arg;
		else if (args->nr_args < MAX_ARGS)
			args->args[args->nr_args++] = arg;
		else
			argp_error(state, "more than %d arguments", MAX_ARGS);
		break;
	case ARGP_KEY_END:
		if (!args->program)
			argp_error(state, "which program? %s PROGRAM, say malloc or FILE.bpf.o",
				   state->name);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static void write_programs(FILE *out)
{
	fprintf(out, "PROGRAM is the path of a .bpf.o file or one of:\n\n");
	for (size_t i = 0; i < ub_nr_bundled; i++)
		fprintf(out, "  %-14s %s\n", ub_bundled[i].name, ub_bundled[i].help);
	fprintf(out,
		"\nARGS: LIB:FUNCTION, where the program's section names no place; CONSTANT=VALUE, for its "
		"constants.\n");
}

static char *help_filter(int key, const char *text, void *input)
{
	return ub_help_text(key, text, write_programs);
}

static int run(struct run_args *args, char *const *command)
{
	const struct ub_session_options session = {
		.backend = ub_backend_wanted(args->options),
		.program = args->program,
		.args = args->args,
		.nr_args = args->nr_args,
		.pids = args->pids,
		.nr_pids = args->nr_pids,
		.command = command,
		.everybody = !args->is_load && !args->nr_pids && !command,
		.stay = args->is_load,
		.follow_forks = args->follow_forks,
		.json = args->options->json,
		.verbose = args->options->verbose,
		.seconds = args->seconds,
		.interval = args->interval,
	};

	return ub_session_run(&session);
}

static const struct argp_child children[] = { { &ub_options_argp }, { 0 } };

/* Parses what both commands take; *out is the caller's to free. Exit status. */
static int parse_all(const struct argp *argp, struct ub_options *options, int argc, char **argv,
		     struct run_args **out, int *rest)
{
	_cleanup_free_ struct run_args *args = calloc(1, sizeof(*args));

	if (!args)
		return UB_EXIT_FAILED;
	args->options = options;
	args->interval = 1;
	if (ub_parse(argp, argc, argv, args, rest))
		return UB_EXIT_USAGE;
	*out = TAKE_PTR(args);
	return UB_EXIT_OK;
}

int cmd_run(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = run_options,
		.parser = parse,
		.args_doc = "PROGRAM [ARGS...] [-- CMD...]",
		.doc = "Loads PROGRAM, attaches it to the PIDs, or starts CMD and attaches to that, or to every process "
		       "within reach if neither is given, and prints until Ctrl-C.\v",
		.children = children,
		.help_filter = help_filter,
	};
	_cleanup_free_ struct run_args *args = NULL;
	int rest, status = parse_all(&argp, options, argc, argv, &args, &rest);

	if (status)
		return status;
	if (rest && rest >= argc) {
		ub_error("run: no command after --");
		return UB_EXIT_USAGE;
	}
	if (rest && args->nr_pids) {
		ub_error("run: give either processes (-p) or a command to start, not both");
		return UB_EXIT_USAGE;
	}
	return run(args, rest ? argv + rest : NULL);
}

int cmd_load(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = load_options,
		.parser = parse,
		.args_doc = "PROGRAM [ARGS...]",
		.doc = "Loads PROGRAM and waits: processes come and go with `ubpf-run attach PID` and `ubpf-run "
		       "detach PID` from other terminals.\v",
		.children = children,
		.help_filter = help_filter,
	};
	_cleanup_free_ struct run_args *args = NULL;
	int rest, status = parse_all(&argp, options, argc, argv, &args, &rest);

	if (status)
		return status;
	if (rest) {
		ub_error("load: takes no command; that is `run`");
		return UB_EXIT_USAGE;
	}
	args->is_load = true;
	return run(args, NULL);
}

int ub_run_on_process(struct ub_options *options, const char *program, pid_t pid)
{
	const struct ub_session_options session = {
		.backend = ub_backend_wanted(options),
		.program = program,
		.pids = &pid,
		.nr_pids = 1,
		.json = options->json,
		.verbose = options->verbose,
		.interval = 1,
	};

	return ub_session_run(&session);
}
