/* SPDX-License-Identifier: MIT */
/*
 * System calls in progress notice nothing of attach and detach: each returns what it would have
 * returned, none returns EINTR, none returns before its time, and those that can be continued end
 * however often somebody comes by. One thread in each, many attach/detach cycles on top of them;
 * also if the surgeon fails or is killed while they are stopped. Killed between a thread's waking and its first look at it, it leaves EINTR to that
 * thread alone.
 *
 *   test_inject_blocked [random ROUNDS]	kills at any instant, and tells how many calls noticed
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blocking.h"
#include "inject.h"

#define FOR_MS	 1200 /* as tests/lib/sleepers.c */
#define NR_CALLS NR_BLOCKING_CALLS

/* Where attaches are made to end. */
static const struct {
	enum ub_fault_kind kind;
	const char *point;
} faults[] = {
	{ UB_FAULT_NONE, "" },
	{ UB_FAULT_KILL_SURGEON, "stopped" },
	{ UB_FAULT_FAIL, "stopped" },
	{ UB_FAULT_KILL_SURGEON, "helper" },
	{ UB_FAULT_FAIL, "alone" },
	{ UB_FAULT_KILL_SURGEON, "remote_exit" },
	{ UB_FAULT_KILL_SURGEON, "written" },
	{ UB_FAULT_FAIL, "moved" },
	{ UB_FAULT_KILL_SURGEON, "live" },
};

/* Attaches and detaches while the calls are blocked. */
static void cycle(long only, bool with_faults)
{
	u64 end = monotonic_ns() + (FOR_MS - 200) * 1000000ull;
	const char *line;
	struct victim v;
	char number[8];
	u32 nr = 0;
	const char *argv[] = { victim_path("ubpf-sleepers"), only < 0 ? NULL : number, NULL };

	snprintf(number, sizeof(number), "%ld", only);
	snprintf(test_case, sizeof(test_case), "call %s%s", only < 0 ? "all" : number,
		 with_faults ? ", surgeons killed" : "");
	victim_exec(&v, argv);
	line = victim_line(&v);
	check(!strcmp(line, "ready"), "%s", line);
	usleep(50000);
	/* On a slow machine they may be done before we are: then there is nobody any more. */
	while (monotonic_ns() < end) {
		struct ub_image *image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		struct ub_surgery result = { 0 };
		struct ub_reason why = { "" };
		int err;

		if (!image)
			break;
		if (with_faults)
			ub_fault_set(faults[nr % ub_array_size(faults)].kind,
				     faults[nr % ub_array_size(faults)].point, 1);
		err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
		ub_fault_set(UB_FAULT_NONE, "", 0);
		/* Somebody else operates on all processes of the machine, or a thread gets no CPU. */
		if (err == -EAGAIN || err == -EBUSY || err == -ETIMEDOUT ||
		    (with_faults && (err == -EINTR || err == -EIO))) {
			ub_image_free(image);
			usleep(10000);
			nr++;
			continue;
		}
		check(!err || err == -ESRCH, "attach: %s (%d)", why.text, err);
		if (!err)
			err = replace_patiently(&v, image, NULL, &result, &why);
		check(!err || err == -ESRCH, "detach: %s (%d)", why.text, err);
		ub_image_free(image);
		if (err || result.removal == UB_REMOVED_GONE)
			break;
		usleep(only < 0 ? 20000 : 200000);
		nr++;
	}
	line = victim_line(&v);
	check(!strcmp(line, "done"), "after %u cycles %s", nr, line);
	victim_reap(&v);
}

/* A call whose time goes on, however often we come by: attaches and detaches until it ends. */
static void ends_all_the_same(u32 call)
{
	const u64 end = monotonic_ns() + 60000000000ull;
	const char *argv[] = { victim_path("ubpf-sleepers"), NULL, NULL };
	struct pollfd pfd = { .events = POLLIN };
	char number[8];
	struct victim v;
	const char *line;

	snprintf(number, sizeof(number), "%u", call);
	snprintf(test_case, sizeof(test_case), "%s goes on", blocking_calls[call].name);
	argv[1] = number;
	victim_exec(&v, argv);
	line = victim_line(&v);
	check(!strcmp(line, "ready"), "%s", line);
	pfd.fd = v.out;
	while (!poll(&pfd, 1, 10)) {
		struct ub_image *image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		struct ub_surgery result;

		check(monotonic_ns() < end, "it does not end");
		if (image && !ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, NULL)) {
			int err = replace_patiently(&v, image, NULL, &result, NULL);

			check(!err || err == -ESRCH, "detach: %d", err);
		}
		ub_image_free(image);
	}
	line = victim_line(&v);
	check(!strcmp(line, "done"), "%s", line);
	victim_reap(&v);
}

