// SPDX-License-Identifier: MIT
/*
 * What the commands have in common on the command line.
 */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "output.h"

static const struct argp_option options_of_all[] = {
	{ "kernel", 'k', NULL, 0, "On the Linux kernel (needs privileges)", 1 },
	{ "userspace", 'u', NULL, 0, "On the userspace kernel (needs none)", 1 },
	{ "json", 'j', NULL, 0, "Print one JSON object a line", 1 },
	{ "verbose", 'v', NULL, 0, "Say more on stderr; twice: libbpf's debug messages too", 1 },
	{ 0 }
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct ub_options *options = state->input;

	switch (key) {
	case 'k':
		options->kernel = true;
		break;
	case 'u':
		options->userspace = true;
		break;
	case 'j':
		options->json = true;
		break;
	case 'v':
		options->verbose++;
		break;
	case ARGP_KEY_END:
		if (options->kernel && options->userspace)
			argp_error(state, "--kernel and --userspace exclude each other");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

const struct argp ub_options_argp = { .options = options_of_all, .parser = parse_option };

int ub_parse(const struct argp *argp, int argc, char **argv, void *input, int *rest)
{
	static const char format[] = "ARGP_HELP_FMT";
	char name[64], *command = argv[0];
	bool is_ours = !getenv(format);
	int end = argc;
	error_t err;

	for (int i = 1; i < argc && end == argc; i++) {
		if (!strcmp(argv[i], "--"))
			end = i;
	}
	*rest = end < argc ? end + 1 : 0;
	/* Help and errors name the whole command; "Try ..." is to fit in a line all the same. */
	snprintf(name, sizeof(name), "ubpf-run %s", command);
	argv[0] = name;
	if (is_ours)
		setenv(format, "rmargin=95,no-dup-args-note", 1);
	err = argp_parse(argp, end, argv, 0, NULL, input);
	if (is_ours)
		unsetenv(format);
	argv[0] = command;
	return err ? -err : 0;
}

int ub_parse_pid(const char *text, pid_t *pid)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (!*text || *end || number <= 0 || number > 1 << 22)
		return -EINVAL;
	*pid = (pid_t)number;
	return 0;
}

char *ub_help_text(int key, const char *text, void (*write)(FILE *out))
{
	char *buffer = NULL;
	size_t size;
	FILE *out;

	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;
	out = open_memstream(&buffer, &size);
	if (!out)
		return (char *)text;
	write(out);
	fclose(out);
	return buffer;
}

const struct ub_backend *ub_backend_wanted(const struct ub_options *options)
{
	const struct ub_backend *backend;
	struct ub_reason why = { 0 };

	if (options->kernel)
		return &ub_backend_kernel;
	if (options->userspace)
		return &ub_backend_userspace;
	backend = ub_backend_choose(&why);
	ub_note("%s backend: %s", backend->name, why.text);
	return backend;
}
