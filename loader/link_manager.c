// SPDX-License-Identifier: MIT
#include "link_manager.h"

#include <errno.h>
#include <string.h>

#include <common/cleanup.h>

#include "site_lock.h"
#include "symbol.h"

struct entry {
	struct ub_attachment seen;
	struct ub_backend_link **links; /* seen.nr_links of them */
	struct entry *next;
};

struct ub_link_manager {
	const struct ub_backend *backend;
	const struct ub_programs *programs;
	struct entry *entries; /* in order of attaching */
	u64 nr_attaches;
	void (*on_link)(void *opaque, const struct ub_tracee *target, const char *line);
	void *on_link_opaque;
};

struct ub_link_manager *ub_link_manager_new(const struct ub_backend *backend,
					    const struct ub_programs *programs)
{
	struct ub_link_manager *manager = calloc(1, sizeof(*manager));

	if (manager)
		*manager = (struct ub_link_manager) { .backend = backend, .programs = programs };
	return manager;
}

void ub_link_manager_on_link(struct ub_link_manager *manager,
			     void (*fn)(void *opaque, const struct ub_tracee *target,
					const char *line),
			     void *opaque)
{
	manager->on_link = fn;
	manager->on_link_opaque = opaque;
}

int ub_probe_locate(const struct ub_probe *probe, const struct ub_tracee *target,
		    struct ub_tracee_file *file, u64 *offset, struct ub_reason *why)
{
	u64 start = 0;
	int err;

	err = ub_tracee_find_file(target, probe->file, probe->function, file, why);
	if (!err)
		err = ub_elf_check(file->path, why);
	if (!err && probe->function)
		err = ub_symbol_offset(file->path, probe->function, &start, why);
	if (!err)
		*offset = start + probe->offset;
	return err;
}

static struct entry **find(const struct ub_link_manager *manager, pid_t pid)
{
	struct entry **at = (struct entry **)&manager->entries;

	while (*at && (*at)->seen.target.pid != pid)
		at = &(*at)->next;
	return at;
}

/* Destroys the links, last first, as far as they were made. */
static void destroy_links(const struct ub_link_manager *manager, struct entry *entry)
{
	while (entry->seen.nr_links)
		manager->backend->detach(entry->links[--entry->seen.nr_links]);
}

/* Ends in DETACHED: the entry is out of the table and freed. */
static void remove_entry(struct ub_link_manager *manager, struct entry **at,
			 struct ub_detach_outcome *outcome)
{
	struct ub_removal_report report = { .clean = true };
	struct entry *entry = *at;
	bool gone = ub_tracee_is_gone(&entry->seen.target);

	entry->seen.state = UB_DETACHING;
	destroy_links(manager, entry);
	if (!gone && manager->backend->report_removal)
		manager->backend->report_removal(&entry->seen.target, &report);
	*at = entry->next;
	ub_tracee_close(&entry->seen.target);
	if (outcome) {
		*outcome = (struct ub_detach_outcome) {
			.result = gone		 ? UB_DETACH_GONE
				  : report.clean ? UB_DETACH_CLEAN
						 : UB_DETACH_LEFT,
			.target = entry->seen.target,
			.left = report.left,
		};
	}
	free(entry->links);
	free(entry);
}

void ub_link_manager_free(struct ub_link_manager *manager)
{
	if (!manager)
		return;
	while (manager->entries)
		remove_entry(manager, &manager->entries, NULL);
	free(manager);
}

static void tell_link(const struct ub_link_manager *manager, const struct ub_probe *probe,
		      const struct ub_tracee *target, const struct ub_tracee_file *file, u64 offset)
{
	char line[sizeof(probe->text) + PATH_MAX + 64];

	if (!manager->on_link)
		return;
	if (probe->kind == UB_PROBE_USDT)
		snprintf(line, sizeof(line), "%s in %s", probe->text, file->shown);
	else
		snprintf(line, sizeof(line), "%s at %s + 0x%lx", probe->text, file->shown, offset);
	manager->on_link(manager->on_link_opaque, target, line);
}

