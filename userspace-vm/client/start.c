// SPDX-License-Identifier: MIT
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>

#define LISTEN_FD 3

/* Nothing of the client's is the daemon's: no terminal, descriptor, directory or signal setting. */
static void become_daemon(int listen_fd, const char *run_dir)
{
	char *argv[] = { "ubpf-run", "--daemon", "3", NULL };
	const char *log = getenv("UBPF_DAEMON_LOG");
	sigset_t none;
	int null, err;

	null = open("/dev/null", O_RDWR);
	err = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0600) : null;
	/* Its number may be any, also one that is about to be taken. */
	listen_fd = fcntl(listen_fd, F_DUPFD, 10);
	if (null < 0 || err < 0 || listen_fd < 0)
		_exit(126);
	err = fcntl(err, F_DUPFD, 10);
	dup2(null, 0);
	dup2(null, 1);
	dup2(err, 2);
	dup2(listen_fd, LISTEN_FD);
	close_range(LISTEN_FD + 1, ~0U, 0);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/"))
		_exit(126);
	setenv("UBPF_RUN_DIR", run_dir, 1);
	execv("/proc/self/exe", argv);
	_exit(127);
}

int ub_client_start_daemon(int listen_fd, const char *run_dir, struct ub_reason *why)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return ub_reason_set(why, -errno, "can't start the userspace kernel's daemon: %s",
				     strerror(errno));
	if (pid == 0) {
		/* Twice, so that it is nobody's child here: the client may wait for any. */
		setsid();
		pid = fork();
		if (pid == 0)
			become_daemon(listen_fd, run_dir);
		_exit(pid < 0 ? errno : 0);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}
