// SPDX-License-Identifier: MIT
/*
 * The daemon's promises that need no target: one per user, started by the first client, gone after
 * the last; every link gone with its client, with the daemon, with the target; hostile clients.
 */
#include <sys/un.h>

#include "case.h"

/* A client process of its own: runs @body, then waits to be killed. *@said: what body returned. */
static pid_t start_client(int (*body)(pid_t target), pid_t target, int *said)
{
	int fds[2], value;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		value = ub_client_enter(NULL);
		if (!value)
			value = body(target);
		if (write(fds[1], &value, sizeof(value)) != sizeof(value))
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &value, sizeof(value)), sizeof(value));
	close(fds[0]);
	*said = value;
	return pid;
}

static int nothing(pid_t target)
{
	return 0;
}

static int attach_one(pid_t target)
{
	return attach(target, 1);
}

static int attach_two(pid_t target)
{
	int fd = attach(target, 1);

	return fd < 0 ? fd : attach(target, 2);
}

static void all_gone(pid_t guard, pid_t daemon)
{
	wait_until(!alive(guard) && !alive(daemon));
	wait_until(!exists("socket"));
}

static void test_starts_and_leaves(void **state)
{
	int said;
	pid_t client = start_client(nothing, 0, &said);
	pid_t guard = guard_pid(), daemon = daemon_pid(guard);

	assert_int_equal(said, 0);
	assert_true(guard > 0 && daemon > 0 && alive(guard) && alive(daemon));
	end_target(client);
	all_gone(guard, daemon);
	assert_int_equal(ub_client_connect_running(NULL), -ENOENT);
}

static void test_two_clients_one_daemon(void **state)
{
	int said;
	pid_t first = start_client(nothing, 0, &said), second;
	pid_t guard = guard_pid(), daemon = daemon_pid(guard);

	second = start_client(nothing, 0, &said);
	assert_int_equal(guard_pid(), guard);
	end_target(first);
	usleep(600000);
	assert_true(alive(daemon));
	end_target(second);
	all_gone(guard, daemon);
}

static void test_many_start_at_once(void **state)
{
	pid_t pids[16];
	int status, failed = 0;

	for (int i = 0; i < 16; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(ub_client_enter(NULL) ? 1 : guard_pid() > 0 ? 0 : 2);
	}
	for (int i = 0; i < 16; i++) {
		waitpid(pids[i], &status, 0);
		failed += status != 0;
	}
	assert_int_equal(failed, 0);
	wait_until(!exists("socket"));
}

static int add_some(pid_t target)
{
	u64 value = 41;
	int fd;

	if (syscall(SYS_bpf, FAKE_ADD, &value, sizeof(value)) || value != 42)
		return 1;
	if (syscall(SYS_bpf, FAKE_ADD, NULL, 8) != -1 || errno != EFAULT)
		return 2;
	if (syscall(SYS_bpf, 9999, &value, 8) != -1 || errno != EINVAL)
		return 3;
	fd = (int)syscall(SYS_bpf, FAKE_FILE, &value, 8);
	if (fd < 0 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
		return 4;
	return close(fd);
}

static void test_calls(void **state)
{
	int said;
	pid_t client = start_client(add_some, 0, &said);

	assert_int_equal(said, 0);
	end_target(client);
	wait_until(!exists("socket"));
}

static int add_in_child(pid_t target)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(add_some(0));
	waitpid(pid, &status, 0);
	return status ? status : add_some(0);
}

static void test_calls_of_a_forked_child(void **state)
{
	int said;
	pid_t client = start_client(add_in_child, 0, &said);

	assert_int_equal(said, 0);
	end_target(client);
	wait_until(!exists("socket"));
}

/* With its client goes what it attached, and the daemon. */
static void attach_and_end(int (*how)(pid_t target), pid_t target)
{
	int said;
	pid_t client = start_client(how, target, &said);

	assert_true(said >= 0);
	assert_true(exists("patched.%d", target));
	end_target(client);
	wait_until(!exists("patched.%d", target));
	wait_until(!exists("socket"));
}

