/* SPDX-License-Identifier: MIT */
#include "residue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <common/foreign.h>

struct ub_residue {
	char **lines;
	size_t nr, room;
	bool failed; /* out of memory */
};

struct mapping {
	unsigned long start, end, offset, inode;
	unsigned int major, minor;
	char perms[5];
	char path[600];
};

static void __attribute__((format(printf, 2, 3))) add(struct ub_residue *r, const char *fmt, ...)
{
	va_list args;
	char *line;
	int n;

	if (r->nr == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		char **lines = realloc(r->lines, room * sizeof(*lines));

		if (!lines) {
			r->failed = true;
			return;
		}
		r->lines = lines;
		r->room = room;
	}
	va_start(args, fmt);
	n = vasprintf(&line, fmt, args);
	va_end(args);
	if (n < 0)
		r->failed = true;
	else
		r->lines[r->nr++] = line;
}

void ub_residue_free(struct ub_residue *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->nr; i++)
		free(r->lines[i]);
	free(r->lines);
	free(r);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A zombie leader's /proc/PID shows nothing: any living thread shows what they all share. */
static int open_shared(pid_t pid, char *dir, size_t size)
{
	char path[300];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return -ESRCH;
	snprintf(dir, size, "/proc/%d", pid);
	while ((entry = readdir(tasks))) {
		char link[8];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/exe", pid, entry->d_name);
		if (readlink(path, link, sizeof(link)) > 0) {
			snprintf(dir, size, "/proc/%d/task/%s", pid, entry->d_name);
			break;
		}
	}
	closedir(tasks);
	return 0;
}

/* Bytes of [start, end) that differ from the file, or -1: can't be read. */
static long differing(int mem, pid_t pid, const struct mapping *m)
{
	static __thread uint8_t a[65536], b[65536];
	char proc[32], path[700];
	long n = 0;
	int file;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", pid, m->start, m->end);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0) {
		snprintf(proc, sizeof(proc), "/proc/%d", pid);
		if (!ub_foreign_path(proc, m->path, path, sizeof(path)))
			file = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (file < 0)
		return -1;
	for (unsigned long at = m->start; at < m->end;) {
		size_t want = m->end - at < sizeof(a) ? m->end - at : sizeof(a);
		ssize_t x = pread(mem, a, want, at);
		ssize_t y = pread(file, b, want, m->offset + (at - m->start));

		if (x <= 0 || y <= 0)
			break;
		if (y < x)
			x = y;
		if (memcmp(a, b, x)) {
			for (ssize_t i = 0; i < x; i++)
				n += a[i] != b[i];
		}
		at += x;
	}
	close(file);
	return n;
}

static bool is_anonymous(const struct mapping *m)
{
	return !m->path[0] && (!strcmp(m->perms, "rw-p") || !strcmp(m->perms, "---p"));
}

static void add_mapping(struct ub_residue *r, const struct mapping *m, unsigned int flags)
{
	if (is_anonymous(m)) {
		if (!(flags & UB_RESIDUE_NO_ANON))
			add(r, "map %lx-%lx anonymous", m->start, m->end);
	} else if (!strcmp(m->path, "[heap]") || !strcmp(m->path, "[stack]")) {
		add(r, "map %s %s", m->perms, m->path);
	} else {
		add(r, "map %lx-%lx %s %lx %x:%x %lu %s", m->start, m->end, m->perms, m->offset,
		    m->major, m->minor, m->inode, m->path);
	}
}

static int add_memory(struct ub_residue *r, pid_t pid, const char *dir, unsigned int flags)
{
	struct mapping m, merged = { 0 };
	unsigned long anonymous;
	char path[400], line[1024];
	FILE *smaps;
	int mem;

	snprintf(path, sizeof(path), "%s/smaps", dir);
	smaps = fopen(path, "re");
	if (!smaps)
		return -errno;
	snprintf(path, sizeof(path), "%s/mem", dir);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	memset(&m, 0, sizeof(m));
	while (fgets(line, sizeof(line), smaps)) {
		if (strspn(line, "0123456789abcdef") && strchr(line, '-') &&
		    sscanf(line, "%lx-%lx", &m.start, &m.end) == 2) {
			m.path[0] = '\0';
			sscanf(line, "%*x-%*x %4s %lx %x:%x %lu %599[^\n]", m.perms, &m.offset,
			       &m.major, &m.minor, &m.inode, m.path);
			if (is_anonymous(&m) && merged.end == m.start) {
				merged.end = m.end;
			} else {
				if (merged.end)
					add_mapping(r, &merged, flags);
				merged = m;
				if (!is_anonymous(&m)) {
					add_mapping(r, &m, flags);
					merged.end = 0;
				}
			}
			continue;
		}
		if (sscanf(line, "Anonymous: %lu", &anonymous) == 1 && m.perms[2] == 'x' &&
		    m.inode) {
			if (flags & UB_RESIDUE_FULL)
				add(r, "text %lx %s anonymous %lu kB, %ld bytes differ", m.start,
				    m.path, anonymous, differing(mem, pid, &m));
			else
				add(r, "text %lx %s anonymous %lu kB", m.start, m.path, anonymous);
		}
	}
	if (merged.end)
		add_mapping(r, &merged, flags);
	if (mem >= 0)
		close(mem);
	fclose(smaps);
	return 0;
}

static int add_fds(struct ub_residue *r, const char *dir)
{
	char path[700], link[512];
	struct dirent *entry;
	DIR *fds;

	snprintf(path, sizeof(path), "%s/fd", dir);
	fds = opendir(path);
	if (!fds)
		return -errno;
	while ((entry = readdir(fds))) {
		ssize_t n;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/fd/%s", dir, entry->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = '\0';
		add(r, "fd %s %s", entry->d_name, link);
	}
	closedir(fds);
	return 0;
}

