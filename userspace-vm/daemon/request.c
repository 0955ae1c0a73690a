// SPDX-License-Identifier: MIT
/*
 * JSON requests of commands: {"cmd": ...}, answered {"ok": true, ...} or {"ok": false, "error":
 * ...}.
 *
 *   {"cmd":"list"}                        sessions with their links, and attached processes
 *   {"cmd":"attached"}                    attached processes only
 *   {"cmd":"detach","pid":N[,"session":S]}  takes a process out of all sessions, or one
 *   {"cmd":"detach","all":true}           takes every process out
 *   {"cmd":"include","pid":N[,"session":S]} undoes a detach
 *   {"cmd":"refusal","pid":N}             why the last link of the session of process N was refused
 *   {"cmd":"lost","map":ID}               records that found no room in a map's ring buffer
 *   {"cmd":"ping"}
 */
#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>

static struct json_object *failed(const char *error)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(false));
	json_object_object_add(answer, "error", json_object_new_string(error));
	return answer;
}

static void add_int(struct json_object *object, const char *key, s64 value)
{
	json_object_object_add(object, key, json_object_new_int64(value));
}

static void add_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static struct json_object *link_json(struct targets *targets, const struct link *link)
{
	struct json_object *object = json_object_new_object();
	struct json_object *pids = json_object_new_array();
	u64 hits, misses;

	ub_daemon_link_counters(targets, link, &hits, &misses);
	add_int(object, "id", link->id);
	add_int(object, "prog_id", link->prog_id);
	add_text(object, "program", link->program ? link->program->name : "");
	add_text(object, "path", link->path);
	add_int(object, "offset", (s64)link->offset);
	json_object_object_add(object, "return", json_object_new_boolean(link->is_return));
	add_int(object, "cookie", (s64)link->cookie);
	add_int(object, "pid", link->pid);
	add_int(object, "hits", (s64)hits);
	add_int(object, "misses", (s64)misses);
	add_int(object, "refused", link->nr_refused);
	for (const struct target *target = targets->list; target; target = target->next) {
		if (ub_daemon_target_has(target, link->id))
			json_object_array_add(pids, json_object_new_int(target->pid));
	}
	json_object_object_add(object, "attached", pids);
	return object;
}

static struct json_object *sessions_json(struct ub_daemon *daemon)
{
	struct json_object *list = json_object_new_array();

	for (struct session *session = daemon->sessions; session; session = session->next) {
		struct json_object *object = json_object_new_object();
		struct json_object *links = json_object_new_array();

		ub_daemon_session_refresh(session);
		add_int(object, "id", (s64)session->id);
		add_int(object, "pid", session->pid);
		add_int(object, "uid", session->uid);
		add_text(object, "comm", session->comm);
		add_text(object, "command", session->command);
		add_int(object, "started", (s64)session->started);
		for (const struct link *link = daemon->targets->links; link; link = link->next) {
			if (link->session == session)
				json_object_array_add(links, link_json(daemon->targets, link));
		}
		json_object_object_add(object, "links", links);
		json_object_array_add(list, object);
	}
	return list;
}

/* What should not be in the process any more, and why it is; NULL: nothing. */
static const char *left_in(const struct target *target)
{
	if (target->leaving)
		return target->leaving->why.text;
	for (u32 i = 0; i < target->nr_links; i++) {
		const struct link *link = ub_daemon_link_find(target->targets, target->links[i]);

		if (!link || !ub_daemon_link_covers(link, target))
			return target->failure.text;
	}
	return NULL;
}

/* Whether a link was said to be attached that is not there yet: it is tried again. */
static bool is_late(const struct target *target)
{
	for (const struct link *link = target->targets->links; link; link = link->next) {
		if (target->late_since_ms && ub_daemon_target_wants(target, link) &&
		    !ub_daemon_target_has(target, link->id))
			return true;
	}
	return false;
}

static struct json_object *targets_json(struct ub_daemon *daemon)
{
	struct json_object *list = json_object_new_array();

	for (const struct target *target = daemon->targets->list; target; target = target->next) {
		struct json_object *object;
		struct json_object *ids;
		struct ub_procfs_status status = {};

		if (!target->image && !target->leaving && !is_late(target))
			continue;
		object = json_object_new_object();
		ids = json_object_new_array();
		if (ub_procfs_status(target->pid, &status))
			status.comm[0] = '\0';
		add_int(object, "pid", target->pid);
		add_text(object, "comm", status.comm);
		add_text(object, "state",
			 target->image	   ? "attached"
			 : target->leaving ? "leaving"
					   : "waiting");
		add_int(object, "since", (s64)target->attached_at);
		add_int(object, "image", target->generation);
		add_int(object, "pause_ns", (s64)target->last_pause_ns);
		if (left_in(target))
			add_text(object, "left", left_in(target));
		else if (is_late(target))
			add_text(object, "waits", target->failure.text);
		for (u32 i = 0; i < target->nr_links; i++)
			json_object_array_add(ids, json_object_new_int64(target->links[i]));
		json_object_object_add(object, "links", ids);
		json_object_array_add(list, object);
	}
	return list;
}

static struct json_object *succeeded(void)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(true));
	return answer;
}

static struct json_object *list(struct ub_daemon *daemon, struct json_object *request)
{
	struct json_object *answer = succeeded();

