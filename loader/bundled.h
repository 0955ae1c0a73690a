/* SPDX-License-Identifier: MIT */
/*
 * The programs that come with ubpf-run (bpf/NAME.bpf.c), and how their maps are shown.
 *
 * To add one: write bpf/NAME.bpf.c, name it in bpf/CMakeLists.txt, and add a row in bundled.c.
 * Without a `pid_map`, its maps are shown generally, by their BTF.
 */
#ifndef UB_LOADER_BUNDLED_H
#define UB_LOADER_BUNDLED_H

#include <json-c/json.h>
#include <sys/types.h>

#include <common/reason.h>

struct ub_bundled {
	const char *name;
	const char *help;
	const void *(*elf)(size_t *size);
	const char *default_args[4]; /* for ub_programs_load(), when the user gives none */
	/* A hash map whose key is a pid and whose value is a u64: shown as "\tpid=N      LABEL: M".
	 */
	const char *pid_map;
	const char *pid_label;
	/* What it keeps between two hits: `map dump` shows it, a session does not. */
	const char *working_map;
	/* compare: maps whose values depend on time; only their totals are compared. */
	const char *timed_maps[4];
};

extern const struct ub_bundled ub_bundled[];
extern const size_t ub_nr_bundled;

const struct ub_bundled *ub_bundled_find(const char *name);

#endif
