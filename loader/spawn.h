/* SPDX-License-Identifier: MIT */
/*
 * Starts a command so that programs can be attached before any of its own code has run.
 */
#ifndef UB_LOADER_SPAWN_H
#define UB_LOADER_SPAWN_H

#include <sys/types.h>

#include <common/reason.h>

/*
 * Starts @argv and stops it (job-control stop, not traced) at its entry point, where its libraries
 * are mapped and main() is still to come. ub_spawn_resume() lets it run. On failure there is no
 * process; -ENOENT and such if it can't be executed. It is the caller's child: to be waited for.
 */
int __must_check ub_spawn_stopped(char *const *argv, pid_t *pid, struct ub_reason *why);
void ub_spawn_resume(pid_t pid);

#endif
