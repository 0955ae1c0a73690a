// SPDX-License-Identifier: MIT
#include "victim.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000 };

const char *victim_path(void)
{
	static char path[PATH_MAX];
	const char *build = getenv("UBPF_BUILD");

	snprintf(path, sizeof(path), "%s/tests/lib/ubpf-victim", build ? build : "build/release");
	return path;
}

void read_answer(struct victim *victim, char *line, size_t size)
{
	struct pollfd pfd = { .fd = fileno(victim->from), .events = POLLIN };

	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	assert_non_null(fgets(line, (int)size, victim->from));
}

void start_program(struct victim *victim, const char *path, char *const *argv)
{
	int in[2], out[2];
	char line[256];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	victim->pid = fork();
	assert_true(victim->pid >= 0);
	if (!victim->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execv(path, argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	victim->to = fdopen(in[1], "w");
	victim->from = fdopen(out[0], "r");
	setvbuf(victim->from, NULL, _IONBF, 0);
	read_answer(victim, line, sizeof(line));
	assert_non_null(strstr(line, "ready"));
}

void start_victim(struct victim *victim, const char *threads)
{
	char *const argv[] = { "ubpf-victim", "-i", "-q", "-t", (char *)threads, NULL };

	start_program(victim, victim_path(), argv);
}

void ask_victim(struct victim *victim, const char *command)
{
	char line[256];

	fprintf(victim->to, "%s\n", command);
	fflush(victim->to);
	read_answer(victim, line, sizeof(line));
}

void end_victim(struct victim *victim)
{
	kill(victim->pid, SIGKILL);
	waitpid(victim->pid, NULL, 0);
	fclose(victim->to);
	fclose(victim->from);
}
