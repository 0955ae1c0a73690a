// SPDX-License-Identifier: MIT
/* Which threads run in a target's memory, and making them ours: see seize.c. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include <common/cleanup.h>
#include <surgeon/seize.h>

#define PF_IO_WORKER   0x00000010
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD     0x00200000

struct ub_thread *ub_thread_find(struct ub_target *t, pid_t tid)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].tid == tid)
			return &t->threads[i];
	}
	return NULL;
}

/* Known threads by tid, so that looking at 1 000 of them again costs no 1 000 000 comparisons. */
static int compare_tids(const void *a, const void *b)
{
	return *(const pid_t *)a < *(const pid_t *)b ? -1 : *(const pid_t *)a > *(const pid_t *)b;
}

int ub_thread_add(struct ub_target *t, pid_t process, pid_t tid, enum ub_thread_state state)
{
	if (t->nr_threads == t->room) {
		u32 room = t->room ? 2 * t->room : 64;
		struct ub_thread *threads = realloc(t->threads, room * sizeof(*threads));

		if (!threads)
			return -ENOMEM;
		t->threads = threads;
		t->room = room;
	}
	t->threads[t->nr_threads] = (struct ub_thread) {
		.tid = tid,
		.process = process,
		.state = state,
	};
	t->nr_threads++;
	return 0;
}

int ub_thread_stat(const struct ub_thread *thread, char *state, u64 *flags)
{
	char proc[96], text[UB_PROC_STAT_MAX];

	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", thread->process, thread->tid);
	if (ub_proc_stat_read(proc, text))
		return -ESRCH;
	*state = *ub_proc_stat_field(text, UB_PROC_STAT_STATE);
	*flags = strtoull(ub_proc_stat_field(text, UB_PROC_STAT_FLAGS), NULL, 10);
	return 0;
}

static bool ours_already(pid_t process, pid_t tid)
{
	char proc[96];
	u64 tracer = 0;

	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", process, tid);
	return !ub_proc_status(proc, "TracerPid", 10, &tracer) && tracer == (u64)getpid();
}

/* 0: seized, or nothing that could be. */
int ub_seize_thread(struct ub_target *t, pid_t process, pid_t tid, struct ub_reason *why)
{
	struct ub_thread probe = { .tid = tid, .process = process };
	u64 flags = 0;
	char state;
	int err;

	if (!ptrace(PTRACE_SEIZE, tid, 0, UB_TRACE_OPTIONS)) {
		ub_watchdog_note(tid);
		return ub_thread_add(t, process, tid, UB_THREAD_SEIZED);
	}
	err = errno;
	/* Another of ours was faster since ub_refuse() looked; nothing is held yet. (We ourselves
	 * may hold the thread that was too slow to work alone.) */
	if (err == EPERM && !t->nr_threads && !ours_already(process, tid) &&
	    ub_is_traced_by_ours(tid)) {
		ub_surgeon_await(tid);
		if (!ptrace(PTRACE_SEIZE, tid, 0, UB_TRACE_OPTIONS)) {
			ub_watchdog_note(tid);
			return ub_thread_add(t, process, tid, UB_THREAD_SEIZED);
		}
		err = errno;
	}
	if (err == ESRCH)
		return 0;
	if (ours_already(process, tid))
		return ub_thread_add(t, process, tid, UB_THREAD_SEIZED);
	if (ub_thread_stat(&probe, &state, &flags))
		return 0;
	if (state == 'Z' || state == 'X' || (flags & (PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD)))
		return ub_thread_add(t, process, tid, UB_THREAD_GONE);
	return ub_refuse_seize(t->pid, tid, err, why);
}

/* Seizes the threads of @process that are not known yet. Number of them, or -errno. */
int ub_seize_process(struct ub_target *t, pid_t process, bool interrupt, struct ub_reason *why)
{
	_cleanup_free_ pid_t *known = NULL;
	u32 nr_known = t->nr_threads;
	struct dirent *entry;
	char path[64];
	int nr = 0, err = 0;
	DIR *tasks;

	known = malloc((nr_known + 1) * sizeof(*known));
	if (!known)
		return -ENOMEM;
	for (u32 i = 0; i < nr_known; i++)
		known[i] = t->threads[i].tid;
	qsort(known, nr_known, sizeof(*known), compare_tids);

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	tasks = opendir(path);
	if (!tasks)
		return process == t->pid ? ub_reason_set(why, -ESRCH, "process %d is gone", process)
					 : 0;
	while ((entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);
		u32 before = t->nr_threads;

		if (tid <= 0 || bsearch(&tid, known, nr_known, sizeof(tid), compare_tids))
			continue;
		err = ub_seize_thread(t, process, tid, why);
		if (err)
			break;
		if (t->nr_threads == before)
			continue;
		if (t->threads[before].state != UB_THREAD_SEIZED)
			continue;
		nr++;
		if (interrupt)
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	}
	closedir(tasks);
	return err ? err : nr;
}

/* --- other processes in the same memory ---------------------------------------------------- */

static bool known_process(const struct ub_target *t, pid_t pid)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].process == pid)
			return true;
	}
	return pid == t->pid;
}

/* Seizes every process that shares the memory. Other users' can't be compared: they don't. */
int ub_seize_sharers(struct ub_target *t, struct ub_reason *why)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int nr = 0;

	if (!proc)
		return 0;
	while (nr >= 0 && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || pid == getpid() || pid == t->pid)
			continue;
		nr = ub_shares(t, pid, why);
		if (nr == 1 && !known_process(t, pid))
			nr = ub_seize_process(t, pid, false, why);
	}
	closedir(proc);
	return nr < 0 ? nr : 0;
}

/* Children of a thread that waits in vfork(). */
int ub_seize_children(struct ub_target *t, const struct ub_thread *parent, struct ub_reason *why)
{
	char path[96];
	FILE *children;
	int pid, nr = 0, found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent->process, parent->tid);
	children = fopen(path, "re");
	if (!children)
		return 0;
	while (nr >= 0 && fscanf(children, "%d", &pid) == 1) {
		if (known_process(t, pid))
			continue;
		nr = ub_shares(t, pid, why);
		if (nr == 1)
			nr = ub_seize_process(t, pid, true, why);
		found += nr > 0 ? nr : 0;
	}
	fclose(children);
	return nr < 0 ? nr : found;
}