static unsigned long caught(const char *path)
{
	unsigned long mask = 0;
	char line[256];
	FILE *status = fopen(path, "re");

	while (status && fgets(line, sizeof(line), status)) {
		if (sscanf(line, "SigCgt: %lx", &mask) == 1)
			break;
	}
	if (status)
		fclose(status);
	return mask;
}

static void add_status(struct ub_residue *r, const char *path, const char *prefix,
		       const char *const *keys)
{
	char line[256];
	FILE *status = fopen(path, "re");

	if (!status)
		return;
	while (fgets(line, sizeof(line), status)) {
		for (int i = 0; keys[i]; i++) {
			size_t n = strlen(keys[i]);

			if (strncmp(line, keys[i], n))
				continue;
			line[strcspn(line, "\n")] = '\0';
			if (!strcmp(keys[i], "SigBlk:")) {
				/* A signal is blocked while its handler runs: leave those out. */
				add(r, "%s SigBlk %lx", prefix,
				    strtoul(line + n, NULL, 16) & ~caught(path));
				continue;
			}
			for (char *p = line; *p; p++)
				*p = *p == '\t' ? ' ' : *p;
			add(r, "%s %s", prefix, line);
		}
	}
	fclose(status);
}

static int add_tasks(struct ub_residue *r, pid_t pid, unsigned int flags)
{
	static const char *const keys[] = { "SigBlk:", "TracerPid:", "Seccomp:", NULL };
	char path[400], prefix[300];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return -errno;
	while ((entry = readdir(tasks))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(prefix, sizeof(prefix), "task %s", entry->d_name);
		add(r, "%s", prefix);
		if (!(flags & UB_RESIDUE_FULL))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
		add_status(r, path, prefix, keys);
	}
	closedir(tasks);
	return 0;
}

int ub_residue_snapshot(pid_t pid, unsigned int flags, struct ub_residue **out)
{
	static const char *const cheap[] = { "TracerPid:", NULL };
	static const char *const full[] = { "TracerPid:", "SigIgn:", "SigCgt:", NULL };
	static const char *const limits[] = { "Max open files", "Max locked memory", NULL };
	struct ub_residue *r = calloc(1, sizeof(*r));
	char dir[300], path[400];
	int err;

	if (!r)
		return -ENOMEM;
	err = open_shared(pid, dir, sizeof(dir));
	if (!err)
		err = add_memory(r, pid, dir, flags);
	if (!err && !(flags & UB_RESIDUE_NO_ANON))
		err = add_fds(r, dir);
	if (!err && !(flags & UB_RESIDUE_NO_TASKS))
		err = add_tasks(r, pid, flags);
	if (!err) {
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
		add_status(r, path, "proc", flags & UB_RESIDUE_FULL ? full : cheap);
		snprintf(path, sizeof(path), "/proc/%d/limits", pid);
		if (flags & UB_RESIDUE_FULL)
			add_status(r, path, "proc", limits);
	}
	if (!err && r->failed)
		err = -ENOMEM;
	if (err) {
		ub_residue_free(r);
		return err;
	}
	qsort(r->lines, r->nr, sizeof(*r->lines), compare);
	*out = r;
	return 0;
}

int ub_residue_save(const struct ub_residue *r, FILE *to)
{
	for (size_t i = 0; i < r->nr; i++)
		fprintf(to, "%s\n", r->lines[i]);
	return fflush(to) ? -errno : 0;
}

int ub_residue_load(FILE *from, struct ub_residue **out)
{
	struct ub_residue *r = calloc(1, sizeof(*r));
	char line[1200];

	if (!r)
		return -ENOMEM;
	while (fgets(line, sizeof(line), from)) {
		line[strcspn(line, "\n")] = '\0';
		add(r, "%s", line);
	}
	if (r->failed) {
		ub_residue_free(r);
		return -ENOMEM;
	}
	qsort(r->lines, r->nr, sizeof(*r->lines), compare);
	*out = r;
	return 0;
}

bool ub_residue_touched(const struct ub_residue *r)
{
	for (size_t i = 0; i < r->nr; i++) {
		const char *at = strstr(r->lines[i], " anonymous ");

		if (!strncmp(r->lines[i], "text ", 5) && at && strncmp(at, " anonymous 0 kB", 15))
			return true;
	}
	return false;
}

int ub_residue_diff(const struct ub_residue *before, const struct ub_residue *after, FILE *to)
{
	size_t i = 0, j = 0;
	int nr = 0;

	while (i < before->nr || j < after->nr) {
		int order = i == before->nr  ? 1
			    : j == after->nr ? -1
					     : strcmp(before->lines[i], after->lines[j]);

		if (!order) {
			i++;
			j++;
			continue;
		}
		if (to)
			fprintf(to, "%c %s\n", order < 0 ? '-' : '+',
				order < 0 ? before->lines[i] : after->lines[j]);
		if (order < 0)
			i++;
		else
			j++;
		nr++;
	}
	return nr;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int ub_residue_check(pid_t pid, const struct ub_residue *before, unsigned int flags,
		     int patience_ms, FILE *to)
{
	int64_t deadline = now_ms() + patience_ms;

	for (;;) {
		struct ub_residue *after;
		int nr = ub_residue_snapshot(pid, flags, &after);

		if (nr)
			return nr;
		nr = ub_residue_diff(before, after, NULL);
		if (nr && now_ms() < deadline) {
			ub_residue_free(after);
			nanosleep(&(struct timespec) { 0, 1000000 }, NULL);
			continue;
		}
		if (nr)
			ub_residue_diff(before, after, to);
		ub_residue_free(after);
		return nr;
	}
}
