// SPDX-License-Identifier: MIT
/*
 * attach, detach, list, map, prog: orders to running sessions.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>

#include "backend.h"
#include "cmd_run.h"
#include "control.h"
#include "daemon_sessions.h"
#include "orphan.h"
#include "output.h"

enum { MAX_PIDS = 1024 };

struct control_args {
	struct ub_options *options;
	char *words[MAX_PIDS];
	u32 nr_words;
	bool all;
	pid_t session;
};

static const struct argp_option session_option[] = {
	{ "session", 's', "PID", 0, "Of this session only (its pid, see list)" }, { 0 }
};

static const struct argp_option detach_options[] = {
	{ "all", 'a', NULL, 0, "Every process (the default without a PID)" },
	{ "session", 's', "PID", 0, "Of this session only (its pid, see list)" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct control_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->options;
		break;
	case 'a':
		args->all = true;
		break;
	case 's':
		if (ub_parse_pid(arg, &args->session))
			argp_error(state, "'%s' is not a process id", arg);
		break;
	case ARGP_KEY_ARG:
		if (args->nr_words == MAX_PIDS)
			argp_error(state, "too many arguments");
		args->words[args->nr_words++] = arg;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_child children[] = { { &ub_options_argp }, { 0 } };

struct sessions {
	struct ub_session_ref *refs;
	struct json_object **lists; /* what each answered to "list" */
	u32 nr;
};

static void sessions_close(struct sessions *sessions)
{
	for (u32 i = 0; i < sessions->nr; i++)
		json_object_put(sessions->lists[i]);
	free(sessions->lists);
	ub_sessions_close(sessions->refs, sessions->nr);
}

static const char *string_of(struct json_object *object, const char *key)
{
	struct json_object *value;
	const char *text = json_object_object_get_ex(object, key, &value)
				   ? json_object_get_string(value)
				   : NULL;

	return text ? text : "";
}

static s64 number_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_int64(value) : 0;
}

static struct json_object *array_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) &&
			       json_object_is_type(value, json_type_array)
		       ? value
		       : NULL;
}

static size_t length_of(struct json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

static struct json_object *request(const char *cmd)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "cmd", json_object_new_string(cmd));
	return object;
}

/* Asks and puts @request. */
static int ask(const struct ub_session_ref *session, struct json_object *object,
	       struct json_object **answer, struct ub_reason *why)
{
	int err = ub_session_ask(session, object, answer, why);

	json_object_put(object);
	return err;
}

static bool is_wanted(const struct control_args *args, const struct ub_session_ref *session,
		      struct json_object *list)
{
	const char *backend = string_of(list, "backend");

	if (args->session && args->session != session->pid)
		return false;
	if (args->options->kernel && strcmp(backend, "kernel") != 0)
		return false;
	return !args->options->userspace || !strcmp(backend, "userspace");
}

/* The sessions that answer and that the options mean, newest first. */
static int open_sessions(const struct control_args *args, struct sessions *sessions,
			 struct ub_reason *why)
{
	struct ub_session_ref *refs;
	u32 nr, kept = 0;
	int err = ub_sessions_open(&refs, &nr, why);

	if (err)
		return err;
	sessions->refs = refs;
	sessions->lists = calloc(nr ? nr : 1, sizeof(struct json_object *));
	if (!sessions->lists) {
		ub_sessions_close(refs, nr);
		sessions->refs = NULL;
		return -ENOMEM;
	}
	for (u32 i = 0; i < nr; i++) {
		struct ub_reason unheard = { 0 };
		struct json_object *list;

		if (ub_session_is_stopped(&refs[i])) {
			ub_note("session %d is stopped and passed over (kill -CONT %d lets it go on)",
				refs[i].pid, refs[i].pid);
			close(refs[i].fd);
			continue;
		}
		err = ask(&refs[i], request("list"), &list, &unheard);
		if (err) {
			if (err == -ETIMEDOUT)
				ub_note("%s", unheard.text);
			close(refs[i].fd);
			continue;
		}
		if (!is_wanted(args, &refs[i], list)) {
			json_object_put(list);
			close(refs[i].fd);
			continue;
		}
		refs[kept] = refs[i];
		sessions->lists[kept++] = list;
	}
	sessions->nr = kept;
	return 0;
}

