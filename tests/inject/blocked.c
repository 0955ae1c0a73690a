/* SPDX-License-Identifier: MIT */
/*
 * System calls in progress notice nothing of attach and detach: each returns what it would have
 * returned, none returns EINTR, none returns before its time. One thread in each, many
 * attach/detach cycles on top of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

#define FOR_MS	 1200 /* as tests/lib/sleepers.c */
#define NR_CALLS 15

/* Attaches and detaches while the calls are blocked. */
static void cycle(long only)
{
	u64 end = monotonic_ns() + (FOR_MS - 200) * 1000000ull;
	const char *line;
	struct victim v;
	char number[8];
	u32 nr = 0;
	const char *argv[] = { victim_path("ubpf-sleepers"), only < 0 ? NULL : number, NULL };

	snprintf(number, sizeof(number), "%ld", only);
	snprintf(test_case, sizeof(test_case), "call %s", only < 0 ? "all" : number);
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
		err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
		check(!err || err == -ESRCH, "attach: %s (%d)", why.text, err);
		if (!err)
			err = ub_surgeon_replace(v.pid, v.pidfd, image, NULL, &result, &why);
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

int main(void)
{
	pid_t children[NR_CALLS];

	cycle(-1);
	/* Each alone, all at the same time. */
	for (long i = 0; i < (long)NR_CALLS; i++) {
		children[i] = fork();
		if (!children[i]) {
			cycle(i);
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
