// SPDX-License-Identifier: MIT
/*
 * attach and detach: orders to running sessions.
 */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>

#include "cmd_run.h"
#include "control_client.h"
#include "daemon_sessions.h"
#include "json_get.h"
#include "orphan.h"
#include "output.h"

static const struct argp_option detach_options[] = {
	{ "all", 'a', NULL, 0, "Every process (the default without a PID)" },
	{ "session", 's', "PID", 0, "Of this session only (its pid, see list)" },
	{ 0 }
};

/* Shows an answer that says "ok": false; true if it was one. */
static bool is_refusal(struct json_object *answer)
{
	struct json_object *ok;

	if (json_object_object_get_ex(answer, "ok", &ok) && json_object_get_boolean(ok))
		return false;
	ub_error("%s", ub_json_string(answer, "error"));
	return true;
}

static int attach_in(const struct ub_options *options, const struct ub_session_ref *session,
		     pid_t pid)
{
	struct json_object *object = ub_request("attach"), *answer, *process;
	struct ub_reason why = { 0 };
	int err, status = UB_EXIT_FAILED;

	json_object_object_add(object, "pid", json_object_new_int(pid));
	err = ub_ask(session, object, &answer, &why);
	if (err)
		return ub_failed(&why, err);
	if (options->json) {
		json_object_get(answer);
		ub_json_line(answer);
	}
	if (!is_refusal(answer)) {
		status = UB_EXIT_OK;
		if (!options->json && json_object_object_get_ex(answer, "process", &process))
			printf("attached %s to process %ld (%s) on the %s backend\n",
			       ub_json_string(answer, "program"), ub_json_number(process, "pid"),
			       ub_json_string(process, "comm"), ub_json_string(answer, "backend"));
	}
	json_object_put(answer);
	return status;
}

int cmd_attach(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = ub_session_option,
		.parser = ub_control_parse,
		.args_doc = "PID [PROGRAM]",
		.doc = "Attaches the running session's programs to process PID (the newest session; with PROGRAM, the "
		       "newest that runs it). If there is none, runs PROGRAM (default: malloc) on PID.",
		.children = ub_control_children,
	};
	_cleanup_free_ struct ub_control_args *args = calloc(1, sizeof(*args));
	_cleanup_(ub_asked_close) struct ub_asked sessions = { 0 };
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
	err = ub_asked_open(args, &sessions, &why);
	if (err)
		return ub_failed(&why, err);
	for (u32 i = 0; i < sessions.nr; i++) {
		if (!program || !strcmp(program, ub_json_string(sessions.lists[i], "program")))
			return attach_in(options, &sessions.refs[i], pid);
	}
	if (args->session) {
		ub_error("no session %d%s%s", args->session, program ? " that runs " : "",
			 program ? program : "");
		return UB_EXIT_FAILED;
	}
	return ub_run_on_process(options, program ? program : "malloc", pid);
}

/* Prints what a session detached; the number of processes that were attached. */
static u32 show_detached(const struct ub_options *options, struct json_object *answer)
{
	struct json_object *processes = ub_json_array(answer, "processes");
	u32 nr = 0;

	if (options->json) {
		json_object_get(answer);
		ub_json_line(answer);
	}
	for (size_t i = 0; i < ub_json_length(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);
		const char *result = ub_json_string(process, "result");
		const char *left = ub_json_string(process, "left");

		if (!strcmp(result, "was not attached"))
			continue;
		nr++;
		if (!options->json)
			printf("detached %s from process %ld (%s): %s%s%s\n",
			       ub_json_string(answer, "program"), ub_json_number(process, "pid"),
			       ub_json_string(process, "comm"), result, *left ? " because " : "",
			       left);
	}
	return nr;
}

/* For a pid that no session had: what an earlier run may have left there. */
static int detach_orphan(const struct ub_options *options, pid_t pid)
{
	struct ub_tracee target = { .pidfd = -1 };
	struct ub_reason why = { 0 };
	struct json_object *object;
	int n, err = ub_tracee_open(pid, &target, &why);

	if (err)
		return ub_failed(&why, err);
	n = ub_orphan_clean(&target, &why);
	ub_tracee_close(&target);
	if (n < 0)
		return ub_failed(&why, n);
	if (!options->json) {
		printf("process %d (%s) %s\n", pid, target.comm,
		       n ? "held what an earlier run had left: removed" : "is not attached");
		return UB_EXIT_OK;
	}
	object = json_object_new_object();
	json_object_object_add(object, "ok", json_object_new_boolean(true));
	json_object_object_add(object, "pid", json_object_new_int(pid));
	json_object_object_add(object, "comm", json_object_new_string(target.comm));
	json_object_object_add(object, "result",
			       json_object_new_string(n ? "removed what an earlier run had left"
							: "was not attached"));
	ub_json_line(object);
	return UB_EXIT_OK;
}

