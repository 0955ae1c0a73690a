// SPDX-License-Identifier: MIT
/*
 * A tool under exec: calls over the seccomp listener, from any process and thread of it; signals; a
 * tool that is its own target; deaths.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <client/filter.h>
#include <client/private.h>

#include "case.h"

/* Runs `this program --tool NAME ARGUMENT` under exec; its wait status. */
static pid_t start_tool(const char *name, long argument)
{
	pid_t pid = fork();

	if (pid == 0) {
		char number[32];
		char *argv[] = { "/proc/self/exe", "--tool", (char *)name, number, NULL };
		struct ub_exec_options options = {};
		struct ub_reason why = {};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(number, sizeof(number), "%ld", argument);
		if (ub_client_exec(argv, &options, &why))
			fprintf(stderr, "exec: %s\n", why.text);
		_exit(99);
	}
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* --- tools ---------------------------------------------------------------------------------------
 */

static int add_many(long times)
{
	u64 value = 0;

	for (long i = 0; i < times; i++) {
		if (syscall(SYS_bpf, FAKE_ADD, &value, sizeof(value)))
			return 1;
	}
	return value == (u64)times ? 0 : 2;
}

static int tool_calls(long argument)
{
	u64 value = 0;
	int fd;

	if (add_many(100))
		return 1;
	if (syscall(SYS_bpf, FAKE_ADD, 8, 8) != -1 || errno != EFAULT)
		return 2;
	fd = (int)syscall(SYS_bpf, FAKE_FILE, &value, 8);
	if (fd < 0 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC) || write(fd, "x", 1) != 1)
		return 3;
	/* Not ours: the real kernel's answer. */
	if (syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0) != -1)
		return 4;
	if (syscall(SYS_epoll_ctl, -1, 2, -1, NULL) != -1 || errno != EBADF)
		return errno;
	return 0;
}

static void *add_in_thread(void *arg)
{
	return (void *)(long)add_many(200);
}

static int tool_threads(long argument)
{
	pthread_t threads[4];
	void *result;
	int failed = 0, status;
	pid_t child = fork();

	if (child == 0)
		_exit(add_many(200));
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, add_in_thread, NULL);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		failed += result != NULL;
	}
	waitpid(child, &status, 0);
	return failed + (status != 0);
}

static volatile int nr_alarms;

static void on_alarm(int signal)
{
	nr_alarms++;
}

/* Each call takes effect once, however many signals come meanwhile. */
static int tool_signals(long argument)
{
	struct sigaction action = { .sa_handler = on_alarm };
	timer_t timer;
	struct itimerspec often = { { 0, 200000 }, { 0, 200000 } };
	int failed;

	sigaction(SIGALRM, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, NULL, &timer) || timer_settime(timer, 0, &often, NULL))
		return 50;
	failed = 0;
	for (u64 value = 0, i = 0; i < 2000 && !failed; i++) {
		long done = syscall(SYS_bpf, FAKE_ADD, &value, sizeof(value));

		/* Before the daemon took the call, a handler may end it as it would any slow one.
		 */
		if (done == -1 && errno == EINTR) {
			if (value != i)
				failed = 3;
			i--;
			continue;
		}
		failed = done != 0 ? 1 : value != i + 1 ? 2 : 0;
	}
	timer_delete(timer);
	return failed;
}

static int tool_attach(long pid)
{
	int fd = attach((pid_t)(pid ? pid : getpid()), 1);

	if (fd < 0)
		return 10;
	printf("attached\n");
	fflush(stdout);
	for (;;)
		pause();
}

/* What can't be planned is refused, though the stop is put off until after the reply. */
static int tool_refused(long argument)
{
	return attach(getpid(), 0xbad) == -EOPNOTSUPP && attach(getpid(), 1) >= 0 ? 0 : 1;
}

static int tool_exit(long code)
{
	return (int)code;
}

static int tool_kill_self(long signal)
{
	kill(getpid(), (int)signal);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(long argument);
} tools[] = {
	{ "calls", tool_calls },     { "threads", tool_threads }, { "signals", tool_signals },
	{ "attach", tool_attach },   { "exit", tool_exit },	  { "kill-self", tool_kill_self },
	{ "refused", tool_refused },
};

static int run_tool(const char *name, const char *argument)
{
	for (size_t i = 0; i < ub_array_size(tools); i++) {
		if (!strcmp(tools[i].name, name))
			return tools[i].run(atol(argument));
	}
	return 98;
}

/* --- tests ---------------------------------------------------------------------------------------
 */

static void test_calls(void **state)
{
	assert_int_equal(finish(start_tool("calls", 0)), 0);
	wait_until(!exists("socket"));
}

