// SPDX-License-Identifier: MIT
/*
 * `run` without a pid: every process within reach. A backend that can attach a file for all
 * processes gets one link per probe and distinct file that somebody maps; with any other, processes
 * are attached one by one as they are found, and those that can't be are passed over.
 */
#include "session_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <common/cleanup.h>

#include "output.h"
#include "site_lock.h"

enum { MAX_FILES = 64 };

struct seen_file {
	dev_t dev;
	ino_t ino;
};

struct search {
	struct ub_session *session;
	const struct ub_probe *probe;
	struct seen_file files[MAX_FILES]; /* attached, for this probe */
	u32 nr_files;
	u32 nr_processes;
	struct ub_reason first_failure;
	struct ub_reason refused; /* not to be passed over */
};

static bool is_new_file(struct search *search, const char *path)
{
	struct stat st;

	if (stat(path, &st) || search->nr_files == MAX_FILES)
		return false;
	for (u32 i = 0; i < search->nr_files; i++) {
		if (search->files[i].dev == st.st_dev && search->files[i].ino == st.st_ino)
			return false;
	}
	search->files[search->nr_files++] = (struct seen_file) { st.st_dev, st.st_ino };
	return true;
}

static void attach_file_of(struct search *search, pid_t pid)
{
	struct ub_session *session = search->session;
	struct ub_tracee target = { .pidfd = -1 };
	const struct ub_backend *backend = session->options->backend;
	struct ub_backend_link *link;
	struct ub_reason why = { 0 };
	struct ub_tracee_file file;
	u64 offset;
	int err;

	if (search->refused.text[0] || ub_tracee_open(pid, &target, NULL))
		return;
	err = ub_probe_locate(search->probe, &target, &file, &offset, &why);
	if (!err && !is_new_file(search, file.path)) {
		ub_tracee_close(&target);
		return;
	}
	if (!err) {
		ub_site_lock(file.path, !backend->stops_targets);
		err = backend->attach_everywhere(search->probe, &file, offset, &link, &why);
		ub_site_lock_let_go();
	}
	if (err == -EBUSY)
		search->refused = why;
	if (err && !search->first_failure.text[0])
		search->first_failure = why;
	if (!err) {
		struct ub_backend_link **more =
			realloc(session->everybody, (session->nr_everybody + 1) * sizeof(*more));

		if (more) {
			session->everybody = more;
			session->everybody[session->nr_everybody++] = link;
		} else {
			backend->detach(link);
		}
	}
	ub_tracee_close(&target);
}

static void attach_process(struct search *search, pid_t pid)
{
	struct ub_reason why = { 0 };

	if (!ub_session_attach(search->session, pid, &why))
		search->nr_processes++;
	else if (!search->first_failure.text[0])
		search->first_failure = why;
}

static void each_process(struct search *search, void (*fn)(struct search *search, pid_t pid))
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc");

	while (dir && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			fn(search, (pid_t)strtol(entry->d_name, NULL, 10));
	}
	if (dir)
		closedir(dir);
}

int ub_session_attach_everybody(struct ub_session *session, struct ub_reason *why)
{
	struct search search = { .session = session };

	if (!session->options->backend->attach_everywhere) {
		each_process(&search, attach_process);
		if (!search.nr_processes)
			return ub_reason_set(why, -ESRCH, "no process could be attached: %s",
					     search.first_failure.text);
		return 0;
	}
	for (u32 i = 0; i < session->programs->nr_probes; i++) {
		search.probe = &session->programs->probes[i];
		search.nr_files = 0;
		each_process(&search, attach_file_of);
		if (search.refused.text[0])
			return ub_reason_set(why, -EBUSY, "%s", search.refused.text);
	}
	if (!session->nr_everybody)
		return ub_reason_set(why, -ESRCH, "nothing to attach to: %s",
				     search.first_failure.text);
	return 0;
}

void ub_session_detach_everybody(struct ub_session *session)
{
	while (session->nr_everybody)
		session->options->backend->detach(session->everybody[--session->nr_everybody]);
	free(session->everybody);
	session->everybody = NULL;
}
