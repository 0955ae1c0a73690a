// SPDX-License-Identifier: MIT
#include <daemon/protocol.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>

#include <common/cleanup.h>

int ub_run_dir_lock(const char *run_dir, bool wait)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/lock", run_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB))) {
		if (errno != EINTR)
			return -errno;
	}
	return TAKE_FD(fd);
}
