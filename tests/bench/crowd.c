// SPDX-License-Identifier: MIT
/* crowd NR idle|busy: many threads, idle or all runnable, until the input ends. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t all_there;

static void *spinner(void *arg)
{
	pthread_barrier_wait(&all_there);
	for (;;)
		__asm__ volatile("pause");
	return arg;
}

static void *waiter(void *arg)
{
	pthread_barrier_wait(&all_there);
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	int nr = argc > 2 ? atoi(argv[1]) : 0;
	pthread_attr_t attr;
	pthread_t thread;

	if (nr < 1) {
		fprintf(stderr, "usage: crowd NR idle|busy\n");
		return 2;
	}
	/* Not in the session of who operates on it, as the daemon is not: CPU is shared by sessions
	 * first. */
	setsid();
	pthread_barrier_init(&all_there, NULL, (unsigned int)nr + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (int i = 0; i < nr; i++) {
		if (pthread_create(&thread, &attr, strcmp(argv[2], "idle") ? spinner : waiter,
				   NULL))
			return 1;
	}
	puts("ready");
	fflush(stdout);
	pthread_barrier_wait(&all_there);
	while (getchar() != EOF)
		;
	return 0;
}
