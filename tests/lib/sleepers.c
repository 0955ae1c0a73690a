/* SPDX-License-Identifier: MIT */
/*
 * Threads that are blocked in system calls, one in each, or (ubpf-sleepers N) one thread in the
 * Nth. Says "ready", and "done" when each call has returned what it should have, not before its
 * time; else what was wrong. With "ubpf-sleepers names" lists them. "ubpf-sleepers count" says
 * "done, N interrupted" at the end: how many returned EINTR.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ul + now.tv_nsec;
}

#define FOR_MS 1200

/* Ends @fd's or child's wait after FOR_MS, from a process that nobody touches. */
static int later_pipe(void)
{
	int p[2];

	if (pipe(p))
		_exit(9);
	if (!fork()) {
		usleep(FOR_MS * 1000);
		_exit(write(p[1], "x", 1) != 1);
	}
	close(p[1]);
	return p[0];
}

static struct timespec timeout(void)
{
	return (struct timespec) { FOR_MS / 1000, FOR_MS % 1000 * 1000000L };
}

static long in_nanosleep(void)
{
	struct timespec t = timeout();

	return syscall(SYS_nanosleep, &t, NULL);
}

static long in_clock_nanosleep(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 2;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static long in_poll(void)
{
	return syscall(SYS_poll, NULL, 0, FOR_MS);
}

static long in_ppoll(void)
{
	struct timespec t = timeout();
	sigset_t none;

	sigemptyset(&none);
	return ppoll(NULL, 0, &t, &none);
}

static long in_select(void)
{
	struct timeval t = { FOR_MS / 1000, FOR_MS % 1000 * 1000 };

	return select(0, NULL, NULL, NULL, &t);
}

static long in_epoll_wait(void)
{
	struct epoll_event event;

	return epoll_wait(epoll_create1(0), &event, 1, FOR_MS);
}

static long in_epoll_pwait(void)
{
	struct epoll_event event;
	sigset_t some;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR2);
	return epoll_pwait(epoll_create1(0), &event, 1, FOR_MS, &some);
}

static long in_futex(void)
{
	struct timespec t = timeout();
	int word = 0;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);

	return r < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static long in_sigtimedwait(void)
{
	struct timespec t = timeout();
	sigset_t set;
	long r;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	r = sigtimedwait(&set, NULL, &t);
	return r < 0 && errno == EAGAIN ? 0 : -1;
}

static long in_read(void)
{
	char byte;

	return read(later_pipe(), &byte, 1) == 1 ? 0 : -1;
}

static long in_accept(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(listener, (void *)&address, size) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &size))
		return -2;
	if (!fork()) {
		int s = socket(AF_INET, SOCK_STREAM, 0);

		usleep(FOR_MS * 1000);
		_exit(connect(s, (void *)&address, size) != 0);
	}
	return accept(listener, NULL, NULL) >= 0 ? 0 : -1;
}

static long in_recv_with_timeout(void)
{
	struct timeval t = { FOR_MS / 1000, FOR_MS % 1000 * 1000 };
	char byte;
	int s[2];
	long r;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
		return -2;
	setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	r = recv(s[0], &byte, 1, 0);
	return r < 0 && errno == EAGAIN ? 0 : -1;
}

static long in_wait4(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		usleep(FOR_MS * 1000);
		_exit(7);
	}
	return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7 ? 0 : -1;
}

static long in_semtimedop(void)
{
	struct sembuf op = { 0, -1, 0 };
	struct timespec t = timeout();
	int id = semget(IPC_PRIVATE, 1, 0600);
	long r;
	int err;

	if (id < 0)
		return 0; /* no System V IPC here */
	r = semtimedop(id, &op, 1, &t);
	err = errno;
	semctl(id, 0, IPC_RMID);
	return r < 0 && err == EAGAIN ? 0 : -1;
}

static volatile sig_atomic_t woken;

static void on_usr1(int signo)
{
	woken++;
}

/* Ends with a signal, and only with that. */
static long in_sigsuspend(void)
{
	pid_t tid = syscall(SYS_gettid), pid = getpid();
	sigset_t all;

	if (!fork()) {
		usleep(FOR_MS * 1000);
		syscall(SYS_tgkill, pid, tid, SIGUSR1);
		_exit(0);
	}
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	return sigsuspend(&all) == -1 && errno == EINTR && woken == 1 ? 0 : -1;
}

static const struct {
	const char *name;
	long (*call)(void);
} calls[] = {
	{ "nanosleep", in_nanosleep },
	{ "clock_nanosleep", in_clock_nanosleep },
	{ "poll", in_poll },
	{ "ppoll", in_ppoll },
	{ "select", in_select },
	{ "epoll_wait", in_epoll_wait },
	{ "epoll_pwait", in_epoll_pwait },
	{ "futex", in_futex },
	{ "rt_sigtimedwait", in_sigtimedwait },
	{ "read", in_read },
	{ "accept", in_accept },
	{ "recv with a timeout", in_recv_with_timeout },
	{ "wait4", in_wait4 },
	{ "semtimedop", in_semtimedop },
	{ "sigsuspend", in_sigsuspend },
};

#define NR_CALLS (sizeof(calls) / sizeof(calls[0]))

static _Atomic int nr_ready, nr_interrupted;
static bool count;

static void *thread(void *opaque)
{
	long i = (long)opaque;
	unsigned long start = monotonic_ns(), took;
	long r;

	nr_ready++;
	r = calls[i].call();
	took = (monotonic_ns() - start) / 1000000;
	if (count && r < 0 && errno == EINTR) {
		nr_interrupted++;
		return NULL;
	}
	if (r || took < FOR_MS - 5) {
		dprintf(STDOUT_FILENO, "%s returned %ld (%s) after %lu ms\n", calls[i].name, r,
			strerror(errno), took);
		_exit(1);
	}
	return NULL;
}

static void sleepers(long only)
{
	struct sigaction action = { .sa_handler = on_usr1 };
	pthread_t threads[NR_CALLS];
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	/* So that its semaphores go with it, even if it is killed; as root. */
	(void)!unshare(CLONE_NEWIPC);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigaction(SIGUSR1, &action, NULL);
	if (only >= 0) {
		/* Alone: then this very thread makes our system calls. */
		dprintf(STDOUT_FILENO, "ready\n");
		thread((void *)only);
		dprintf(STDOUT_FILENO, "done\n");
		return;
	}
	for (long i = 0; i < (long)NR_CALLS; i++)
		pthread_create(&threads[i], NULL, thread, (void *)i);
	while (nr_ready < (int)NR_CALLS)
		usleep(100);
	dprintf(STDOUT_FILENO, "ready\n");
	for (size_t i = 0; i < NR_CALLS; i++)
		pthread_join(threads[i], NULL);
	if (count)
		dprintf(STDOUT_FILENO, "done, %d interrupted\n", nr_interrupted);
	else
		dprintf(STDOUT_FILENO, "done\n");
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "names")) {
		for (size_t i = 0; i < NR_CALLS; i++)
			printf("%s\n", calls[i].name);
		return 0;
	}
	count = argc == 2 && !strcmp(argv[1], "count");
	sleepers(argc > 1 && !count ? atol(argv[1]) : -1);
	return 0;
}
