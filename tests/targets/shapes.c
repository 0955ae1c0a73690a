// SPDX-License-Identifier: MIT
/*
 * shapes MODE: what programs do with their stacks while functions are probed.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#ifdef __GLIBC__
#include <ucontext.h>
#endif
#include <unistd.h>

#include "victim.h"

#define PROBED __attribute__((noinline)) long

static volatile long sink;

PROBED probed_leaf(long n)
{
	sink = n;
	return n + 1;
}

/* Leaves by a jump through a register. */
PROBED probed_tail(long n, long (*next)(long))
{
	return next(n);
}

PROBED probed_deep(long n)
{
	volatile char frame[40];

	frame[0] = (char)n;
	return n ? probed_deep(n - 1) + 1 + frame[0] - (char)n : 0;
}

static long twice(long n)
{
	sink = n;
	return 2 * n;
}

static void call_leaf(long n)
{
	RETURNS();
	CHECK(probed_leaf(n) == n + 1);
}

static void call_tail(long n)
{
	RETURNS();
	CHECK(probed_tail(n, twice) == 2 * n);
}

/* --- longjmp -------------------------------------------------------------------------------- */

static __thread sigjmp_buf env;

static long jump(long n)
{
	siglongjmp(env, (int)n);
}

/* Out of the middle of all kinds of them. */
static void jumping(void)
{
	for (volatile int i = 1; i <= 20; i++) {
		int came = sigsetjmp(env, 0);

		if (!came) {
			LEAVES();
			probed_tail(i, jump);
			CHECK(false);
		}
		CHECK(came == i);
		call_tail(i);
		call_leaf(i);
	}
}

/* --- coroutines ----------------------------------------------------------------------------- */

#ifdef __GLIBC__
#define NR_COROUTINES 8
static ucontext_t scheduler, coroutines[NR_COROUTINES];
static char stacks[NR_COROUTINES][65536];
static int current;

static long yield(long n)
{
	int me = current;

	swapcontext(&coroutines[me], &scheduler);
	return n + me;
}

PROBED probed_yielding(long n)
{
	return yield(n) + yield(n);
}

static void coroutine(int me)
{
	for (long n = 0;; n++) {
		/* Some are on their way when the round is over. */
		LEAVES();
		CHECK(probed_tail(n, yield) == n + me);
		victim_returned++;
		LEAVES();
		CHECK(probed_yielding(n) == 2 * (n + me));
		victim_returned++;
		call_tail(n);
	}
}

/* Everybody runs until all are back in the middle of the same call. */
static void switching(void)
{
	static bool started;

	for (int i = 0; i < NR_COROUTINES && !started; i++) {
		getcontext(&coroutines[i]);
		coroutines[i].uc_stack.ss_sp = stacks[i];
		coroutines[i].uc_stack.ss_size = sizeof(stacks[i]);
		makecontext(&coroutines[i], (void (*)(void))coroutine, 1, i);
	}
	started = true;
	for (int turn = 0; turn < 30; turn++) {
		for (current = 0; current < NR_COROUTINES; current++)
			swapcontext(&scheduler, &coroutines[current]);
	}
}
#endif

/* --- children ------------------------------------------------------------------------------- */

static void await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	CHECK(status == 3 << 8);
}

static char *const child[] = { "/proc/self/exe", "child", NULL };
static char *const nothing[] = { NULL };

PROBED probed_vfork(long n)
{
	pid_t pid = vfork();

	if (!pid) {
		execve(child[0], child, nothing);
		_exit(9);
	}
	CHECK(pid > 0);
	await(pid);
	return n;
}

PROBED probed_spawn(long n)
{
	pid_t pid;

	CHECK(!posix_spawn(&pid, child[0], NULL, NULL, child, nothing));
	await(pid);
	return n;
}

static void vforking(void)
{
	RETURNS();
	CHECK(probed_vfork(5) == 5);
	RETURNS();
	RETURNS();
	CHECK(probed_tail(5, probed_vfork) == 5);
	call_leaf(1);
}

static void spawning(void)
{
	RETURNS();
	CHECK(probed_spawn(5) == 5);
	RETURNS();
	RETURNS();
	CHECK(probed_tail(5, probed_spawn) == 5);
	call_leaf(1);
}

/* A child that goes on with a copy of everything, back through probed functions. */
static long do_fork(long n)
{
	pid_t pid = fork();

	if (pid)
		await(pid);
	return pid ? n : -1;
}

static void forking(void)
{
	long result;

	RETURNS();
	result = probed_tail(5, do_fork);
	if (result < 0) {
		CHECK(probed_tail(4, twice) == 8 && probed_leaf(1) == 2);
		_exit(3);
	}
	CHECK(result == 5);
}

/* --- signals -------------------------------------------------------------------------------- */

static void on_alarm(int sig)
{
	int error = errno;

	call_leaf(sig);
	call_tail(sig);
	errno = error;
}

static void *calls(void *arg)
{
	for (long i = 0; i < 3000; i++) {
		call_tail(i);
		call_leaf(i);
	}
	return arg;
}

static void signals(void)
{
	static char alternate[16384];
	static bool started;

	if (!started) {
		const stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
		const struct sigaction action = { .sa_handler = on_alarm,
						  .sa_flags = SA_ONSTACK | SA_RESTART };

		started = !sigaltstack(&stack, NULL) && !sigaction(SIGALRM, &action, NULL);
	}
	/* Only while there is work: what comes later is nobody's to count. */
	setitimer(ITIMER_REAL,
		  &(struct itimerval) { .it_interval = { 0, 200 }, .it_value = { 0, 200 } }, NULL);
	calls(NULL);
	setitimer(ITIMER_REAL, &(struct itimerval) { { 0, 0 }, { 0, 0 } }, NULL);
}

/* --- plain ---------------------------------------------------------------------------------- */

static void plain(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, calls, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (long i = 0; i <= 5000; i++)
		RETURNS();
	CHECK(probed_deep(5000) == 5000);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*work)(void);
	} modes[] = {
		{ "longjmp", jumping },	     { "vfork", vforking },  { "spawn", spawning },
		{ "fork", forking },	     { "signals", signals }, { "plain", plain },
#ifdef __GLIBC__
		{ "coroutines", switching },
#endif
	};

	if (argc == 2 && !strcmp(argv[1], "child"))
		return 3;
	for (size_t i = 0; argc == 2 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return victim_main(modes[i].work);
	return 2;
}
