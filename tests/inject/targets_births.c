/* SPDX-License-Identifier: MIT */
/* Processes that execute, fork, vfork and create threads all the time. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "targets.h"

/* --- executes ------------------------------------------------------------------------------ */

void exec_loops(void)
{
	const char *argv[] = { victim_path("ubpf-odd-victim"), "exec", "150", NULL };
	struct victim v;
	u64 end;

	victim_exec(&v, argv);
	end = monotonic_ns() + 120000000000ull;
	/* Until it does not execute any more. */
	for (;;) {
		int flags = fcntl(v.out, F_GETFL);
		char byte;

		once(&v, "malloc");
		fcntl(v.out, F_SETFL, flags | O_NONBLOCK);
		if (read(v.out, &byte, 1) == 1 || monotonic_ns() > end)
			break;
		fcntl(v.out, F_SETFL, flags);
	}
	cycles(&v, 3, 3);
	end_well(&v);
}

/* --- threads, forks, vforks ---------------------------------------------------------------- */

void threads_come_and_go(void)
{
	struct victim v;

	odd_start(&v, "threads");
	cycles(&v, 40, 40);
	end_well(&v);
}

void forks_and_vforks(void)
{
	struct victim v;

	odd_start(&v, "forks");
	cycles(&v, 40, 40);
	end_well(&v);
}

static pid_t only_child(pid_t parent)
{
	char path[96];
	FILE *children;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	children = fopen(path, "re");
	if (!children || fscanf(children, "%d", &child) != 1)
		child = 0;
	if (children)
		fclose(children);
	return child;
}

static bool has_child(void *opaque)
{
	return only_child(*(pid_t *)opaque) != 0;
}

/* The child for which the victim waits in vfork(). */
pid_t vfork_child(struct victim *v)
{
	check(wait_until(has_child, &v->pid), "where is its child?");
	return only_child(v->pid);
}

void long_vfork(void (*cycle)(struct victim *))
{
	struct victim v;
	pid_t child;

	odd_start(&v, "vfork");
	child = vfork_child(&v);
	cycle(&v);
	check(!kill(child, 0), "the vfork child is dead");
	kill(child, SIGKILL);
	victim_end(&v);
}

static void ten_cycles(struct victim *v)
{
	cycles(v, 10, 10);
}

void parent_in_vfork(void)
{
	long_vfork(ten_cycles);
}
