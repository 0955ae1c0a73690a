/* SPDX-License-Identifier: MIT */
/*
 * What other commands use of `run`.
 */
#ifndef UB_LOADER_CMD_RUN_H
#define UB_LOADER_CMD_RUN_H

#include <sys/types.h>

#include <common/types.h>

#include "commands.h"

/* A session of @program on process @pid, until Ctrl-C or its end. Exit status. */
int ub_run_on_process(struct ub_options *options, const char *program, pid_t pid);

/* The backend that the options name, or the one that works, which is then said on stderr. */
const struct ub_backend *ub_backend_wanted(const struct ub_options *options);

/* 0 or -EINVAL. */
int __must_check ub_parse_pid(const char *text, pid_t *pid);

#endif
