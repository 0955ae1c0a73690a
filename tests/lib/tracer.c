/* SPDX-License-Identifier: MIT */
/*
 * `ubpf-tracer PID`: somebody else who traces a process, says so, and lets it run until it is
 * killed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0)) {
		perror("ubpf-tracer");
		return 1;
	}
	dprintf(STDOUT_FILENO, "tracing\n");
	for (;;)
		pause();
}
