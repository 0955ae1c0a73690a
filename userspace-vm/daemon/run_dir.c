// SPDX-License-Identifier: MIT
#include <daemon/protocol.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

static bool is_deserted(const struct sockaddr_un *address)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return sock >= 0 && connect(sock, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

void ub_run_dir_sweep(const char *run_dir)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	DIR *dir = opendir(run_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", run_dir,
				 entry->d_name);

		if (n >= (int)sizeof(address.sun_path) || entry->d_type != DT_SOCK ||
		    strncmp(entry->d_name, "session-", 8) != 0)
			continue;
		if (is_deserted(&address))
			unlink(address.sun_path);
	}
	if (dir)
		closedir(dir);
}
