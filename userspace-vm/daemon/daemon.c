// SPDX-License-Identifier: MIT
/*
 * The daemon's life. It is started by a client that holds the run directory's lock and hands it a
 * socket that listens already, so nobody waits for it to come up. It ends when it has no client and
 * no object: it takes the same lock, sees that nobody is waiting in the socket's queue, removes the
 * socket and exits; a client that comes later starts the next one.
 */
#include <daemon/daemon.h>

#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <daemon/procfs.h>

#include "targets.h"

#define IDLE_CHECK_MS 200
#define LEAVE_MS      2000

void ub_daemon_log(struct ub_daemon *daemon, const char *fmt, ...)
{
	struct timespec now;
	va_list args;

	if (!daemon->log)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(daemon->log, "%lld.%06ld ", (long long)now.tv_sec, now.tv_nsec / 1000);
	va_start(args, fmt);
	vfprintf(daemon->log, fmt, args);
	va_end(args);
	fputc('\n', daemon->log);
	fflush(daemon->log);
}

static int open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without descriptors a connection could not be taken, not even to be refused, and would call for
 * us for ever: that is what a spare one is kept for. */
static void refuse_one(struct ub_daemon *daemon)
{
	int sock;

	if (daemon->spare_fd >= 0)
		close(daemon->spare_fd);
	sock = accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (sock >= 0)
		close(sock);
	daemon->spare_fd = open_spare();
	ub_daemon_log(daemon, "connection refused: too many open files");
}

static bool accept_one(struct ub_daemon *daemon)
{
	_cleanup_close_ int sock = -1;
	int err;

	sock = accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (sock < 0 && (errno == EMFILE || errno == ENFILE))
		refuse_one(daemon);
	if (sock < 0)
		return false;
	err = ub_daemon_connection_new(daemon, sock);
	if (err)
		ub_daemon_log(daemon, "connection refused: %s", strerror(-err));
	else
		sock = -1;
	return true;
}

static void on_connect(void *opaque, u32 events)
{
	accept_one(opaque);
}

static bool is_idle(const struct ub_daemon *daemon)
{
	return !daemon->connections && !daemon->listeners &&
	       !ub_daemon_targets_busy(daemon->targets) && ub_kernel_objects(daemon->kernel) == 0;
}

static void remove_socket(const struct ub_daemon *daemon)
{
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/socket", daemon->run_dir);
	unlink(path);
}

/* Whether the daemon may go: nobody can be connecting while we hold the lock. */
static bool try_to_leave(struct ub_daemon *daemon)
{
	_cleanup_close_ int lock = ub_run_dir_lock(daemon->run_dir);

	if (lock == -EWOULDBLOCK || accept_one(daemon))
		return false;
	remove_socket(daemon);
	ub_run_dir_sweep(daemon->run_dir);
	return true;
}

/* Told to go while there are clients: whoever comes now waits for the lock until all is cleaned up.
 * Its descriptor, or -errno: whoever has it keeps it, so it is not waited for any longer. */
static int leave_at_once(struct ub_daemon *daemon)
{
	u64 until = ub_daemon_now_ms() + LEAVE_MS;
	int lock;

	while ((lock = ub_run_dir_lock(daemon->run_dir)) == -EWOULDBLOCK &&
	       ub_daemon_now_ms() < until)
		usleep(1000);
	remove_socket(daemon);
	ub_run_dir_sweep(daemon->run_dir);
	return lock;
}

static void on_idle_timer(void *opaque)
{
	struct ub_daemon *daemon = opaque;

	daemon->idle_timer = NULL;
	if (daemon->connections || daemon->listeners)
		return;
	if (is_idle(daemon) && try_to_leave(daemon))
		ub_loop_stop(daemon->loop);
	else
		ub_daemon_check_idle(daemon);
}

/* Objects can outlive connections (their files were passed on), so go on looking. */
void ub_daemon_check_idle(struct ub_daemon *daemon)
{
	if (daemon->connections || daemon->listeners)
		return;
	ub_timer_remove(daemon->idle_timer);
	daemon->idle_timer = ub_loop_after(daemon->loop, IDLE_CHECK_MS, on_idle_timer, daemon);
}