static int failed(const struct ub_reason *why, int err)
{
	ub_error("%s", why->text[0] ? why->text : strerror(-err));
	return UB_EXIT_FAILED;
}

/* Shows an answer that says "ok": false; true if it was one. */
static bool is_refusal(struct json_object *answer)
{
	struct json_object *ok;

	if (json_object_object_get_ex(answer, "ok", &ok) && json_object_get_boolean(ok))
		return false;
	ub_error("%s", string_of(answer, "error"));
	return true;
}

static int attach_in(const struct ub_options *options, const struct ub_session_ref *session,
		     pid_t pid)
{
	struct json_object *object = request("attach"), *answer, *process;
	struct ub_reason why = { 0 };
	int err, status = UB_EXIT_FAILED;

	json_object_object_add(object, "pid", json_object_new_int(pid));
	err = ask(session, object, &answer, &why);
	if (err)
		return failed(&why, err);
	if (options->json) {
		json_object_get(answer);
		ub_json_line(answer);
	}
	if (!is_refusal(answer)) {
		status = UB_EXIT_OK;
		if (!options->json && json_object_object_get_ex(answer, "process", &process))
			printf("attached %s to process %ld (%s) on the %s backend\n",
			       string_of(answer, "program"), number_of(process, "pid"),
			       string_of(process, "comm"), string_of(answer, "backend"));
	}
	json_object_put(answer);
	return status;
}

int cmd_attach(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = session_option,
		.parser = parse,
		.args_doc = "PID [PROGRAM]",
		.doc = "Attaches the running session's programs to process PID (the newest session; with PROGRAM, the "
		       "newest that runs it). If there is none, runs PROGRAM (default: malloc) on PID.",
		.children = children,
	};
	_cleanup_free_ struct control_args *args = calloc(1, sizeof(*args));
	_cleanup_(sessions_close) struct sessions sessions = { 0 };
	struct ub_reason why = { 0 };
	const char *program;
	pid_t pid;
	int rest, err;

	if (!args)
		return UB_EXIT_FAILED;
	args->options = options;
	if (ub_parse(&argp, argc, argv, args, &rest))
		return UB_EXIT_USAGE;
	if (args->nr_words && ub_parse_pid(args->words[0], &pid)) {
		ub_error("attach: '%s' is not a process id: ubpf-run attach PID [PROGRAM]",
			 args->words[0]);
		return UB_EXIT_USAGE;
	}
	if (args->nr_words < 1 || args->nr_words > 2) {
		ub_error(
			"attach: a process id and, optionally, a program: ubpf-run attach PID [PROGRAM]");
		return UB_EXIT_USAGE;
	}
	program = args->nr_words == 2 ? args->words[1] : NULL;
	err = open_sessions(args, &sessions, &why);
	if (err)
		return failed(&why, err);
	for (u32 i = 0; i < sessions.nr; i++) {
		if (!program || !strcmp(program, string_of(sessions.lists[i], "program")))
			return attach_in(options, &sessions.refs[i], pid);
	}
	if (args->session) {
		ub_error("no session %d%s%s", args->session, program ? " that runs " : "",
			 program ? program : "");
		return UB_EXIT_FAILED;
	}
	return ub_run_on_process(options, program ? program : "malloc", pid);
}

/* Tools under exec that the options mean, as sessions. The caller's to put. */
static struct json_object *tool_sessions(const struct control_args *args)
{
	struct ub_session_ref *refs = NULL;
	struct json_object *tools;
	pid_t *own;
	u32 nr = 0;

	if (args->options->kernel || ub_sessions_open(&refs, &nr, NULL))
		return json_object_new_array();
	own = calloc(nr + 1, sizeof(*own));
	for (u32 i = 0; own && i < nr; i++)
		own[i] = refs[i].pid;
	ub_sessions_close(refs, nr);
	tools = own ? ub_daemon_sessions(own, nr) : json_object_new_array();
	free(own);
	for (size_t i = length_of(tools); args->session && i > 0; i--) {
		if (number_of(json_object_array_get_idx(tools, i - 1), "session") != args->session)
			json_object_array_del_idx(tools, i - 1, 1);
	}
	return tools;
}

