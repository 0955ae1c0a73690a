/* SPDX-License-Identifier: MIT */
/*
 * A program to be operated on: threads that call malloc() and free(), a known number of times or
 * for ever, and take signals meanwhile. From "ready" on nothing but these threads calls malloc(),
 * so a probe there must count exactly what is reported here.
 *
 *   ubpf-victim [-t THREADS] [-n CALLS] [-d USEC] [-s USEC] [-a] [-i] [-q]
 *
 *   -t THREADS  worker threads besides the main one, which does not call malloc (default 1; 0:
 * none) -n CALLS    calls by each thread, then exit; 0: for ever (default) -d USEC     sleep
 * between two calls of a thread -s USEC     a SIGALRM every USEC microseconds, to whichever thread
 * the kernel chooses -a          signal handlers run on alternate stacks -m          handlers call
 * ubpf_victim_function(), so that probes nest -i          interactive: threads call nothing by
 * themselves; commands are read from stdin, see below -q          no final line
 *
 * Lines written to stdout: "ready pid=N" once, and at the end (all calls made, SIGTERM, SIGINT)
 * "pid=N malloc calls: M signals: S". Every call of malloc is checked against a call of
 * ubpf_victim_function(), which returns its argument plus one; a wrong result exits with 3.
 *
 * Between malloc() and free() stands the USDT probe ubpf:call(number, size), with a semaphore.
 *
 * Commands, each answered by one line:
 *   calls N    each thread makes N calls      -> "calls TOTAL" (so far)
 *   fork N     a forked child makes N calls   -> "forked PID STATUS"
 *   vfork N    so does a vforked one          -> "vforked PID STATUS"
 *   exec       executes itself again with the same options -> "ready pid=N"
 *   thread     one more thread                -> "threads N"
 *   count      -> "calls TOTAL"
 *   wait       calls functions that leave by tail jumps, to one that waits for a line
 *		-> "waiting", and after that line "waited"
 *   semaphores -> "semaphores ADDRESS A B C D": ubpf_victim_semaphores[], at first 5 0 7 65535
 *   quit
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "usdt.h"

#define MAX_THREADS 4096
#define MAX_LINE    128

struct worker {
	pthread_t thread;
	_Atomic unsigned long calls;
} __attribute__((aligned(64)));

static struct worker workers[MAX_THREADS];
static int nr_workers = 1;
static unsigned long nr_calls;
static unsigned int delay_usec, signal_usec;
static bool alternate_stack, nest, interactive, quiet;
static _Atomic unsigned long nr_signals;
static volatile sig_atomic_t stop;

/* Rounds of an interactive victim: workers wait for the next and make its number of calls. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t next_round = PTHREAD_COND_INITIALIZER;
static pthread_cond_t round_done = PTHREAD_COND_INITIALIZER;
static pthread_cond_t all_warm = PTHREAD_COND_INITIALIZER;
static int nr_warm;  /* workers that have their memory from malloc() */
static bool started; /* "ready" has been said */
static unsigned long round_nr, round_calls;
static int round_running;

/* Like the semaphores of USDT probes: counted by whoever traces. */
volatile unsigned short ubpf_victim_semaphores[4] = { 5, 0, 7, 65535 };

/* Something of our own to probe, besides malloc: has a frame, takes and returns a value. */
__attribute__((noinline, noclone)) long ubpf_victim_function(long x)
{
	volatile long y = x;

	return y + 1;
}

/* Not printf(): its buffer comes from malloc(). */
static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
	char line[MAX_LINE];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (write(STDOUT_FILENO, line, n) != n)
		_exit(2);
}

/* ubpf:call(number, size), passed at each call of malloc while somebody listens. */
USDT_SEMAPHORE(ubpf, call);

static void on_signal(int signo)
{
	nr_signals++;
	if (nest && ubpf_victim_function(signo) != signo + 1)
		_exit(3);
}

static void on_stop(int signo)
{
	stop = 1;
}

static void use_alternate_stack(void *memory, size_t size)
{
	stack_t ss = { .ss_sp = memory, .ss_size = size };

	if (alternate_stack && sigaltstack(&ss, NULL))
		_exit(2);
}