static void start_counting(struct victim *v)
{
	const char *argv[] = { victim_path("ubpf-sleepers"), "count", NULL };
	const char *line;

	victim_exec(v, argv);
	line = victim_line(v);
	check(!strcmp(line, "ready"), "%s", line);
	usleep(20000);
}

static u32 nr_interrupted(struct victim *v)
{
	const char *line = victim_line(v);
	u32 nr = 0;

	check(sscanf(line, "done, %u interrupted", &nr) == 1, "%s", line);
	victim_reap(v);
	return nr;
}

/* The surgeon dies of its @nth look at a sleeper: it has woken that one. */
static void killed_at_a_sleeper(u32 nth)
{
	struct ub_surgery result = { 0 };
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	u32 nr;
	int err;

	snprintf(test_case, sizeof(test_case), "killed at sleeper %u", nth);
	start_counting(&v);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	if (image) {
		ub_fault_set(UB_FAULT_KILL_SURGEON, "interrupted", nth);
		err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
		ub_fault_set(UB_FAULT_NONE, "", 0);
		if (!err)
			err = ub_surgeon_replace(v.pid, v.pidfd, image, NULL, &result, &why);
		check(!err || err == -EINTR || err == -EBUSY || err == -EAGAIN ||
			      err == -ETIMEDOUT || err == -ESRCH,
		      "%s (%d)", why.text, err);
		ub_image_free(image);
	}
	nr = nr_interrupted(&v);
	check(nr <= 1, "%u calls returned EINTR", nr);
}

static void __attribute__((noreturn)) cycles_for_ever(struct victim *v)
{
	for (;;) {
		struct ub_surgery result;
		struct ub_image *image = image_of(v->pid, NULL, NULL, "malloc", NULL);

		if (!image || ub_surgeon_replace(v->pid, v->pidfd, NULL, image, &result, NULL) ||
		    ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, NULL))
			_exit(1);
		ub_image_free(image);
	}
}

/* The process that attaches and detaches is killed with its surgeon. */
static void killed_at_random(u32 rounds)
{
	enum { KILLS = 40 };
	u32 total = 0, most = 0, noticed = 0;

	for (u32 i = 0; i < rounds; i++) {
		struct victim v;
		u32 nr;

		snprintf(test_case, sizeof(test_case), "killed at random, round %u", i);
		start_counting(&v);
		for (u32 k = 0; k < KILLS; k++) {
			pid_t caller = fork();

			if (!caller) {
				setpgid(0, 0);
				cycles_for_ever(&v);
			}
			setpgid(caller, caller);
			usleep(2000 + (i * 7919 + k * 104729) % 12000);
			kill(-caller, SIGKILL);
			waitpid(caller, NULL, 0);
		}
		nr = nr_interrupted(&v);
		total += nr;
		noticed += nr > 0;
		most = nr > most ? nr : most;
	}
	printf("%u kills: %u calls returned EINTR, in %u of %u processes, %u at most\n",
	       rounds * KILLS, total, noticed, rounds, most);
}

int main(int argc, char **argv)
{
	pid_t children[NR_CALLS];

	if (argc == 3 && !strcmp(argv[1], "random")) {
		killed_at_random(strtoul(argv[2], NULL, 10));
		return 0;
	}

	cycle(-1, false);
	cycle(-1, true);
	for (u32 i = 0; i < NR_CALLS; i++) {
		children[i] = fork();
		if (!children[i]) {
			killed_at_a_sleeper(i + 1);
			_exit(0);
		}
	}
	for (u32 i = 0; i < NR_CALLS; i++) {
		int status = 1;

		waitpid(children[i], &status, 0);
		check(!status, "killed at sleeper %u", i + 1);
	}
	for (u32 i = 0; i < NR_CALLS; i++) {
		children[i] = blocking_calls[i].goes_on ? fork() : 0;
		if (!children[i] && blocking_calls[i].goes_on) {
			ends_all_the_same(i);
			_exit(0);
		}
	}
	for (u32 i = 0; i < NR_CALLS; i++) {
		int status = 0;

		if (children[i])
			waitpid(children[i], &status, 0);
		check(!status, "%s does not go on", blocking_calls[i].name);
	}
	/* Each alone, all at the same time. */
	for (long i = 0; i < (long)NR_CALLS; i++) {
		children[i] = fork();
		if (!children[i]) {
			cycle(i, false);
			_exit(0);
		}
	}
	for (u32 i = 0; i < NR_CALLS; i++) {
		int status = 1;

		waitpid(children[i], &status, 0);
		check(!status, "call %u alone failed (see ubpf-sleepers names)", i);
	}
	return 0;
}