static int attach_probe(struct ub_link_manager *manager, struct entry *entry,
			const struct ub_probe *probe, struct ub_reason *why)
{
	const struct ub_tracee *target = &entry->seen.target;
	struct ub_backend_link *link;
	struct ub_tracee_file file;
	u64 offset;
	int err;

	err = ub_probe_locate(probe, target, &file, &offset, why);
	if (err)
		return err;
	ub_site_lock(file.path, !manager->backend->stops_targets);
	err = manager->backend->attach(probe, target, &file, offset, &link, why);
	ub_site_lock_let_go();
	if (err)
		return err;
	entry->links[entry->seen.nr_links++] = link;
	tell_link(manager, probe, target, &file, offset);
	return 0;
}

static int attach_all_probes(struct ub_link_manager *manager, struct entry *entry,
			     struct ub_reason *why)
{
	for (u32 i = 0; i < manager->programs->nr_probes; i++) {
		int err = attach_probe(manager, entry, &manager->programs->probes[i], why);

		if (err)
			return err;
	}
	return 0;
}

static struct entry *new_entry(const struct ub_programs *programs)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->seen.target.pidfd = -1;
	entry->links = calloc(programs->nr_probes, sizeof(struct ub_backend_link *));
	if (!entry->links) {
		free(entry);
		return NULL;
	}
	return entry;
}

int ub_link_manager_attach(struct ub_link_manager *manager, pid_t pid, struct ub_reason *why)
{
	struct entry **at = find(manager, pid);
	struct entry *entry;
	int err;

	if (*at && ub_tracee_is_gone(&(*at)->seen.target)) {
		remove_entry(manager, at, NULL);
		at = find(manager, pid);
	}
	if (*at)
		return ub_reason_set(why, -EALREADY, "process %d (%s) is attached already", pid,
				     (*at)->seen.target.comm);
	entry = new_entry(manager->programs);
	if (!entry)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	err = ub_tracee_open(pid, &entry->seen.target, why);
	if (!err && manager->backend->check_target)
		err = manager->backend->check_target(&entry->seen.target, why);
	if (err) {
		ub_tracee_close(&entry->seen.target);
		free(entry->links);
		free(entry);
		return err;
	}
	entry->seen.state = UB_ATTACHING;
	*at = entry;
	err = attach_all_probes(manager, entry, why);
	if (err) {
		remove_entry(manager, at, NULL);
		return err;
	}
	entry->seen.state = UB_ATTACHED;
	entry->seen.number = ++manager->nr_attaches;
	return 0;
}

void ub_link_manager_detach(struct ub_link_manager *manager, pid_t pid,
			    struct ub_detach_outcome *outcome)
{
	struct entry **at = find(manager, pid);

	if (*at)
		remove_entry(manager, at, outcome);
	else if (outcome)
		*outcome = (struct ub_detach_outcome) { .result = UB_WAS_NOT_ATTACHED,
							.target = { .pid = pid, .pidfd = -1 } };
}

bool ub_link_manager_reap(struct ub_link_manager *manager, struct ub_detach_outcome *outcome)
{
	for (struct entry **at = &manager->entries; *at; at = &(*at)->next) {
		if (ub_tracee_is_gone(&(*at)->seen.target)) {
			remove_entry(manager, at, outcome);
			return true;
		}
	}
	return false;
}

enum ub_attach_state ub_link_manager_state(const struct ub_link_manager *manager, pid_t pid)
{
	const struct entry *entry = *find(manager, pid);

	return entry ? entry->seen.state : UB_DETACHED;
}

u32 ub_link_manager_count(const struct ub_link_manager *manager)
{
	u32 nr = 0;

	for (const struct entry *entry = manager->entries; entry; entry = entry->next)
		nr++;
	return nr;
}

const struct ub_attachment *ub_link_manager_at(const struct ub_link_manager *manager, u32 index)
{
	const struct entry *entry = manager->entries;

	while (entry && index--)
		entry = entry->next;
	return entry ? &entry->seen : NULL;
}