static void test_client_killed(void **state)
{
	pid_t target = start_target();

	attach_and_end(attach_two, target);
	end_target(target);
}

static void test_daemon_killed(void **state)
{
	pid_t target = start_target(), client, guard, daemon;
	int said;

	client = start_client(attach_one, target, &said);
	assert_true(said >= 0);
	guard = guard_pid();
	daemon = daemon_pid(guard);
	kill(daemon, SIGKILL);
	wait_until(!exists("patched.%d", target));
	wait_until(!alive(guard));
	end_target(client);
	/* And again. */
	attach_and_end(attach_one, target);
	end_target(target);
}

/* A guard that cleans up when there is a new daemon already leaves that one's socket alone, though files may be
 * made where others of that name were. */
static void test_guard_comes_late(void **state)
{
	pid_t first, second, guard, daemon, next;
	int said;

	first = start_client(nothing, 0, &said);
	assert_int_equal(said, 0);
	guard = guard_pid();
	daemon = daemon_pid(guard);
	kill(guard, SIGSTOP);
	kill(daemon, SIGKILL);
	wait_until(!alive(daemon));
	second = start_client(nothing, 0, &said);
	assert_int_equal(said, 0);
	next = guard_pid();
	assert_true(next > 0 && next != guard);
	kill(guard, SIGCONT);
	wait_until(!alive(guard));
	assert_true(exists("socket"));
	assert_int_equal(guard_pid(), next);
	end_target(first);
	end_target(second);
	wait_until(!alive(next) && !exists("socket"));
}

static void test_guard_killed_then_daemon(void **state)
{
	pid_t target = start_target(), client, guard, daemon;
	int said;

	client = start_client(attach_one, target, &said);
	assert_true(said >= 0);
	guard = guard_pid();
	daemon = daemon_pid(guard);
	kill(guard, SIGKILL);
	wait_until(guard_pid() != guard && guard_pid() > 0);
	guard = guard_pid();
	kill(daemon, SIGKILL);
	wait_until(!exists("patched.%d", target));
	wait_until(!alive(guard));
	end_target(client);
	end_target(target);
}

static void test_daemon_terminated(void **state)
{
	pid_t target = start_target(), client, guard, daemon;
	int said;

	client = start_client(attach_one, target, &said);
	guard = guard_pid();
	daemon = daemon_pid(guard);
	kill(daemon, SIGTERM);
	wait_until(!exists("patched.%d", target));
	wait_until(!alive(guard) && !alive(daemon));
	end_target(client);
	end_target(target);
}

/* SIGTERM that comes before the daemon is ready for it is not lost, nor does it kill half of it. */
static void test_terminated_at_birth(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	sigset_t term;
	int status, sock;
	pid_t pid;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", run_dir);
	sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(sock, 16), 0);
	pid = fork();
	if (pid == 0) {
		char number[16];
		char *argv[] = { "life", "--daemon", number, NULL };

		/* As the client starts it. */
		snprintf(number, sizeof(number), "%d", sock);
		sigemptyset(&term);
		sigaddset(&term, SIGTERM);
		sigprocmask(SIG_SETMASK, &term, NULL);
		raise(SIGTERM);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	close(sock);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_false(exists("socket"));
}

static void test_target_killed(void **state)
{
	pid_t target = start_target(), client;
	_cleanup_free_ char *answer = NULL;
	char text[64];
	int said;

	client = start_client(attach_one, target, &said);
	assert_true(said >= 0);
	snprintf(text, sizeof(text), "\"pid\":%d,\"comm\"", target);
	assert_int_equal(ub_client_ask("{\"cmd\":\"attached\"}", &answer, NULL), 0);
	assert_non_null(strstr(answer, text));
	end_target(target);
	for (bool listed = true; listed; usleep(5000)) {
		free(TAKE_PTR(answer));
		assert_int_equal(ub_client_ask("{\"cmd\":\"attached\"}", &answer, NULL), 0);
		listed = strstr(answer, text) != NULL;
	}
	end_target(client);
	wait_until(!exists("socket"));
}

