/* SPDX-License-Identifier: MIT */
/*
 * Threads that are blocked in system calls, one in each, or (ubpf-sleepers N) one thread in the
 * Nth. Says "ready", and "done" when each call has returned what it should have, not before its
 * time; else what was wrong. With "ubpf-sleepers names" lists them. "ubpf-sleepers count" says
 * "done, N interrupted" at the end: how many returned EINTR.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocking.h"

#define FOR_MS 1200

static _Atomic int nr_ready, nr_interrupted;
static bool count;

static void *thread(void *opaque)
{
	const struct blocking_call *call = &blocking_calls[(long)opaque];
	unsigned long start = blocking_now_ns(), took;
	long r;

	nr_ready++;
	r = call->call(FOR_MS);
	took = (blocking_now_ns() - start) / 1000000;
	if (count && r < 0 && errno == EINTR) {
		nr_interrupted++;
		return NULL;
	}
	if (r || took < FOR_MS - 5) {
		dprintf(STDOUT_FILENO, "%s returned %ld (%s) after %lu ms\n", call->name, r,
			strerror(errno), took);
		_exit(1);
	}
	return NULL;
}

static void sleepers(long only)
{
	pthread_t threads[NR_BLOCKING_CALLS];

	blocking_prepare();
	if (only >= 0) {
		/* Alone: then this very thread makes our system calls. */
		dprintf(STDOUT_FILENO, "ready\n");
		thread((void *)only);
		dprintf(STDOUT_FILENO, "done\n");
		return;
	}
	for (long i = 0; i < NR_BLOCKING_CALLS; i++)
		pthread_create(&threads[i], NULL, thread, (void *)i);
	while (nr_ready < NR_BLOCKING_CALLS)
		usleep(100);
	dprintf(STDOUT_FILENO, "ready\n");
	for (size_t i = 0; i < NR_BLOCKING_CALLS; i++)
		pthread_join(threads[i], NULL);
	if (count)
		dprintf(STDOUT_FILENO, "done, %d interrupted\n", nr_interrupted);
	else
		dprintf(STDOUT_FILENO, "done\n");
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "names")) {
		for (size_t i = 0; i < NR_BLOCKING_CALLS; i++)
			printf("%s\n", blocking_calls[i].name);
		return 0;
	}
	count = argc == 2 && !strcmp(argv[1], "count");
	sleepers(argc > 1 && !count ? atol(argv[1]) : -1);
	return 0;
}
