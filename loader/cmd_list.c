// SPDX-License-Identifier: MIT
/*
 * list, map and prog: what the running sessions have.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>

#include "control_client.h"
#include "json_get.h"
#include "output.h"

static void show_session(pid_t pid, struct json_object *list)
{
	struct json_object *programs = ub_json_array(list, "programs"), *processes, *hits;

	printf("session %d: %s on the %s backend\n", pid, ub_json_string(list, "program"),
	       ub_json_string(list, "backend"));
	for (size_t i = 0; i < ub_json_length(programs); i++) {
		struct json_object *program = json_object_array_get_idx(programs, i);

		printf("  program %ld %s: %s, ", ub_json_number(program, "id"),
		       ub_json_string(program, "name"), ub_json_string(program, "probe"));
		if (json_object_object_get_ex(program, "hits", &hits) && hits)
			printf("%ld hits, ", ub_json_number(program, "hits"));
		else
			printf("hits not counted (sysctl kernel.bpf_stats_enabled=1 does), ");
		printf("%ld misses\n", ub_json_number(program, "misses"));
	}
	if (ub_json_number(list, "everybody"))
		printf("  every process\n");
	processes = ub_json_array(list, "processes");
	for (size_t i = 0; i < ub_json_length(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);

		printf("  process %ld (%s): %ld link%s", ub_json_number(process, "pid"),
		       ub_json_string(process, "comm"), ub_json_number(process, "links"),
		       ub_json_number(process, "links") == 1 ? "" : "s");
		if (json_object_object_get_ex(process, "count", NULL))
			printf(", count %ld", ub_json_number(process, "count"));
		if (json_object_object_get_ex(process, "waits", NULL))
			printf(", not attached yet: %s", ub_json_string(process, "waits"));
		printf("\n");
	}
}

int cmd_list(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = ub_session_option,
		.parser = ub_control_parse,
		.doc = "Shows the running sessions, their programs and links, and the attached processes.",
		.children = ub_control_children,
	};
	_cleanup_free_ struct ub_control_args *args = calloc(1, sizeof(*args));
	_cleanup_(ub_asked_close) struct ub_asked sessions = { 0 };
	int status = args ? ub_look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;
	struct json_object *tools;

	if (status)
		return status;
	if (args->nr_words) {
		ub_error("list: takes no argument but --session");
		return UB_EXIT_USAGE;
	}
	tools = ub_tool_sessions(args);
	if (!sessions.nr && !ub_json_length(tools) && !options->json)
		printf("no session is running\n");
	for (u32 i = 0; i < sessions.nr; i++) {
		if (options->json)
			ub_json_line(json_object_get(sessions.lists[i]));
		else
			show_session(sessions.refs[i].pid, sessions.lists[i]);
	}
	for (size_t i = 0; i < ub_json_length(tools); i++) {
		struct json_object *tool = json_object_array_get_idx(tools, i);

		if (options->json)
			ub_json_line(json_object_get(tool));
		else
			show_session((pid_t)ub_json_number(tool, "session"), tool);
	}
	json_object_put(tools);
	return UB_EXIT_OK;
}

static void say_if_none(const struct ub_options *options, const struct ub_asked *sessions)
{
	if (!sessions->nr && !options->json)
		printf("no session is running\n");
}

static void show_maps(struct json_object *answer)
{
	struct json_object *maps = ub_json_array(answer, "maps");

	for (size_t i = 0; i < ub_json_length(maps); i++) {
		struct json_object *map = json_object_array_get_idx(maps, i);

		printf("%ld: %s  %s  key %ldB  value %ldB  max_entries %ld  (%s, session %ld)\n",
		       ub_json_number(map, "id"), ub_json_string(map, "type"),
		       ub_json_string(map, "name"), ub_json_number(map, "key_size"),
		       ub_json_number(map, "value_size"), ub_json_number(map, "max_entries"),
		       ub_json_string(answer, "program"), ub_json_number(answer, "session"));
	}
}

/* The entries of map @name, one a line, if the session has it. */
static bool show_entries(struct json_object *answer, const char *name)
{
	struct json_object *contents, *entries;

	if (!json_object_object_get_ex(answer, "contents", &contents) ||
	    !json_object_object_get_ex(contents, name, &entries))
		return false;
	for (size_t i = 0; i < ub_json_length(entries); i++)
		ub_json_line(json_object_get(json_object_array_get_idx(entries, i)));
	return true;
}

int cmd_map(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = ub_session_option,
		.parser = ub_control_parse,
		.args_doc = "[list | dump NAME]",
		.doc = "Shows the maps of the running sessions, or the contents of map NAME. (bpftool works too: "
		       "ubpf-run exec -- bpftool map.)",
		.children = ub_control_children,
	};
	_cleanup_free_ struct ub_control_args *args = calloc(1, sizeof(*args));
	_cleanup_(ub_asked_close) struct ub_asked sessions = { 0 };
	int status = args ? ub_look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;
	const char *dump = NULL;
	bool found = false;

	if (status)
		return status;
	if (args->nr_words == 2 && !strcmp(args->words[0], "dump")) {
		dump = args->words[1];
	} else if (args->nr_words > 1 || (args->nr_words && strcmp(args->words[0], "list") != 0)) {
		ub_error("map: list or dump NAME");
		return UB_EXIT_USAGE;
	}
	if (!dump)
		say_if_none(options, &sessions);
	for (u32 i = 0; i < sessions.nr; i++) {
		struct json_object *answer;
		struct ub_reason why = { 0 };
		int err = ub_ask(&sessions.refs[i], ub_request("maps"), &answer, &why);

		if (err)
			return ub_failed(&why, err);
		if (dump)
			found |= show_entries(answer, dump);
		else if (options->json)
			ub_json_line(json_object_get(answer));
		else
			show_maps(answer);
		json_object_put(answer);
	}
	if (dump && !found) {
		ub_error("map: no session has a map '%s' that can be shown (see ubpf-run map)",
			 dump);
		return UB_EXIT_FAILED;
	}
	return UB_EXIT_OK;
}

int cmd_prog(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = ub_session_option,
		.parser = ub_control_parse,
		.args_doc = "[list]",
		.doc = "Shows the programs of the running sessions. (bpftool works too: ubpf-run exec -- bpftool "
		       "prog.)",
		.children = ub_control_children,
	};
	_cleanup_free_ struct ub_control_args *args = calloc(1, sizeof(*args));
	_cleanup_(ub_asked_close) struct ub_asked sessions = { 0 };
	int status = args ? ub_look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;

	if (status)
		return status;
	if (args->nr_words > 1 || (args->nr_words && strcmp(args->words[0], "list") != 0)) {
		ub_error("prog: list");
		return UB_EXIT_USAGE;
	}
	say_if_none(options, &sessions);
	for (u32 i = 0; i < sessions.nr; i++) {
		struct json_object *programs = ub_json_array(sessions.lists[i], "programs");

		for (size_t j = 0; j < ub_json_length(programs); j++) {
			struct json_object *program = json_object_array_get_idx(programs, j);

			if (options->json)
				ub_json_line(json_object_get(program));
			else
				printf("%ld: %s  %s  (%s, session %d)\n",
				       ub_json_number(program, "id"),
				       ub_json_string(program, "name"),
				       ub_json_string(program, "probe"),
				       ub_json_string(sessions.lists[i], "program"),
				       sessions.refs[i].pid);
		}
	}
	return UB_EXIT_OK;
}
