// SPDX-License-Identifier: MIT
/*
 * A program to be measured: functions with fixed first instructions. Reads "NAME CALLS THREADS
 * DATA" lines and answers each with the nanoseconds that one of that many calls of bench_NAME took,
 * in the slowest of that many threads at once, all but the first pinned to a CPU each; the second
 * argument points to 16 bytes of the stack, of static data or of the heap. Its 8 threads sleep, so
 * that a stop has something to stop.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 7 }; /* and the main one */

#define FUNCTION(name, insns)                                                                      \
	long bench_##name(long n, const void *data);                                               \
	__asm__(".text\n.p2align 6\n.globl bench_" #name "\n.type bench_" #name                    \
		",@function\nbench_" #name ":\n.cfi_startproc\n" insns                             \
		".cfi_endproc\n.size bench_" #name ",.-bench_" #name "\n")
#define BODY "mov %rsp,%rbp\nlea 1(%rdi),%rax\npop %rbp\nret\n"

FUNCTION(push, "push %rbp\n" BODY);
FUNCTION(endbr64, "endbr64\npush %rbp\n" BODY);
FUNCTION(nop5, "nopl 0(%rax,%rax,1)\npush %rbp\n" BODY);
FUNCTION(tail, "lea bench_push(%rip),%rax\njmp *%rax\n");

static const struct {
	const char *name;
	long (*function)(long n, const void *data);
} functions[] = {
	{ "push", bench_push },
	{ "endbr64", bench_endbr64 },
	{ "nop5", bench_nop5 },
	{ "tail", bench_tail },
};

struct job {
	long (*function)(long n, const void *data);
	long calls;
	const char *where;
	pthread_barrier_t *start;
	int cpu; /* where it runs; -1: anywhere */
	double ns;
};

static void pin(int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(number % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

/* The thread's own: another that wants its CPU meanwhile is no cost of a hit. */
static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void *sleeper(void *arg)
{
	for (;;)
		usleep(1000);
	return arg;
}

static void *call(void *arg)
{
	static char in_data[16] = "static";
	struct job *job = arg;
	char on_stack[16] = "stack", *on_heap = calloc(1, 16), *data = on_stack;
	double start;
	long n = 0;

	if (!strcmp(job->where, "data"))
		data = in_data;
	else if (!strcmp(job->where, "heap"))
		data = on_heap;
	if (job->cpu >= 0)
		pin(job->cpu);
	pthread_barrier_wait(job->start);
	start = now_ns();
	for (long k = 0; k < job->calls; k++)
		n = job->function(n, data);
	job->ns = (now_ns() - start) / (double)job->calls;
	free(on_heap);
	if (n != job->calls)
		abort();
	return NULL;
}

static double run(struct job *job, int threads)
{
	pthread_barrier_t start;
	struct job others[8];
	pthread_t ids[8];
	double ns;

	pthread_barrier_init(&start, NULL, (unsigned)threads);
	job->start = &start;
	for (int i = 1; i < threads; i++) {
		others[i] = *job;
		others[i].cpu = i;
		if (pthread_create(&ids[i], NULL, call, &others[i]))
			abort();
	}
	call(job);
	ns = job->ns;
	for (int i = 1; i < threads; i++) {
		pthread_join(ids[i], NULL);
		ns = others[i].ns > ns ? others[i].ns : ns;
	}
	return ns;
}

int main(void)
{
	char line[64], name[16], where[16];
	struct job job = { .where = where, .cpu = -1 };
	pthread_t thread;
	int threads;

	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&thread, NULL, sleeper, NULL))
			return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %ld %d %15s", name, &job.calls, &threads, where) != 4 ||
		    threads < 1 || threads > 8)
			return 2;
		job.function = NULL;
		for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
			if (!strcmp(name, functions[i].name))
				job.function = functions[i].function;
		printf("%f\n", job.function ? run(&job, threads) : 0.0);
	}
	return 0;
}
