// SPDX-License-Identifier: MIT
#include "session_private.h"

#include <stdio.h>
#include <unistd.h>

#include "map_dump.h"
#include "output.h"

/* Of a map, to people. */
enum { SHOWN_ENTRIES = 4096 };

static struct json_object *event(const struct ub_session *session, const char *name)
{
	struct json_object *object = json_object_new_object();
	char clock[9];

	ub_clock_text(clock);
	json_object_object_add(object, "event", json_object_new_string(name));
	json_object_object_add(object, "time", json_object_new_string(clock));
	json_object_object_add(object, "program", json_object_new_string(session->programs->name));
	return object;
}

static void add_target(struct json_object *object, const struct ub_tracee *target)
{
	json_object_object_add(object, "pid", json_object_new_int(target->pid));
	json_object_object_add(object, "comm", json_object_new_string(target->comm));
}

const char *ub_detach_result_text(enum ub_detach_result result)
{
	switch (result) {
	case UB_WAS_NOT_ATTACHED:
		return "was not attached";
	case UB_DETACH_CLEAN:
		return "clean";
	case UB_DETACH_LEFT:
		return "mapping left";
	case UB_DETACH_GONE:
		return "process ended";
	}
	return "?";
}

void ub_session_show_start(const struct ub_session *session)
{
	if (session->options->json) {
		struct json_object *object = event(session, "start");

		json_object_object_add(object, "backend",
				       json_object_new_string(session->options->backend->name));
		json_object_object_add(object, "session", json_object_new_int(getpid()));
		ub_json_line(object);
	} else if (session->options->verbose || session->options->stay) {
		ub_note("%s loaded on the %s backend (session %d)", session->programs->name,
			session->options->backend->name, getpid());
	}
}

void ub_session_show_attach(const struct ub_session *session,
			    const struct ub_attachment *attachment)
{
	if (session->options->json) {
		struct json_object *object = event(session, "attach");

		add_target(object, &attachment->target);
		json_object_object_add(object, "links",
				       json_object_new_uint64(attachment->nr_links));
		ub_json_line(object);
	} else {
		ub_note("attached %s to process %d (%s)", session->programs->name,
			attachment->target.pid, attachment->target.comm);
	}
}

void ub_session_show_detach(const struct ub_session *session,
			    const struct ub_detach_outcome *outcome)
{
	if (session->options->json) {
		struct json_object *object = event(session, "detach");

		add_target(object, &outcome->target);
		json_object_object_add(
			object, "result",
			json_object_new_string(ub_detach_result_text(outcome->result)));
		ub_json_line(object);
	} else if (outcome->result == UB_DETACH_LEFT) {
		ub_note("detached %s from process %d (%s): mapping left because %s",
			session->programs->name, outcome->target.pid, outcome->target.comm,
			outcome->left.text);
	} else {
		ub_note("detached %s from process %d (%s): %s", session->programs->name,
			outcome->target.pid, outcome->target.comm,
			ub_detach_result_text(outcome->result));
	}
}

static void show_count(void *opaque, pid_t pid, u64 count)
{
	const struct ub_session *session = opaque;
	const char *label = session->programs->bundled->pid_label;

	if (session->options->json) {
		struct json_object *object = event(session, "count");

		json_object_object_add(object, "pid", json_object_new_int(pid));
		json_object_object_add(object, "label", json_object_new_string(label));
		json_object_object_add(object, "count", json_object_new_uint64(count));
		ub_json_line(object);
	} else {
		printf("\tpid=%d      %s: %lu\n", pid, label, count);
	}
}

/* A histogram by powers of two, from the first to the last slot in use: "[16, 32)  123 |@@@@   |".
 */
static void show_histogram(struct json_object *slots)
{
	enum { WIDTH = 40 };
	size_t nr = json_object_array_length(slots), first = nr, last = 0;
	s64 most = 1;

	for (size_t i = 0; i < nr; i++) {
		s64 count = json_object_get_int64(json_object_array_get_idx(slots, i));

		if (!count)
			continue;
		first = first == nr ? i : first;
		last = i;
		most = count > most ? count : most;
	}
	for (size_t i = first; i < nr && i <= last; i++) {
		s64 count = json_object_get_int64(json_object_array_get_idx(slots, i));
		int bar = (int)((double)count / (double)most * WIDTH);
		char range[48];

		snprintf(range, sizeof(range), "[%llu, %llu)", i ? 1ull << i : 0ull, 2ull << i);
		printf("\t\t%-28s %10ld |%.*s%*s|\n", range, count, bar,
		       "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@", WIDTH - bar, "");
	}
}

