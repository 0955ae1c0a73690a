/* SPDX-License-Identifier: MIT */
/*
 * Surgeons are killed at any instant, while probes in a thousand functions come and go in a process
 * that is busy in them and blocked in every kind of call. It lives, computes what it should, and is
 * what it was; and whoever comes next can attach.
 *
 *   test_inject_killed [KILLS [PROBES [BUSY [PRIORITY [DISTURBER]]]]]
 *
 * KILLS of each kind: of the surgeon alone, which its caller makes good for, and of both. PRIORITY, of
 * SCHED_FIFO, is that of the BUSY threads. A DISTURBER does something else to the process meanwhile:
 * "stop", "trace", "freeze" (a cgroup of version 2, as root). Those make calls return EINTR by themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>

#include "inject.h"

#define LIFE_US	 10000 /* of a surgeon */
#define SURGEONS 8     /* of one operation that gives up, at most */

static u32 nr_kills = 40, nr_probes = 1000;
static u32 nr_attached, nr_detached, nr_undone, nr_repaired;
/* Operations, of whatever process here, whose surgeons gave up amid their work for want of CPU: as if killed. */
static u32 *nr_gave_up;

/* --- somebody who kills ------------------------------------------------------------------------ */

/* The surgeon that @caller has sent, 0 if none is at work; not its child @but. */
static pid_t surgeon_of(pid_t caller, pid_t but)
{
	_cleanup_fclose_ FILE *children = NULL;
	char path[96];
	int pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", caller, caller);
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &pid) == 1) {
		if (pid != getpid() && pid != but)
			return pid;
	}
	return 0;
}

/* Some time into a surgeon's work, or shortly after. */
static pid_t await_surgeon(pid_t caller, pid_t but, u32 *seed)
{
	pid_t surgeon = 0;

	for (u32 i = 0; !surgeon && i < 100000; i++) {
		surgeon = surgeon_of(caller, but);
		if (!surgeon)
			usleep(100);
	}
	usleep(rand_r(seed) % LIFE_US);
	return surgeon;
}

static pid_t start_killer(const struct victim *v, u32 seed)
{
	const pid_t parent = getpid();
	pid_t killer = fork();

	check(killer >= 0, "fork: %s", strerror(errno));
	if (killer)
		return killer;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (u32 killed = 0; killed < nr_kills;) {
		pid_t surgeon = await_surgeon(parent, v->pid, &seed);

		killed += surgeon && !kill(surgeon, SIGKILL);
	}
	_exit(0);
}

/* --- somebody who disturbs --------------------------------------------------------------------- */

static void stop_and_continue(pid_t pid)
{
	kill(pid, SIGSTOP);
	usleep(3000);
	kill(pid, SIGCONT);
}

static void trace_for_a_while(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return;
	if (!ptrace(PTRACE_INTERRUPT, pid, 0, 0))
		waitpid(pid, NULL, __WALL);
	usleep(1000);
	ptrace(PTRACE_DETACH, pid, 0, 0);
}

static char cgroup[64];

static bool write_cgroup(const char *name, const char *text)
{
	_cleanup_close_ int fd = -1;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static void freeze_for_a_while(pid_t pid)
{
	(void)pid;
	write_cgroup("cgroup.freeze", "1");
	usleep(3000);
	write_cgroup("cgroup.freeze", "0");
}

static pid_t start_disturber(const char *kind, pid_t pid)
{
	void (*disturb)(pid_t pid) = !strcmp(kind, "stop")    ? stop_and_continue
				     : !strcmp(kind, "trace") ? trace_for_a_while
							      : freeze_for_a_while;
	pid_t disturber = fork();
	u32 seed = 7;

	check(disturber >= 0, "fork: %s", strerror(errno));
	if (disturber)
		return disturber;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		disturb(pid);
		usleep(rand_r(&seed) % 20000);
	}
}

