/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

/* Of a process whose leader has exited, the leader's directory shows no memory and no descriptors;
 * those of the other threads still do. */
int ub_target_proc(struct ub_target *t)
{
	char path[64 + 256], link[8];
	struct dirent *entry;
	DIR *tasks;

	t->alive = t->pid;
	snprintf(t->proc, sizeof(t->proc), "/proc/%d", t->pid);
	snprintf(path, sizeof(path), "%s/exe", t->proc);
	if (readlink(path, link, sizeof(link)) > 0)
		return 0;
	snprintf(path, sizeof(path), "%s/task", t->proc);
	tasks = opendir(path);
	if (!tasks)
		return -ESRCH;
	while ((entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		if (tid <= 0 || tid == t->pid)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/exe", t->pid, tid);
		if (readlink(path, link, sizeof(link)) <= 0)
			continue;
		t->alive = tid;
		snprintf(t->proc, sizeof(t->proc), "/proc/%d/task/%d", t->pid, tid);
		break;
	}
	closedir(tasks);
	return 0;
}

int ub_target_open(struct ub_target *t, pid_t pid, int pidfd, struct ub_reason *why)
{
	char path[128];
	int err;

	t->pid = pid;
	t->pidfd = pidfd;
	t->mem = -1;
	if (ub_target_proc(t))
		return ub_reason_set(why, -ESRCH, "process %d is gone", pid);
	snprintf(path, sizeof(path), "%s/mem", t->proc);
	t->mem = open(path, O_RDWR | O_CLOEXEC);
	if (t->mem < 0) {
		err = errno;
		if (err == ENOENT || err == ESRCH)
			return ub_reason_set(why, -ESRCH, "process %d is gone", pid);
		return ub_refuse_seize(pid, pid, err, why);
	}
	/* The pidfd was opened before: if it is alive now, the pid meant the same process all
	 * along. */
	if (pidfd >= 0 && poll(&(struct pollfd) { pidfd, POLLIN, 0 }, 1, 0) == 1)
		return ub_reason_set(why, -ESRCH, "process %d has exited", pid);
	t->nr_harmless_filters = ub_filters_harmless(t->proc, t->own_filter);
	t->seccomp = ub_filter_on(t->proc, t->nr_harmless_filters);
	return 0;
}

void ub_target_close(struct ub_target *t)
{
	if (t->mem >= 0)
		close(t->mem);
	free(t->under);
	t->under = NULL;
	free(t->threads);
	free(t->mappings);
	free(t->names);
	free(t->dropped);
	t->dropped = NULL;
	t->nr_dropped = 0;
	free(t->standing.sites);
	t->standing.sites = NULL;
	t->mem = -1;
	t->threads = NULL;
	t->mappings = NULL;
	t->names = NULL;
	t->nr_threads = t->room = t->nr_mappings = 0;
}

static char *read_file(const char *path, size_t *size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0, room = 65536;
	char *text;

	if (fd < 0)
		return NULL;
	text = malloc(room + 1);
	while (text) {
		ssize_t got;

		if (n + 8192 > room) {
			char *more = realloc(text, 2 * room + 1);

			if (!more) {
				free(text);
				return NULL;
			}
			text = more;
			room *= 2;
		}
		got = read(fd, text + n, room - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			free(text);
			return NULL;
		}
		if (!got)
			break;
		n += got;
	}
	if (text)
		text[n] = '\0';
	*size = n;
	return text;
}

/* "start-end rwxp offset major:minor inode   name" */
static int parse_mapping(char *line, struct ub_mapping *m, const char *text)
{
	char *p = line;

	m->start = strtoull(p, &p, 16);
	if (*p++ != '-')
		return -EBADMSG;
	m->end = strtoull(p, &p, 16);
	if (*p++ != ' ' || strlen(p) < 5)
		return -EBADMSG;
	m->prot = (p[0] == 'r' ? PROT_READ : 0) | (p[1] == 'w' ? PROT_WRITE : 0) |
		  (p[2] == 'x' ? PROT_EXEC : 0);
	m->shared = p[3] == 's';
	m->offset = strtoull(p + 5, &p, 16);
	p += strspn(p, " ");
	p += strcspn(p, " ");
	m->inode = strtoull(p, &p, 10);
	p += strspn(p, " ");
	m->name = p - text;
	return 0;
}

int ub_target_read_mappings(struct ub_target *t)
{
	struct ub_mapping *mappings = NULL;
	u32 nr = 0, room = 0;
	char path[128], *text, *line, *save = NULL;
	size_t size;

	snprintf(path, sizeof(path), "%s/maps", t->proc);
	text = read_file(path, &size);
	if (!text)
		return errno == ENOMEM ? -ENOMEM : -ESRCH;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (nr == room) {
			struct ub_mapping *more;

			room = room ? 2 * room : 64;
			more = realloc(mappings, room * sizeof(*more));
			if (!more) {
				free(mappings);
				free(text);
				return -ENOMEM;
			}
			mappings = more;
		}
		if (!parse_mapping(line, &mappings[nr], text))
			nr++;
	}
	free(t->mappings);
	free(t->names);
	t->mappings = mappings;
	t->nr_mappings = nr;
	t->names = text;
	return nr ? 0 : -ESRCH;
}

const struct ub_mapping *ub_target_mapping(const struct ub_target *t, u64 address)
{
	u32 low = 0, high = t->nr_mappings;

	while (low < high) {
		u32 mid = (low + high) / 2;

		if (address < t->mappings[mid].start)
			high = mid;
		else if (address >= t->mappings[mid].end)
			low = mid + 1;
		else
			return &t->mappings[mid];
	}
	return NULL;
}

bool ub_mapping_is_trace(const struct ub_target *t, const struct ub_mapping *m)
{
	const char *name = ub_mapping_name(t, m);

	return !(m->prot & PROT_WRITE) && !m->shared &&
	       (strstr(name, "/memfd:" UB_SITE_TABLE_NAME) ||
		strstr(name, "/memfd:" UB_NAME_PREFIX "code"));
}

const char *ub_mapping_name(const struct ub_target *t, const struct ub_mapping *m)
{
	return t->names + m->name;
}

int ub_target_read(const struct ub_target *t, u64 address, void *into, size_t size)
{
	while (size) {
		ssize_t n = pread(t->mem, into, size, address);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EIO ? -EFAULT : -errno;
		if (!n)
			return -ESRCH;
		into = (u8 *)into + n;
		address += n;
		size -= n;
	}
	return 0;
}

int ub_target_write(const struct ub_target *t, u64 address, const void *from, size_t size)
{
	while (size) {
		ssize_t n = pwrite(t->mem, from, size, address);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EIO ? -EFAULT : -errno;
		if (!n)
			return -ESRCH;
		from = (const u8 *)from + n;
		address += n;
		size -= n;
	}
	return 0;
}

bool ub_target_gone(const struct ub_target *t)
{
	u8 byte;

	if (t->execed)
		return true;
	/* Reading anything, mapped or not, returns 0 only when the memory has no users left. */
	return pread(t->mem, &byte, 1, 0) == 0;
}
