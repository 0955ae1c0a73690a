/* SPDX-License-Identifier: MIT */
/* Processes under filters and dispatchers, out of descriptors, locked in memory, or somebody else's. */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "targets.h"

/* --- restrictions -------------------------------------------------------------------------- */

void under_seccomp(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int status, err;
	pid_t pid;

	odd_start(&v, "sandboxed");
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	if (!geteuid()) {
		cycles(&v, 10, 10);
		ub_image_free(image);
		end_well(&v);
		/* And without privilege: a process of nobody's, by nobody. */
		odd_start_unready(&v, "sandboxed-nobody");
		victim_line(&v);
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	}
	pid = fork();
	if (!pid) {
		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		err = ub_surgeon_replace(v.pid, -1, NULL, image, &result, &why);
		check(err == -EOPNOTSUPP && strstr(why.text, "seccomp"), "%s (%d)", why.text, err);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "unprivileged attach to a process under seccomp");
	ub_image_free(image);
	victim_end(&v);
}

void seccomp_after_attach(void)
{
	struct victim v;
	int status;
	pid_t pid;

	odd_start(&v, "sandboxed-later");
	pid = fork();
	if (!pid) {
		struct ub_surgery result;
		struct ub_reason why = { "" };
		struct ub_image *image;
		int err;

		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		check(image, "no image");
		err = replace_patiently(&v, NULL, image, &result, &why);
		check(!err, "attach: %s (%d)", why.text, err);
		check(!strcmp(victim_ask(&v, "go"), "sandboxed"), "it does not sandbox itself");
		/* Bytes come back, the mapping must stay: our munmap would kill. */
		err = replace_patiently(&v, image, NULL, &result, &why);
		check(!err && result.removal == UB_REMOVED_LATER, "detach: %s (%d, %d)", why.text,
		      err, result.removal);
		check(strstr(result.left.text, "seccomp"), "says '%s'", result.left.text);
		usleep(10000);
		{
			u64 hits = image_hits(image);

			usleep(20000);
			check(hits == image_hits(image), "it still counts");
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "detach from a process that sandboxed itself");
	/* Root can finish it. */
	if (!geteuid()) {
		struct ub_reason why = { "" };
		int err = ub_surgeon_repair(v.pid, false, &why);

		check(err >= 0, "repair: %s (%d)", why.text, err);
		end_well(&v);
	} else {
		victim_end(&v);
	}
}

void full_descriptor_table(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	odd_start(&v, "no-descriptors");
	snapshot = before(&v, UB_RESIDUE_FULL);
	cycles(&v, 3, 3);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

void locked_memory(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	odd_start_unready(&v, "locked");
	if (strcmp(victim_line(&v), "ready")) {
		printf("locked memory: not tried, mlockall() is not allowed\n");
		victim_reap(&v);
		return;
	}
	snapshot = before(&v, UB_RESIDUE_FULL);
	cycles(&v, 3, 3);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

/* Everything without any privilege, and as root on somebody else's process. */
void unprivileged(void)
{
	struct victim v;
	int status;
	pid_t pid;

	if (geteuid()) {
		printf("unprivileged: all of this is\n");
		return;
	}
	odd_start(&v, "nobody");
	pid = fork();
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		cycles(&v, 10, 10);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "unprivileged");
	cycles(&v, 3, 3);
	end_well(&v);
}

/* Fails at once, and not by trying again and again. */
void locked_to_the_limit(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start_unready(&v, "locked-to-the-limit");
	if (strcmp(victim_line(&v), "ready") || strcmp(victim_line(&v), "locked")) {
		printf("locked to the limit: not tried, mlockall() is not allowed\n");
		victim_reap(&v);
		return;
	}
	snapshot = before(&v, UB_RESIDUE_FULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	check(image, "no image");
	err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
	check(err == -ENOMEM && strstr(why.text, "mlockall"), "%s (%d)", why.text, err);
	ub_image_free(image);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

/* The filter is not the main thread's, and that one can't work for us. */
void sandboxed_thread(void)
{
	struct victim v;

	odd_start(&v, "sandboxed-thread");
	cycles(&v, 10, 10);
	end_well(&v);
}

/* What we suspend for calls of ours, the target's own are under all the same. */
void sandbox_holds(void)
{
	const char *line;
	struct victim v;

	if (geteuid()) {
		printf("sandbox-holds: not tried, only root may suspend filters\n");
		return;
	}
	odd_start(&v, "forbidden-calls");
	cycles(&v, 100, 10);
	victim_tell(&v, "go");
	line = victim_line(&v);
	check(!strcmp(line, "0 escaped"), "%s", line);
	end_well(&v);
}

/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG is there since Linux 6.4. */
static bool can_ask_for_dispatch(pid_t pid)
{
	u64 configuration[4];
	bool can;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
	    waitpid(pid, NULL, __WALL) != pid)
		return false;
	can = !ptrace(0x4211, pid, sizeof(configuration), configuration);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return can;
}

/* Our system calls would be its SIGSYS, which it does not survive. */
void dispatched(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start_unready(&v, "dispatched");
	if (strcmp(victim_line(&v), "ready") || !can_ask_for_dispatch(v.pid)) {
		printf("dispatched: not tried, this kernel has no system call dispatch\n");
		victim_reap(&v);
		return;
	}
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	check(image, "no image");
	/* It says ready before it blocks its system calls. */
	for (int i = 0; i < 3000; i++) {
		err = replace_patiently(&v, NULL, image, &result, &why);
		if (err == -EOPNOTSUPP)
			break;
		check(!err, "%s (%d)", why.text, err);
		err = replace_patiently(&v, image, NULL, &result, &why);
		check(!err, "%s (%d)", why.text, err);
		usleep(10000);
	}
	check(err == -EOPNOTSUPP && strstr(why.text, "dispatcher"), "%s (%d)", why.text, err);
	check(victim_alive(&v) && victim_state(&v) == 'R', "it died");
	ub_image_free(image);
	victim_reap(&v);
}
