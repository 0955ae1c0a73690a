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

#endif
