// SPDX-License-Identifier: MIT
/*
 * The link manager's contract, the same assertions for every backend: contract BACKEND. What passes
 * is a backend (see loader/backend.h).
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <common/cleanup.h>

#include "enter.h"
#include "link_manager.h"
#include "map_dump.h"
#include "residue.h"
#include "victim.h"

enum { PATIENCE_MS = 30000 };

static const struct ub_backend *backend;

/* One program set for all tests: loading is not what is tested here, and the kernel dislikes many
 * loads. */
static struct ub_programs *programs;

/*
 * The kernel gives a page of text that held a uprobe back to the file only when it feels like it:
 * there a private copy whose bytes equal the file's does not count. Anything else does, on every
 * backend.
 */
static bool is_kernels_own(const char *line)
{
	return backend == &ub_backend_kernel && !strncmp(line + 1, " text ", 6) &&
	       strstr(line, " 0 bytes differ");
}

static int nr_differences(pid_t pid, const struct ub_residue *before, unsigned int flags, FILE *to)
{
	_cleanup_fclose_ FILE *diff = tmpfile();
	struct ub_residue *now;
	char line[1024];
	int nr = 0;

	assert_non_null(diff);
	assert_int_equal(ub_residue_snapshot(pid, flags, &now), 0);
	ub_residue_diff(before, now, diff);
	ub_residue_free(now);
	rewind(diff);
	while (fgets(line, sizeof(line), diff)) {
		if (is_kernels_own(line))
			continue;
		nr++;
		if (to)
			fputs(line, to);
	}
	return nr;
}

/* Waits for what goes away by itself. */
static void assert_no_residue(pid_t pid, const struct ub_residue *before, unsigned int flags)
{
	for (int ms = 0; ms < PATIENCE_MS; ms += 20) {
		if (!nr_differences(pid, before, flags, NULL))
			return;
		usleep(20000);
	}
	assert_int_equal(nr_differences(pid, before, flags, stderr), 0);
}

static u64 count_of(pid_t pid)
{
	return ub_map_count_of(programs, "malloc_calls", pid);
}

static struct ub_link_manager *new_manager(void)
{
	struct ub_link_manager *manager = ub_link_manager_new(backend, programs);

	assert_non_null(manager);
	return manager;
}

static void attach_ok(struct ub_link_manager *manager, pid_t pid)
{
	struct ub_reason why = { 0 };
	int err = ub_link_manager_attach(manager, pid, &why);

	if (err)
		print_error("attach: %d %s\n", err, why.text);
	assert_int_equal(err, 0);
	assert_int_equal(ub_link_manager_state(manager, pid), UB_ATTACHED);
}

static void detach_expecting(struct ub_link_manager *manager, pid_t pid,
			     enum ub_detach_result expected)
{
	struct ub_detach_outcome outcome;

	ub_link_manager_detach(manager, pid, &outcome);
	if (outcome.result != expected)
		print_error("detach: %d %s\n", outcome.result, outcome.left.text);
	assert_int_equal(outcome.result, expected);
	assert_int_equal(ub_link_manager_state(manager, pid), UB_DETACHED);
}

static void counts_exactly_while_attached(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct ub_residue *before;
	struct victim victim;
	u64 expected = 0;

	start_victim(&victim, "8");
	ask_victim(&victim, "calls 10");
	assert_int_equal(ub_residue_snapshot(victim.pid, UB_RESIDUE_FULL, &before), 0);
	assert_int_equal(ub_link_manager_state(manager, victim.pid), UB_DETACHED);
	for (int round = 0; round < 3; round++) {
		attach_ok(manager, victim.pid);
		ask_victim(&victim, "calls 100");
		expected += 800;
		assert_int_equal(count_of(victim.pid), expected);
		detach_expecting(manager, victim.pid, UB_DETACH_CLEAN);
		ask_victim(&victim, "calls 100");
		assert_int_equal(count_of(victim.pid), expected);
		assert_no_residue(victim.pid, before, UB_RESIDUE_FULL);
	}
	ub_residue_free(before);
	end_victim(&victim);
	ub_link_manager_free(manager);
}

static void attaching_twice_says_so(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct ub_reason why = { 0 };
	struct victim victim;

	start_victim(&victim, "1");
	attach_ok(manager, victim.pid);
	assert_int_equal(ub_link_manager_attach(manager, victim.pid, &why), -EALREADY);
	assert_non_null(strstr(why.text, "attached already"));
	assert_int_equal(ub_link_manager_count(manager), 1);
	ask_victim(&victim, "calls 10");
	assert_int_equal(count_of(victim.pid), 10);
	end_victim(&victim);
	ub_link_manager_free(manager);
}

