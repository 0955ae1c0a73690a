/* SPDX-License-Identifier: MIT */
/*
 * Semaphores are counted up with an image and down again, exactly, also when the surgeon is killed
 * between any two of its steps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hook/image_private.h>

#include "inject.h"

static u64 address;

static void must_be(struct victim *v, u32 a, u32 b, u32 c)
{
	u32 got[4] = { 0 };

	check(sscanf(victim_ask(v, "semaphores"), "semaphores %lx %u %u %u %u", &address, &got[0],
		     &got[1], &got[2], &got[3]) == 5,
	      "no answer");
	check(got[0] == a && got[1] == b && got[2] == c && got[3] == 65535,
	      "%u %u %u instead of %u %u %u", got[0], got[1], got[2], a, b, c);
}

/* An image that counts the first @nr semaphores by @counts. */
static struct ub_image *counting(struct victim *v, const struct ub_image *current, u32 nr,
				 const u32 *counts)
{
	struct ub_image *image = image_of(v->pid, current, NULL, "malloc", NULL);

	image->semaphores = calloc(nr, sizeof(*image->semaphores));
	image->nr_semaphores = nr;
	for (u32 i = 0; i < nr; i++)
		image->semaphores[i] = (struct ub_semaphore) { address + 2 * i, counts[i] };
	return image;
}

static const u32 first[] = { 1, 2, 3 }, second[] = { 4 };

static void plain(struct victim *v)
{
	struct ub_image *image, *other;

	must_be(v, 5, 0, 7);
	image = counting(v, NULL, 3, first);
	must_replace(v, NULL, image, NULL);
	must_be(v, 6, 2, 10);
	other = counting(v, image, 1, second);
	must_replace(v, image, other, NULL);
	must_be(v, 9, 0, 7);
	must_replace(v, other, NULL, NULL);
	must_be(v, 5, 0, 7);
	ub_image_free(image);
	ub_image_free(other);
}

static void killed(struct victim *v, enum ub_fault_kind kind, u32 nth)
{
	struct ub_surgery result;
	struct ub_image *image, *other;
	struct ub_reason why = { "" };
	int err;

	/* attach */
	snprintf(test_case, sizeof(test_case), "kind %d at %u of attach", kind, nth);
	image = counting(v, NULL, 3, first);
	ub_fault_set(kind, "semaphores", nth);
	err = ub_surgeon_replace(v->pid, v->pidfd, NULL, image, &result, &why);
	ub_fault_set(UB_FAULT_NONE, "", 0);
	check(err, "was not met");
	must_be(v, 5, 0, 7);
	ub_image_free(image);

	/* change */
	snprintf(test_case, sizeof(test_case), "kind %d at %u of change", kind, nth);
	image = counting(v, NULL, 3, first);
	must_replace(v, NULL, image, NULL);
	other = counting(v, image, 1, second);
	ub_fault_set(kind, "semaphores", nth);
	err = ub_surgeon_replace(v->pid, v->pidfd, image, other, &result, &why);
	ub_fault_set(UB_FAULT_NONE, "", 0);
	check(err, "was not met");
	must_be(v, 6, 2, 10);
	ub_image_free(other);

	/* detach */
	snprintf(test_case, sizeof(test_case), "kind %d at %u of detach", kind, nth);
	ub_fault_set(kind, "semaphores", nth);
	err = ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, &why);
	ub_fault_set(UB_FAULT_NONE, "", 0);
	if (err) {
		check(kind == UB_FAULT_FAIL, "%s (%d)", why.text, err);
		must_replace(v, image, NULL, NULL);
	}
	must_be(v, 5, 0, 7);
	ub_image_free(image);
}

int main(void)
{
	struct victim v;

	victim_start(&v, "-i", "-t", "2", NULL);
	plain(&v);
	for (u32 nth = 1; nth <= 3; nth++) {
		killed(&v, UB_FAULT_KILL_SURGEON, nth);
		killed(&v, UB_FAULT_FAIL, nth);
	}
	plain(&v);
	victim_end(&v);
	return 0;
}