static void show_entry(struct json_object *entry)
{
	struct json_object *key, *value, *slots;
	const char *key_text;

	json_object_object_get_ex(entry, "key", &key);
	key_text = json_object_to_json_string_ext(key, JSON_C_TO_STRING_PLAIN);
	if (!json_object_object_get_ex(entry, "value", &value))
		json_object_object_get_ex(entry, "values", &value);
	if (json_object_object_get_ex(value, "slots", &slots) &&
	    json_object_is_type(slots, json_type_array)) {
		printf("\t\t%s:\n", key_text);
		show_histogram(slots);
		return;
	}
	printf("\t\t%s: %s\n", key_text,
	       json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
}

static void show_maps(const struct ub_session *session)
{
	u32 max = session->options->json ? UB_DUMP_ENTRIES : SHOWN_ENTRIES + 1;
	struct json_object *maps = ub_results_to_json(session->programs, max);

	if (session->options->json) {
		struct json_object *object = event(session, "maps");

		json_object_object_add(object, "maps", maps);
		ub_json_line(object);
		return;
	}
	json_object_object_foreach(maps, name, entries)
	{
		printf("\t%s:\n", name);
		for (size_t i = 0; i < json_object_array_length(entries); i++) {
			if (i == SHOWN_ENTRIES) {
				printf("\t\t... (--json, or ubpf-run map dump %s, has all)\n",
				       name);
				break;
			}
			show_entry(json_object_array_get_idx(entries, i));
		}
	}
	json_object_put(maps);
}

/* Counts of the attached processes; of all that were counted, if @all. */
static void show_counts(const struct ub_session *session, bool all)
{
	const struct ub_bundled *bundled = session->programs->bundled;
	const struct ub_attachment *attachment;

	if (!bundled || !bundled->pid_map) {
		if (all || ub_link_manager_count(session->manager) || session->options->everybody)
			show_maps(session);
		return;
	}
	if (all || session->options->everybody) {
		if (ub_map_each_count(session->programs, bundled->pid_map, show_count,
				      (void *)session))
			ub_error("cannot read map %s", bundled->pid_map);
		return;
	}
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++)
		show_count((void *)session, attachment->target.pid,
			   ub_map_count_of(session->programs, bundled->pid_map,
					   attachment->target.pid));
}

void ub_session_show_tick(const struct ub_session *session)
{
	char clock[9];

	if (session->options->json) {
		ub_json_line(event(session, "tick"));
	} else {
		ub_clock_text(clock);
		puts(clock);
	}
	show_counts(session, false);
	fflush(stdout);
}

void ub_session_show_summary(const struct ub_session *session)
{
	if (session->options->json) {
		struct json_object *object = event(session, "summary");

		json_object_object_add(object, "backend",
				       json_object_new_string(session->options->backend->name));
		json_object_object_add(object, "maps",
				       ub_results_to_json(session->programs, UB_DUMP_ENTRIES));
		json_object_object_add(object, "lost_events",
				       json_object_new_uint64(session->nr_lost));
		if (session->nr_ring_lost)
			json_object_object_add(object, "lost_ring_records",
					       json_object_new_uint64(session->nr_ring_lost));
		if (session->options->command)
			json_object_object_add(object, "exit_status",
					       json_object_new_int(session->child_status));
		ub_json_line(object);
		return;
	}
	puts("total");
	show_counts(session, true);
	if (session->events || session->nr_lost)
		printf("\tlost events: %lu\n", session->nr_lost);
	/* Linux counts none: a program that asks for room is told, and nobody else. */
	if (session->nr_ring_lost)
		printf("\tring buffer records without room: %lu\n", session->nr_ring_lost);
	fflush(stdout);
	if (session->options->command && session->child_status)
		ub_note("%s ended with status %d", session->options->command[0],
			session->child_status);
}
