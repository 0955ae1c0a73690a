// SPDX-License-Identifier: MIT
/*
 * compare: CMD under PROGRAM on each backend, each time a process of its own, and what came out
 * field by field. What names a process is replaced by "PID", values of per-CPU maps are added up,
 * and of maps whose values are times only the totals of their counts are compared.
 */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <common/cleanup.h>

#include "backend.h"
#include "output.h"

enum { MAX_ARGS = 32, MAX_WORDS = 256 };

struct compare_args {
	struct ub_options *options;
	char *words[MAX_ARGS]; /* program and its arguments */
	u32 nr_words;
	char *const *command;
	u32 nr_command;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct compare_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->options;
		break;
	case ARGP_KEY_ARG:
		if (args->nr_words == MAX_ARGS)
			argp_error(state, "more than %d arguments", MAX_ARGS);
		args->words[args->nr_words++] = arg;
		break;
	case ARGP_KEY_END:
		if (!args->nr_words)
			argp_error(state, "which program?");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* What one backend gave. */
struct outcome {
	struct json_object *summary;
	s64 pid; /* of CMD */
};

/* Runs this very program: "--BACKEND --json run PROGRAM ARGS -- CMD", standard output in a pipe. */
static pid_t start(const struct ub_backend *backend, const struct compare_args *args, FILE **out)
{
	char *argv[MAX_WORDS + MAX_ARGS + 8];
	char option[32];
	int fds[2], nr = 0;
	pid_t pid;

	snprintf(option, sizeof(option), "--%s", backend->name);
	argv[nr++] = "ubpf-run";
	argv[nr++] = option;
	argv[nr++] = "--json";
	argv[nr++] = "run";
	for (u32 i = 0; i < args->nr_words; i++)
		argv[nr++] = args->words[i];
	argv[nr++] = "--";
	for (u32 i = 0; i < args->nr_command; i++)
		argv[nr++] = args->command[i];
	argv[nr] = NULL;
	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	close(fds[1]);
	*out = fdopen(fds[0], "r");
	return pid;
}

static void read_event(struct outcome *outcome, const char *line)
{
	struct json_object *object = *line == '{' ? json_tokener_parse(line) : NULL, *name, *pid;
	const char *text = object && json_object_object_get_ex(object, "event", &name)
				   ? json_object_get_string(name)
				   : "";

	if (!strcmp(text, "attach") && json_object_object_get_ex(object, "pid", &pid))
		outcome->pid = json_object_get_int64(pid);
	if (!strcmp(text, "summary")) {
		json_object_put(outcome->summary);
		outcome->summary = json_object_get(object);
	}
	json_object_put(object);
}

static int run_on(const struct ub_backend *backend, const struct compare_args *args,
		  struct outcome *outcome)
{
	_cleanup_free_ char *line = NULL;
	FILE *out = NULL;
	size_t size = 0;
	int status;
	pid_t pid = start(backend, args, &out);

	if (pid < 0 || !out)
		return -errno;
	while (getline(&line, &size, out) > 0)
		read_event(outcome, line);
	fclose(out);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) ||
	    !outcome->summary)
		return -EIO;
	return 0;
}

static struct json_object *add(struct json_object *a, struct json_object *b)
{
	return json_object_new_int64(json_object_get_int64(a) + json_object_get_int64(b));
}

/* Sum of all numbers in @object. */
static s64 total(struct json_object *object)
{
	s64 sum = 0;

	if (json_object_is_type(object, json_type_int))
		return json_object_get_int64(object);
	if (json_object_is_type(object, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(object); i++)
			sum += total(json_object_array_get_idx(object, i));
	} else if (json_object_is_type(object, json_type_object)) {
		json_object_object_foreach(object, name, value)
		{
			(void)name;
			sum += total(value);
		}
	}
	return sum;
}

/* Values of a per-CPU entry as one: numbers are added, element by element of structs; anything else
 * stays a list. */
static struct json_object *merge_cpus(struct json_object *values)
{
	struct json_object *merged = json_object_new_object();
	size_t nr = json_object_array_length(values);
	s64 sum = 0;
	bool plain = true;

	for (size_t i = 0; i < nr; i++) {
		struct json_object *value = json_object_array_get_idx(values, i);

		if (json_object_is_type(value, json_type_int)) {
			sum += json_object_get_int64(value);
			continue;
		}
		plain = false;
		if (!json_object_is_type(value, json_type_object))
			continue;
		json_object_object_foreach(value, name, field)
		{
			struct json_object *old = NULL;

			json_object_object_get_ex(merged, name, &old);
			json_object_object_add(merged, name, add(old, field));
		}
	}
	if (!plain)
		return merged;
	json_object_put(merged);
	return json_object_new_int64(sum);
}

static bool is_timed(const struct ub_bundled *bundled, const char *map)
{
	for (size_t i = 0; bundled && i < ub_array_size(bundled->timed_maps); i++) {
		if (bundled->timed_maps[i] && !strcmp(bundled->timed_maps[i], map))
			return true;
	}
	return false;
}

