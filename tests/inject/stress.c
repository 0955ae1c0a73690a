/* SPDX-License-Identifier: MIT */
/*
 * In and out again, over and over, on a process with threads that takes signals: every attach
 * counts, every detach leaves nothing, neither in the victim nor here.
 *
 *   test_inject_stress [CYCLES [THREADS [SIGNAL_USEC]]]
 *
 * Without arguments 2 000 cycles, or as many as a slow machine gets done in 20 s. An operation that
 * gives up because a thread did not stop for seconds is tried again, but seldom: one in
 * CYCLES_FOR_LATE cycles, and MAX_LATE more for a machine that was busy for a while. That is asked
 * of runs by hand only: without arguments the machine may be busy all the time.
 */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"

#define CYCLES_FOR_LATE 500
#define MAX_LATE	4

static int nr_open(void)
{
	DIR *fds = opendir("/proc/self/fd");
	int nr = 0;

	while (readdir(fds))
		nr++;
	closedir(fds);
	return nr;
}

static int compare(const void *a, const void *b)
{
	return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

static bool has_hits(void *image)
{
	return image_hits(image) != 0;
}

int main(int argc, char **argv)
{
	u32 nr = argc > 1 ? atoi(argv[1]) : 2000;
	const char *threads = argc > 2 ? argv[2] : "8", *signals = argc > 3 ? argv[3] : "500";
	struct ub_residue *cheap, *full;
	struct ub_surgery result;
	u64 *in, *out, *alone, start;
	struct victim v;
	int open_before = 0;

	victim_start(&v, "-t", threads, "-s", signals, "-d", "50", NULL);
	usleep(100000);
	cheap = before(&v, 0);
	full = before(&v, UB_RESIDUE_FULL);
	in = calloc(nr, sizeof(*in));
	out = calloc(nr, sizeof(*out));
	alone = calloc(nr, sizeof(*alone));
	start = monotonic_ns();
	for (u32 i = 0; i < nr; i++) {
		struct ub_image *image = image_of(v.pid, NULL, NULL, "malloc", "free", NULL);

		must_replace(&v, NULL, image, &result);
		in[i] = result.pause_ns;
		alone[i] = result.alone_ns;
		check(wait_until(has_hits, image), "cycle %u does not count", i);
		must_replace(&v, image, NULL, &result);
		out[i] = result.pause_ns;
		ub_image_free(image);
		if (!i)
			open_before = nr_open();
		if (argc == 1 && monotonic_ns() - start > 20000000000ull)
			nr = i + 1;
		if (i % 100 == 99 || i + 1 == nr)
			must_be_clean(&v, full, UB_RESIDUE_FULL);
		else
			must_be_clean(&v, cheap, 0);
	}
	qsort(in, nr, sizeof(*in), compare);
	qsort(alone, nr, sizeof(*alone), compare);
	qsort(out, nr, sizeof(*out), compare);
	printf("%u cycles, %s threads, %.2f ms each; medians and 99 %% in us: pause in %lu %lu, one thread "
	       "alone before %lu %lu; pause out %lu %lu\n",
	       nr, threads, (monotonic_ns() - start) / 1e6 / nr, in[nr / 2] / 1000,
	       in[nr * 99 / 100] / 1000, alone[nr / 2] / 1000, alone[nr * 99 / 100] / 1000,
	       out[nr / 2] / 1000, out[nr * 99 / 100] / 1000);
	printf("%u operations of %u were tried again because a thread did not stop in time\n",
	       nr_too_late, 2 * nr);
	check(argc == 1 || nr_too_late <= MAX_LATE + nr / CYCLES_FOR_LATE,
	      "threads do not stop in time");
	check(nr_open() == open_before, "%d descriptors leaked", nr_open() - open_before);
	ub_residue_free(cheap);
	ub_residue_free(full);
	free(in);
	free(alone);
	free(out);
	victim_end(&v);
	return 0;
}
