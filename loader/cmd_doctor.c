// SPDX-License-Identifier: MIT
/*
 * doctor: what works here, found out by doing it where that is possible, and what to do about the
 * rest.
 */
#include "commands.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "backend.h"
#include "cmd_coverage.h"
#include "orphan.h"
#include "output.h"

struct doctor_args {
	struct ub_options *options;
	bool repair;
	const char *coverage; /* file */
};

static const struct argp_option options_of_doctor[] = {
	{ "repair", 'r', NULL, 0, "Clean processes of what dead sessions left in them", 0 },
	{ "coverage", 'c', "FILE", 0, "Which functions of a binary can be probed, and how", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct doctor_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->options;
		break;
	case 'r':
		args->repair = true;
		break;
	case 'c':
		args->coverage = arg;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static void show(const struct ub_options *options, const char *what, bool works, const char *text)
{
	if (options->json) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "check", json_object_new_string(what));
		json_object_object_add(object, "works", json_object_new_boolean(works));
		json_object_object_add(object, "text", json_object_new_string(text));
		ub_json_line(object);
		return;
	}
	printf("%s: %s%s%s\n", what, works ? "works" : "no", *text ? works ? ", " : ": " : "",
	       text);
}

static long read_number(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	long number;

	return file && fscanf(file, "%ld", &number) == 1 ? number : -1;
}

/* Attaches to a child by ptrace, as the surgeon does to targets. 0 or -errno. */
static int try_ptrace(void)
{
	pid_t pid = fork();
	int err = 0;

	if (pid < 0)
		return -errno;
	if (!pid) {
		for (;;)
			pause();
	}
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
		err = -errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return err;
}

static bool check_userspace(const struct ub_options *options)
{
	long yama = read_number("/proc/sys/kernel/yama/ptrace_scope");
	struct ub_reason why = { 0 };
	_cleanup_close_ int fd = -1;
	int err = try_ptrace();
	char text[600];

	if (err) {
		snprintf(
			text, sizeof(text),
			"ptrace(2) fails (%s): a container's seccomp filter, most likely; allow ptrace there",
			strerror(-err));
		show(options, "userspace backend", false, text);
		return false;
	}
	fd = ub_client_connect(&why);
	if (fd < 0) {
		show(options, "userspace backend", false, why.text);
		return false;
	}
	if (yama <= 0 || !geteuid())
		show(options, "userspace backend", true,
		     geteuid() ? "for processes of yours" : "for all processes");
	else if (yama == 1)
		show(options, "userspace backend", true,
		     "but only for commands that it starts (run -- CMD): kernel.yama.ptrace_scope is 1; root may set it "
		     "to 0");
	else
		show(options, "userspace backend", false,
		     "kernel.yama.ptrace_scope lets only root trace: root may set it to 0");
	return true;
}

static void check_tools(const struct ub_options *options)
{
	struct ub_reason why = { 0 };
	char text[700];

	if (!ub_client_exec_way(&why)) {
		show(options, "tools (exec)", true, "by a seccomp listener: any tool");
		return;
	}
	snprintf(
		text, sizeof(text),
		"by a preloaded library: tools that go through libc, none that is linked statically (%s)",
		why.text);
	show(options, "tools (exec)", true, text);
}

static void check_kernel(const struct ub_options *options)
{
	struct ub_reason why = { 0 };
	int err = ub_backend_kernel_try(&why);
	long type = read_number("/sys/bus/event_source/devices/uprobe/type");

	if (!err && type < 0)
		show(options, "kernel backend", false,
		     "no uprobe PMU in /sys/bus/event_source: the kernel lacks CONFIG_UPROBE_EVENTS, or /sys is not mounted");
	else
		show(options, "kernel backend", !err, why.text);
}

/* Looks for processes that hold something of ours; with @repair, cleans them. Number of those that
 * stay. */
static int check_processes(const struct ub_options *options, bool repair)
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc");
	int nr_left = 0, nr_clean = 0, nr_found = 0;
	char text[700];

	while (dir && (entry = readdir(dir))) {
		struct ub_tracee tracee = { .pidfd = -1 };
		struct ub_reason why = { 0 };
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!isdigit((unsigned char)entry->d_name[0]) || ub_tracee_open(pid, &tracee, NULL))
			continue;
		if (ub_orphan_find(&tracee, NULL) == 1) {
			int n = repair ? ub_orphan_clean(&tracee, &why) : 0;

			nr_found++;
			if (!repair)
				snprintf(text, sizeof(text),
					 "process %d (%s) holds probes of a session", pid,
					 tracee.comm);
			else if (n < 0)
				snprintf(text, sizeof(text), "process %d (%s): %s", pid,
					 tracee.comm, why.text);
			else
				snprintf(text, sizeof(text), "process %d (%s) is cleaned", pid,
					 tracee.comm);
			show(options, "processes", n >= 0, text);
			nr_left += n < 0;
			nr_clean += repair && n >= 0;
		}
		ub_tracee_close(&tracee);
	}
	if (dir)
		closedir(dir);
	if (!nr_found)
		show(options, "processes", true, "none within reach holds anything of ours");
	return nr_left;
}

int cmd_doctor(struct ub_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { .argp = &ub_options_argp }, { 0 } };
	static const struct argp argp = {
		.options = options_of_doctor,
		.parser = parse,
		.doc = "Says what works here, what does not, why, and what to do about it.",
		.children = children,
	};
	struct doctor_args args = { .options = options };
	int rest;

	if (ub_parse(&argp, argc, argv, &args, &rest))
		return UB_EXIT_USAGE;
	if (args.coverage)
		return ub_cmd_coverage(args.coverage);
	check_kernel(options);
	if (check_userspace(options))
		check_tools(options);
	return check_processes(options, args.repair) ? UB_EXIT_FAILED : UB_EXIT_OK;
}