static int attach_bad_things(pid_t target)
{
	if (attach(0x3fffffff, 1) != -ESRCH)
		return 1;
	if (attach(target, 0xbad) != -EOPNOTSUPP)
		return 2;
	if (attach(daemon_pid(guard_pid()), 1) != -EINVAL)
		return 3;
	return 0;
}

static bool answer_has(const char *request, const char *text)
{
	_cleanup_free_ char *answer = NULL;

	return !ub_client_ask(request, &answer, NULL) && strstr(answer, text);
}

static bool file_has(const char *path, const char *text)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, text))
			return true;
	}
	return false;
}

/* A link whose process is always faster is not passed off as attached, and comes in the end. */
static void test_late_is_said(void **state)
{
	pid_t target = start_target(), client;
	char overtake[128], log[128];
	int said;

	snprintf(overtake, sizeof(overtake), "%s/overtake", run_dir);
	snprintf(log, sizeof(log), "%s/log", run_dir);
	close(creat(overtake, 0600));
	setenv("UBPF_DAEMON_LOG", log, 1);
	client = start_client(attach_one, target, &said);
	unsetenv("UBPF_DAEMON_LOG");
	assert_true(said >= 0);
	assert_true(answer_has("{\"cmd\":\"attached\"}", "\"waiting\""));
	assert_true(answer_has("{\"cmd\":\"attached\"}", "it was faster"));
	assert_false(exists("patched.%d", target));
	wait_until(file_has(log, "is not attached yet (tried again): it was faster"));
	unlink(overtake);
	wait_until(exists("patched.%d", target));
	wait_until(!answer_has("{\"cmd\":\"attached\"}", "\"waits\""));
	end_target(client);
	end_target(target);
	wait_until(!exists("socket"));
	unlink(log);
}

static void test_refusals_leave_nothing(void **state)
{
	pid_t target = start_target(), client;
	int said;

	client = start_client(attach_bad_things, target, &said);
	assert_int_equal(said, 0);
	assert_false(exists("patched.%d", target));
	end_target(client);
	end_target(target);
	wait_until(!exists("socket"));
}

static void test_detach_request(void **state)
{
	pid_t target = start_target(), client;
	_cleanup_free_ char *answer = NULL;
	char request[64];
	int said;

	client = start_client(attach_two, target, &said);
	snprintf(request, sizeof(request), "{\"cmd\":\"detach\",\"pid\":%d}", target);
	assert_int_equal(ub_client_ask(request, &answer, NULL), 0);
	assert_non_null(strstr(answer, "\"links\":2"));
	assert_false(exists("patched.%d", target));
	end_target(client);
	end_target(target);
	wait_until(!exists("socket"));
}

static u32 random_state = 12345;

