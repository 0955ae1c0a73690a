// SPDX-License-Identifier: MIT
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>

#define LISTEN_FD 3
#define MIN_FILES 64

/* Returns only if it can't. Nothing of the client's is the daemon's: no terminal, descriptor, directory or signal setting. */
static void become_daemon(int listen_fd, const char *run_dir, bool repair)
{
	char *argv[] = { "ubpf-run", "--daemon", "3", NULL };
	const char *log = getenv("UBPF_DAEMON_LOG");
	sigset_t ends;
	int null, err;

	null = open("/dev/null", O_RDWR);
	err = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0600) : null;
	/* Its number may be any, also one that is about to be taken. */
	listen_fd = fcntl(listen_fd, F_DUPFD, 10);
	if (err < 0) /* no log is no reason to have no daemon */
		err = null;
	if (null < 0 || listen_fd < 0)
		return;
	err = fcntl(err, F_DUPFD, 10);
	dup2(null, 0);
	dup2(null, 1);
	dup2(err, 2);
	dup2(listen_fd, LISTEN_FD);
	close_range(LISTEN_FD + 1, ~0U, 0);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	/* Until guard and daemon know what to do at these, they wait. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_SETMASK, &ends, NULL);
	if (chdir("/"))
		return;
	/* The client may be under the preloaded library itself. */
	unsetenv("LD_PRELOAD");
	unsetenv("UBPF_SESSION");
	setenv("UBPF_RUN_DIR", run_dir, 1);
	if (repair)
		setenv(UB_DAEMON_REPAIR, "1", 1);
	else
		unsetenv(UB_DAEMON_REPAIR);
	execv("/proc/self/exe", argv);
}

static int listen_at(const struct sockaddr_un *address)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return -errno;
	if (bind(sock, (const struct sockaddr *)address, sizeof(*address)) ||
	    listen(sock, SOMAXCONN))
		return -errno;
	return TAKE_FD(sock);
}

/*
 * In a process of a moment, nobody's child afterwards: the client may wait for any. It makes the
 * socket too: a client that is killed half-way would leave one that has nobody to remove it.
 */
static int start_apart(const struct sockaddr_un *address, const char *run_dir, bool repair)
{
	int listening, err;
	pid_t pid;

	setsid();
	listening = listen_at(address);
	err = listening < 0 ? listening : 0;
	pid = err ? -1 : fork();
	if (pid == 0) {
		become_daemon(listening, run_dir, repair);
		unlink(address->sun_path);
		_exit(EXIT_FAILURE);
	}
	if (pid < 0 && !err)
		err = -errno;
	if (err)
		unlink(address->sun_path);
	return err;
}

int ub_client_start_daemon(const struct sockaddr_un *address, const char *run_dir, bool repair,
			   struct ub_reason *why)
{
	struct rlimit files;
	int status = 0, err = 0;
	pid_t pid;

	/* The daemon inherits it, and may not raise it. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < MIN_FILES)
		return ub_reason_set(why, -EMFILE,
				     "the userspace kernel's daemon can't work with %llu "
				     "descriptors: raise the limit (ulimit -n) to %d at least",
				     (unsigned long long)files.rlim_max, MIN_FILES);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(-start_apart(address, run_dir, repair));
	if (pid < 0)
		err = -errno;
	/* Who lets its children go unseen learns of failure when it connects. */
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		err = -WEXITSTATUS(status);
	if (err)
		return ub_reason_set(why, err,
				     "can't start the userspace kernel's daemon at %s: %s",
				     address->sun_path, strerror(-err));
	return 0;
}