static void one_call(long i)
{
	void *volatile p = malloc(16 + (i & 63));

	if (ubpf_call_semaphore)
		USDT_PROBE2(ubpf, call, i, 16 + (i & 63));
	if (!p || ubpf_victim_function(i) != i + 1)
		_exit(3);
	free(p);
}

static void pause_between_calls(void)
{
	struct timespec t = { delay_usec / 1000000, (delay_usec % 1000000) * 1000L };

	if (delay_usec)
		nanosleep(&t, NULL);
}

static void *work(void *opaque)
{
	struct worker *self = opaque;
	static __thread char stack[32768];
	unsigned long seen = 0;

	use_alternate_stack(stack, sizeof(stack));
	one_call(0);
	pthread_mutex_lock(&lock);
	if (++nr_warm >= nr_workers)
		pthread_cond_signal(&all_warm);
	while (!started)
		pthread_cond_wait(&next_round, &lock);
	pthread_mutex_unlock(&lock);
	if (!interactive) {
		for (unsigned long i = 0; !stop && (!nr_calls || i < nr_calls); i++) {
			one_call(i);
			self->calls++;
			pause_between_calls();
		}
		return NULL;
	}
	for (;;) {
		unsigned long n;

		pthread_mutex_lock(&lock);
		while (seen == round_nr)
			pthread_cond_wait(&next_round, &lock);
		seen = round_nr;
		n = round_calls;
		pthread_mutex_unlock(&lock);
		for (unsigned long i = 0; i < n; i++) {
			one_call(i);
			self->calls++;
			pause_between_calls();
		}
		pthread_mutex_lock(&lock);
		if (!--round_running)
			pthread_cond_signal(&round_done);
		pthread_mutex_unlock(&lock);
	}
}

static unsigned long total(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < nr_workers; i++)
		sum += workers[i].calls;
	return sum;
}

static int start_worker(int i)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	err = pthread_create(&workers[i].thread, &attr, work, &workers[i]);
	pthread_attr_destroy(&attr);
	return err;
}

