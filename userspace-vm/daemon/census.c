// SPDX-License-Identifier: MIT
/*
 * Links without a pid count in every process of the user that maps their file, now and as they
 * come. Linux learns of a new mapping from mmap itself; here /proc is looked through, four times a
 * second while such links exist. What one look costs is kept down by remembering processes that
 * were looked at: a process is looked at in its first few rounds (it may be between fork, exec and
 * dlopen) and then once a second, and what it maps is mostly only read when that has become more or
 * less. A process that nobody knows yet, a child that just forked, is found sooner: the number that
 * was given out last (/proc/loadavg) tells in one short read whether there can be one, and which
 * numbers it can have.
 */
#include "targets.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>

#define ROUND_MS	 250
#define NEWCOMERS_MS	 20
#define NEWCOMER_ROUNDS	 3   /* by then it has executed what it was made for */
#define MAX_NEWCOMERS	 256 /* more at a time are left to the next round */
#define FIRST_ROUNDS	 10
#define KNOWN_AGAIN_MS	 1000
#define REFUSED_AGAIN_MS 5000
#define MAX_SKIPPED	 4 /* looks at a process whose mappings have kept their size */

struct known {
	pid_t pid;
	u32 rounds;
	u64 again_ms;
	u64 pages; /* that it had mapped when they were looked through; 0: look again */
	u32 skipped;
};

struct newcomer {
	pid_t pid;
	u32 rounds;
};

struct census {
	struct targets *targets;
	u64 next_ms;
	u32 nr_known;
	u32 capacity;
	struct known *known; /* by pid */
	struct ub_timer *timer;
	u64 last_pid; /* given out when newcomers were last looked for */
	u32 nr_newcomers;
	struct newcomer newcomers[MAX_NEWCOMERS];
};

enum whom { EVERYBODY, WHO_IS_DUE };

enum found { NOTHING, NOTHING_TO_DO, ATTACHED };

static bool is_everywhere(const struct link *link)
{
	return link->enabled && link->pid < 0 && !link->session->only_pids;
}

static bool any_everywhere(const struct targets *targets)
{
	for (const struct link *link = targets->links; link; link = link->next) {
		if (is_everywhere(link))
			return true;
	}
	return false;
}

struct look {
	struct targets *targets;
	pid_t pid;
};

static int matches(void *opaque, const struct ub_procfs_file *file)
{
	const struct look *look = opaque;

	for (const struct link *link = look->targets->links; link; link = link->next) {
		/* The inode is enough to look closer, which ub_daemon_target_update() does. */
		if (is_everywhere(link) && link->ino == file->ino)
			return 1;
	}
	return 0;
}

static bool may_be_target(const struct targets *targets, pid_t pid)
{
	struct ub_procfs_status status;
	pid_t self = getpid();

	if (pid == self || pid == targets->daemon->guard_pid || ub_procfs_status(pid, &status))
		return false;
	/* Our own children are surgeons; a newcomer may be a thread. */
	if (status.parent == self || status.tgid != pid || !status.has_memory)
		return false;
	for (const struct link *link = targets->links; link; link = link->next) {
		if (is_everywhere(link) && link->session->uid == status.uid)
			return true;
	}
	return false;
}

static void refused(struct target *target, int err, const struct ub_reason *why)
{
	target->refused_until_ms = ub_daemon_now_ms() + REFUSED_AGAIN_MS;
	if (target->counted_refused)
		return;
	target->counted_refused = true;
	for (struct link *link = target->targets->links; link; link = link->next) {
		if (is_everywhere(link) && ub_daemon_link_covers(link, target))
			link->nr_refused++;
	}
	ub_daemon_log(target->targets->daemon, "pid %d refused: %s: %s", target->pid,
		      strerror(-err), why->text);
}

/* NOTHING: it has ended, or maps nothing that any link is for. ATTACHED: it holds a link that it
 * did not hold before. */
static enum found visit(struct census *census, pid_t pid)
{
	struct targets *targets = census->targets;
	struct look look = { targets, pid };
	struct ub_reason why = {};
	struct target *target;
	u32 before;
	int err;

	if (!may_be_target(targets, pid) || ub_procfs_files(pid, matches, &look) != 1)
		return NOTHING;
	target = ub_daemon_target_get(targets, pid);
	if (!target || ub_daemon_now_ms() < target->refused_until_ms ||
	    ub_daemon_now_ms() < target->retry_at_ms)
		return NOTHING_TO_DO;
	before = target->nr_links;
	err = ub_daemon_target_update(target, &why);
	if (err == -EOPNOTSUPP && target->image == NULL)
		target->dirty = true; /* the tick tells the links apart */
	else if (err && err != -ENOENT && err != -ESRCH && err != -EAGAIN)
		refused(target, err, &why);
	return target->nr_links > before ? ATTACHED : NOTHING_TO_DO;
}

