// SPDX-License-Identifier: MIT
#include "daemon_sessions.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <client/client.h>
#include <common/cleanup.h>

static struct json_object *member(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static s64 number(struct json_object *object, const char *key)
{
	return json_object_get_int64(member(object, key));
}

static size_t length(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static void add(struct json_object *object, const char *key, struct json_object *value)
{
	json_object_object_add(object, key, value);
}

/* What the daemon answers to @request; NULL: nothing, or "ok" is false. */
static struct json_object *ask(const char *request, struct ub_reason *why)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *answer;

	if (ub_client_ask(request, &text, why))
		return NULL;
	answer = json_tokener_parse(text);
	if (json_object_get_boolean(member(answer, "ok")))
		return answer;
	if (member(answer, "error"))
		ub_reason_set(why, -EINVAL, "the daemon: %s",
			      json_object_get_string(member(answer, "error")));
	json_object_put(answer);
	return NULL;
}

/* A link of the daemon's as a program of a session: one line each, as there is no name for the
 * group. */
static struct json_object *program_of(struct json_object *link)
{
	struct json_object *program = json_object_new_object();
	const char *path = json_object_get_string(member(link, "path"));
	char probe[4200];

	snprintf(probe, sizeof(probe), "%s %s + 0x%llx",
		 json_object_get_boolean(member(link, "return")) ? "uretprobe" : "uprobe",
		 path ? path : "?", (unsigned long long)number(link, "offset"));
	add(program, "name", json_object_get(member(link, "program")));
	add(program, "probe", json_object_new_string(probe));
	add(program, "id", json_object_new_int64(number(link, "prog_id")));
	add(program, "hits", json_object_new_int64(number(link, "hits")));
	add(program, "misses", json_object_new_int64(number(link, "misses")));
	return program;
}

static const char *comm_of(struct json_object *processes, s64 pid)
{
	for (size_t i = 0; i < length(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);

		if (number(process, "pid") == pid)
			return json_object_get_string(member(process, "comm"));
	}
	return "";
}

/* Adds the processes that @link is in to @list, or counts one more link there. */
static void add_processes(struct json_object *list, struct json_object *link,
			  struct json_object *processes)
{
	struct json_object *attached = member(link, "attached");

	for (size_t i = 0; i < length(attached); i++) {
		s64 pid = json_object_get_int64(json_object_array_get_idx(attached, i));
		struct json_object *process = NULL;

		for (size_t j = 0; j < length(list) && !process; j++) {
			struct json_object *known = json_object_array_get_idx(list, j);

			if (number(known, "pid") == pid)
				process = known;
		}
		if (process) {
			add(process, "links", json_object_new_int64(number(process, "links") + 1));
			continue;
		}
		process = json_object_new_object();
		add(process, "pid", json_object_new_int64(pid));
		add(process, "comm", json_object_new_string(comm_of(processes, pid) ?: ""));
		add(process, "links", json_object_new_int64(1));
		json_object_array_add(list, process);
	}
}

static struct json_object *session_of(struct json_object *from, struct json_object *processes)
{
	struct json_object *session = json_object_new_object();
	struct json_object *programs = json_object_new_array();
	struct json_object *attached = json_object_new_array();
	struct json_object *links = member(from, "links");

	add(session, "session", json_object_new_int64(number(from, "pid")));
	add(session, "daemon_session", json_object_new_int64(number(from, "id")));
	add(session, "program", json_object_get(member(from, "comm")));
	add(session, "command", json_object_get(member(from, "command")));
	add(session, "backend", json_object_new_string("userspace"));
	for (size_t i = 0; i < length(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);

		json_object_array_add(programs, program_of(link));
		add_processes(attached, link, processes);
	}
	add(session, "programs", programs);
	add(session, "processes", attached);
	return session;
}

static bool is_among(s64 pid, const pid_t *pids, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (pids[i] == pid)
			return true;
	}
	return false;
}

struct json_object *ub_daemon_sessions(const pid_t * not, u32 nr_not)
{
	struct json_object *list = json_object_new_array();
	struct json_object *answer = ask("{\"cmd\":\"list\"}", NULL);
	struct json_object *sessions = member(answer, "sessions");

	for (size_t i = 0; i < length(sessions); i++) {
		struct json_object *from = json_object_array_get_idx(sessions, i);

		/* Without a link it is a tool that only looks, such as bpftool. */
		if (is_among(number(from, "pid"), not, nr_not) || !length(member(from, "links")))
			continue;
		json_object_array_add(list, session_of(from, member(answer, "processes")));
	}
	json_object_put(answer);
	return list;
}

struct json_object *ub_daemon_session_detach(struct json_object *session, pid_t pid,
					     struct ub_reason *why)
{
	struct json_object *processes = member(session, "processes"), *answer, *done;
	char request[128];
	bool left;

	if (pid)
		snprintf(request, sizeof(request),
			 "{\"cmd\":\"detach\",\"session\":%lld,\"pid\":%d}",
			 (long long)number(session, "daemon_session"), pid);
	else
		snprintf(request, sizeof(request),
			 "{\"cmd\":\"detach\",\"session\":%lld,\"all\":true}",
			 (long long)number(session, "daemon_session"));
	answer = ask(request, why);
	if (!answer)
		return NULL;
	left = number(answer, "left") > 0;
	done = json_object_new_array();
	for (size_t i = 0; i < length(processes); i++) {
		struct json_object *process = json_object_array_get_idx(processes, i);
		struct json_object *entry;

		if (pid && number(process, "pid") != pid)
			continue;
		entry = json_object_new_object();
		add(entry, "pid", json_object_get(member(process, "pid")));
		add(entry, "comm", json_object_get(member(process, "comm")));
		add(entry, "result", json_object_new_string(left ? "mapping left" : "clean"));
		if (left)
			add(entry, "left",
			    json_object_new_string("it can't be stopped now (tried again)"));
		json_object_array_add(done, entry);
	}
	add(answer, "session", json_object_get(member(session, "session")));
	add(answer, "program", json_object_get(member(session, "program")));
	add(answer, "processes", done);
	return answer;
}

void ub_daemon_refusal(struct ub_reason *text)
{
	struct json_object *answer, *value;
	char request[64];

	text->text[0] = '\0';
	snprintf(request, sizeof(request), "{\"cmd\":\"refusal\",\"pid\":%d}", getpid());
	answer = ask(request, NULL);
	value = answer ? member(answer, "text") : NULL;
	if (json_object_is_type(value, json_type_string))
		snprintf(text->text, sizeof(text->text), "%s", json_object_get_string(value));
	json_object_put(answer);
}
