// SPDX-License-Identifier: MIT
/* Probe points: which file the client means, and what the attaching side is told. */
#include <kernel/kinds.h>

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Whether the caller's "/" is ours. */
static bool same_root(const struct ub_caller *c)
{
	char path[48];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/root", c->pid);
	if (stat("/", &ours) || stat(path, &theirs))
		return true; /* nothing better to go by */
	if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", c->pid);
	return stat("/proc/self/ns/mnt", &ours) || stat(path, &theirs) ||
	       ours.st_ino == theirs.st_ino;
}

static int open_in_root(const struct ub_caller *c, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	_cleanup_close_ int root = -1;
	char root_path[48];
	long fd;

	snprintf(root_path, sizeof(root_path), "/proc/%d/root", c->pid);
	root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	fd = syscall(__NR_openat2, root, path, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* Opens what the caller would open, without opening a device or waiting for a FIFO. */
static int open_path(const struct ub_caller *c, const char *path)
{
	char real[PATH_MAX + 64];
	int fd;

	if (!strncmp(path, "/proc/self/", 11)) {
		snprintf(real, sizeof(real), "/proc/%d/%s", c->pid, path + 11);
		path = real;
	} else if (path[0] != '/') {
		snprintf(real, sizeof(real), "/proc/%d/cwd/%s", c->pid, path);
		path = real;
	} else if (!same_root(c)) {
		return open_in_root(c, path);
	}
	fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ub_point_resolve(struct ub_point_spec *point, struct ub_caller *caller, const char *path,
		     u64 *size)
{
	_cleanup_close_ int fd = open_path(caller, path);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	point->path = strdup(path);
	if (!point->path)
		return -ENOMEM;
	point->dev = st.st_dev;
	point->ino = st.st_ino;
	*size = (u64)st.st_size;
	return 0;
}

void ub_point_exit(struct ub_point_spec *point)
{
	free(point->path);
	point->path = NULL;
}

void ub_point_view(const struct ub_point_spec *point, const struct ub_kprog *prog, u64 session,
		   struct ub_link_view *view)
{
	*view = (struct ub_link_view) {
		.link_id = point->view_id,
		.prog_id = prog->object.id,
		.pid = point->pid,
		.session = session,
		.path = point->path,
		.dev = point->dev,
		.ino = point->ino,
		.offset = point->offset,
		.ref_ctr_offset = point->ref_ctr_offset,
		.cookie = point->cookie,
		.is_return = point->is_return,
		.program = prog->program,
		.code = &prog->code,
		.nr_maps = prog->nr_maps,
		.maps = prog->maps,
	};
}
