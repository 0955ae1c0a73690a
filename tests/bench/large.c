// SPDX-License-Identifier: MIT
/*
 * large [ROUNDS [quick | ROW]]: many probes, many threads. Attach (plan and surgery) and detach,
 * and the pause that each makes, with 1 000 probes in a process of 8 threads, and with one probe in
 * processes of 1 000 threads: idle, and all of them runnable (which takes long, and not with
 * "quick"). Medians, of 5 at least where all are runnable. ROW: only rows with this in their name.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"

enum { MAX_ROUNDS = 101, MIN_BUSY = 5 };

struct times {
	double attach[MAX_ROUNDS], in[MAX_ROUNDS], in_alone[MAX_ROUNDS];
	double detach[MAX_ROUNDS], out[MAX_ROUNDS], out_alone[MAX_ROUNDS];
};

static const char *only; /* rows with this in their name */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, int nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

static void run(const char *name, u32 nr_probes, int rounds, const char *const *argv)
{
	static struct times t;
	struct victim v;

	if (only && !strstr(name, only))
		return;
	snprintf(test_case, sizeof(test_case), "%s", name);
	victim_exec(&v, argv);
	check(!strcmp(victim_line(&v), "ready"), "the victim does not start");
	usleep(200000);
	for (int i = 0; i < rounds; i++) {
		u64 start = monotonic_ns();
		struct ub_image *image = nr_probes > 1
						 ? image_of_many(v.pid, nr_probes)
						 : image_of(v.pid, NULL, NULL, "malloc", NULL);
		struct ub_surgery result;

		must_replace(&v, NULL, image, &result);
		t.attach[i] = (double)(monotonic_ns() - start) / 1e6;
		t.in[i] = (double)result.pause_ns / 1e6;
		t.in_alone[i] = (double)result.alone_ns / 1e6;
		start = monotonic_ns();
		must_replace(&v, image, NULL, &result);
		t.detach[i] = (double)(monotonic_ns() - start) / 1e6;
		t.out[i] = (double)result.pause_ns / 1e6;
		t.out_alone[i] = (double)result.alone_ns / 1e6;
		ub_image_free(image);
		usleep(20000);
	}
	victim_end(&v);
	printf("%-24s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f   (medians of %d)\n", name,
	       median(t.attach, rounds), median(t.in, rounds), median(t.in_alone, rounds),
	       median(t.detach, rounds), median(t.out, rounds), median(t.out_alone, rounds),
	       rounds);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 11;
	char entries[4096], crowd[4096];
	ssize_t n = readlink("/proc/self/exe", entries, sizeof(entries) - 32);
	const char *eight[] = { entries, NULL };
	const char *idle[] = { crowd, "1000", "idle", NULL };
	const char *busy[] = { crowd, "1000", "busy", NULL };

	if (rounds < 1 || rounds > MAX_ROUNDS || n < 0) {
		fprintf(stderr, "usage: large [ROUNDS [quick | ROW]]\n");
		return 2;
	}
	entries[n] = '\0';
	strcpy(crowd, entries);
	strcpy(strrchr(entries, '/') + 1, "bench_entries");
	strcpy(strrchr(crowd, '/') + 1, "bench_crowd");
	if (argc > 2 && strcmp(argv[2], "quick") != 0)
		only = argv[2];
	printf("%-24s %9s %9s %9s %9s %9s %9s\n", "ms, userspace", "attach", "pause", "main",
	       "detach", "pause", "main");
	run("1 probe, 8 threads", 1, rounds, eight);
	run("1 000 probes, 8 threads", 1000, rounds, eight);
	run("1 probe, 1 000 idle", 1, rounds, idle);
	if (argc < 3 || only)
		run("1 probe, 1 000 runnable", 1, rounds < MIN_BUSY ? MIN_BUSY : rounds, busy);
	return 0;
}
