/* SPDX-License-Identifier: MIT */
/*
 * The commands of ubpf-run. Each parses its own arguments (argv[0] is the command's name), prints,
 * and returns the exit status: 0 ok, 1 failed, 2 usage.
 */
#ifndef UB_LOADER_COMMANDS_H
#define UB_LOADER_COMMANDS_H

#include <argp.h>
#include <stdio.h>
#include <sys/types.h>

#include <common/types.h>

struct ub_backend;

enum { UB_EXIT_OK = 0, UB_EXIT_FAILED = 1, UB_EXIT_USAGE = 2 };

/* What stands before the command, or among its own options. */
struct ub_options {
	bool kernel;	/* --kernel */
	bool userspace; /* --userspace */
	bool json;
	int verbose; /* number of -v */
};

/* An argp parser for struct ub_options (its `input`), as a child of the commands' parsers. */
extern const struct argp ub_options_argp;

/* Parses @argv up to "--"; *rest is the index of the first word after "--", or 0 if there is none.
 * Exits with status 2 on bad usage, as argp does. */
int ub_parse(const struct argp *argp, int argc, char **argv, void *input, int *rest);

/* 0 or -EINVAL. */
int __must_check ub_parse_pid(const char *text, pid_t *pid);

/* For argp's help filters: what @write writes, after the options. */
char *ub_help_text(int key, const char *text, void (*write)(FILE *out));

/* The backend that the options name, or the one that works, which is then said on stderr. */
const struct ub_backend *ub_backend_wanted(const struct ub_options *options);

int cmd_run(struct ub_options *options, int argc, char **argv);
int cmd_load(struct ub_options *options, int argc, char **argv);
int cmd_attach(struct ub_options *options, int argc, char **argv);
int cmd_detach(struct ub_options *options, int argc, char **argv);
int cmd_list(struct ub_options *options, int argc, char **argv);
int cmd_compare(struct ub_options *options, int argc, char **argv);
int cmd_map(struct ub_options *options, int argc, char **argv);
int cmd_prog(struct ub_options *options, int argc, char **argv);
int cmd_doctor(struct ub_options *options, int argc, char **argv);

/* exec -- TOOL ARGS...: any eBPF tool on the userspace backend. */
int cmd_exec(struct ub_options *options, int argc, char **argv);
/* vm ...: runs and disassembles bare programs in the userspace VM. */
int cmd_vm(struct ub_options *options, int argc, char **argv);

#endif
