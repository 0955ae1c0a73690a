/* SPDX-License-Identifier: MIT */
/*
 * Processes that make it hard: that execute, fork, vfork and create threads all the time, whose
 * main thread has exited, that are stopped, under a seccomp filter, out of descriptors, locked in
 * memory, of another user, or have a thousand threads.
 *
 *   test_inject_targets [CASE]
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "targets.h"

enum outcome once(struct victim *v, const char *symbol)
{
	struct ub_image *image = image_of(v->pid, NULL, NULL, symbol, NULL);
	struct ub_surgery result;
	struct ub_reason why = { "" };
	int err;

	if (!image)
		return GONE;
	err = replace_patiently(v, NULL, image, &result, &why);
	if (err) {
		/* Replanned for another program meanwhile: the bytes or the room are not there. */
		check(err == -ESRCH || err == -EBUSY || err == -EAGAIN, "attach: %s (%d)", why.text,
		      err);
		ub_image_free(image);
		return GONE;
	}
	for (int i = 0;; i++) {
		err = replace_patiently(v, image, NULL, &result, &why);
		check(!err, "detach: %s (%d)", why.text, err);
		if (result.removal != UB_REMOVED_LATER)
			break;
		check(i < 3000, "detach: %s", result.left.text);
		usleep(10000);
	}
	ub_image_free(image);
	return result.removal == UB_REMOVED_GONE ? GONE : DONE;
}

void odd_start_unready(struct victim *v, const char *name)
{
	const char *argv[] = { victim_path("ubpf-odd-victim"), name, NULL };

	victim_exec(v, argv);
}

void odd_start(struct victim *v, const char *name)
{
	odd_start_unready(v, name);
	check(!strcmp(victim_line(v), "ready"), "ubpf-odd-victim %s does not start", name);
}

void end_well(struct victim *v)
{
	struct ub_reason why = { "" };
	int found = ub_surgeon_find(v->pid, &why);

	/* Others may have attached to all processes of the machine for a while. */
	for (int i = 0; i < 3000 && found == 1; i++) {
		usleep(10000);
		found = ub_surgeon_find(v->pid, &why);
	}
	check(found == 0, "something is left: %s", why.text);
	victim_end(v);
}

void cycles(struct victim *v, u32 nr, u32 must_be_done)
{
	u32 done = 0;

	for (u32 i = 0; i < nr || (done < must_be_done && i < 100 * nr); i++)
		done += once(v, "malloc") == DONE;
	check(done >= must_be_done, "only %u of %u cycles got through", done, nr);
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	{ "exec", exec_loops },
	{ "threads", threads_come_and_go },
	{ "forks", forks_and_vforks },
	{ "vfork", parent_in_vfork },
	{ "no-kcmp", without_kcmp },
	{ "zombie-leader", zombie_leader },
	{ "stopped", stopped },
	{ "seccomp", under_seccomp },
	{ "seccomp-later", seccomp_after_attach },
	{ "descriptors", full_descriptor_table },
	{ "locked", locked_memory },
	{ "locked-to-the-limit", locked_to_the_limit },
	{ "deep-stack", deep_stack },
	{ "stale-frame", stale_frame },
	{ "dispatched", dispatched },
	{ "sandboxed-thread", sandboxed_thread },
	{ "sandbox-holds", sandbox_holds },
	{ "unprivileged", unprivileged },
	{ "libraries", libraries_come_and_go },
	{ "signals", signals_with_siginfo },
	{ "many-threads", many_threads },
	{ "many-probes", many_probes },
};

int main(int argc, char **argv)
{
	for (u32 i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc > 1 && strcmp(argv[1], cases[i].name))
			continue;
		snprintf(test_case, sizeof(test_case), "%s", cases[i].name);
		cases[i].fn();
	}
	return 0;
}