/* Prints what a session detached; the number of processes that were attached. */
static u32 show_detached(const struct ub_options *options, struct json_object *answer)
{
	struct json_object *processes = array_of(answer, "processes");
	u32 nr = 0;

	if (options->json) {
		json_object_get(answer);
		ub_json_line(answer);
	}
	for (size_t i = 0; i < length_of(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);
		const char *result = string_of(process, "result");
		const char *left = string_of(process, "left");

		if (!strcmp(result, "was not attached"))
			continue;
		nr++;
		if (!options->json)
			printf("detached %s from process %ld (%s): %s%s%s\n",
			       string_of(answer, "program"), number_of(process, "pid"),
			       string_of(process, "comm"), result, *left ? " because " : "", left);
	}
	return nr;
}

/* For a pid that no session had: what an earlier run may have left there. */
static int detach_orphan(pid_t pid)
{
	struct ub_tracee target = { .pidfd = -1 };
	struct ub_reason why = { 0 };
	int n, err = ub_tracee_open(pid, &target, &why);

	if (err)
		return failed(&why, err);
	n = ub_orphan_clean(&target, &why);
	if (n < 0) {
		ub_tracee_close(&target);
		return failed(&why, n);
	}
	if (n)
		printf("process %d (%s): removed what an earlier run had left\n", pid, target.comm);
	else
		printf("process %d (%s) is not attached\n", pid, target.comm);
	ub_tracee_close(&target);
	return UB_EXIT_OK;
}

static bool has_process(struct json_object *list, pid_t pid)
{
	struct json_object *processes = array_of(list, "processes");

	for (size_t i = 0; i < length_of(processes); i++) {
		if (number_of(json_object_array_get_idx(processes, i), "pid") == pid)
			return true;
	}
	return false;
}

/* Takes @pid (0: all) out of the tools under exec; *nr: processes that were attached. */
static int detach_from_tools(const struct control_args *args, pid_t pid, u32 *nr)
{
	struct json_object *tools = tool_sessions(args);
	int status = UB_EXIT_OK;

	for (size_t i = 0; i < length_of(tools) && status == UB_EXIT_OK; i++) {
		struct json_object *tool = json_object_array_get_idx(tools, i), *answer;
		struct ub_reason why = { 0 };

		if (pid && !has_process(tool, pid))
			continue;
		answer = ub_daemon_session_detach(tool, pid, &why);
		if (answer)
			*nr += show_detached(args->options, answer);
		else
			status = failed(&why, -EIO);
		json_object_put(answer);
	}
	json_object_put(tools);
	return status;
}

static int detach_all(const struct control_args *args, const struct sessions *sessions)
{
	int status = UB_EXIT_OK;
	u32 nr = 0;

	for (u32 i = 0; i < sessions->nr; i++) {
		struct json_object *answer;
		struct ub_reason why = { 0 };
		int err = ask(&sessions->refs[i], request("detach"), &answer, &why);

		if (err) { /* the other sessions' processes all the same */
			status = failed(&why, err);
			continue;
		}
		nr += show_detached(args->options, answer);
		json_object_put(answer);
	}
	if (detach_from_tools(args, 0, &nr))
		return UB_EXIT_FAILED;
	if (!nr && !status && !args->options->json)
		printf("no process is attached\n");
	return status;
}

static int detach_pid(const struct control_args *args, const struct sessions *sessions, pid_t pid)
{
	bool found = false;
	u32 nr = 0;

	for (u32 i = 0; i < sessions->nr; i++) {
		struct json_object *object, *pids, *answer;
		struct ub_reason why = { 0 };
		int err;

		if (!has_process(sessions->lists[i], pid))
			continue;
		object = request("detach");
		pids = json_object_new_array();
		json_object_array_add(pids, json_object_new_int(pid));
		json_object_object_add(object, "pids", pids);
		err = ask(&sessions->refs[i], object, &answer, &why);
		if (err)
			return failed(&why, err);
		show_detached(args->options, answer);
		json_object_put(answer);
		found = true;
	}
	if (detach_from_tools(args, pid, &nr))
		return UB_EXIT_FAILED;
	return found || nr ? UB_EXIT_OK : detach_orphan(pid);
}