/* One line without its newline; false at the end of the input. */
static bool read_line(char *line, size_t size)
{
	size_t n = 0;

	while (n + 1 < size) {
		ssize_t got = read(STDIN_FILENO, line + n, 1);

		if (got < 0 && errno == EINTR && !stop)
			continue;
		if (got <= 0)
			return false;
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = '\0';
	return true;
}

/* Left by a jump that nobody can follow, and by one to a function that returns. */
long ubpf_victim_jumps(long (*to)(void));
long ubpf_victim_passes(void);
__asm__(".text\n.p2align 4\n.globl ubpf_victim_jumps\n.type ubpf_victim_jumps,@function\n"
	"ubpf_victim_jumps:\n.cfi_startproc\nmov %rdi,%rax\njmp *%rax\n.cfi_endproc\n"
	".size ubpf_victim_jumps,.-ubpf_victim_jumps\n"
	".p2align 4\n.globl ubpf_victim_passes\n.type ubpf_victim_passes,@function\n"
	"ubpf_victim_passes:\n.cfi_startproc\nmov $5,%edi\njmp ubpf_victim_waits\n.cfi_endproc\n"
	".size ubpf_victim_passes,.-ubpf_victim_passes\n");

__attribute__((noinline, noclone, used)) long ubpf_victim_waits(long x)
{
	char line[MAX_LINE];

	say("waiting\n");
	if (!read_line(line, sizeof(line)))
		_exit(0);
	return x;
}

static long pass(void)
{
	return ubpf_victim_passes() + 1;
}

static void command_wait(void)
{
	if (ubpf_victim_jumps(pass) != 6)
		_exit(3);
	say("waited\n");
}

static void child_calls(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		one_call(i);
	_exit(0);
}

static void command_fork(bool share, unsigned long n)
{
	pid_t pid = share ? vfork() : fork();
	int status = -1;

	if (!pid)
		child_calls(n);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	say("%s %d %d\n", share ? "vforked" : "forked", pid, status);
}

static void command_calls(unsigned long n)
{
	pthread_mutex_lock(&lock);
	round_calls = n;
	round_running = nr_workers;
	round_nr++;
	pthread_cond_broadcast(&next_round);
	while (round_running)
		pthread_cond_wait(&round_done, &lock);
	pthread_mutex_unlock(&lock);
	say("calls %lu\n", total());
}

static void obey(char **argv)
{
	char line[MAX_LINE];

	while (!stop && read_line(line, sizeof(line))) {
		unsigned long n = 0;
		char word[16] = "";

		if (sscanf(line, "%15s %lu", word, &n) < 1)
			continue;
		if (!strcmp(word, "calls"))
			command_calls(n);
		else if (!strcmp(word, "fork"))
			command_fork(false, n);
		else if (!strcmp(word, "vfork"))
			command_fork(true, n);
		else if (!strcmp(word, "count"))
			say("calls %lu\n", total());
		else if (!strcmp(word, "thread"))
			say("threads %d\n", nr_workers < MAX_THREADS && !start_worker(nr_workers)
						    ? ++nr_workers
						    : nr_workers);
		else if (!strcmp(word, "semaphores"))
			say("semaphores %p %u %u %u %u\n", (void *)ubpf_victim_semaphores,
			    ubpf_victim_semaphores[0], ubpf_victim_semaphores[1],
			    ubpf_victim_semaphores[2], ubpf_victim_semaphores[3]);
		else if (!strcmp(word, "wait"))
			command_wait();
		else if (!strcmp(word, "exec"))
			execv("/proc/self/exe", argv);
		else if (!strcmp(word, "quit"))
			break;
		else
			say("unknown command\n");
	}
}

static int usage(const char *name)
{
	fprintf(stderr,
		"usage: %s [-t THREADS] [-n CALLS] [-d USEC] [-s USEC] [-a] [-m] [-i] [-q]\n",
		name);
	return 2;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction st = { .sa_handler = on_stop };
	static char stack[32768];
	sigset_t mask;
	int opt;

	while ((opt = getopt(argc, argv, "t:n:d:s:amiq")) != -1) {
		switch (opt) {
		case 't':
			nr_workers = atoi(optarg);
			break;
		case 'n':
			nr_calls = strtoul(optarg, NULL, 0);
			break;
		case 'd':
			delay_usec = atoi(optarg);
			break;
		case 's':
			signal_usec = atoi(optarg);
			break;
		case 'a':
			alternate_stack = true;
			break;
		case 'm':
			nest = true;
			break;
		case 'i':
			interactive = true;
			break;
		case 'q':
			quiet = true;
			break;
		default:
			return usage(argv[0]);
		}
	}
	if (optind < argc || nr_workers < 0 || nr_workers > MAX_THREADS)
		return usage(argv[0]);

	use_alternate_stack(stack, sizeof(stack));
	if (alternate_stack)
		sa.sa_flags |= SA_ONSTACK;
	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGTERM, &st, NULL);
	sigaction(SIGINT, &st, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGALRM);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);

	/* SIGTERM and SIGINT go to the main thread, which alone acts on them. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	for (int i = 0; i < nr_workers; i++) {
		if (start_worker(i)) {
			say("cannot start thread %d\n", i);
			return 2;
		}
	}
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	if (signal_usec) {
		struct itimerval timer = {
			{ signal_usec / 1000000, signal_usec % 1000000 },
			{ signal_usec / 1000000, signal_usec % 1000000 },
		};

		setitimer(ITIMER_REAL, &timer, NULL);
	}
	pthread_mutex_lock(&lock);
	while (nr_warm < nr_workers)
		pthread_cond_wait(&all_warm, &lock);
	started = true;
	say("ready pid=%d\n", getpid());
	pthread_cond_broadcast(&next_round);
	pthread_mutex_unlock(&lock);

	if (interactive) {
		obey(argv);
	} else if (nr_calls || !nr_workers) {
		for (int i = 0; i < nr_workers; i++)
			pthread_join(workers[i].thread, NULL);
		while (!nr_workers && !stop)
			pause();
	} else {
		while (!stop)
			poll(NULL, 0, 1000);
	}
	if (signal_usec)
		setitimer(ITIMER_REAL, &(struct itimerval) { 0 }, NULL);
	if (!quiet)
		say("pid=%d malloc calls: %lu signals: %lu\n", getpid(), total(), nr_signals);
	_exit(0);
}