static void test_threads_and_children(void **state)
{
	assert_int_equal(finish(start_tool("threads", 0)), 0);
	wait_until(!exists("socket"));
}

static void test_signals(void **state)
{
	assert_int_equal(finish(start_tool("signals", 0)), 0);
	wait_until(!exists("socket"));
}

static void test_exit_status(void **state)
{
	int status = finish(start_tool("exit", 7));

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = finish(start_tool("kill-self", SIGTERM));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	wait_until(!exists("socket"));
}

static void test_tool_killed(void **state)
{
	pid_t target = start_target();
	pid_t tool = start_tool("attach", target);

	wait_until(exists("patched.%d", target));
	end_target(tool);
	wait_until(!exists("patched.%d", target));
	wait_until(!exists("socket"));
	end_target(target);
}

/* The surgeon must have its hands on the tool before the tool has its reply. */
static void test_tool_is_its_own_target(void **state)
{
	pid_t tool = start_tool("attach", 0);

	wait_until(exists("patched.%d", tool));
	end_target(tool);
	wait_until(!exists("socket"));
}

static void test_tool_refused_as_target(void **state)
{
	assert_int_equal(finish(start_tool("refused", 0)), 0);
	wait_until(!exists("socket"));
}

static void test_daemon_killed(void **state)
{
	pid_t target = start_target();
	pid_t tool = start_tool("attach", target), guard;

	wait_until(exists("patched.%d", target));
	guard = guard_pid();
	kill(daemon_pid(guard), SIGKILL);
	wait_until(!exists("patched.%d", target) && !alive(guard));
	end_target(tool);
	end_target(target);
}

/* Places itself under a listener over @sock, which others read on, and ends when told to. */
static pid_t start_under(int sock, int *go)
{
	char byte = 0;
	int fds[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	if (pid == 0) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[1]);
		fd = ub_filter_install(UB_FILTER_BPF_ONLY, NULL);
		if (fd < 0 ||
		    ub_client_hello(sock, UB_HELLO_LISTENER, NULL, 0, 0, fd, NULL, NULL, NULL))
			_exit(1);
		close(fd);
		_exit(write(fds[0], &byte, 1) == 1 && read(fds[0], &byte, 1) == 0 ? 0 : 2);
	}
	close(fds[0]);
	assert_int_equal(read(fds[1], &byte, 1), 1);
	*go = fds[1];
	return pid;
}

/* What the daemon says last. */
static u32 last_word(int sock)
{
	static char text[UB_MSG_MAX_DATA];
	struct ub_msg msg;
	u32 last = 0;
	size_t size;

	while (!ub_msg_recv(sock, &msg, text, sizeof(text), &size, NULL))
		last = msg.type;
	return last;
}

/* Who prints notes must not take the tool's end for the daemon's, nor the other way round. */
static void test_last_word(void **state)
{
	static const int signals[] = { 0, SIGKILL, SIGTERM };

	for (size_t i = 0; i < ub_array_size(signals); i++) {
		int go, sock = ub_client_connect(NULL);
		pid_t tool = start_under(sock, &go), guard = guard_pid();

		if (signals[i]) {
			kill(daemon_pid(guard), signals[i]);
			assert_int_not_equal(last_word(sock), UB_MSG_OVER);
		}
		close(go);
		assert_int_equal(finish(tool), 0);
		if (!signals[i])
			assert_int_equal(last_word(sock), UB_MSG_OVER);
		close(sock);
		wait_until(!alive(guard) && !exists("socket"));
	}
}

static void test_no_such_tool(void **state)
{
	pid_t pid = fork();

	if (pid == 0) {
		char *argv[] = { "/no/such/tool", NULL };
		struct ub_exec_options options = {};
		struct ub_reason why = {};

		_exit(ub_client_exec(argv, &options, &why) == -ENOENT && why.text[0] ? 0 : 1);
	}
	assert_int_equal(finish(pid), 0);
	assert_false(exists("socket"));
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),	      cmocka_unit_test(test_threads_and_children),
		cmocka_unit_test(test_signals),	      cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_tool_killed),   cmocka_unit_test(test_tool_is_its_own_target),
		cmocka_unit_test(test_daemon_killed), cmocka_unit_test(test_no_such_tool),
		cmocka_unit_test(test_last_word),     cmocka_unit_test(test_tool_refused_as_target),
	};
	int failed;

	if (argc == 4 && !strcmp(argv[1], "--tool"))
		return run_tool(argv[2], argv[3]);
	case_init(argc, argv);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	case_exit();
	return failed ? 1 : 0;
}
