/* SPDX-License-Identifier: MIT */
/*
 * Whose is what is found in a target: a living owner's is left alone, also if it comes while a dead
 * one's is about to be cleaned; a dead one's is cleaned; and where there is nothing of ours there
 * is nothing to do.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

/* An owner that attaches to @symbol and dies without a word. */
static void attach_and_die(struct victim *v, const char *symbol, const char *more)
{
	int status;
	siginfo_t info;
	pid_t owner = fork();

	if (!owner) {
		must_replace(v, NULL, image_of(v->pid, NULL, NULL, symbol, more, NULL), NULL);
		kill(getpid(), SIGKILL);
	}
	/* Dead is dead, waited for or not. */
	check(!waitid(P_PID, owner, &info, WEXITED | WNOWAIT), "wait");
	check(ub_surgeon_find_deserted(v->pid, NULL) == 1, "a zombie owns it");
	waitpid(owner, &status, 0);
	check(WIFSIGNALED(status), "the owner did not attach");
}

static int repair(struct victim *v, struct ub_reason *why)
{
	int nr = ub_surgeon_repair(v->pid, false, why);

	for (int i = 0; nr == -EAGAIN && i < 1000; i++) {
		usleep(10000);
		nr = ub_surgeon_repair(v->pid, false, why);
	}
	return nr;
}

/* A surgeon: its parent, and the process itself once it is known. */
struct held {
	pid_t parent;
	pid_t pid;
};

/* Whether the surgeon has stopped itself. */
static bool is_held(void *opaque)
{
	struct held *held = opaque;
	char path[96], state = '?';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", held->parent, held->parent);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "%d", &held->pid) != 1)
		held->pid = 0;
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/stat", held->pid);
	file = held->pid ? fopen(path, "re") : NULL;
	if (!file)
		return false;
	/* No blank in the name. */
	if (fscanf(file, "%*d %*s %c", &state) != 1)
		state = '?';
	fclose(file);
	return state == 'T';
}

static bool has_hits(void *image)
{
	return image_hits(image) != 0;
}

/* Who cleans has read what is there, has stopped nobody yet, and meanwhile another attaches: what
 * he brought is in no table that was read. */
static void attach_under_repair(struct victim *v, struct ub_residue *snapshot)
{
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct held held;
	int status;

	snprintf(test_case, sizeof(test_case), "attach under repair");
	attach_and_die(v, "free", NULL);
	held.parent = fork();
	if (!held.parent) {
		int err;

		ub_fault_set(UB_FAULT_HOLD_SURGEON, "looked", 1);
		err = ub_surgeon_repair(v->pid, false, &why);
		check(err == -EBUSY && strstr(why.text, "running ubpf-run"), "repair: %s (%d)",
		      why.text, err);
		_exit(0);
	}
	check(wait_until(is_held, &held), "the surgeon does not come so far");
	image = image_of(v->pid, NULL, NULL, "malloc", NULL);
	must_replace(v, NULL, image, NULL);
	kill(held.pid, SIGCONT);
	waitpid(held.parent, &status, 0);
	check(!status, "who repairs took a living owner's image");
	check(wait_until(has_hits, image), "the victim does not count any more (state %c)",
	      victim_state(v));
	check(repair(v, &why) == -EBUSY, "we are not the living owner");
	must_replace(v, image, NULL, NULL);
	ub_image_free(image);
	status = repair(v, &why);
	check(status == 1, "%d sites restored: %s", status, why.text);
	must_be_clean(v, snapshot, UB_RESIDUE_FULL);
}

int main(void)
{
	struct ub_residue *snapshot;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	pid_t owner;
	int status;

	victim_start(&v, "-t", "2", "-s", "500", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	check(ub_surgeon_find(v.pid, &why) == 0, "finds something in an untouched process");
	check(ub_surgeon_repair(v.pid, false, &why) == 0, "repairs an untouched process: %s",
	      why.text);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);

	/* Ours, and we live. */
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	check(ub_surgeon_find(v.pid, &why) == 1, "does not find it");
	check(ub_surgeon_find_deserted(v.pid, &why) == 0, "takes a living owner for dead");
	owner = fork();
	if (!owner) {
		int err = ub_surgeon_repair(v.pid, false, &why);

		check(err == -EBUSY && strstr(why.text, "running ubpf-run"), "repair: %s (%d)",
		      why.text, err);
		_exit(0);
	}
	waitpid(owner, &status, 0);
	check(!status, "a living owner's probes");
	must_replace(&v, image, NULL, NULL);
	ub_image_free(image);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);

	/* Somebody's who dies without a word. */
	attach_and_die(&v, "malloc", "free");
	check(ub_surgeon_find(v.pid, &why) == 1, "does not find it");
	check(ub_surgeon_find_deserted(v.pid, &why) == 1, "takes a dead owner for living");
	status = repair(&v, &why);
	check(status == 2, "%d sites restored: %s", status, why.text);
	check(ub_surgeon_find(v.pid, &why) == 0, "something is left");
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);

	attach_under_repair(&v, snapshot);
	ub_residue_free(snapshot);
	victim_end(&v);
	return 0;
}