	json_object_object_add(answer, "sessions", sessions_json(daemon));
	json_object_object_add(answer, "processes", targets_json(daemon));
	return answer;
}

static struct json_object *attached(struct ub_daemon *daemon, struct json_object *request)
{
	struct json_object *answer = succeeded();

	json_object_object_add(answer, "processes", targets_json(daemon));
	return answer;
}

/* The session that the request names, *all if it names none; NULL and !*all: no such session. */
static struct session *session_of(struct ub_daemon *daemon, struct json_object *request, bool *all)
{
	struct json_object *value;

	*all = !json_object_object_get_ex(request, "session", &value);
	return *all ? NULL : ub_daemon_session_find(daemon, (u64)json_object_get_int64(value));
}

/* Links that could not be taken out yet (a process that can't be stopped now): tried again. */
static s64 links_left(const struct targets *targets, const struct session *only,
		      struct json_object *pid, bool by_pid)
{
	s64 nr = 0;

	for (const struct link *link = targets->links; link; link = link->next) {
		if (only && link->session != only)
			continue;
		for (const struct target *target = targets->list; target; target = target->next) {
			if (by_pid && target->pid != json_object_get_int(pid))
				continue;
			nr += ub_daemon_session_excludes(link->session, target->pid) &&
			      ub_daemon_target_has(target, link->id);
		}
	}
	return nr;
}

static struct json_object *detach(struct ub_daemon *daemon, struct json_object *request)
{
	struct session *session;
	struct json_object *answer, *value;
	bool every_session, by_pid = false;
	int nr = 0;

	session = session_of(daemon, request, &every_session);
	if (!every_session && !session)
		return failed("no such session");
	if (json_object_object_get_ex(request, "pid", &value)) {
		by_pid = true;
		nr = ub_daemon_targets_exclude(daemon->targets, session,
					       json_object_get_int(value));
	} else if (json_object_object_get_ex(request, "all", &value) &&
		   json_object_get_boolean(value)) {
		nr = ub_daemon_targets_exclude_all(daemon->targets, session);
	} else {
		return failed("detach wants a pid or all");
	}
	answer = succeeded();
	add_int(answer, "links", nr);
	add_int(answer, "left", links_left(daemon->targets, session, value, by_pid));
	return answer;
}

static struct json_object *include(struct ub_daemon *daemon, struct json_object *request)
{
	struct session *session;
	struct json_object *value;
	bool every_session;
	pid_t pid;

	session = session_of(daemon, request, &every_session);
	if (!every_session && !session)
		return failed("no such session");
	if (!json_object_object_get_ex(request, "pid", &value))
		return failed("include wants a pid");
	pid = json_object_get_int(value);
	for (struct session *each = daemon->sessions; each; each = each->next) {
		if (every_session || each == session)
			ub_daemon_session_include(each, pid);
	}
	return succeeded();
}

static struct json_object *refusal(struct ub_daemon *daemon, struct json_object *request)
{
	struct session *session = daemon->sessions;
	struct json_object *answer, *value;

	if (!json_object_object_get_ex(request, "pid", &value))
		return failed("refusal wants a pid");
	while (session && session->pid != json_object_get_int(value))
		session = session->next;
	if (!session)
		return failed("no such session");
	answer = succeeded();
	add_text(answer, "text", session->refusal.text);
	return answer;
}

static struct json_object *lost(struct ub_daemon *daemon, struct json_object *request)
{
	struct json_object *answer, *value;

	if (!json_object_object_get_ex(request, "map", &value))
		return failed("lost wants a map");
	answer = succeeded();
	add_int(answer, "records",
		(s64)ub_kernel_lost_of(daemon->kernel, (u32)json_object_get_int64(value)));
	return answer;
}

static struct json_object *ping(struct ub_daemon *daemon, struct json_object *request)
{
	struct json_object *answer = succeeded();

	add_int(answer, "objects", ub_kernel_objects(daemon->kernel));
	add_int(answer, "guard", daemon->guard_pid);
	return answer;
}

static const struct {
	const char *name;
	struct json_object *(*answer)(struct ub_daemon *daemon, struct json_object *request);
} commands[] = {
	{ "list", list },	{ "attached", attached }, { "detach", detach },
	{ "include", include }, { "refusal", refusal },	  { "ping", ping },
	{ "lost", lost },
};

static struct json_object *answer_to(struct ub_daemon *daemon, struct json_object *request)
{
	struct json_object *value;
	const char *name;

	if (!json_object_is_type(request, json_type_object) ||
	    !json_object_object_get_ex(request, "cmd", &value))
		return failed("a request is {\"cmd\": ...}");
	name = json_object_get_string(value);
	for (size_t i = 0; i < ub_array_size(commands); i++) {
		if (name && !strcmp(name, commands[i].name))
			return commands[i].answer(daemon, request);
	}
	return failed("unknown command");
}

char *ub_daemon_request_answer(struct ub_daemon *daemon, const char *text, size_t size)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *request, *answer;
	char *out;

	if (!tokener)
		return NULL;
	request = json_tokener_parse_ex(tokener, text, (int)size);
	answer = answer_to(daemon, request);
	out = strdup(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
	json_object_put(answer);
	json_object_put(request);
	json_tokener_free(tokener);
	return out;
}