int cmd_detach(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = detach_options,
		.parser = parse,
		.args_doc = "[PID...]",
		.doc = "Takes the programs of the running sessions out of the processes, or of all if none is named. A process "
		       "that no session has is cleaned of what an earlier run may have left.",
		.children = children,
	};
	_cleanup_free_ struct control_args *args = calloc(1, sizeof(*args));
	_cleanup_(sessions_close) struct sessions sessions = { 0 };
	struct ub_reason why = { 0 };
	int rest, err, status = UB_EXIT_OK;
	pid_t pids[MAX_PIDS];

	if (!args)
		return UB_EXIT_FAILED;
	args->options = options;
	if (ub_parse(&argp, argc, argv, args, &rest))
		return UB_EXIT_USAGE;
	for (u32 i = 0; i < args->nr_words; i++) {
		if (ub_parse_pid(args->words[i], &pids[i])) {
			ub_error("detach: '%s' is not a process id", args->words[i]);
			return UB_EXIT_USAGE;
		}
	}
	if (args->all && args->nr_words) {
		ub_error("detach: either processes or --all");
		return UB_EXIT_USAGE;
	}
	err = open_sessions(args, &sessions, &why);
	if (err)
		return failed(&why, err);
	if (!args->nr_words)
		return detach_all(args, &sessions);
	for (u32 i = 0; i < args->nr_words; i++) {
		if (detach_pid(args, &sessions, pids[i]))
			status = UB_EXIT_FAILED;
	}
	return status;
}

static void show_session(pid_t pid, struct json_object *list)
{
	struct json_object *programs = array_of(list, "programs"), *processes;

	printf("session %d: %s on the %s backend\n", pid, string_of(list, "program"),
	       string_of(list, "backend"));
	for (size_t i = 0; i < length_of(programs); i++) {
		struct json_object *program = json_object_array_get_idx(programs, i);

		printf("  program %ld %s: %s, %ld hits, %ld misses\n", number_of(program, "id"),
		       string_of(program, "name"), string_of(program, "probe"),
		       number_of(program, "hits"), number_of(program, "misses"));
	}
	if (number_of(list, "everybody"))
		printf("  every process\n");
	processes = array_of(list, "processes");
	for (size_t i = 0; i < length_of(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);

		printf("  process %ld (%s): %ld link%s", number_of(process, "pid"),
		       string_of(process, "comm"), number_of(process, "links"),
		       number_of(process, "links") == 1 ? "" : "s");
		if (json_object_object_get_ex(process, "count", NULL))
			printf(", count %ld", number_of(process, "count"));
		printf("\n");
	}
}

/* Opens the sessions for a command that only looks. */
static int look(struct ub_options *options, int argc, char **argv, const struct argp *argp,
		struct control_args *args, struct sessions *sessions)
{
	struct ub_reason why = { 0 };
	int rest, err;

	args->options = options;
	if (ub_parse(argp, argc, argv, args, &rest))
		return UB_EXIT_USAGE;
	err = open_sessions(args, sessions, &why);
	if (err)
		return failed(&why, err);
	return UB_EXIT_OK;
}

int cmd_list(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = session_option,
		.parser = parse,
		.doc = "Shows the running sessions, their programs and links, and the attached processes.",
		.children = children,
	};
	_cleanup_free_ struct control_args *args = calloc(1, sizeof(*args));
	_cleanup_(sessions_close) struct sessions sessions = { 0 };
	int status = args ? look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;
	struct json_object *tools;

	if (status)
		return status;
	tools = tool_sessions(args);
	if (!sessions.nr && !length_of(tools) && !options->json)
		printf("no session is running\n");
	for (u32 i = 0; i < sessions.nr; i++) {
		if (options->json)
			ub_json_line(json_object_get(sessions.lists[i]));
		else
			show_session(sessions.refs[i].pid, sessions.lists[i]);
	}
	for (size_t i = 0; i < length_of(tools); i++) {
		struct json_object *tool = json_object_array_get_idx(tools, i);

		if (options->json)
			ub_json_line(json_object_get(tool));
		else
			show_session((pid_t)number_of(tool, "session"), tool);
	}
	json_object_put(tools);
	return UB_EXIT_OK;
}

