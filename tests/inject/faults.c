/* SPDX-License-Identifier: MIT */
/*
 * Somebody is killed at every step of attach, replacement and detach: the surgeon, the target, the
 * surgeon together with whoever sent it; or a step fails, or the target is stopped meanwhile.
 * Afterwards every survivor is as it was, and a new attach works.
 *
 *   test_inject_faults [KIND [POINT]]
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

static const char *const kinds[] = { "none", "surgeon", "target", "both", "fail", "stop" };
static enum ub_fault_kind only_kind;
static const char *only_point;
static u32 nr_met;

static void start(struct victim *v)
{
	victim_start(v, "-t", "3", "-s", "300", "-d", "20", NULL);
	usleep(10000);
}

static bool counts(void *image)
{
	return image_hits(image) != 0;
}

/* In, counting, and out must work now, and leave nothing. */
static void works_again(struct victim *v, struct ub_residue *snapshot)
{
	struct ub_image *image = image_of(v->pid, NULL, NULL, "malloc", NULL);

	check(victim_alive(v), "the victim is dead");
	must_replace(v, NULL, image, NULL);
	check(wait_until(counts, image), "does not count afterwards");
	must_replace(v, image, NULL, NULL);
	ub_image_free(image);
	must_be_clean(v, snapshot, UB_RESIDUE_FULL);
}

enum step {
	STEP_IN,
	STEP_CHANGE,
	STEP_OUT,
};

static const char *const steps[] = { "attach", "change", "detach" };

/* Whether a fault is to be met: then one try shows what comes of it. */
static bool armed;

static void arm(enum ub_fault_kind kind, const char *point, u32 nth)
{
	armed = kind != UB_FAULT_NONE;
	ub_fault_set(kind, point, nth);
}

/* One operation under a fault. Returns its error. */
static int operate(struct victim *v, enum step step, struct ub_image **image,
		   struct ub_surgery *result, struct ub_reason *why)
{
	struct ub_image *more;
	int err;

	switch (step) {
	case STEP_IN:
		more = image_of(v->pid, NULL, NULL, "malloc", NULL);
		break;
	case STEP_CHANGE:
		more = image_of(v->pid, *image, NULL, "malloc", "free", NULL);
		break;
	default:
		more = NULL;
	}
	err = armed ? ub_surgeon_replace(v->pid, v->pidfd, *image, more, result, why)
		    : replace_patiently(v, *image, more, result, why);
	if (err) {
		ub_image_free(more);
		return err;
	}
	for (int i = 0; result->removal == UB_REMOVED_LATER && i < 3000; i++) {
		usleep(10000);
		if (ub_surgeon_collect(v->pid, v->pidfd, *image, result, why))
			break;
	}
	ub_image_free(*image);
	*image = more;
	return 0;
}

static bool is_dead(void *opaque)
{
	struct victim *v = opaque;

	return !victim_alive(v) || victim_state(v) == 'Z';
}

static void one(enum ub_fault_kind kind, enum step step, const char *point, u32 nth)
{
	struct ub_surgery result = { 0 };
	struct ub_reason why = { "" };
	struct ub_image *image = NULL;
	struct ub_residue *snapshot;
	struct victim v;
	int err;

	snprintf(test_case, sizeof(test_case), "%s at %s:%u of %s", kinds[kind], point, nth,
		 steps[step]);
	start(&v);
	snapshot = before(&v, UB_RESIDUE_FULL);
	if (step != STEP_IN)
		check(!operate(&v, STEP_IN, &image, &result, &why), "%s", why.text);
	arm(kind, point, nth);
	err = operate(&v, step, &image, &result, &why);
	arm(UB_FAULT_NONE, "", 0);

	if (kind == UB_FAULT_KILL_TARGET) {
		/* Either it met the point and dies, or it never came by. */
		if (err == -ESRCH || result.removal == UB_REMOVED_GONE)
			check(wait_until(is_dead, &v), "alive, but %s", why.text);
		if (!is_dead(&v)) {
			check(!err, "%s (%d)", why.text, err);
		} else {
			nr_met++;
			check(!err || err == -ESRCH, "%s (%d)", why.text, err);
			check(err || step != STEP_OUT || result.removal != UB_REMOVED_LATER,
			      "later");
		}
		ub_image_free(image);
		ub_residue_free(snapshot);
		victim_reap(&v);
		return;
	}
	nr_met += err != 0;
	check(!strstr(why.text, "not everything"), "%s", why.text);
	check(result.removal != UB_REMOVED_LATER, "%s: %s", why.text, result.left.text);
	check(victim_alive(&v), "the victim is dead (%s)", why.text);
	if (step == STEP_OUT)
		check(!err || kind == UB_FAULT_FAIL, "%s (%d)", why.text, err);
	else if (err)
		check(err == -EINTR || err == -EIO || err == -EBUSY || err == -ETIMEDOUT, "%s (%d)",
		      why.text, err);
	if (kind == UB_FAULT_STOP_TARGET) {
		check(!err, "%s (%d)", why.text, err);
		kill(v.pid, SIGCONT);
	}
	if (image)
		must_replace(&v, image, NULL, NULL);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	works_again(&v, snapshot);
	ub_image_free(image);
	ub_residue_free(snapshot);
	victim_end(&v);
}

