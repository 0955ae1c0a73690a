/* SPDX-License-Identifier: MIT */
/*
 * The main path: into a running process with threads, counting exactly, into another image, and
 * out, with nothing left.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"

static void exact_counts(const char *threads, unsigned long nr_threads)
{
	struct ub_image *image, *more;
	struct ub_residue *snapshot;
	struct victim v;
	unsigned long n = 500 * nr_threads;

	victim_start(&v, "-i", "-t", threads, NULL);
	victim_ask(&v, "calls 10"); /* arenas are made now */
	snapshot = before(&v, UB_RESIDUE_FULL);

	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	victim_ask(&v, "calls 500");
	check(image_hits(image) == n, "%lu hits of %lu", image_hits(image), n);

	more = image_of(v.pid, image, NULL, "malloc", "free", NULL);
	must_replace(&v, image, more, NULL);
	victim_ask(&v, "calls 500");
	check(image_hits(more) == 2 * n, "%lu hits of %lu", image_hits(more), 2 * n);
	check(image_hits(image) == n, "the old image still counts");

	must_replace(&v, more, NULL, NULL);
	victim_ask(&v, "calls 500");
	check(image_hits(more) == 2 * n, "it still counts");
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_image_free(image);
	ub_image_free(more);
	ub_residue_free(snapshot);
	victim_end(&v);
}

/* Into a victim that maps and unmaps memory: what was planned on may be taken by then. */
static struct ub_image *put_in(struct victim *v, bool is_static, struct ub_surgery *result)
{
	for (int tries = 0;; tries++) {
		struct ub_image *image =
			is_static ? image_of(v->pid, NULL, victim_path("ubpf-victim-static"),
					     "malloc", NULL)
				  : image_of(v->pid, NULL, NULL, "malloc", "free", NULL);
		struct ub_reason why = { "" };
		int err = replace_patiently(v, NULL, image, result, &why);

		if (!err)
			return image;
		check(err == -EAGAIN && tries < 100, "replace: %s (%d)", why.text, err);
		ub_image_free(image);
	}
}

static void busy(const char *const *args, bool is_static)
{
	struct ub_residue *snapshot, *cheap;
	struct ub_surgery result;
	struct victim v;

	if (is_static)
		victim_start(&v, victim_path("ubpf-victim-static"), args[0], args[1], args[2],
			     args[3], NULL);
	else
		victim_start(&v, args[0], args[1], args[2], args[3], NULL);
	usleep(20000);
	snapshot = before(&v, UB_RESIDUE_FULL);
	cheap = before(&v, 0);
	for (int i = 0; i < 20; i++) {
		struct ub_image *image = put_in(&v, is_static, &result);

		for (int tries = 0; !image_hits(image) && tries < 30000; tries++)
			usleep(1000);
		check(image_hits(image), "no hits in cycle %d", i);
		must_replace(&v, image, NULL, &result);
		ub_image_free(image);
		must_be_clean(&v, cheap, 0);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	ub_residue_free(cheap);
	victim_end(&v);
}

int main(void)
{
	static const char *const plain[] = { "-t", "8", "-s", "200" };
	static const char *const altstack[] = { "-a", "-t4", "-s200", "-m" };

	exact_counts("1", 1);
	exact_counts("8", 8);
	busy(plain, false);
	busy(altstack, false);
	busy(plain, true);
	return 0;
}
