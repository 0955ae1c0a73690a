// SPDX-License-Identifier: MIT
#include "site_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>

enum { PATIENCE_MS = 3000, PAUSE_MS = 2 };

static int held = -1;
static int waited_ms;

void ub_site_lock(const char *path, bool alone)
{
	const int how = (alone ? LOCK_EX : LOCK_SH) | LOCK_NB;
	const struct timespec pause = { 0, PAUSE_MS * 1000000 };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	while (fd >= 0 && flock(fd, how)) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || waited_ms >= PATIENCE_MS)
			return;
		nanosleep(&pause, NULL);
		waited_ms += PAUSE_MS;
	}
	held = TAKE_FD(fd);
}

void ub_site_lock_let_go(void)
{
	if (held >= 0)
		close(held);
	held = -1;
}
