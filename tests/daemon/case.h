/* SPDX-License-Identifier: MIT */
/*
 * What the daemon's test programs share: a run directory of their own, waiting without trusting the
 * clock, processes to be operated on. Included once per program.
 */
#ifndef UB_TESTS_DAEMON_CASE_H
#define UB_TESTS_DAEMON_CASE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <client/client.h>
#include <common/cleanup.h>
#include <daemon/daemon.h>
#include <daemon/procfs.h>
#include <daemon/protocol.h>

#include "fake.h"

#define DEADLINE_MS 100000

static char run_dir[64];

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

#define wait_until(condition)                                                                      \
	do {                                                                                       \
		u64 until_ = now_ms() + DEADLINE_MS;                                               \
		while (!(condition)) {                                                             \
			if (now_ms() > until_)                                                     \
				fail_msg("never: %s", #condition);                                 \
			usleep(5000);                                                              \
		}                                                                                  \
	} while (0)

static bool exists(const char *fmt, ...) __printf_like(1, 2);
static bool exists(const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	int n = snprintf(path, sizeof(path), "%s/", run_dir);

	va_start(args, fmt);
	vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, args);
	va_end(args);
	return access(path, F_OK) == 0;
}

/* A zombie that nobody has waited for yet is dead. */
static __attribute__((unused)) bool alive(pid_t pid)
{
	struct ub_procfs_status status;

	return ub_procfs_status(pid, &status) == 0 && status.state != 'Z' && status.state != 'X';
}

/* The daemon's guard and the daemon itself, from what a connection says. */
static __attribute__((unused)) pid_t guard_pid(void)
{
	_cleanup_free_ char *answer = NULL;
	const char *at;

	if (ub_client_ask("{\"cmd\":\"ping\"}", &answer, NULL))
		return 0;
	at = strstr(answer, "\"guard\":");
	return at ? atoi(at + 8) : 0;
}

static __attribute__((unused)) pid_t daemon_pid(pid_t guard)
{
	char path[64], text[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", guard, guard);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return atoi(text);
}

static __attribute__((unused)) pid_t start_target(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* A test that fails leaves nobody behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static __attribute__((unused)) void end_target(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Attaches a link to @pid: its descriptor or -errno. */
static __attribute__((unused)) int attach(pid_t pid, u64 offset)
{
	struct fake_attach attr = { .pid = pid, .offset = offset };
	struct stat st;
	int fd;

	if (stat("/proc/self/exe", &st))
		return -errno;
	attr.dev = st.st_dev;
	attr.ino = st.st_ino;
	fd = (int)syscall(SYS_bpf, FAKE_ATTACH, &attr, sizeof(attr));
	return fd < 0 ? -errno : fd;
}

/* In main(): the daemon, or a fresh run directory. */
static void case_init(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		exit(ub_daemon_main(atoi(argv[2])));
	strcpy(run_dir, "/tmp/ubpf-test-XXXXXX");
	if (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1))
		exit(1);
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
}

static void case_exit(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	if (system(command))
		exit(1);
}

#endif
