// SPDX-License-Identifier: MIT
#include "backend.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "daemon_sessions.h"
#include "libbpf_link.h"
#include "site_lock.h"

enum { LOCK_MS = 1000 }; /* so long others may have to wait for us */

/* A session takes its signals from its loop, which it is not in while it waits. */
static bool is_told_to_end(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t pending;

	sigpending(&pending);
	for (size_t i = 0; i < ub_array_size(ends); i++) {
		if (sigismember(&pending, ends[i]) > 0)
			return true;
	}
	return false;
}

static bool while_waiting(u64 ms)
{
	if (ms >= LOCK_MS)
		ub_site_lock_let_go();
	return !is_told_to_end();
}

static int enter(struct ub_reason *why)
{
	ub_client_on_wait(while_waiting);
	return ub_client_enter(why);
}

static struct json_object *ask(const char *request)
{
	_cleanup_free_ char *text = NULL;

	if (ub_client_lost(NULL) || ub_client_ask(request, &text, NULL))
		return NULL;
	return json_tokener_parse(text);
}

static int attach(const struct ub_probe *probe, const struct ub_tracee *target,
		  const struct ub_tracee_file *file, u64 offset, struct ub_backend_link **out,
		  struct ub_reason *why)
{
	int err = ub_libbpf_attach(probe, target, file, offset, out, why);
	struct ub_reason refusal;

	if (!err || err == -ESRCH || ub_client_lost(NULL))
		return err;
	/* libbpf has only the errno. */
	ub_daemon_refusal(&refusal);
	if (!refusal.text[0])
		return err;
	return ub_reason_set(why, err, "cannot attach %s to process %d (%s): %s", probe->text,
			     target->pid, target->comm, refusal.text);
}

/* What the daemon says of the process under @key: false: nothing, or true and *text. */
static bool find_said(pid_t pid, const char *key, struct ub_reason *text)
{
	struct json_object *answer = ask("{\"cmd\":\"attached\"}"), *list, *value;
	bool found = false;

	if (answer && json_object_object_get_ex(answer, "processes", &list) &&
	    json_object_is_type(list, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *process = json_object_array_get_idx(list, i);

			if (!json_object_object_get_ex(process, "pid", &value) ||
			    json_object_get_int(value) != pid ||
			    !json_object_object_get_ex(process, key, &value))
				continue;
			found = true;
			ub_reason_set(text, 0, "%s", json_object_get_string(value));
		}
	}
	json_object_put(answer);
	return found;
}

static bool is_waiting(const struct ub_tracee *target, struct ub_reason *why)
{
	return find_said(target->pid, "waits", why);
}

static void report_removal(const struct ub_tracee *target, struct ub_removal_report *report)
{
	enum { TRIES = 50, WAIT_NS = 10000000 };
	const struct timespec wait = { 0, WAIT_NS };

	for (int i = 0; i < TRIES; i++) {
		report->clean = !find_said(target->pid, "left", &report->left);
		if (report->clean || report->left.text[0])
			return;
		nanosleep(&wait, NULL);
	}
	ub_reason_set(&report->left, 0, "the daemon has not got round to removing it");
}

static u64 lost_ring_records(u32 map_id)
{
	struct json_object *answer, *records;
	char request[64];
	u64 n = 0;

	snprintf(request, sizeof(request), "{\"cmd\":\"lost\",\"map\":%u}", map_id);
	answer = ask(request);
	if (json_object_object_get_ex(answer, "records", &records))
		n = (u64)json_object_get_int64(records);
	json_object_put(answer);
	return n;
}

const struct ub_backend ub_backend_userspace = {
	.name = "userspace",
	.stops_targets = true,
	.enter = enter,
	.attach = attach,
	.detach = ub_libbpf_detach,
	.check_target = ub_tracee_may_trace,
	.is_waiting = is_waiting,
	.report_removal = report_removal,
	.lost_ring_records = lost_ring_records,
};
