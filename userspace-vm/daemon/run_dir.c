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
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/clock.h>
#include <common/proc.h>

#define POLL_MS 1 /* most hold the lock for a moment */
#define LOOK_MS 100

static int open_lock(const char *run_dir)
{
	char path[PATH_MAX + 8];
	int fd;

	snprintf(path, sizeof(path), "%s/lock", run_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

static int try_lock(int fd)
{
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int ub_run_dir_lock(const char *run_dir)
{
	_cleanup_close_ int fd = open_lock(run_dir);
	int err = fd < 0 ? fd : try_lock(fd);

	return err ? err : TAKE_FD(fd);
}

/* The process that holds a lock over the whole of file @fd, 0: cannot be told. */
static pid_t holder_of(int fd)
{
	_cleanup_fclose_ FILE *locks = fopen("/proc/locks", "re");
	char line[256];
	struct stat st;

	if (!locks || fstat(fd, &st))
		return 0;
	/* "1: FLOCK  ADVISORY  WRITE 1234 fe:00:332835 0 EOF"; the device is not always stat's. */
	while (fgets(line, sizeof(line), locks)) {
		unsigned long ino;
		int pid;

		if (sscanf(line, "%*s FLOCK %*s %*s %d %*x:%*x:%lu", &pid, &ino) == 2 &&
		    ino == st.st_ino)
			return pid > 0 ? pid : 0;
	}
	return 0;
}

/* Whoever holds it may be stopped, or killed, at any point. */
int ub_run_dir_lock_wait(const char *run_dir, bool (*go_on)(u64 ms), pid_t *holder)
{
	const struct timespec pause = { 0, POLL_MS * 1000000 };
	_cleanup_close_ int fd = open_lock(run_dir);
	u64 began = ub_now_ns() / 1000000, looked = began, stopped_since = 0;
	int err;

	if (fd < 0)
		return fd;
	while ((err = try_lock(fd)) == -EWOULDBLOCK) {
		u64 now = ub_now_ns() / 1000000;

		if (now - looked >= LOOK_MS) {
			looked = now;
			if (go_on && !go_on(now - began))
				return -EINTR;
			*holder = holder_of(fd);
			if (!ub_proc_stopped(*holder))
				stopped_since = 0;
			else if (!stopped_since)
				stopped_since = now;
			else if (now - stopped_since >= UB_STOPPED_MS)
				return -EWOULDBLOCK;
		}
		nanosleep(&pause, NULL);
	}
	return err ? err : TAKE_FD(fd);
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
