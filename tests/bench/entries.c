// SPDX-License-Identifier: MIT
/*
 * A program to be measured: functions with fixed first instructions. Reads "NAME CALLS" lines and
 * answers each with the nanoseconds that one of that many calls of bench_NAME took. Its 8 threads
 * sleep, so that a stop has something to stop.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 7 }; /* and the main one */

#define FUNCTION(name, first)                                                                      \
	long bench_##name(long n);                                                                 \
	__asm__(".text\n.p2align 6\n.globl bench_" #name "\n.type bench_" #name                    \
		",@function\nbench_" #name ":\n.cfi_startproc\n" first                             \
		"mov %rsp,%rbp\nlea 1(%rdi),%rax\npop %rbp\nret\n.cfi_endproc\n"                   \
		".size bench_" #name ",.-bench_" #name "\n")

FUNCTION(push, "push %rbp\n");
FUNCTION(endbr64, "endbr64\npush %rbp\n");
FUNCTION(nop5, "nopl 0(%rax,%rax,1)\npush %rbp\n");

static const struct {
	const char *name;
	long (*function)(long n);
} functions[] = {
	{ "push", bench_push },
	{ "endbr64", bench_endbr64 },
	{ "nop5", bench_nop5 },
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void *sleeper(void *arg)
{
	for (;;)
		usleep(1000);
	return arg;
}

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

/* Many threads, idle or all runnable, until the input ends. */
static int crowd(int nr, void *(*work)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_barrier_init(&all_there, NULL, (unsigned int)nr + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (int i = 0; i < nr; i++) {
		if (pthread_create(&thread, &attr, work, NULL))
			return 1;
	}
	puts("ready");
	fflush(stdout);
	pthread_barrier_wait(&all_there);
	while (getchar() != EOF)
		;
	return 0;
}

int main(int argc, char **argv)
{
	char line[64], name[16];
	pthread_t thread;
	long calls;

	if (argc == 3)
		return crowd(atoi(argv[1]), strcmp(argv[2], "idle") ? spinner : waiter);
	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&thread, NULL, sleeper, NULL))
			return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		double start, ns = 0;

		if (sscanf(line, "%15s %ld", name, &calls) != 2)
			return 2;
		for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
			long n = 0;

			if (strcmp(name, functions[i].name))
				continue;
			start = now_ns();
			for (long k = 0; k < calls; k++)
				n = functions[i].function(n);
			ns = (now_ns() - start) / (double)calls;
			if (n != calls)
				return 3;
		}
		printf("%f\n", ns);
	}
	return 0;
}
