// SPDX-License-Identifier: MIT
#include "session_private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>

#include "map_dump.h"
#include "output.h"

static struct json_object *failure(int err, const struct ub_reason *why)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(false));
	json_object_object_add(answer, "errno", json_object_new_int(-err));
	json_object_object_add(answer, "error",
			       json_object_new_string(why->text[0] ? why->text : strerror(-err)));
	return answer;
}

static struct json_object *success(const struct ub_session *session)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(true));
	json_object_object_add(answer, "session", json_object_new_int(getpid()));
	json_object_object_add(answer, "backend",
			       json_object_new_string(session->options->backend->name));
	json_object_object_add(answer, "program", json_object_new_string(session->programs->name));
	return answer;
}

static struct json_object *process_object(const struct ub_tracee *target)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "pid", json_object_new_int(target->pid));
	json_object_object_add(object, "comm", json_object_new_string(target->comm));
	json_object_object_add(object, "start_time", json_object_new_uint64(target->start_time));
	return object;
}

static struct json_object *answer_attach(struct ub_session *session, struct json_object *request)
{
	struct ub_reason why = { 0 };
	struct json_object *pid_object, *answer;
	const struct ub_attachment *attachment;
	pid_t pid = 0;
	int err;

	if (json_object_object_get_ex(request, "pid", &pid_object))
		pid = json_object_get_int(pid_object);
	err = ub_session_attach(session, pid, &why);
	if (err)
		return failure(err, &why);
	answer = success(session);
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		if (attachment->target.pid != pid)
			continue;
		json_object_object_add(answer, "process", process_object(&attachment->target));
		json_object_object_add(answer, "links",
				       json_object_new_uint64(attachment->nr_links));
	}
	return answer;
}

static struct json_object *detach_one(struct ub_session *session, pid_t pid)
{
	struct ub_detach_outcome outcome;
	struct json_object *object;

	ub_session_detach(session, pid, &outcome);
	object = process_object(&outcome.target);
	json_object_object_add(object, "result",
			       json_object_new_string(ub_detach_result_text(outcome.result)));
	if (outcome.left.text[0])
		json_object_object_add(object, "left", json_object_new_string(outcome.left.text));
	return object;
}

static struct json_object *answer_detach(struct ub_session *session, struct json_object *request)
{
	struct json_object *answer = success(session), *list = json_object_new_array(), *pids;
	const struct ub_attachment *attachment;

	if (json_object_object_get_ex(request, "pids", &pids) &&
	    json_object_is_type(pids, json_type_array) && json_object_array_length(pids)) {
		for (size_t i = 0; i < json_object_array_length(pids); i++)
			json_object_array_add(
				list,
				detach_one(session, json_object_get_int(
							    json_object_array_get_idx(pids, i))));
	} else {
		while ((attachment = ub_link_manager_at(session->manager, 0)))
			json_object_array_add(list, detach_one(session, attachment->target.pid));
	}
	json_object_object_add(answer, "processes", list);
	return answer;
}

/* Linux counts a program's runs only where it was told to. */
static bool are_hits_counted(const struct ub_session *session)
{
	_cleanup_fclose_ FILE *file = NULL;
	int enabled;

	if (session->options->backend != &ub_backend_kernel)
		return true;
	file = fopen("/proc/sys/kernel/bpf_stats_enabled", "re");
	return file && fscanf(file, "%d", &enabled) == 1 && enabled;
}

static struct json_object *programs_list(const struct ub_session *session)
{
	struct json_object *list = json_object_new_array();
	bool counted = are_hits_counted(session);