static void add_entry(struct json_object *fields, const char *map, struct json_object *entry,
		      s64 pid)
{
	struct json_object *key = NULL, *value = NULL, *values;
	char name[512];

	json_object_object_get_ex(entry, "key", &key);
	if (json_object_object_get_ex(entry, "values", &values))
		value = merge_cpus(values);
	else if (json_object_object_get_ex(entry, "value", &value))
		json_object_get(value);
	if (json_object_is_type(key, json_type_int) && json_object_get_int64(key) == pid)
		snprintf(name, sizeof(name), "%s[PID]", map);
	else
		snprintf(name, sizeof(name), "%s[%s]", map,
			 json_object_to_json_string_ext(key, JSON_C_TO_STRING_PLAIN));
	json_object_object_add(fields, name, value);
}

/* The summary as a flat object: field -> value. */
static struct json_object *fields_of(const struct outcome *outcome,
				     const struct ub_bundled *bundled)
{
	struct json_object *fields = json_object_new_object(), *maps, *value;

	json_object_object_get_ex(outcome->summary, "exit_status", &value);
	json_object_object_add(fields, "exit status", json_object_get(value));
	json_object_object_get_ex(outcome->summary, "lost_events", &value);
	json_object_object_add(fields, "lost events", json_object_get(value));
	if (!json_object_object_get_ex(outcome->summary, "maps", &maps))
		return fields;
	json_object_object_foreach(maps, map, entries)
	{
		char name[256];

		if (!is_timed(bundled, map)) {
			for (size_t i = 0; i < json_object_array_length(entries); i++)
				add_entry(fields, map, json_object_array_get_idx(entries, i),
					  outcome->pid);
			continue;
		}
		value = json_object_new_array();
		for (size_t i = 0; i < json_object_array_length(entries); i++) {
			struct json_object *of_entry;

			if (json_object_object_get_ex(json_object_array_get_idx(entries, i),
						      "value", &of_entry))
				json_object_array_add(value, json_object_get(of_entry));
		}
		snprintf(name, sizeof(name), "%s (total)", map);
		json_object_object_add(fields, name, json_object_new_int64(total(value)));
		json_object_put(value);
	}
	return fields;
}

static void show_field(const struct ub_options *options, const char *name, struct json_object *a,
		       struct json_object *b, bool same)
{
	if (options->json) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "field", json_object_new_string(name));
		json_object_object_add(object, ub_backends[0]->name, json_object_get(a));
		json_object_object_add(object, ub_backends[1]->name, json_object_get(b));
		json_object_object_add(object, "same", json_object_new_boolean(same));
		ub_json_line(object);
		return;
	}
	printf("%-10s %s: %s %s", same ? "same" : "DIFFERENT", name, ub_backends[0]->name,
	       a ? json_object_to_json_string_ext(a, JSON_C_TO_STRING_PLAIN) : "nothing");
	printf(", %s %s\n", ub_backends[1]->name,
	       b ? json_object_to_json_string_ext(b, JSON_C_TO_STRING_PLAIN) : "nothing");
}

/* Number of fields that differ. */
static u32 compare_fields(const struct ub_options *options, struct json_object *a,
			  struct json_object *b)
{
	u32 nr = 0;

	json_object_object_foreach(a, name, value)
	{
		struct json_object *other = NULL;
		bool same = json_object_object_get_ex(b, name, &other) &&
			    json_object_equal(value, other);

		show_field(options, name, value, other, same);
		nr += !same;
	}
	json_object_object_foreach(b, other_name, other_value)
	{
		if (!json_object_object_get_ex(a, other_name, NULL)) {
			show_field(options, other_name, NULL, other_value, false);
			nr++;
		}
	}
	return nr;
}

static int compare(const struct compare_args *args)
{
	const struct ub_bundled *bundled = ub_bundled_find(args->words[0]);
	struct outcome outcomes[2] = { 0 };
	struct json_object *fields[2] = { 0 };
	int status = UB_EXIT_FAILED, err = 0;
	u32 nr;

	for (int i = 0; i < 2 && !err; i++) {
		err = run_on(ub_backends[i], args, &outcomes[i]);
		if (err)
			ub_error("compare: %s did not run on the %s backend", args->words[0],
				 ub_backends[i]->name);
		else
			fields[i] = fields_of(&outcomes[i], bundled);
	}
	if (!err) {
		nr = compare_fields(args->options, fields[0], fields[1]);
		if (nr)
			ub_error("compare: %s: %u fields differ", args->words[0], nr);
		else
			status = UB_EXIT_OK;
	}
	for (int i = 0; i < 2; i++) {
		json_object_put(fields[i]);
		json_object_put(outcomes[i].summary);
	}
	return status;
}

int cmd_compare(struct ub_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { .argp = &ub_options_argp }, { 0 } };
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "PROGRAM [ARGS...] -- CMD...",
		.doc = "Runs CMD, which should do the same each time, under PROGRAM on the kernel and then on "
		       "userspace, and compares what came out, field by field. Status 0: the same.",
		.children = children,
	};
	_cleanup_free_ struct compare_args *args = calloc(1, sizeof(*args));
	int rest;

	if (!args)
		return UB_EXIT_FAILED;
	args->options = options;
	if (ub_parse(&argp, argc, argv, args, &rest))
		return UB_EXIT_USAGE;
	if (!rest || rest >= argc || argc - rest > MAX_WORDS) {
		ub_error("compare: a command is needed: ubpf-run compare PROGRAM -- CMD...");
		return UB_EXIT_USAGE;
	}
	args->command = argv + rest;
	args->nr_command = (u32)(argc - rest);
	return compare(args);
}
