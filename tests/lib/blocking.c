/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blocking.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

unsigned long blocking_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ul + now.tv_nsec;
}

/* Where a process that nobody touches comes after @ms, to end somebody's wait: 0 there. */
static pid_t later(unsigned int ms)
{
	pid_t pid = fork();

	if (!pid)
		usleep(ms * 1000);
	return pid;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* @r, with its errno, after what it took was closed. */
static long closing(long r, int fd, int other)
{
	int err = errno;

	close(fd);
	if (other >= 0)
		close(other);
	errno = err;
	return r;
}

static struct timespec timeout(unsigned int ms)
{
	return (struct timespec) { ms / 1000, ms % 1000 * 1000000L };
}

/* What a call returns whose time is over: -1 and @err. */
static long times_out(long r, int err)
{
	return r < 0 && errno == err ? 0 : -1;
}

/* --- that end by themselves -------------------------------------------------------------------- */

static long in_nanosleep(unsigned int ms)
{
	struct timespec t = timeout(ms);

	return syscall(SYS_nanosleep, &t, NULL);
}

static long in_clock_nanosleep(unsigned int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms % 1000 * 1000000L;
	t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000L;
	t.tv_nsec %= 1000000000L;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static long in_poll(unsigned int ms)
{
	return syscall(SYS_poll, NULL, 0, ms);
}

static long in_ppoll(unsigned int ms)
{
	struct timespec t = timeout(ms);
	sigset_t none;

	sigemptyset(&none);
	return ppoll(NULL, 0, &t, &none);
}

static long in_select(unsigned int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };

	return select(0, NULL, NULL, NULL, &t);
}

static long in_pselect(unsigned int ms)
{
	struct timespec t = timeout(ms);
	sigset_t none;

	sigemptyset(&none);
	return pselect(0, NULL, NULL, NULL, &t, &none);
}

static long in_epoll_wait(unsigned int ms)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;

	return closing(epoll_wait(fd, &event, 1, ms), fd, -1);
}

/* Compiled into the caller, who may rely on what it has put into registers. */
static long in_epoll_inlined(unsigned int ms)
{
	const long timeout = 0x5500000000 | ms; /* Linux does not look at that half */
	int fd = epoll_create1(EPOLL_CLOEXEC);
	register long r10 __asm__("r10") = timeout;
	struct epoll_event event;
	long r, left;

	__asm__ volatile("syscall; cmp $-4096, %%rax; mov %%r10, %1"
			 : "=a"(r), "=r"(left), "+r"(r10)
			 : "0"(SYS_epoll_wait), "D"(fd), "S"(&event), "d"(1)
			 : "rcx", "r11", "cc", "memory");
	errno = r < 0 ? (int)-r : 0;
	return closing(left != timeout ? -4 : r < 0 ? -1 : r, fd, -1);
}

static long in_epoll_pwait(unsigned int ms)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;
	sigset_t some;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR2);
	return closing(epoll_pwait(fd, &event, 1, ms, &some), fd, -1);
}

static long in_epoll_pwait2(unsigned int ms)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct timespec t = timeout(ms);
	struct epoll_event event;
	long r = syscall(SYS_epoll_pwait2, fd, &event, 1, &t, NULL, 0);

	if (r < 0 && errno == ENOSYS) /* Linux before 5.11 */
		r = syscall(SYS_nanosleep, &t, NULL);
	return closing(r, fd, -1);
}

static long in_futex(unsigned int ms)
{
	struct timespec t = timeout(ms);
	int word = 0;

	return times_out(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0), ETIMEDOUT);
}

static long in_sigtimedwait(unsigned int ms)
{
	struct timespec t = timeout(ms);
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return times_out(sigtimedwait(&set, NULL, &t), EAGAIN);
}

static long in_recv_with_timeout(unsigned int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };
	char byte;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return -2;
	setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	return closing(times_out(recv(s[0], &byte, 1, 0), EAGAIN), s[0], s[1]);
}

static long in_semtimedop(unsigned int ms)
{
	struct sembuf op = { 0, -1, 0 };
	struct timespec t = timeout(ms);
	int id = semget(IPC_PRIVATE, 1, 0600);
	long r;
	int err;

	if (id < 0) /* no System V IPC here */
		return syscall(SYS_nanosleep, &t, NULL);
	r = times_out(semtimedop(id, &op, 1, &t), EAGAIN);
	err = errno;
	semctl(id, 0, IPC_RMID);
	errno = err;
	return r;
}

