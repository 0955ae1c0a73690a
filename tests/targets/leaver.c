// SPDX-License-Identifier: MIT
/*
 * leaver JUMPS: a timer's handler leaves a loop of probed calls by siglongjmp(), mostly out of the
 * middle of a program that has changed half of a map. Afterwards the map must take as much as
 * before.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 64
#define KEYS	8

static sigjmp_buf env;
static volatile long sink;
static volatile long failed;
static volatile sig_atomic_t leaving;

__attribute__((noinline)) long probed_left(long n)
{
	sink = n;
	return n + 1;
}

/* The program of this one says whether it failed. */
__attribute__((noinline)) long probed_fill(long n, volatile long *says)
{
	sink = n;
	return n + 1 + *says;
}

static void on_alarm(int signo)
{
	if (leaving)
		siglongjmp(env, signo);
}

static void jump_out(long jumps)
{
	const struct itimerval often = { .it_interval.tv_usec = 100, .it_value.tv_usec = 100 };
	const struct itimerval never = { .it_value.tv_usec = 0 };
	volatile long left = 0;

	setitimer(ITIMER_REAL, &often, NULL);
	if (sigsetjmp(env, 1))
		left++;
	leaving = 1;
	for (long n = left; left < jumps; n++)
		probed_left(n);
	leaving = 0;
	setitimer(ITIMER_REAL, &never, NULL);
	/* As deep as those that were left, and for each key that one of them may not have
	 * deleted. */
	for (long n = 0; n < KEYS; n++)
		probed_left(n);
}

/* What was left is found out a moment later, by another process. */
static int fill(void)
{
	const struct timespec tick = { .tv_nsec = 10000000 };

	for (int tries = 0; tries < 3000; tries++) {
		failed = 0;
		for (long n = 0; n < ENTRIES; n++)
			probed_fill(n, &failed);
		if (!failed)
			return 0;
		nanosleep(&tick, NULL);
	}
	return 1;
}

int main(int argc, char **argv)
{
	char line[64];
	int ret;

	signal(SIGALRM, on_alarm);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	if (argc != 2 || !fgets(line, sizeof(line), stdin))
		return 2;
	jump_out(strtol(argv[1], NULL, 0));
	ret = fill();
	printf("%s\n", ret ? "elements are lost" : "full");
	while (fgets(line, sizeof(line), stdin))
		;
	return ret;
}