static void join_cgroup(pid_t pid)
{
	static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	char path[64], number[16];

	for (u32 i = 0; i < ub_array_size(roots); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", roots[i]);
		if (!access(path, W_OK))
			snprintf(cgroup, sizeof(cgroup), "%s/ubpf-test-killed", roots[i]);
	}
	snprintf(number, sizeof(number), "%d", pid);
	if (!cgroup[0] || mkdir(cgroup, 0755) || !write_cgroup("cgroup.procs", number))
		skip("no cgroup (version 2) can be made here");
}

/* Takes what it does to an end, whatever it was at. */
static void end_disturber(pid_t disturber, pid_t pid)
{
	kill(disturber, SIGKILL);
	waitpid(disturber, NULL, 0);
	kill(pid, SIGCONT);
	write_cgroup("cgroup.freeze", "0");
}

static void leave_cgroup(void)
{
	for (int i = 0; i < 3000 && rmdir(cgroup) && errno == EBUSY; i++)
		usleep(10000);
}

/* --- the process ------------------------------------------------------------------------------- */

static void obeys(struct victim *v, const char *order, const char *answer)
{
	const char *line = victim_ask(v, order);

	check(!strcmp(line, answer), "the process says: %s", line);
}

static void must_live(struct victim *v)
{
	check(victim_alive(v), "the process is dead: %s", victim_line(v));
}

static bool holds_nothing(void *opaque)
{
	const struct victim *v = opaque;

	return ub_surgeon_find(v->pid, NULL) == 0;
}

/* Others may have attached to all processes of the machine for a while. */
static void must_hold_nothing(struct victim *v)
{
	check(wait_until(holds_nothing, v), "something is left");
}

static bool has_hits(void *image)
{
	return image_hits(image) != 0;
}

/* Nothing is left, and it can be attached to. */
static void must_be_well(struct victim *v, struct ub_residue *snapshot)
{
	struct ub_image *image;

	must_live(v);
	must_hold_nothing(v);
	obeys(v, "rest", "resting");
	must_be_clean(v, snapshot, UB_RESIDUE_FULL);
	obeys(v, "work", "working");
	image = image_of(v->pid, NULL, NULL, "malloc", "qsort", NULL);
	check(image, "no image");
	must_replace(v, NULL, image, NULL);
	check(wait_until(has_hits, image), "does not count");
	must_replace(v, image, NULL, NULL);
	ub_image_free(image);
}

/* --- surgeons that are killed ------------------------------------------------------------------ */

/* Until nothing is left, however often the surgeon is killed. */
static void take_out(struct victim *v, struct ub_image *image)
{
	struct ub_surgery result = { 0 };
	struct ub_reason why = { "" };
	int err = -EINTR;

	for (u32 i = 0; i < 3000 && (err || result.removal == UB_REMOVED_LATER); i++) {
		err = ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, &why);
		check(!err || err == -EINTR || err == -EBUSY || err == -ETIMEDOUT,
		      "detach: %s (%d)", why.text, err);
		if (err == -ETIMEDOUT)
			__atomic_fetch_add(nr_gave_up, 1, __ATOMIC_RELAXED);
		if (err || result.removal == UB_REMOVED_LATER)
			usleep(5000);
	}
	check(!err && result.removal == UB_REMOVED_CLEAN, "detach: %s %s", why.text,
	      result.left.text);
	nr_detached++;
}

static void attach_and_detach(struct victim *v)
{
	struct ub_image *image = image_of_many(v->pid, nr_probes);
	struct ub_surgery result = { 0 };
	struct ub_reason why = { "" };
	int err;

	check(image, "no image");
	err = ub_surgeon_replace(v->pid, v->pidfd, NULL, image, &result, &why);
	check(!err || err == -EINTR || err == -EBUSY || err == -EAGAIN || err == -ETIMEDOUT,
	      "attach: %s (%d)", why.text, err);
	nr_attached += !err;
	nr_undone += err == -EINTR;
	if (err == -ETIMEDOUT)
		__atomic_fetch_add(nr_gave_up, 1, __ATOMIC_RELAXED);
	if (!err || strstr(why.text, "not everything") || result.removal == UB_REMOVED_LATER)
		take_out(v, image);
	ub_image_free(image);
	if (err)
		usleep(5000);
}