static void detaching_is_idempotent(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct victim victim;

	start_victim(&victim, "1");
	detach_expecting(manager, victim.pid, UB_WAS_NOT_ATTACHED);
	attach_ok(manager, victim.pid);
	detach_expecting(manager, victim.pid, UB_DETACH_CLEAN);
	detach_expecting(manager, victim.pid, UB_WAS_NOT_ATTACHED);
	assert_int_equal(ub_link_manager_count(manager), 0);
	end_victim(&victim);
	ub_link_manager_free(manager);
}

static void many_processes(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct victim victims[4];

	for (int i = 0; i < 4; i++) {
		start_victim(&victims[i], "2");
		attach_ok(manager, victims[i].pid);
	}
	assert_int_equal(ub_link_manager_count(manager), 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ub_link_manager_at(manager, i)->target.pid, victims[i].pid);
	detach_expecting(manager, victims[1].pid, UB_DETACH_CLEAN);
	for (int i = 0; i < 4; i++) {
		ask_victim(&victims[i], "calls 50");
		assert_int_equal(count_of(victims[i].pid), i == 1 ? 0 : 100);
	}
	/* Freeing the manager detaches from all. */
	ub_link_manager_free(manager);
	for (int i = 0; i < 4; i++) {
		ask_victim(&victims[i], "calls 50");
		assert_int_equal(count_of(victims[i].pid), i == 1 ? 0 : 100);
		end_victim(&victims[i]);
	}
}

static void two_managers_on_one_function(void **state)
{
	struct ub_link_manager *first = new_manager(), *second = new_manager();
	struct ub_residue *before;
	struct victim victim;

	start_victim(&victim, "2");
	ask_victim(&victim, "calls 1");
	assert_int_equal(ub_residue_snapshot(victim.pid, UB_RESIDUE_FULL, &before), 0);
	for (int round = 0; round < 2; round++) {
		u64 start = count_of(victim.pid);

		attach_ok(first, victim.pid);
		attach_ok(second, victim.pid);
		ask_victim(&victim, "calls 10");
		assert_int_equal(count_of(victim.pid), start + 40);
		detach_expecting(round ? first : second, victim.pid, UB_DETACH_CLEAN);
		ask_victim(&victim, "calls 10");
		assert_int_equal(count_of(victim.pid), start + 60);
		detach_expecting(round ? second : first, victim.pid, UB_DETACH_CLEAN);
		ask_victim(&victim, "calls 10");
		assert_int_equal(count_of(victim.pid), start + 60);
	}
	assert_no_residue(victim.pid, before, UB_RESIDUE_FULL);
	ub_residue_free(before);
	end_victim(&victim);
	ub_link_manager_free(first);
	ub_link_manager_free(second);
}

static void wait_until_gone(const struct ub_attachment *attachment)
{
	struct pollfd pfd = { .fd = attachment->target.pidfd, .events = POLLIN };

	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
}

static void target_is_killed(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct ub_detach_outcome outcome;
	struct victim victims[2];

	for (int i = 0; i < 2; i++) {
		start_victim(&victims[i], "4");
		attach_ok(manager, victims[i].pid);
	}
	assert_false(ub_link_manager_reap(manager, &outcome));
	/* Killed and still a zombie: detached as one that is gone. */
	kill(victims[0].pid, SIGKILL);
	wait_until_gone(ub_link_manager_at(manager, 0));
	detach_expecting(manager, victims[0].pid, UB_DETACH_GONE);
	kill(victims[1].pid, SIGKILL);
	wait_until_gone(ub_link_manager_at(manager, 0));
	assert_true(ub_link_manager_reap(manager, &outcome));
	assert_int_equal(outcome.target.pid, victims[1].pid);
	assert_int_equal(outcome.result, UB_DETACH_GONE);
	assert_false(ub_link_manager_reap(manager, &outcome));
	assert_int_equal(ub_link_manager_count(manager), 0);
	end_victim(&victims[0]);
	end_victim(&victims[1]);
	ub_link_manager_free(manager);
}

static void target_is_stopped(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct ub_residue *before;
	struct victim victim;
	int status;

	start_victim(&victim, "2");
	ask_victim(&victim, "calls 1");
	assert_int_equal(ub_residue_snapshot(victim.pid, UB_RESIDUE_FULL, &before), 0);
	kill(victim.pid, SIGSTOP);
	assert_int_equal(waitpid(victim.pid, &status, WUNTRACED), victim.pid);
	attach_ok(manager, victim.pid);
	kill(victim.pid, SIGCONT);
	ask_victim(&victim, "calls 10");
	assert_int_equal(count_of(victim.pid), 20);
	kill(victim.pid, SIGSTOP);
	assert_int_equal(waitpid(victim.pid, &status, WUNTRACED), victim.pid);
	detach_expecting(manager, victim.pid, UB_DETACH_CLEAN);
	kill(victim.pid, SIGCONT);
	ask_victim(&victim, "calls 10");
	assert_int_equal(count_of(victim.pid), 20);
	assert_no_residue(victim.pid, before, UB_RESIDUE_FULL);
	ub_residue_free(before);
	end_victim(&victim);
	ub_link_manager_free(manager);
}

