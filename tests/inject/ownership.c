/* SPDX-License-Identifier: MIT */
/*
 * Whose is what is found in a target: a living owner's is left alone, a dead one's is cleaned, and
 * where there is nothing of ours there is nothing to do.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

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
	owner = fork();
	if (!owner) {
		image = image_of(v.pid, NULL, NULL, "malloc", "free", NULL);
		must_replace(&v, NULL, image, NULL);
		kill(getpid(), SIGKILL);
	}
	waitpid(owner, &status, 0);
	check(WIFSIGNALED(status), "the owner did not attach");
	check(ub_surgeon_find(v.pid, &why) == 1, "does not find it");
	status = ub_surgeon_repair(v.pid, false, &why);
	for (int i = 0; status == -EAGAIN && i < 1000; i++) {
		usleep(10000);
		status = ub_surgeon_repair(v.pid, false, &why);
	}
	check(status == 2, "%d sites restored: %s", status, why.text);
	check(ub_surgeon_find(v.pid, &why) == 0, "something is left");
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	victim_end(&v);
	return 0;
}
