// SPDX-License-Identifier: MIT
/*
 * ubpf-run: the table of commands.
 */
#include "commands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <daemon/daemon.h>

#include "output.h"

const char *argp_program_version = "ubpf-run 0.1.0";

static const struct command {
	const char *name;
	int (*run)(struct ub_options *options, int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", cmd_run, "load PROGRAM, attach to PIDs or start CMD, print until Ctrl-C" },
	{ "load", cmd_load, "load PROGRAM and wait: processes come and go with attach, detach" },
	{ "attach", cmd_attach, "attach the running session's programs to PID" },
	{ "detach", cmd_detach, "take the programs out again" },
	{ "list", cmd_list, "sessions, programs, links, attached processes, hits, misses" },
	{ "exec", cmd_exec, "run any unmodified eBPF tool on the userspace backend" },
	{ "compare", cmd_compare, "run CMD under PROGRAM on each backend and compare the output" },
	{ "map", cmd_map, "show the maps of the running sessions" },
	{ "prog", cmd_prog, "show the programs of the running sessions" },
	{ "doctor", cmd_doctor, "what works here, what does not, why, and what to do about it" },
	{ "vm", cmd_vm, "run or disassemble a bare program in the userspace VM" },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ub_array_size(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[ub_array_size(commands) + 1];
	const char *near;
	size_t nr = 0;

	for (size_t i = 0; i < ub_array_size(commands); i++) {
		names[nr++] = commands[i].name;
	}
	near = ub_nearest(name, names, nr);
	ub_error("no command '%s'%s%s%s (see ubpf-run --help)", name,
		 near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
	return UB_EXIT_USAGE;
}

/* The list of commands after the options. */
static void write_commands(FILE *out)
{
	fprintf(out, "Commands (ubpf-run COMMAND --help says more):\n\n");
	for (size_t i = 0; i < ub_array_size(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
	fprintf(out,
		"\nWithout a command: run malloc on every process within reach.\n\n"
		"Examples:\n\n"
		"  ubpf-run doctor                            what works here\n"
		"  ubpf-run run malloc -p PID                 a process, until Ctrl-C\n"
		"  ubpf-run run funclatency libc:read -- CMD  a command from its start on\n"
		"  ubpf-run load malloc                       and in another terminal:\n"
		"  ubpf-run attach PID; ubpf-run detach PID   as often as you like\n"
		"  ubpf-run exec -- bpftrace -e 'uprobe:libc:malloc { @[comm] = count(); }'\n\n"
		"Exit status: 0 ok, 1 failed, 2 usage.\n");
}

static char *help_filter(int key, const char *text, void *input)
{
	return ub_help_text(key, text, write_commands);
}

/* At exit: what was printed must have arrived, unless the reader went away (head). */
static void close_stdout(void)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO, .events = POLLOUT };
	bool failed = ferror(stdout);

	errno = 0;
	if (!fflush(stdout) && !failed)
		return;
	if (errno == EPIPE || (poll(&pfd, 1, 0) == 1 && pfd.revents & POLLERR))
		return;
	ub_error("cannot write to standard output%s%s", errno ? ": " : "",
		 errno ? strerror(errno) : "");
	_exit(UB_EXIT_FAILED);
}

struct top {
	struct ub_options options;
	int command_at; /* index of the command in argv, 0 = none */
};

static error_t parse_top(int key, char *arg, struct argp_state *state)
{
	struct top *top = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &top->options;
		break;
	case ARGP_KEY_ARG:
		top->command_at = state->next - 1;
		state->next = state->argc;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp_child children[] = { { &ub_options_argp }, { 0 } };
	static const struct argp argp = {
		.parser = parse_top,
		.args_doc = "[COMMAND ...]",
		.doc = "Runs eBPF uprobe, uretprobe and USDT programs on the Linux kernel or, without any "
		       "privilege, in userspace: the same programs, the same output.\v",
		.children = children,
		.help_filter = help_filter,
	};
	static char *run_malloc[] = { "run", "malloc", NULL };
	struct top top = { 0 };
	const struct command *command;

	/* How the client starts the daemon (client/start.c): not for people. */
	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		return ub_daemon_main((int)strtol(argv[2], NULL, 10));
	argp_err_exit_status = UB_EXIT_USAGE;
	atexit(close_stdout);
	/* A reader that went away (head) is an error of write, not the end of the targets'
	 * clean-up. */
	signal(SIGPIPE, SIG_IGN);
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &top))
		return UB_EXIT_USAGE;
	if (!top.command_at)
		return cmd_run(&top.options, 2, run_malloc);
	command = find_command(argv[top.command_at]);
	if (!command)
		return unknown_command(argv[top.command_at]);
	return command->run(&top.options, argc - top.command_at, argv + top.command_at);
}