static u32 next_random(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

/* Messages of all sizes, types and contents, with and without descriptors; the daemon answers or
 * hangs up, and goes on serving others. */
static void test_hostile_client(void **state)
{
	int said;
	pid_t client = start_client(nothing, 0, &said);
	pid_t guard = guard_pid(), daemon = daemon_pid(guard);
	static u8 bytes[70000];

	for (int i = 0; i < 400; i++) {
		int sock = ub_client_connect_running(NULL);
		struct ub_msg msg = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_HELLO };

		assert_true(sock >= 0);
		if (next_random() % 2) {
			msg.words[0] = next_random() % 6;
			msg.words[1] = next_random() % 3 ? 0 : next_random();
			if (ub_msg_send(sock, &msg, NULL, 0, next_random() % 4 ? -1 : 0))
				assert_true(errno);
		}
		for (int j = 0; j < 8; j++) {
			size_t size = next_random() % (next_random() % 8 ? 200 : sizeof(bytes));

			for (size_t k = 0; k < size; k++)
				bytes[k] = (u8)next_random();
			msg.type = next_random() % 12;
			for (int k = 0; k < 8; k++)
				msg.words[k] = next_random() % 2 ? next_random() : 0;
			if (msg.type == UB_MSG_CALL)
				msg.words[0] = SYS_bpf;
			if (next_random() % 3 && size >= sizeof(msg))
				memcpy(bytes, &msg, sizeof(msg));
			if (send(sock, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
			    errno != EAGAIN && errno != EMSGSIZE)
				break;
		}
		close(sock);
	}
	assert_true(alive(daemon));
	assert_int_equal(guard_pid(), guard);
	end_target(client);
	all_gone(guard, daemon);
}

/* A client that neither reads nor leaves does not keep the daemon from others. */
static void test_client_that_does_not_read(void **state)
{
	struct ub_msg msg = { .version = UB_PROTOCOL_VERSION,
			      .type = UB_MSG_HELLO,
			      .words = { UB_HELLO_ASK } };
	int said, sock;
	pid_t client = start_client(nothing, 0, &said);

	sock = ub_client_connect_running(NULL);
	assert_int_equal(ub_msg_send(sock, &msg, NULL, 0, -1), 0);
	msg.type = UB_MSG_ASK;
	for (int i = 0; i < 5000; i++) {
		struct iovec iov = { &msg, sizeof(msg) };
		struct msghdr head = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (sendmsg(sock, &head, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
			break;
	}
	assert_true(guard_pid() > 0);
	close(sock);
	end_target(client);
	wait_until(!exists("socket"));
}

static int count_fds(pid_t pid)
{
	char path[64];
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	for (int fd = 0; fd < 200; fd++) {
		char name[128];

		snprintf(name, sizeof(name), "%s/%d", path, fd);
		nr += access(name, F_OK) == 0;
	}
	return nr;
}

static int attach_and_detach_often(pid_t target)
{
	for (int i = 0; i < 300; i++) {
		int fd = attach(target, 1);

		if (fd < 0)
			return fd;
		close(fd);
	}
	return 0;
}

static void test_descriptors_stay_few(void **state)
{
	pid_t target = start_target(), client;
	pid_t daemon, keeper;
	int said, before;

	keeper = start_client(nothing, 0, &said);
	daemon = daemon_pid(guard_pid());
	wait_until(count_fds(daemon) > 0);
	before = count_fds(daemon);
	client = start_client(attach_and_detach_often, target, &said);
	assert_int_equal(said, 0);
	end_target(client);
	wait_until(!exists("patched.%d", target));
	wait_until(count_fds(daemon) <= before);
	end_target(keeper);
	end_target(target);
	wait_until(!exists("socket"));
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_and_leaves),
		cmocka_unit_test(test_two_clients_one_daemon),
		cmocka_unit_test(test_many_start_at_once),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_calls_of_a_forked_child),
		cmocka_unit_test(test_client_killed),
		cmocka_unit_test(test_daemon_killed),
		cmocka_unit_test(test_guard_comes_late),
		cmocka_unit_test(test_guard_killed_then_daemon),
		cmocka_unit_test(test_daemon_terminated),
		cmocka_unit_test(test_terminated_at_birth),
		cmocka_unit_test(test_target_killed),
		cmocka_unit_test(test_late_is_said),
		cmocka_unit_test(test_refusals_leave_nothing),
		cmocka_unit_test(test_detach_request),
		cmocka_unit_test(test_hostile_client),
		cmocka_unit_test(test_client_that_does_not_read),
		cmocka_unit_test(test_descriptors_stay_few),
	};
	int failed;

	case_init(argc, argv);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	case_exit();
	return failed ? 1 : 0;
}