/* The same for one that was looked at before, or will be again. */
static bool visit_known(struct census *census, struct known *known, enum whom whom)
{
	const u64 pages = ub_procfs_pages(known->pid);
	enum found found;

	/* What unmaps as much as it maps is found a little later. */
	if (whom != EVERYBODY && pages && pages == known->pages && known->skipped < MAX_SKIPPED) {
		known->skipped++;
		return false;
	}
	found = visit(census, known->pid);
	known->pages = found == NOTHING ? pages : 0;
	known->skipped = 0;
	return found == ATTACHED;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = ((const struct known *)a)->pid, y = ((const struct known *)b)->pid;

	return x < y ? -1 : x > y;
}

static const struct known *find_known(const struct census *census, pid_t pid)
{
	struct known key = { .pid = pid };

	return census->nr_known
		       ? bsearch(&key, census->known, census->nr_known, sizeof(key), by_pid)
		       : NULL;
}

/* The processes of this round replace those of the last. */
static bool remember(struct known **list, u32 *nr, u32 *capacity, struct known entry)
{
	if (*nr == *capacity) {
		u32 more = *capacity ? *capacity * 2 : 256;
		struct known *grown = reallocarray(*list, more, sizeof(*grown));

		if (!grown)
			return false;
		*list = grown;
		*capacity = more;
	}
	(*list)[(*nr)++] = entry;
	return true;
}

static bool is_due(enum whom whom, const struct known *old, u64 now)
{
	return whom == EVERYBODY || !old || old->rounds < FIRST_ROUNDS || now >= old->again_ms;
}

static u32 look_around(struct census *census, enum whom whom)
{
	struct known *seen = NULL;
	u32 nr = 0, capacity = 0, attached = 0;
	u64 now = ub_daemon_now_ms();
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	if (!proc)
		return 0;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		const struct known *old;
		struct known next = { .pid = pid };

		if (pid <= 0)
			continue;
		old = find_known(census, pid);
		if (old)
			next = *old;
		if (is_due(whom, old, now)) {
			attached += visit_known(census, &next, whom);
			next.rounds++;
			next.again_ms = now + KNOWN_AGAIN_MS;
		}
		if (!remember(&seen, &nr, &capacity, next))
			break;
	}
	closedir(proc);
	free(census->known);
	census->known = seen;
	census->nr_known = nr;
	census->capacity = capacity;
	if (nr)
		qsort(seen, nr, sizeof(*seen), by_pid);
	return attached;
}

static void note_newcomers(struct census *census)
{
	const u64 last = ub_procfs_last_pid();
	u64 pid = census->last_pid;

	census->last_pid = last;
	/* Numbers begin anew, or there are many: the next round finds them. */
	if (last < pid || last - pid > MAX_NEWCOMERS)
		census->next_ms = 0;
	else
		while (pid++ < last && census->nr_newcomers < MAX_NEWCOMERS)
			census->newcomers[census->nr_newcomers++] =
				(struct newcomer) { .pid = (pid_t)pid };
}

static void watch_newcomers(struct census *census);

static void on_newcomers(void *opaque)
{
	struct census *census = opaque;
	u32 kept = 0;

	census->timer = NULL;
	if (!any_everywhere(census->targets))
		return;
	note_newcomers(census);
	for (u32 i = 0; i < census->nr_newcomers; i++) {
		struct newcomer newcomer = census->newcomers[i];

		visit(census, newcomer.pid);
		if (++newcomer.rounds < NEWCOMER_ROUNDS && ub_procfs_pages(newcomer.pid))
			census->newcomers[kept++] = newcomer;
	}
	census->nr_newcomers = kept;
	watch_newcomers(census);
}

static void watch_newcomers(struct census *census)
{
	if (!census->timer)
		census->timer = ub_loop_after(census->targets->daemon->loop, NEWCOMERS_MS,
					      on_newcomers, census);
}

u32 ub_daemon_census_take(struct census *census)
{
	if (!any_everywhere(census->targets))
		return 0;
	census->next_ms = ub_daemon_now_ms() + ROUND_MS;
	if (!census->timer)
		census->last_pid = ub_procfs_last_pid();
	watch_newcomers(census);
	return look_around(census, EVERYBODY);
}

void ub_daemon_census_tick(struct census *census)
{
	if (!any_everywhere(census->targets)) {
		census->nr_known = census->nr_newcomers = 0;
		return;
	}
	if (ub_daemon_now_ms() < census->next_ms)
		return;
	census->next_ms = ub_daemon_now_ms() + ROUND_MS;
	watch_newcomers(census);
	look_around(census, WHO_IS_DUE);
}

struct census *ub_daemon_census_new(struct targets *targets)
{
	struct census *census = calloc(1, sizeof(*census));

	if (census)
		census->targets = targets;
	return census;
}

void ub_daemon_census_free(struct census *census)
{
	if (!census)
		return;
	ub_timer_remove(census->timer);
	free(census->known);
	free(census);
}
