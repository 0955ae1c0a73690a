// SPDX-License-Identifier: MIT
#include "control_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "daemon_sessions.h"
#include "json_get.h"
#include "output.h"

error_t ub_control_parse(int key, char *arg, struct argp_state *state)
{
	struct ub_control_args *args = state->input;

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
		if (args->nr_words == UB_MAX_WORDS)
			argp_error(state, "too many arguments");
		args->words[args->nr_words++] = arg;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

const struct argp_child ub_control_children[] = { { &ub_options_argp }, { 0 } };

const struct argp_option ub_session_option[] = {
	{ "session", 's', "PID", 0, "Of this session only (its pid, see list)" }, { 0 }
};

void ub_asked_close(struct ub_asked *sessions)
{
	for (u32 i = 0; i < sessions->nr; i++)
		json_object_put(sessions->lists[i]);
	free(sessions->lists);
	ub_sessions_close(sessions->refs, sessions->nr);
}

struct json_object *ub_request(const char *cmd)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "cmd", json_object_new_string(cmd));
	return object;
}

int ub_ask(const struct ub_session_ref *session, struct json_object *object,
	   struct json_object **answer, struct ub_reason *why)
{
	int err = ub_session_ask(session, object, answer, why);

	json_object_put(object);
	return err;
}

static bool is_wanted(const struct ub_control_args *args, const struct ub_session_ref *session,
		      struct json_object *list)
{
	const char *backend = ub_json_string(list, "backend");

	if (args->session && args->session != session->pid)
		return false;
	if (args->options->kernel && strcmp(backend, "kernel") != 0)
		return false;
	return !args->options->userspace || !strcmp(backend, "userspace");
}

/* What sessions of the userspace backend are asked, they ask the daemon. */
static int check_daemon(const struct ub_control_args *args, struct ub_reason *why)
{
	int sock = args->options->kernel ? -ENOENT : ub_client_connect_running(why);

	if (sock >= 0)
		close(sock);
	return sock == -EHOSTDOWN ? sock : 0;
}

int ub_asked_open(const struct ub_control_args *args, struct ub_asked *sessions,
		  struct ub_reason *why)
{
	struct ub_session_ref *refs;
	u32 nr, kept = 0;
	int err = check_daemon(args, why);

	if (!err)
		err = ub_sessions_open(&refs, &nr, why);
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
		err = ub_ask(&refs[i], ub_request("list"), &list, &unheard);
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

int ub_failed(const struct ub_reason *why, int err)
{
	ub_error("%s", why->text[0] ? why->text : strerror(-err));
	return UB_EXIT_FAILED;
}

struct json_object *ub_tool_sessions(const struct ub_control_args *args)
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
	for (size_t i = ub_json_length(tools); args->session && i > 0; i--) {
		if (ub_json_number(json_object_array_get_idx(tools, i - 1), "session") !=
		    args->session)
			json_object_array_del_idx(tools, i - 1, 1);
	}
	return tools;
}

int ub_look(struct ub_options *options, int argc, char **argv, const struct argp *argp,
	    struct ub_control_args *args, struct ub_asked *sessions)
{
	struct ub_reason why = { 0 };
	int rest, err;

	args->options = options;
	if (ub_parse(argp, argc, argv, args, &rest))
		return UB_EXIT_USAGE;
	err = ub_asked_open(args, sessions, &why);
	if (err)
		return ub_failed(&why, err);
	return UB_EXIT_OK;
}
