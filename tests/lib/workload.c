/* SPDX-License-Identifier: MIT */
/*
 * A program that is always at work: threads that are busy in functions of libc and check what these
 * return, and one thread in each call of blocking.h, again and again.
 *
 *   ubpf-workload [BUSY [PRIORITY]]
 *
 * BUSY threads (default 2), of SCHED_FIFO with that priority if one is given. Says "ready", then
 * obeys lines: "rest" (-> "resting": every thread waits), "work" (-> "working"), "end" (-> "done: ROUNDS rounds,
 * CALLS calls, N interrupted", and by how many ms the call that was latest was late). A wrong result, or a call that
 * returns before its time, is said at once, and the end of it.
 */
#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "blocking.h"

enum { MAX_BUSY = 64, NR_NUMBERS = 64 };

static _Atomic unsigned long nr_rounds, nr_calls, nr_interrupted;
static _Atomic unsigned long late_ms[NR_BLOCKING_CALLS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int nr_threads, nr_resting;
static _Atomic bool rest, end;

static void __attribute__((format(printf, 1, 2))) die(const char *fmt, ...)
{
	char line[256];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	_exit(write(STDOUT_FILENO, line, n) == n ? 3 : 4);
}

/* Between two pieces of work: whether there is more. */
static bool go_on(void)
{
	if (!rest)
		return !end;
	pthread_mutex_lock(&lock);
	nr_resting++;
	pthread_cond_broadcast(&changed);
	while (rest)
		pthread_cond_wait(&changed, &lock);
	nr_resting--;
	pthread_mutex_unlock(&lock);
	return !end;
}

/* --- busy -------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	return *(const uint32_t *)a < *(const uint32_t *)b
		       ? -1
		       : *(const uint32_t *)a > *(const uint32_t *)b;
}

static bool sorts(uint32_t seed)
{
	uint32_t numbers[NR_NUMBERS], sum = 0;

	for (int i = 0; i < NR_NUMBERS; i++) {
		numbers[i] = rand_r(&seed);
		sum += numbers[i];
	}
	qsort(numbers, NR_NUMBERS, sizeof(*numbers), compare);
	for (int i = 0; i < NR_NUMBERS; i++) {
		sum -= numbers[i];
		if (i && numbers[i] < numbers[i - 1])
			return false;
	}
	return !sum && bsearch(&numbers[7], numbers, NR_NUMBERS, sizeof(*numbers), compare);
}

static bool prints_and_reads(uint32_t seed)
{
	char text[96], *end_of_it, *copy;
	double value = seed / 8.0, read_back;
	wchar_t wide[32];
	bool good;

	snprintf(text, sizeof(text), "%u %.3f %s", seed, value, "end");
	if (strtoul(text, &end_of_it, 10) != seed)
		return false;
	read_back = strtod(end_of_it, &end_of_it);
	copy = strdup(end_of_it);
	good = read_back == value && !strcmp(copy, " end") && strchr(text, ' ') &&
	       !strstr(text, "nothing") && memchr(text, 'd', strlen(text));
	free(copy);
	return good && swprintf(wide, 32, L"%u", seed) > 0 && wcstoul(wide, NULL, 10) == seed;
}

static bool moves_memory(uint32_t seed)
{
	size_t size = 16 + seed % 3000;
	char *a = malloc(size), *b;
	bool good;

	memset(a, (int)(seed & 0xff), size);
	a = realloc(a, 2 * size);
	memcpy(a + size, a, size);
	memmove(a + 3, a, size);
	b = calloc(1, size);
	good = a[2 * size - 1] == (char)seed && a[size + 2] == (char)seed && !b[size - 1] &&
	       !memcmp(a, a + size, size);
	free(a);
	free(b);
	return good;
}

static bool matches(void)
{
	regmatch_t match;
	regex_t regex;
	bool good;

	if (regcomp(&regex, "b+[0-9]", REG_EXTENDED))
		return false;
	good = !regexec(&regex, "aabbb7", 1, &match, 0) && match.rm_so == 2 && match.rm_eo == 6;
	regfree(&regex);
	return good;
}

static bool jumps(void)
{
	volatile int times = 0;
	sigjmp_buf where;

	if (sigsetjmp(where, 1) < 3) {
		times++;
		siglongjmp(where, times);
	}
	return times == 3;
}

static bool tells_time(uint32_t seed)
{
	time_t then = seed, again;
	struct tm tm;
	char text[64];

	if (!gmtime_r(&then, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d", &tm))
		return false;
	again = timegm(&tm);
	return again == then && !sched_yield() && getppid() != getpid();
}

static void *busy(void *opaque)
{
	uint32_t seed = 12345 * ((long)opaque + 1);

	while (go_on()) {
		uint32_t x = rand_r(&seed);

		if (!sorts(x))
			die("sorted wrongly\n");
		if (!prints_and_reads(x))
			die("printed or read wrongly\n");
		if (!moves_memory(x))
			die("memory is wrong\n");
		if (!jumps())
			die("jumped wrongly\n");
		if (!tells_time(x))
			die("time is wrong\n");
		if (x % 16 == 0 && !matches())
			die("matched wrongly\n");
		nr_rounds++;
	}
	return NULL;
}

/* --- blocked ----------------------------------------------------------------------------------- */

static void *blocked(void *opaque)
{
	const struct blocking_call *call = &blocking_calls[(long)opaque];
	_Atomic unsigned long *late = &late_ms[(long)opaque];

	for (unsigned int i = 0; go_on(); i++) {
		const unsigned long ms = 10 + (i * 37 + (long)opaque * 11) % 150;
		unsigned long start = blocking_now_ns(), took;
		long r = call->call(ms);

		took = (blocking_now_ns() - start) / 1000000;
		nr_calls++;
		if (r == -1 && errno == EINTR) {
			nr_interrupted++;
			continue;
		}
		if (r || took + 5 < ms)
			die("%s for %lu ms returned %ld (%s) after %lu ms\n", call->name, ms, r,
			    strerror(errno), took);
		if (took > ms + *late)
			*late = took - ms;
	}
	return NULL;
}

/* ----------------------------------------------------------------------------------------------- */

static void have_all_rest(void)
{
	pthread_mutex_lock(&lock);
	rest = true;
	while (nr_resting < nr_threads)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void have_all_work(void)
{
	pthread_mutex_lock(&lock);
	rest = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	int nr_busy = argc > 1 ? atoi(argv[1]) : 2, priority = argc > 2 ? atoi(argv[2]) : 0;
	const struct sched_param param = { .sched_priority = priority };
	pthread_t threads[MAX_BUSY + NR_BLOCKING_CALLS];
	char line[32];
	int latest = 0;

	if (nr_busy > MAX_BUSY)
		return 2;
	blocking_prepare();
	for (long i = 0; i < NR_BLOCKING_CALLS; i++)
		pthread_create(&threads[nr_threads++], NULL, blocked, (void *)i);
	for (long i = 0; i < nr_busy; i++) {
		pthread_create(&threads[nr_threads], NULL, busy, (void *)i);
		if (priority && pthread_setschedparam(threads[nr_threads], SCHED_FIFO, &param))
			die("no real-time priority here\n");
		nr_threads++;
	}
	dprintf(STDOUT_FILENO, "ready\n");
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
		if (!strcmp(line, "rest\n")) {
			have_all_rest();
			dprintf(STDOUT_FILENO, "resting\n");
		} else if (!strcmp(line, "work\n")) {
			have_all_work();
			dprintf(STDOUT_FILENO, "working\n");
		}
	}
	end = true;
	have_all_work();
	for (int i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < NR_BLOCKING_CALLS; i++) {
		if (late_ms[i] > late_ms[latest])
			latest = i;
	}
	dprintf(STDOUT_FILENO,
		"done: %lu rounds, %lu calls, %lu interrupted, %lu ms late at most: %s\n",
		nr_rounds, nr_calls, nr_interrupted, late_ms[latest], blocking_calls[latest].name);
	return 0;
}