static bool has_process(struct json_object *list, pid_t pid)
{
	struct json_object *processes = ub_json_array(list, "processes");

	for (size_t i = 0; i < ub_json_length(processes); i++) {
		if (ub_json_number(json_object_array_get_idx(processes, i), "pid") == pid)
			return true;
	}
	return false;
}

/* Takes @pid (0: all) out of the tools under exec; *nr: processes that were attached. */
static int detach_from_tools(const struct ub_control_args *args, pid_t pid, u32 *nr)
{
	struct json_object *tools = ub_tool_sessions(args);
	int status = UB_EXIT_OK;

	for (size_t i = 0; i < ub_json_length(tools) && status == UB_EXIT_OK; i++) {
		struct json_object *tool = json_object_array_get_idx(tools, i), *answer;
		struct ub_reason why = { 0 };

		if (pid && !has_process(tool, pid))
			continue;
		answer = ub_daemon_session_detach(tool, pid, &why);
		if (answer)
			*nr += show_detached(args->options, answer);
		else
			status = ub_failed(&why, -EIO);
		json_object_put(answer);
	}
	json_object_put(tools);
	return status;
}

/* Asks and puts @object. 1 and no answer: the session ended meanwhile, which detaches as well. */
static int ask_to_detach(const struct ub_session_ref *session, struct json_object *object,
			 struct json_object **answer, struct ub_reason *why)
{
	int err = ub_ask(session, object, answer, why);

	if (err != -ECONNRESET && err != -EPIPE)
		return err;
	ub_note("session %d ended meanwhile: its programs go with it", session->pid);
	return 1;
}

static int detach_all(const struct ub_control_args *args, const struct ub_asked *sessions)
{
	int status = UB_EXIT_OK;
	u32 nr = 0;

	for (u32 i = 0; i < sessions->nr; i++) {
		struct json_object *answer;
		struct ub_reason why = { 0 };
		int err = ask_to_detach(&sessions->refs[i], ub_request("detach"), &answer, &why);

		nr += err > 0;
		if (err > 0)
			continue;
		if (err) { /* the other sessions' processes all the same */
			status = ub_failed(&why, err);
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

static int detach_pid(const struct ub_control_args *args, const struct ub_asked *sessions,
		      pid_t pid)
{
	bool found = false;
	u32 nr = 0;

	for (u32 i = 0; i < sessions->nr; i++) {
		struct json_object *object, *pids, *answer;
		struct ub_reason why = { 0 };
		int err;

		if (!has_process(sessions->lists[i], pid))
			continue;
		object = ub_request("detach");
		pids = json_object_new_array();
		json_object_array_add(pids, json_object_new_int(pid));
		json_object_object_add(object, "pids", pids);
		err = ask_to_detach(&sessions->refs[i], object, &answer, &why);
		if (err < 0)
			return ub_failed(&why, err);
		found = true;
		if (err)
			continue;
		show_detached(args->options, answer);
		json_object_put(answer);
	}
	if (detach_from_tools(args, pid, &nr))
		return UB_EXIT_FAILED;
	return found || nr ? UB_EXIT_OK : detach_orphan(args->options, pid);
}

int cmd_detach(struct ub_options *options, int argc, char **argv)
{
	static const struct argp argp = {
		.options = detach_options,
		.parser = ub_control_parse,
		.args_doc = "[PID...]",
		.doc = "Takes the programs of the running sessions out of the processes, or of all if none is named. A process "
		       "that no session has is cleaned of what an earlier run may have left.",
		.children = ub_control_children,
	};
	_cleanup_free_ struct ub_control_args *args = calloc(1, sizeof(*args));
	_cleanup_(ub_asked_close) struct ub_asked sessions = { 0 };
	struct ub_reason why = { 0 };
	int rest, err, status = UB_EXIT_OK;
	pid_t pids[UB_MAX_WORDS];

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
	err = ub_asked_open(args, &sessions, &why);
	if (err)
		return ub_failed(&why, err);
	if (!args->nr_words)
		return detach_all(args, &sessions);
	for (u32 i = 0; i < args->nr_words; i++) {
		if (detach_pid(args, &sessions, pids[i]))
			status = UB_EXIT_FAILED;
	}
	return status;
}
