// SPDX-License-Identifier: MIT
/*
 * The guard: the daemon's parent, which does nothing but wait for it. Whatever ends the daemon out
 * of turn (SIGKILL, a crash), the guard then waits for surgeons that were under way (as subreaper
 * it inherits them, and they finish what they have begun), and has every process that still holds
 * something of ours cleaned from what that process itself records. While it does so it holds the
 * lock that a client needs to start a new daemon, so a new attach meets clean targets.
 *
 * When the guard is killed instead, the daemon starts a new one, which watches by pidfd. When both
 * are (a service manager that ends all of a group), the next client finds a socket without anybody
 * behind it, and has the daemon that it starts do the same before it takes a call.
 */
#include "private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>
#include <surgeon/surgeon.h>

/* Rounds over all processes, 50 ms apart: a surgeon that is at work when we come needs some time.
 * While clients wait there are fewer; what can't be cleaned then is when it is attached to. */
#define REPAIR_ROUNDS	    100
#define FIRST_REPAIR_ROUNDS 10

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* Which socket has the name: a number alone may be that of the next one too, made where this was. */
struct socket_id {
	ino_t ino;
	struct timespec since;
};

static struct socket_id socket_id(const char *run_dir)
{
	char path[PATH_MAX + 8];
	struct stat st;

	snprintf(path, sizeof(path), "%s/socket", run_dir);
	if (stat(path, &st))
		return (struct socket_id) { 0 };
	return (struct socket_id) { st.st_ino, st.st_ctim };
}

static bool same_socket(const struct socket_id *a, const struct socket_id *b)
{
	return a->ino == b->ino && a->since.tv_sec == b->since.tv_sec &&
	       a->since.tv_nsec == b->since.tv_nsec;
}

/* Returns the number of processes that should be cleaned and are not. */
static int repair_round(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int left = 0;

	if (!proc)
		return 0;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		struct ub_procfs_status status;
		int deserted;

		if (pid <= 0 || pid == getpid() || ub_procfs_status(pid, &status) ||
		    !status.has_memory || (getuid() && status.uid != getuid()))
			continue;
		/* What another session owns is none of ours to clean, and not to be waited for. */
		deserted = ub_surgeon_find_deserted(pid, NULL);
		left += deserted == -EAGAIN ||
			(deserted == 1 && ub_surgeon_repair(pid, false, NULL) < 0);
	}
	closedir(proc);
	return left;
}

static void repair_all(int rounds)
{
	for (int i = 0; i < rounds && repair_round() > 0; i++)
		sleep_ms(50);
}

/*
 * A client that holds the lock and is stopped does not keep the targets from being cleaned: what is
 * taken out is nobody's, whoever comes meanwhile. The socket goes last: if we are killed, it tells the
 * next client that there is something to clean.
 */
static void clean_up(const char *run_dir, const struct socket_id *ours)
{
	pid_t holder;
	_cleanup_close_ int lock = ub_run_dir_lock_wait(run_dir, NULL, &holder);
	struct socket_id there;
	char path[PATH_MAX + 8];

	repair_all(REPAIR_ROUNDS);
	ub_run_dir_sweep(run_dir);
	there = socket_id(run_dir);
	snprintf(path, sizeof(path), "%s/socket", run_dir);
	if (ours->ino && same_socket(ours, &there))
		unlink(path);
}

static void close_all_but(int keep)
{
	if (keep > 3)
		close_range(3, (unsigned int)keep - 1, 0);
	close_range(keep >= 3 ? (unsigned int)keep + 1 : 3, ~0U, 0);
}

static volatile pid_t forward_to;

static void forward(int signal)
{
	if (forward_to > 0)
		kill(forward_to, signal);
}

static void guard_parent(const char *run_dir, pid_t daemon, int keep)
{
	const struct socket_id ours = socket_id(run_dir);
	int status = 0;
	sigset_t none;

	prctl(PR_SET_NAME, "ubpf-guard");
	close_all_but(keep);
	forward_to = daemon;
	signal(SIGTERM, forward);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* One that came before there was a daemon is passed on now. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (;;) {
		int child_status;
		pid_t pid = waitpid(-1, &child_status, __WALL);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			break;
		/* Go on until there is no child: surgeons outlive the daemon. */
		if (pid == daemon) {
			forward_to = 0;
			status = child_status;
			if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
				return;
		}
	}
	clean_up(run_dir, &ours);
}

int ub_daemon_guard_start(const char *run_dir, int *guard_fd, pid_t *guard_pid)
{
	int fds[2];
	pid_t pid;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) || pipe2(fds, O_CLOEXEC))
		return -errno;
	if (getenv(UB_DAEMON_REPAIR))
		repair_all(FIRST_REPAIR_ROUNDS);
	*guard_pid = getpid();
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return -errno;
	}
	if (pid == 0) {
		close(fds[1]);
		*guard_fd = fds[0];
		return 0;
	}
	close(fds[0]);
	guard_parent(run_dir, pid, fds[1]);
	return 1;
}

int ub_daemon_guard_replace(const char *run_dir, int close_fd, int *guard_fd, pid_t *guard_pid)
{
	pid_t daemon = getpid(), pid;
	int fds[2], pidfd;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pidfd = (int)syscall(SYS_pidfd_open, daemon, 0);
	pid = pidfd < 0 ? -1 : fork();
	if (pid == 0) {
		struct pollfd ready = { .events = POLLIN };
		const struct socket_id ours = socket_id(run_dir);

		prctl(PR_SET_NAME, "ubpf-guard");
		/* The pidfd's number is below the pipe's or not: put both where close_range spares
		 * them. */
		dup2(pidfd, 0);
		dup2(fds[1], 1);
		close_all_but(-1);
		signal(SIGTERM, SIG_IGN);
		ready.fd = 0;
		while (poll(&ready, 1, -1) < 0 && errno == EINTR)
			;
		clean_up(run_dir, &ours);
		_exit(0);
	}
	close(fds[1]);
	if (pidfd >= 0)
		close(pidfd);
	if (pid < 0) {
		close(fds[0]);
		return -errno;
	}
	if (close_fd >= 0)
		close(close_fd);
	*guard_fd = fds[0];
	*guard_pid = pid;
	return 0;
}
