// SPDX-License-Identifier: MIT
/* What /proc/PID/status says, also of a process in so many groups that it says it late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/proc.h>

#define NR_GROUPS 8192

static void tells_of_itself(void **state)
{
	_cleanup_free_ char *text = NULL;
	u64 value = 0;

	(void)state;
	assert_int_equal(ub_proc_status("/proc/self", "Pid", 10, &value), 0);
	assert_int_equal(value, getpid());
	assert_int_equal(ub_proc_status("/proc/self", "Pi", 10, &value), -ENOENT);
	assert_int_equal(ub_proc_status_read("/proc/self", &text), 0);
	assert_int_equal(strtoull(ub_proc_status_field(text, "PPid"), NULL, 10), getppid());
	assert_string_equal(ub_proc_status_field(text, "Name "), "");
}

static void there_is_no_such_process(void **state)
{
	char *text = NULL;

	(void)state;
	assert_int_equal(ub_proc_status_read("/proc/0", &text), -ESRCH);
	assert_null(text);
}

/* Status 0 if what stands behind the groups is found. */
static void in_many_groups(void)
{
	static gid_t groups[NR_GROUPS];
	_cleanup_free_ char *text = NULL;
	u64 size = 0, seccomp = 9;

	for (int i = 0; i < NR_GROUPS; i++)
		groups[i] = (gid_t)(1000000 + i);
	if (setgroups(NR_GROUPS, groups))
		_exit(77);
	_exit(ub_proc_status("/proc/self", "VmSize", 10, &size) || !size ||
	      ub_proc_status("/proc/self", "Seccomp", 10, &seccomp) || seccomp > 2 ||
	      ub_proc_status_read("/proc/self", &text) || strlen(text) < 7ull * NR_GROUPS);
}

static void many_groups_hide_nothing(void **state)
{
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (!pid)
		in_many_groups();
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_itself),
		cmocka_unit_test(there_is_no_such_process),
		cmocka_unit_test(many_groups_hide_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
