// SPDX-License-Identifier: MIT
/*
 * doctor: what works here, what does not, why, and what to do about it; --repair: cleans processes
 * of what earlier runs left in them.
 */
#include "commands.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <client/doctor.h>
#include <surgeon/surgeon.h>

#include "backend.h"
#include "cmd_coverage.h"
#include "output.h"

enum { KEY_REPAIR = 0x200, KEY_COVERAGE };

struct doctor_args {
	struct ub_options *options;
	bool repair;
	const char *coverage;
};

static const struct argp_option doctor_options[] = {
	{ "repair", KEY_REPAIR, NULL, 0, "Remove what earlier runs left in processes" },
	{ "coverage", KEY_COVERAGE, "FILE", 0,
	  "Instead: how many functions of a program or library can be hooked" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct doctor_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->options;
		return 0;
	case KEY_REPAIR:
		args->repair = true;
		return 0;
	case KEY_COVERAGE:
		args->coverage = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const char *health_text(enum ub_health health)
{
	switch (health) {
	case UB_HEALTH_WORKS:
		return "works";
	case UB_HEALTH_LIMITED:
		return "limited";
	default:
		return "no";
	}
}

static void show(const struct doctor_args *args, const struct ub_finding *finding)
{
	struct json_object *object;

	if (!args->options->json) {
		printf("%-48s %s%s%s\n", finding->what, health_text(finding->health),
		       finding->why[0] ? ": " : "", finding->why);
		if (finding->advice[0])
			printf("%-48s -> %s\n", "", finding->advice);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "what", json_object_new_string(finding->what));
	json_object_object_add(object, "health",
			       json_object_new_string(health_text(finding->health)));
	json_object_object_add(object, "why", json_object_new_string(finding->why));
	json_object_object_add(object, "advice", json_object_new_string(finding->advice));
	ub_json_line(object);
}

static enum ub_health find_kernel(struct ub_finding *finding)
{
	struct ub_reason why = { 0 };

	*finding = (struct ub_finding) { .what = "the kernel backend" };
	if (!ub_backend_kernel_try(&why))
		return finding->health = UB_HEALTH_WORKS;
	snprintf(finding->why, sizeof(finding->why), "%.390s", why.text);
	snprintf(finding->advice, sizeof(finding->advice),
		 "run it as root, or use --userspace, which needs no privilege");
	return finding->health = UB_HEALTH_LIMITED;
}

/* Looks through this user's processes (all, for root). Number with something of ours in them that
 * no daemon answers for; with @repair they are cleaned. */
static void find_orphans(const struct doctor_args *args, struct ub_finding *finding)
{
	u32 nr = 0, cleaned = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	*finding = (struct ub_finding) { .what = "what earlier runs left in processes" };
	while (proc && (entry = readdir(proc))) {
		struct ub_reason why = { 0 };
		char path[300];
		struct stat st;
		pid_t pid = (pid_t)atoi(entry->d_name);
		int sites;

		snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
		if (pid <= 0 || stat(path, &st) || (getuid() && st.st_uid != getuid()) ||
		    ub_surgeon_find(pid, NULL) != 1)
			continue;
		if (!args->repair) {
			nr++;
			continue;
		}
		sites = ub_surgeon_repair(pid, &why);
		if (sites > 0) {
			cleaned++;
		} else if (sites < 0) {
			nr++;
			ub_error("doctor: process %d: %s", pid, why.text);
		}
	}
	if (proc)
		closedir(proc);
	if (cleaned)
		snprintf(finding->why, sizeof(finding->why), "%u processes cleaned", cleaned);
	if (!nr)
		return;
	finding->health = args->repair ? UB_HEALTH_FAILS : UB_HEALTH_LIMITED;
	snprintf(finding->why, sizeof(finding->why), "%u processes hold something of ours%s", nr,
		 args->repair ? " that could not be removed" : "");
	snprintf(finding->advice, sizeof(finding->advice), "%s",
		 args->repair ? "try again later, or restart them"
			      : "normal while a session runs (see list); else: doctor --repair");
}

int cmd_doctor(struct ub_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { &ub_options_argp }, { 0 } };
	static const struct argp argp = {
		.options = doctor_options,
		.parser = parse,
		.doc = "Tries what the two backends need, and says what works here, what does not, why, "
		       "and what to do about it.",
		.children = children,
	};
	struct doctor_args args = { .options = options };
	struct ub_finding findings[UB_MAX_FINDINGS], finding;
	bool kernel, userspace = true;
	int rest;
	u32 nr;

	if (ub_parse(&argp, argc, argv, &args, &rest))
		return UB_EXIT_USAGE;
	if (args.coverage)
		return ub_cmd_coverage(args.coverage);
	kernel = find_kernel(&finding) == UB_HEALTH_WORKS;
	show(&args, &finding);
	nr = ub_client_doctor(findings);
	for (u32 i = 0; i < nr; i++) {
		show(&args, &findings[i]);
		userspace &= findings[i].health != UB_HEALTH_FAILS;
	}
	find_orphans(&args, &finding);
	show(&args, &finding);
	return kernel || userspace ? UB_EXIT_OK : UB_EXIT_FAILED;
}
