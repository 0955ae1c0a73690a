/* SPDX-License-Identifier: MIT */
/*
 * What the commands that give orders to running sessions, or look at them, have in common.
 */
#ifndef UB_LOADER_CONTROL_CLIENT_H
#define UB_LOADER_CONTROL_CLIENT_H

#include "commands.h"
#include "control.h"

enum { UB_MAX_WORDS = 1024 };

struct ub_control_args {
	struct ub_options *options;
	char *words[UB_MAX_WORDS];
	u32 nr_words;
	bool all;
	pid_t session;
};

/* An argp parser for it, and the option of all such commands. */
error_t ub_control_parse(int key, char *arg, struct argp_state *state);
extern const struct argp_option ub_session_option[];
extern const struct argp_child ub_control_children[];

/* Sessions and what each answered to "list". */
struct ub_asked {
	struct ub_session_ref *refs;
	struct json_object **lists; /* what each answered to "list" */
	u32 nr;
};

/* The sessions that answer and that the options mean, newest first. */
int __must_check ub_asked_open(const struct ub_control_args *args, struct ub_asked *sessions,
			       struct ub_reason *why);
void ub_asked_close(struct ub_asked *sessions);

/* Parses and opens the sessions: for a command that only looks. Exit status. */
int ub_look(struct ub_options *options, int argc, char **argv, const struct argp *argp,
	    struct ub_control_args *args, struct ub_asked *sessions);

/* Tools under exec that the options mean, as sessions. The caller's to put. */
struct json_object *ub_tool_sessions(const struct ub_control_args *args);

/* {"cmd": @cmd} */
struct json_object *ub_request(const char *cmd);
/* Asks and puts @object. */
int __must_check ub_ask(const struct ub_session_ref *session, struct json_object *object,
			struct json_object **answer, struct ub_reason *why);

/* Says why, and is the exit status. */
int ub_failed(const struct ub_reason *why, int err);

#endif