static void on_signal(void *opaque, u32 events)
{
	struct ub_daemon *daemon = opaque;
	struct signalfd_siginfo info;

	if (read(daemon->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	daemon->told_to_go = true;
	ub_loop_stop(daemon->loop);
}

static void watch_guard(struct ub_daemon *daemon);

static void on_guard_gone(void *opaque, u32 events)
{
	struct ub_daemon *daemon = opaque;
	int err;

	ub_watch_remove(daemon->guard_watch);
	daemon->guard_watch = NULL;
	if (daemon->guard_fd >= 0)
		close(daemon->guard_fd);
	daemon->guard_fd = -1;
	waitpid(daemon->guard_pid, NULL, WNOHANG);
	err = ub_daemon_guard_replace(daemon->run_dir, -1, &daemon->guard_fd, &daemon->guard_pid);
	ub_daemon_log(daemon, "guard gone, new guard: %s", err ? strerror(-err) : "started");
	if (!err)
		watch_guard(daemon);
}

static void watch_guard(struct ub_daemon *daemon)
{
	daemon->guard_watch =
		ub_loop_watch(daemon->loop, daemon->guard_fd, EPOLLHUP, on_guard_gone, daemon);
}

static int find_run_dir(struct ub_daemon *daemon)
{
	struct sockaddr_un address = {};
	socklen_t len = sizeof(address);
	const char *given = getenv("UBPF_RUN_DIR");
	char *slash;

	if (given) {
		snprintf(daemon->run_dir, sizeof(daemon->run_dir), "%s", given);
		return 0;
	}
	if (getsockname(daemon->listen_fd, (struct sockaddr *)&address, &len))
		return -errno;
	slash = strrchr(address.sun_path, '/');
	if (address.sun_family != AF_UNIX || !slash)
		return -EINVAL;
	snprintf(daemon->run_dir, sizeof(daemon->run_dir), "%.*s", (int)(slash - address.sun_path),
		 address.sun_path);
	return 0;
}

static void on_interrupt(int signal)
{
}

static int watch_signals(struct ub_daemon *daemon)
{
	const struct sigaction interrupt = { .sa_handler = on_interrupt };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* Only to end a system call. */
	sigaction(SIGUSR1, &interrupt, NULL);
	daemon->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (daemon->signal_fd < 0)
		return -errno;
	daemon->signal_watch =
		ub_loop_watch(daemon->loop, daemon->signal_fd, EPOLLIN, on_signal, daemon);
	return daemon->signal_watch ? 0 : -errno;
}

static int daemon_init(struct ub_daemon *daemon)
{
	struct rlimit files;
	const char *log = getenv("UBPF_DAEMON_LOG");
	int err;

	prctl(PR_SET_NAME, "ubpf-daemon");
	/* Its threads take turns: one heap does. */
	mallopt(M_ARENA_MAX, 1);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (log)
		daemon->log = fopen(log, "ae");
	fcntl(daemon->listen_fd, F_SETFD, FD_CLOEXEC);
	fcntl(daemon->listen_fd, F_SETFL, O_NONBLOCK);
	/* Again, in our own name: clients ask the socket whom to look at when nobody answers. */
	if (listen(daemon->listen_fd, SOMAXCONN))
		return -errno;
	daemon->spare_fd = open_spare();
	daemon->uid = getuid();
	daemon->nr_cpus = ub_procfs_possible_cpus();
	err = watch_signals(daemon);
	if (err)
		return err;
	daemon->trace = ub_daemon_trace_new(daemon->loop);
	daemon->targets = ub_daemon_targets_new(daemon);
	if (!daemon->trace || !daemon->targets)
		return -ENOMEM;
	daemon->kernel = ub_kernel_new(daemon->loop, &ub_daemon_targets_kernel_ops, daemon->targets,
				       daemon->nr_cpus);
	if (!daemon->kernel)
		return -ENOMEM;
	watch_guard(daemon);
	daemon->listen_watch =
		ub_loop_watch(daemon->loop, daemon->listen_fd, EPOLLIN, on_connect, daemon);
	/* The client that starts us may die before it connects. Until then it holds the lock. */
	daemon->idle_timer = ub_loop_after(daemon->loop, IDLE_CHECK_MS, on_idle_timer, daemon);
	return daemon->listen_watch ? 0 : -errno;
}

/* Links first, while the clients' objects stand; then everything else. */
static void daemon_deinit(struct ub_daemon *daemon)
{
	ub_loop_enter(daemon->loop);
	if (daemon->targets)
		ub_daemon_targets_detach_all(daemon->targets);
	while (daemon->listeners)
		ub_daemon_listener_free(daemon->listeners);
	ub_loop_leave(daemon->loop);
	ub_daemon_listeners_wait(daemon);
	while (daemon->connections)
		ub_daemon_connection_free(daemon->connections);
	if (daemon->kernel)
		ub_kernel_free(daemon->kernel);
	ub_daemon_targets_free(daemon->targets);
	ub_daemon_trace_free(daemon->trace);
	ub_watch_remove(daemon->listen_watch);
	ub_watch_remove(daemon->signal_watch);
	ub_watch_remove(daemon->guard_watch);
	if (daemon->signal_fd >= 0)
		close(daemon->signal_fd);
	if (daemon->guard_fd >= 0)
		close(daemon->guard_fd);
	close(daemon->listen_fd);
	if (daemon->spare_fd >= 0)
		close(daemon->spare_fd);
	ub_loop_free(daemon->loop);
	if (daemon->log)
		fclose(daemon->log);
}

int ub_daemon_main(int listen_fd)
{
	struct ub_daemon daemon = {
		.listen_fd = listen_fd, .signal_fd = -1, .guard_fd = -1, .spare_fd = -1
	};
	_cleanup_close_ int lock = -1;
	int err;

	err = find_run_dir(&daemon);
	if (err)
		return EXIT_FAILURE;
	err = ub_daemon_guard_start(daemon.run_dir, &daemon.guard_fd, &daemon.guard_pid);
	if (err)
		return err < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	daemon.loop = ub_loop_new();
	if (!daemon.loop)
		return EXIT_FAILURE;
	err = daemon_init(&daemon);
	if (!err)
		err = ub_loop_run(daemon.loop);
	if (daemon.told_to_go)
		lock = leave_at_once(&daemon);
	daemon_deinit(&daemon);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
