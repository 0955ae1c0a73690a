/* SPDX-License-Identifier: MIT */
#ifndef UB_LOADER_CMD_COVERAGE_H
#define UB_LOADER_CMD_COVERAGE_H

/* `ubpf-run doctor --coverage FILE`: exit status. */
int ub_cmd_coverage(const char *file);

#endif