/* The caller dies with its surgeon: somebody else cleans up from what the target records. */
static void both(enum step step, const char *point, u32 nth)
{
	struct ub_surgery result;
	struct ub_image *image = NULL;
	struct ub_residue *snapshot;
	struct ub_reason why = { "" };
	struct victim v;
	int status = 0, err = -EAGAIN;
	pid_t caller;

	snprintf(test_case, sizeof(test_case), "both at %s:%u of %s", point, nth, steps[step]);
	start(&v);
	snapshot = before(&v, UB_RESIDUE_FULL);
	caller = fork();
	if (!caller) {
		if (step != STEP_IN && operate(&v, STEP_IN, &image, &result, &why))
			_exit(2);
		arm(UB_FAULT_KILL_BOTH, point, nth);
		_exit(operate(&v, step, &image, &result, &why) ? 3 : 0);
	}
	check(waitpid(caller, &status, 0) == caller, "wait");
	check(WIFSIGNALED(status) || WEXITSTATUS(status) != 2, "could not begin");
	nr_met += WIFSIGNALED(status);
	/* Its surgeon may still be on its way out. */
	for (int i = 0; i < 3000 && (err == -EAGAIN || err == -EBUSY); i++) {
		err = ub_surgeon_repair(v.pid, false, &why);
		if (err == -EAGAIN || err == -EBUSY)
			usleep(10000);
	}
	check(err >= 0, "repair: %s (%d)", why.text, err);
	check(ub_surgeon_find(v.pid, &why) == 0, "something is left after repair");
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	works_again(&v, snapshot);
	ub_residue_free(snapshot);
	victim_end(&v);
}

static void every_point(enum ub_fault_kind kind, enum step step)
{
	/* Points that are passed many times: the first passages differ from each other. */
	static const char *const often[] = { "remote_entry", "remote_exit", "mapping",
					     "unmapping" };
	const char *point;

	if (only_kind && kind != only_kind)
		return;
	for (u32 i = 0; (point = ub_fault_point(i)); i++) {
		u32 passages = 1;

		if (only_point && strcmp(point, only_point))
			continue;
		for (u32 k = 0; k < 4; k++) {
			if (!strcmp(point, often[k]))
				passages = kind == UB_FAULT_KILL_SURGEON ? 16 : 4;
		}
		for (u32 nth = 1; nth <= passages; nth++) {
			if (kind == UB_FAULT_KILL_BOTH)
				both(step, point, nth);
			else
				one(kind, step, point, nth);
		}
	}
}

int main(int argc, char **argv)
{
	for (u32 i = 1; argc > 1 && i < 6; i++) {
		if (!strcmp(argv[1], kinds[i]))
			only_kind = i;
	}
	check(argc < 2 || only_kind, "unknown kind of fault %s", argv[1]);
	only_point = argc > 2 ? argv[2] : NULL;
	for (int kind = UB_FAULT_KILL_SURGEON; kind <= UB_FAULT_STOP_TARGET; kind++) {
		for (int step = STEP_IN; step <= STEP_OUT; step++)
			every_point(kind, step);
	}
	printf("%u faults met\n", nr_met);
	return 0;
}
