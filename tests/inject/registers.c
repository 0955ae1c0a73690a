/* SPDX-License-Identifier: MIT */
/*
 * The surgeon is killed from outside, at any instant, hundreds of times. The victim keeps all of
 * its registers: general, flags, vector and x87 state, signal mask and alternate stack.
 *
 *   test_inject_registers [ROUNDS]
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

/* The process that attaches and detaches is killed with its surgeon: both are in one process group.
 */
static void round_trip(struct victim *v, u32 after_us)
{
	int status;
	pid_t caller = fork();

	if (!caller) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			struct ub_surgery result;
			struct ub_image *image = image_of(v->pid, NULL, NULL, "malloc", NULL);

			if (!image ||
			    ub_surgeon_replace(v->pid, v->pidfd, NULL, image, &result, NULL) ||
			    ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, NULL))
				_exit(1);
			ub_image_free(image);
		}
	}
	setpgid(caller, caller);
	usleep(after_us);
	kill(-caller, SIGKILL);
	waitpid(caller, &status, 0);
}

static void killed_at_random(const char *kind, u32 rounds)
{
	const char *argv[] = { victim_path("ubpf-registers"), kind, NULL };
	struct ub_reason why = { "" };
	struct ub_residue *snapshot;
	struct victim v;
	int err = -EAGAIN;

	snprintf(test_case, sizeof(test_case), "kind %s", kind);
	victim_exec(&v, argv);
	victim_line(&v);
	usleep(20000);
	snapshot = before(&v, UB_RESIDUE_FULL);
	for (u32 i = 0; i < rounds; i++) {
		round_trip(&v, 3000 + (i * 7919) % 9000);
		check(victim_alive(&v), "the victim is dead in round %u", i);
		err = -EAGAIN;
		for (int k = 0; k < 3000 && (err == -EAGAIN || err == -EBUSY); k++) {
			err = ub_surgeon_repair(v.pid, false, &why);
			if (err == -EAGAIN || err == -EBUSY)
				usleep(10000);
		}
		check(err >= 0, "repair in round %u: %s (%d)", i, why.text, err);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	victim_end(&v);
}

int main(int argc, char **argv)
{
	u32 rounds = argc > 1 ? atoi(argv[1]) : 40;

	if (!__builtin_cpu_supports("avx"))
		skip("this CPU has no AVX");
	killed_at_random("1", rounds);
	killed_at_random("2", rounds);
	killed_at_random("0", rounds);
	return 0;
}