	for (u32 i = 0; i < session->programs->nr_probes; i++) {
		const struct ub_probe *probe = &session->programs->probes[i];
		struct json_object *object = json_object_new_object();
		struct bpf_prog_info info = { 0 };
		u32 size = sizeof(info);

		json_object_object_add(object, "name",
				       json_object_new_string(bpf_program__name(probe->program)));
		json_object_object_add(object, "probe", json_object_new_string(probe->text));
		if (!bpf_obj_get_info_by_fd(bpf_program__fd(probe->program), &info, &size)) {
			json_object_object_add(object, "id", json_object_new_uint64(info.id));
			json_object_object_add(object, "hits",
					       counted ? json_object_new_uint64(info.run_cnt)
						       : NULL);
			json_object_object_add(object, "misses",
					       json_object_new_uint64(info.recursion_misses));
		}
		json_object_array_add(list, object);
	}
	return list;
}

static struct json_object *answer_list(struct ub_session *session)
{
	const struct ub_bundled *bundled = session->programs->bundled;
	struct json_object *answer = success(session), *list = json_object_new_array();
	const struct ub_attachment *attachment;

	ub_session_reap(session);
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		struct json_object *object = process_object(&attachment->target);
		struct ub_reason why = { 0 };

		json_object_object_add(object, "links",
				       json_object_new_uint64(attachment->nr_links));
		if (session->options->backend->is_waiting &&
		    session->options->backend->is_waiting(&attachment->target, &why))
			json_object_object_add(object, "waits", json_object_new_string(why.text));
		json_object_object_add(object, "attach",
				       json_object_new_uint64(attachment->number));
		if (bundled && bundled->pid_map)
			json_object_object_add(object, "count",
					       json_object_new_uint64(ub_map_count_of(
						       session->programs, bundled->pid_map,
						       attachment->target.pid)));
		json_object_array_add(list, object);
	}
	json_object_object_add(answer, "programs", programs_list(session));
	json_object_object_add(answer, "everybody",
			       json_object_new_boolean(session->options->everybody));
	json_object_object_add(answer, "processes", list);
	return answer;
}

static struct json_object *answer_maps(struct ub_session *session)
{
	struct json_object *answer = success(session), *list = json_object_new_array();
	struct bpf_map *map;

	bpf_object__for_each_map(map, session->programs->object)
	{
		struct json_object *object = json_object_new_object();
		struct bpf_map_info info = { 0 };
		u32 size = sizeof(info);

		json_object_object_add(object, "name", json_object_new_string(bpf_map__name(map)));
		json_object_object_add(
			object, "type",
			json_object_new_string(libbpf_bpf_map_type_str(bpf_map__type(map)) ?: "?"));
		json_object_object_add(object, "key_size",
				       json_object_new_uint64(bpf_map__key_size(map)));
		json_object_object_add(object, "value_size",
				       json_object_new_uint64(bpf_map__value_size(map)));
		json_object_object_add(object, "max_entries",
				       json_object_new_uint64(bpf_map__max_entries(map)));
		if (!bpf_obj_get_info_by_fd(bpf_map__fd(map), &info, &size))
			json_object_object_add(object, "id", json_object_new_uint64(info.id));
		json_object_array_add(list, object);
	}
	json_object_object_add(answer, "maps", list);
	json_object_object_add(answer, "contents", ub_maps_to_json(session->programs));
	return answer;
}

struct json_object *ub_session_answer(void *opaque, struct json_object *request)
{
	struct ub_session *session = opaque;
	struct json_object *cmd;
	struct ub_reason why;
	const char *name = json_object_object_get_ex(request, "cmd", &cmd)
				   ? json_object_get_string(cmd)
				   : NULL;

	if (!name) /* none, or null */
		name = "";
	if (ub_session_is_lost(session))
		return failure(-ECONNRESET,
			       (ub_reason_set(&why, 0,
					      "session %d lost the userspace "
					      "kernel's daemon and ends: start it again",
					      getpid()),
				&why));
	if (!strcmp(name, "attach"))
		return answer_attach(session, request);
	if (!strcmp(name, "detach"))
		return answer_detach(session, request);
	if (!strcmp(name, "list"))
		return answer_list(session);
	if (!strcmp(name, "maps"))
		return answer_maps(session);
	return failure(-EINVAL, (ub_reason_set(&why, 0, "no request '%s'", name), &why));
}