/* --- that somebody ends ------------------------------------------------------------------------ */

static long in_read(unsigned int ms)
{
	char byte;
	int p[2];
	pid_t child;
	long r;

	if (pipe(p))
		return -2;
	child = later(ms);
	if (!child)
		_exit(write(p[1], "x", 1) != 1);
	r = closing(read(p[0], &byte, 1) == 1 ? 0 : -1, p[0], p[1]);
	reap(child);
	return r;
}

static long in_recvmsg(unsigned int ms)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	pid_t child;
	int s[2];
	long r;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s))
		return -2;
	child = later(ms);
	if (!child)
		_exit(write(s[1], "x", 1) != 1);
	r = closing(recvmsg(s[0], &msg, 0) == 1 ? 0 : -1, s[0], s[1]);
	reap(child);
	return r;
}

static long in_accept(unsigned int ms)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	pid_t child;
	long r;

	if (bind(listener, (void *)&address, size) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &size))
		return -2;
	child = later(ms);
	if (!child)
		_exit(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, size) != 0);
	fd = accept(listener, NULL, NULL);
	r = closing(fd >= 0 ? 0 : -1, listener, fd);
	reap(child);
	return r;
}

static long in_wait4(unsigned int ms)
{
	pid_t child = later(ms);
	int status;

	if (!child)
		_exit(7);
	return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7 ? 0 : -1;
}

struct message {
	long type;
	char text[8];
};

static long in_msgrcv(unsigned int ms)
{
	int id = msgget(IPC_PRIVATE, 0600), err;
	struct message message = { 0 };
	struct timespec t = timeout(ms);
	pid_t child;
	long r;

	if (id < 0)
		return syscall(SYS_nanosleep, &t, NULL);
	child = later(ms);
	if (!child)
		_exit(msgsnd(id, &(struct message) { 1, "x" }, 8, 0) != 0);
	r = msgrcv(id, &message, 8, 0, 0) == 8 && message.text[0] == 'x' ? 0 : -1;
	err = errno;
	msgctl(id, IPC_RMID, NULL);
	reap(child);
	errno = err;
	return r;
}

static volatile sig_atomic_t woken;

static void on_usr1(int signo)
{
	(void)signo;
	woken++;
}

/* Ends with a signal, and only with that. */
static long in_sigsuspend(unsigned int ms)
{
	pid_t tid = syscall(SYS_gettid), pid = getpid(), child;
	sigset_t all;
	long r;

	woken = 0;
	child = later(ms);
	if (!child) {
		syscall(SYS_tgkill, pid, tid, SIGUSR1);
		_exit(0);
	}
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	r = sigsuspend(&all) == -1 && errno == EINTR && woken == 1 ? 0 : -3;
	reap(child);
	return r;
}

/* ----------------------------------------------------------------------------------------------- */

const struct blocking_call blocking_calls[NR_BLOCKING_CALLS] = {
	{ "nanosleep", in_nanosleep, true },
	{ "clock_nanosleep", in_clock_nanosleep, true },
	{ "poll", in_poll, true },
	{ "ppoll", in_ppoll, true },
	{ "select", in_select, true },
	{ "pselect", in_pselect, true },
	{ "epoll_wait", in_epoll_wait, true },
	{ "epoll_wait, compiled in", in_epoll_inlined, false },
	{ "epoll_pwait", in_epoll_pwait, true },
	{ "epoll_pwait2", in_epoll_pwait2, false },
	{ "futex", in_futex, true },
	{ "rt_sigtimedwait", in_sigtimedwait, false },
	{ "recv with a timeout", in_recv_with_timeout, false },
	{ "semtimedop", in_semtimedop, false },
	{ "read", in_read, false },
	{ "recvmsg", in_recvmsg, false },
	{ "accept", in_accept, false },
	{ "wait4", in_wait4, false },
	{ "msgrcv", in_msgrcv, false },
	{ "sigsuspend", in_sigsuspend, false },
};

void blocking_prepare(void)
{
	struct sigaction action = { .sa_handler = on_usr1 };
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	/* So that its semaphores go with it, even if it is killed; as root. */
	(void)!unshare(CLONE_NEWIPC);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigaction(SIGUSR1, &action, NULL);
}
