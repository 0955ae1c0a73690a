// SPDX-License-Identifier: MIT
/*
 * exec: this very process becomes the tool. It installs the filter on itself, hands the listener to
 * the daemon and executes the tool, so that pid, terminal, job control, signals and exit status are
 * the tool's own; nothing of ours stands between it and the user.
 *
 * What the daemon has to say to the user (which processes were attached to) comes over the
 * connection that handed over the listener. A small process of its own, nobody's child, prints it
 * to the standard error and ends with the session. A session that ends by itself says so last; an
 * end without a word is the daemon's. What the tool sees of that is "Function not implemented", so
 * the process says why, unless the tool is about to end too.
 *
 * Where no listener can be had the tool gets the interposition as a preloaded library instead: that
 * reaches tools that go through libc, which is most, and says so where it can't work.
 *
 * That leaves tools that are linked statically, in a container whose engine's filter answers bpf(2)
 * with an error: of several filters' verdicts an error is stronger than a notification. A tracer
 * would get at their calls, since a stop at the entry of a system call (PTRACE_SYSCALL) comes
 * before all filters: it may put the number of a harmless call there and, at the exit, the result.
 * (Tried under such a filter; the engines let ptrace pass.) It is not done. Each call of the tool,
 * be it ours or not, would take two stops, some 40 us; descriptors would have to be given by a
 * recvmsg() that the tool is made to do; the tracer would answer for signals, job control and execs
 * of all of the tool's threads and children; and nobody else could trace the tool, our surgeon
 * neither, so it could not be a target.
 */
#include <client/client.h>

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/protocol.h>

#include "filter.h"
#include "private.h"

#define PRELOAD		"libubpf-preload.so"
#define LAST_MOMENTS_MS 1000

/* --- the tool ------------------------------------------------------------------------------------
 */

int ub_client_find_program(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	int err = -ENOENT;

	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		return access(path, X_OK) ? -errno : 0;
	}
	if (!dirs)
		dirs = "/usr/local/bin:/usr/bin:/bin";
	for (;;) {
		size_t len = strcspn(dirs, ":");
		struct stat st;

		snprintf(path, size, "%.*s%s%s", (int)len, dirs, len ? "/" : "", name);
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
			if (access(path, X_OK) == 0)
				return 0;
			err = -EACCES;
		}
		if (!dirs[len])
			return err;
		dirs += len + 1;
	}
}