/* Forked children are not counted, vforked ones are under their own pid: they run in the parent's
 * memory. */
static void children_count_as_in_the_kernel(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct victim victim;
	char line[256];
	int pid, status;

	start_victim(&victim, "1");
	attach_ok(manager, victim.pid);
	fprintf(victim.to, "fork 25\n");
	fflush(victim.to);
	read_answer(&victim, line, sizeof(line));
	assert_int_equal(sscanf(line, "forked %d %d", &pid, &status), 2);
	assert_int_equal(status, 0);
	assert_int_equal(count_of(pid), 0);
	fprintf(victim.to, "vfork 25\n");
	fflush(victim.to);
	read_answer(&victim, line, sizeof(line));
	assert_int_equal(sscanf(line, "vforked %d %d", &pid, &status), 2);
	assert_int_equal(status, 0);
	assert_int_equal(count_of(pid), 25);
	assert_int_equal(count_of(victim.pid), 0);
	ask_victim(&victim, "calls 10");
	assert_int_equal(count_of(victim.pid), 10);
	detach_expecting(manager, victim.pid, UB_DETACH_CLEAN);
	end_victim(&victim);
	ub_link_manager_free(manager);
}

static void refuse(struct ub_link_manager *manager, pid_t pid, int err, const char *text)
{
	struct ub_reason why = { 0 };

	assert_int_equal(ub_link_manager_attach(manager, pid, &why), err);
	if (!strstr(why.text, text))
		print_error("reason: %s\n", why.text);
	assert_non_null(strstr(why.text, text));
	assert_int_equal(ub_link_manager_state(manager, pid), UB_DETACHED);
	assert_int_equal(ub_link_manager_count(manager), 0);
}

static void refuses_what_cannot_be(void **state)
{
	struct ub_link_manager *manager = new_manager();
	struct victim victim;
	pid_t zombie = fork();
	siginfo_t info;

	if (!zombie)
		_exit(0);
	assert_int_equal(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT), 0);
	refuse(manager, zombie, -ESRCH, "is a zombie");
	waitpid(zombie, NULL, 0);
	refuse(manager, zombie, -ESRCH, "no process");
	refuse(manager, 0, -EINVAL, "not a process id");
	refuse(manager, getpid(), -EINVAL, "itself");
	start_victim(&victim, "1");
	end_victim(&victim);
	ub_link_manager_free(manager);
}

/* A probe that can't be attached undoes those before it. */
static void all_or_nothing(void **state)
{
	struct ub_link_manager *manager;
	struct ub_programs broken = *programs;
	struct ub_reason why = { 0 };
	struct ub_residue *before;
	struct victim victim;

	broken.probes = calloc(2, sizeof(*broken.probes));
	assert_non_null(broken.probes);
	broken.probes[0] = programs->probes[0];
	broken.probes[1] = programs->probes[0];
	broken.probes[1].function = "mallok";
	broken.nr_probes = 2;
	manager = ub_link_manager_new(backend, &broken);
	assert_non_null(manager);
	start_victim(&victim, "1");
	ask_victim(&victim, "calls 1");
	assert_int_equal(ub_residue_snapshot(victim.pid, UB_RESIDUE_FULL, &before), 0);
	assert_int_equal(ub_link_manager_attach(manager, victim.pid, &why), -ENOENT);
	assert_non_null(strstr(why.text, "did you mean 'malloc'?"));
	assert_int_equal(ub_link_manager_state(manager, victim.pid), UB_DETACHED);
	ask_victim(&victim, "calls 10");
	assert_int_equal(count_of(victim.pid), 0);
	assert_no_residue(victim.pid, before, UB_RESIDUE_FULL);
	ub_residue_free(before);
	end_victim(&victim);
	ub_link_manager_free(manager);
	free(broken.probes);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_exactly_while_attached),
		cmocka_unit_test(attaching_twice_says_so),
		cmocka_unit_test(detaching_is_idempotent),
		cmocka_unit_test(many_processes),
		cmocka_unit_test(two_managers_on_one_function),
		cmocka_unit_test(target_is_killed),
		cmocka_unit_test(target_is_stopped),
		cmocka_unit_test(children_count_as_in_the_kernel),
		cmocka_unit_test(refuses_what_cannot_be),
		cmocka_unit_test(all_or_nothing),
	};
	struct ub_reason why = { 0 };
	int err, failed;

	err = enter_backend(argc, argv, &backend);
	if (err >= 0)
		return err;
	err = ub_programs_load("malloc", NULL, 0, &programs, &why);
	if (err) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	ub_programs_free(programs);
	return failed;
}
