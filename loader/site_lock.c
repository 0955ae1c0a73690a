// SPDX-License-Identifier: MIT
#include "site_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include <common/cleanup.h>

enum { PATIENCE_MS = 3000, PAUSE_MS = 2 };

int ub_site_lock(const char *path)
{
	const struct timespec pause = { 0, PAUSE_MS * 1000000 };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	for (int ms = 0; fd >= 0 && ms < PATIENCE_MS; ms += PAUSE_MS) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return TAKE_FD(fd);
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		nanosleep(&pause, NULL);
	}
	return -1;
}