/* Tools that refuse to start unless geteuid() says 0, though nothing they do here needs it. */
static bool wants_root(const char *tool)
{
	static const char *const names[] = { "bpftrace" };
	const char *base = strrchr(tool, '/');

	base = base ? base + 1 : tool;
	for (size_t i = 0; i < ub_array_size(names); i++) {
		if (!strncmp(base, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

/* --- what the daemon says ------------------------------------------------------------------------
 */

/* @tool: a pidfd, or -1. */
static void print_notes(int sock, int tool, const char *name)
{
	struct pollfd end = { .fd = tool, .events = POLLIN };
	char text[UB_MSG_MAX_DATA];
	struct ub_msg msg;
	size_t size;

	while (ub_msg_recv(sock, &msg, text, sizeof(text), &size, NULL) == 0) {
		if (msg.type == UB_MSG_OVER)
			return;
		if (msg.type == UB_MSG_NOTE && size < 1000)
			dprintf(STDERR_FILENO, "ubpf-run: %.*s\n", (int)size, text);
	}
	if (tool >= 0 && poll(&end, 1, LAST_MOMENTS_MS) == 0)
		dprintf(STDERR_FILENO,
			"ubpf-run: " UB_CLIENT_LOST
			", and bpf calls of %s fail from now on: start it "
			"again\n",
			name);
}

/* Before the filter is on, so that the printer is not under it (it would keep the session alive).
 */
static int start_printer(int sock, const char *tool, int *go)
{
	const char *slash = strrchr(tool, '/');
	pid_t pid, self = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		char byte;
		int low;

		if (fork() != 0)
			_exit(0);
		close(fds[1]);
		/* The hello is the tool's; what follows is ours. */
		if (read(fds[0], &byte, 1) != 1)
			_exit(0);
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		signal(SIGTSTP, SIG_IGN);
		signal(SIGPIPE, SIG_DFL);
		/* Before those are closed: the tool may have been started without some of them. */
		low = dup2(sock, 3);
		close(0);
		close(1);
		close_range((unsigned int)low + 1, ~0U, 0);
		if (!chdir("/"))
			print_notes(low, (int)syscall(SYS_pidfd_open, self, 0),
				    slash ? slash + 1 : tool);
		_exit(0);
	}
	close(fds[0]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	*go = fds[1];
	return 0;
}

/* --- with a listener -----------------------------------------------------------------------------
 */

static int enter_listener(const char *tool, const struct ub_exec_options *options,
			  struct ub_reason *why)
{
	_cleanup_close_ int sock = -1, listener = -1, go = -1;
	pid_t guard;
	int err;

	sock = ub_client_connect(why);
	if (sock < 0)
		return sock;
	err = start_printer(sock, tool, &go);
	if (err)
		return ub_reason_set(why, err, "can't start a process: %s", strerror(-err));
	listener = ub_filter_install(wants_root(tool) ? UB_FILTER_AS_ROOT : 0, why);
	if (listener < 0)
		return listener;
	err = ub_client_hello(sock, UB_HELLO_LISTENER, options->pids, options->nr_pids, 0, listener,
			      &guard, NULL, why);
	if (err)
		return err;
	ub_client_allow_tracer(guard);
	if (write(go, "g", 1) != 1)
		return -errno;
	return 0;
}

/* --- with the preloaded library ------------------------------------------------------------------
 */

/* Whether the file is a program that the dynamic linker starts. */
static bool is_dynamic(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Phdr segments[64];
	Elf64_Ehdr header;
	ssize_t size;

	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return false;
	if (memcmp(header.e_ident, ELFMAG, SELFMAG))
		return header.e_ident[0] == '#' && header.e_ident[1] == '!';
	if (header.e_phnum > ub_array_size(segments) || header.e_phentsize != sizeof(*segments))
		return false;
	size = (ssize_t)(header.e_phnum * sizeof(*segments));
	if (pread(fd, segments, (size_t)size, (off_t)header.e_phoff) != size)
		return false;
	for (int i = 0; i < header.e_phnum; i++) {
		if (segments[i].p_type == PT_INTERP)
			return true;
	}
	return false;
}

static int find_preload(char *path, size_t size)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	snprintf(path, size, "%s/" PRELOAD, exe);
	if (access(path, R_OK) == 0)
		return 0;
	snprintf(path, size, "%s/../lib/ubpf-run/" PRELOAD, exe);
	return access(path, R_OK) ? -errno : 0;
}

static int enter_preload(const char *tool, const struct ub_exec_options *options,
			 struct ub_reason *why)
{
	_cleanup_close_ int sock = -1;
	char library[PATH_MAX + 64], value[2 * PATH_MAX], number[32];
	const char *before = getenv("LD_PRELOAD");
	pid_t guard;
	u64 session;
	int err;

	if (!is_dynamic(tool))
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"%s is linked statically: without a seccomp listener its system "
			"calls can't be had (ubpf-run doctor says why there is none)",
			tool);
	err = find_preload(library, sizeof(library));
	if (err)
		return ub_reason_set(why, err, PRELOAD " is not beside ubpf-run");
	sock = ub_client_connect(why);
	if (sock < 0)
		return sock;
	err = ub_client_hello(sock, UB_HELLO_CALLER, options->pids, options->nr_pids, 0, -1, &guard,
			      &session, why);
	if (err)
		return err;
	ub_client_allow_tracer(guard);
	snprintf(value, sizeof(value), "%s%s%s", library, before && before[0] ? ":" : "",
		 before ? before : "");
	snprintf(number, sizeof(number), "%llu", (unsigned long long)session);
	/* The session lasts as long as this connection, so the tool inherits it. */
	fcntl(sock, F_SETFD, 0);
	if (setenv("LD_PRELOAD", value, 1) || setenv("UBPF_SESSION", number, 1) ||
	    (wants_root(tool) && setenv("UBPF_AS_ROOT", "1", 1)))
		return -ENOMEM;
	sock = -1;
	return 0;
}

int ub_client_exec_way(struct ub_reason *why)
{
	return ub_filter_probe(why);
}

int ub_client_exec(char *const *argv, const struct ub_exec_options *options, struct ub_reason *why)
{
	char tool[PATH_MAX];
	int err;

	err = ub_client_find_program(argv[0], tool, sizeof(tool));
	if (err)
		return ub_reason_set(why, err, "%s: %s", argv[0],
				     err == -ENOENT ? "command not found" : strerror(-err));
	err = options->no_listener ? -EOPNOTSUPP : ub_client_exec_way(why);
	if (!err)
		err = enter_listener(tool, options, why);
	else
		err = enter_preload(tool, options, why);
	if (err)
		return err;
	execv(tool, argv);
	return ub_reason_set(why, -errno, "%s: %s", tool, strerror(errno));
}