static void show_maps(struct json_object *answer, const char *dump)
{
	struct json_object *maps = array_of(answer, "maps"), *contents, *entries;

	for (size_t i = 0; !dump && i < length_of(maps); i++) {
		struct json_object *map = json_object_array_get_idx(maps, i);

		printf("%ld: %s  %s  key %ldB  value %ldB  max_entries %ld  (%s, session %ld)\n",
		       number_of(map, "id"), string_of(map, "type"), string_of(map, "name"),
		       number_of(map, "key_size"), number_of(map, "value_size"),
		       number_of(map, "max_entries"), string_of(answer, "program"),
		       number_of(answer, "session"));
	}
	if (!dump || !json_object_object_get_ex(answer, "contents", &contents) ||
	    !json_object_object_get_ex(contents, dump, &entries))
		return;
	for (size_t i = 0; i < length_of(entries); i++)
		printf("%s\n", json_object_to_json_string_ext(json_object_array_get_idx(entries, i),
							      JSON_C_TO_STRING_SPACED));
}

int cmd_map(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = session_option,
		.parser = parse,
		.args_doc = "[list | dump NAME]",
		.doc = "Shows the maps of the running sessions, or the contents of map NAME. (bpftool works too: "
		       "ubpf-run exec -- bpftool map.)",
		.children = children,
	};
	_cleanup_free_ struct control_args *args = calloc(1, sizeof(*args));
	_cleanup_(sessions_close) struct sessions sessions = { 0 };
	int status = args ? look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;
	const char *dump = NULL;

	if (status)
		return status;
	if (args->nr_words == 2 && !strcmp(args->words[0], "dump")) {
		dump = args->words[1];
	} else if (args->nr_words > 1 || (args->nr_words && strcmp(args->words[0], "list") != 0)) {
		ub_error("map: list or dump NAME");
		return UB_EXIT_USAGE;
	}
	for (u32 i = 0; i < sessions.nr; i++) {
		struct json_object *answer;
		struct ub_reason why = { 0 };
		int err = ask(&sessions.refs[i], request("maps"), &answer, &why);

		if (err)
			return failed(&why, err);
		if (options->json)
			ub_json_line(json_object_get(answer));
		else
			show_maps(answer, dump);
		json_object_put(answer);
	}
	return UB_EXIT_OK;
}

int cmd_prog(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = session_option,
		.parser = parse,
		.args_doc = "[list]",
		.doc = "Shows the programs of the running sessions. (bpftool works too: ubpf-run exec -- bpftool "
		       "prog.)",
		.children = children,
	};
	_cleanup_free_ struct control_args *args = calloc(1, sizeof(*args));
	_cleanup_(sessions_close) struct sessions sessions = { 0 };
	int status = args ? look(options, argc, argv, &argp, args, &sessions) : UB_EXIT_FAILED;

	if (status)
		return status;
	if (args->nr_words > 1 || (args->nr_words && strcmp(args->words[0], "list") != 0)) {
		ub_error("prog: list");
		return UB_EXIT_USAGE;
	}
	for (u32 i = 0; i < sessions.nr; i++) {
		struct json_object *programs = array_of(sessions.lists[i], "programs");

		for (size_t j = 0; j < length_of(programs); j++) {
			struct json_object *program = json_object_array_get_idx(programs, j);

			if (options->json)
				ub_json_line(json_object_get(program));
			else
				printf("%ld: %s  %s  (%s, session %d)\n", number_of(program, "id"),
				       string_of(program, "name"), string_of(program, "probe"),
				       string_of(sessions.lists[i], "program"),
				       sessions.refs[i].pid);
		}
	}
	return UB_EXIT_OK;
}
