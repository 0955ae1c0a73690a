// SPDX-License-Identifier: MIT
/*
 * large [ROUNDS [quick]]: many probes, many threads. Attach (plan and surgery) and the pause that
 * it makes, with 1 000 probes in a process of 8 threads, and with one probe in processes of 1 000
 * threads: idle, and all of them runnable (which takes long, and not with "quick"). Medians.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"

enum { MAX_ROUNDS = 101 };

struct times {
	double attach_ms[MAX_ROUNDS], in_ms[MAX_ROUNDS], alone_ms[MAX_ROUNDS], out_ms[MAX_ROUNDS];
};

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
		t.attach_ms[i] = (double)(monotonic_ns() - start) / 1e6;
		t.in_ms[i] = (double)result.pause_ns / 1e6;
		t.alone_ms[i] = (double)result.alone_ns / 1e6;
		must_replace(&v, image, NULL, &result);
		t.out_ms[i] = (double)result.pause_ns / 1e6;
		ub_image_free(image);
		usleep(20000);
	}
	victim_end(&v);
	printf("%-28s %12.2f %12.2f %12.2f %12.2f\n", name, median(t.attach_ms, rounds),
	       median(t.in_ms, rounds), median(t.alone_ms, rounds), median(t.out_ms, rounds));
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
		fprintf(stderr, "usage: large [ROUNDS]\n");
		return 2;
	}
	entries[n] = '\0';
	strcpy(crowd, entries);
	strcpy(strrchr(entries, '/') + 1, "bench_entries");
	strcpy(strrchr(crowd, '/') + 1, "bench_crowd");
	printf("%-28s %12s %12s %12s %12s   (medians of %d)\n", "ms, userspace", "attach",
	       "pause of it", "main alone", "pause out", rounds);
	run("1 probe, 8 threads", 1, rounds, eight);
	run("1 000 probes, 8 threads", 1000, rounds, eight);
	run("1 probe, 1 000 idle", 1, rounds, idle);
	if (argc < 3)
		run("1 probe, 1 000 runnable", 1, rounds < 5 ? rounds : 5, busy);
	return 0;
}