static void surgeons_are_killed(struct victim *v)
{
	pid_t killer = start_killer(v, 1);
	int status = 0;

	snprintf(test_case, sizeof(test_case), "surgeons killed");
	while (!waitpid(killer, &status, WNOHANG))
		attach_and_detach(v);
	must_live(v);
	check(!status, "the killer failed");
}

static void both_are_killed(struct victim *v)
{
	u32 seed = 2;

	for (u32 i = 0; i < nr_kills; i++) {
		struct ub_reason why = { "" };
		int err = -EAGAIN;
		pid_t caller = fork();

		snprintf(test_case, sizeof(test_case), "surgeon and caller killed, round %u", i);
		if (!caller) {
			setpgid(0, 0);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				attach_and_detach(v);
		}
		setpgid(caller, caller);
		await_surgeon(caller, 0, &seed);
		kill(-caller, SIGKILL);
		waitpid(caller, NULL, 0);
		for (int k = 0; k < 3000 && err < 0; k++) {
			err = ub_surgeon_repair(v->pid, false, &why);
			if (err != -EAGAIN && err != -EBUSY && err != -ETIMEDOUT)
				break;
			*nr_gave_up += err == -ETIMEDOUT;
			usleep(10000);
		}
		must_live(v);
		check(err >= 0, "repair: %s (%d)", why.text, err);
		must_hold_nothing(v);
		nr_repaired += err > 0;
	}
}

int main(int argc, char **argv)
{
	const char *busy = argc > 3 ? argv[3] : "2", *priority = argc > 4 ? argv[4] : "0";
	const char *kind = argc > 5 ? argv[5] : NULL;
	const char *start[] = { victim_path("ubpf-workload"), busy, priority, NULL };
	unsigned long rounds, calls, interrupted, late;
	struct ub_residue *snapshot;
	pid_t disturber = 0;
	struct victim v;
	const char *line;

	nr_gave_up = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(nr_gave_up != MAP_FAILED, "mmap: %s", strerror(errno));
	nr_kills = argc > 1 ? atoi(argv[1]) : nr_kills;
	nr_probes = argc > 2 ? atoi(argv[2]) : nr_probes;
	victim_exec(&v, start);
	line = victim_line(&v);
	check(!strcmp(line, "ready"), "the process says: %s", line);
	if (kind && !strcmp(kind, "freeze"))
		join_cgroup(v.pid);
	usleep(200000);
	obeys(&v, "rest", "resting");
	snapshot = before(&v, UB_RESIDUE_FULL);
	obeys(&v, "work", "working");
	if (kind)
		disturber = start_disturber(kind, v.pid);
	surgeons_are_killed(&v);
	both_are_killed(&v);
	if (disturber)
		end_disturber(disturber, v.pid);
	must_be_well(&v, snapshot);
	line = victim_ask(&v, "end");
	check(sscanf(line, "done: %lu rounds, %lu calls, %lu interrupted, %lu ms late", &rounds,
		     &calls, &interrupted, &late) == 4,
	      "the process says: %s", line);
	printf("%u kills, %u attached, %u undone, %u repaired, %u detached; %s\n", 2 * nr_kills,
	       nr_attached, nr_undone, nr_repaired, nr_detached, line);
	check(rounds, "it was not at work");
	/* Each that is killed leaves EINTR to one call at most; who gives up was tried SURGEONS times. */
	check(kind || interrupted <= 2 * nr_kills + SURGEONS * *nr_gave_up,
	      "%lu calls returned EINTR, %u operations gave up", interrupted, *nr_gave_up);
	ub_residue_free(snapshot);
	victim_reap(&v);
	if (kind && !strcmp(kind, "freeze"))
		leave_cgroup();
	return 0;
}
