/* SPDX-License-Identifier: MIT */
/*
 * Processes that make it hard: that execute, fork, vfork and create threads all the time, whose main thread has
 * exited, that are stopped, under a seccomp filter, out of descriptors, locked in memory, of another user, or
 * have a thousand threads.
 *
 *   test_inject_targets [CASE]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

/* --- helpers ------------------------------------------------------------------------------------ */

/* How an attempt on a target that may not hold still ended. */
enum outcome {
	DONE,
	GONE,
};

/* In and out once; a target that has executed or exited meanwhile is no failure. */
static enum outcome once(struct victim *v, const char *symbol)
{
	struct ub_image *image = image_of(v->pid, NULL, NULL, symbol, NULL);
	struct ub_surgery result;
	struct ub_reason why = { "" };
	int err;

	if (!image)
		return GONE;
	err = ub_surgeon_replace(v->pid, v->pidfd, NULL, image, &result, &why);
	if (err) {
		/* Replanned for another program meanwhile: the bytes or the room are not there. */
		check(err == -ESRCH || err == -EBUSY || err == -EAGAIN, "attach: %s (%d)", why.text, err);
		ub_image_free(image);
		return GONE;
	}
	for (int i = 0;; i++) {
		err = ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, &why);
		check(!err, "detach: %s (%d)", why.text, err);
		if (result.removal != UB_REMOVED_LATER)
			break;
		check(i < 500, "detach: %s", result.left.text);
		usleep(10000);
	}
	ub_image_free(image);
	return result.removal == UB_REMOVED_GONE ? GONE : DONE;
}

static void begin(void)
{
	dprintf(STDOUT_FILENO, "ready\n");
}

static void end_well(struct victim *v)
{
	struct ub_reason why;

	check(ub_surgeon_find(v->pid, &why) == 0, "something is left: %s", why.text);
	victim_end(v);
}

static void cycles(struct victim *v, u32 nr, u32 must_be_done)
{
	u32 done = 0;

	for (u32 i = 0; i < nr || (done < must_be_done && i < 100 * nr); i++)
		done += once(v, "malloc") == DONE;
	check(done >= must_be_done, "only %u of %u cycles got through", done, nr);
}

static void allocate(void)
{
	void *volatile p = malloc(20);

	free(p);
}

/* --- executes ----------------------------------------------------------------------------------- */

static void *spinner(void *opaque)
{
	for (;;)
		allocate();
	return NULL;
}

/* The test itself, called anew as "exec-loop N". */
static void exec_loop(int left)
{
	char count[16];
	pthread_t threads[3];

	if (!left) {
		begin();
		for (;;)
			pause();
	}
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, spinner, NULL);
	usleep(left % 7 * 200);
	snprintf(count, sizeof(count), "%d", left - 1);
	execl("/proc/self/exe", "test", "exec-loop", count, NULL);
	_exit(9);
}

static void exec_loops(void)
{
	const char *argv[] = { "/proc/self/exe", "exec-loop", "150", NULL };
	struct victim v;
	u64 end;

	victim_exec(&v, argv);
	end = monotonic_ns() + 20000000000ull;
	/* Until it does not execute any more. */
	for (;;) {
		int flags = fcntl(v.out, F_GETFL);
		char byte;

		once(&v, "malloc");
		fcntl(v.out, F_SETFL, flags | O_NONBLOCK);
		if (read(v.out, &byte, 1) == 1 || monotonic_ns() > end)
			break;
		fcntl(v.out, F_SETFL, flags);
	}
	cycles(&v, 3, 3);
	end_well(&v);
}

/* --- threads, forks, vforks --------------------------------------------------------------------- */

static void *one_allocation(void *opaque)
{
	allocate();
	return NULL;
}

static void *creates_threads(void *opaque)
{
	for (;;) {
		pthread_t t;

		if (!pthread_create(&t, NULL, one_allocation, NULL))
			pthread_join(t, NULL);
	}
	return NULL;
}

static void churn(void *opaque)
{
	pthread_t t;

	for (int i = 0; i < 3; i++)
		pthread_create(&t, NULL, creates_threads, NULL);
	begin();
	creates_threads(NULL);
}

static void threads_come_and_go(void)
{
	struct victim v;

	victim_fork(&v, churn, NULL);
	victim_line(&v);
	cycles(&v, 40, 40);
	end_well(&v);
}

extern char **environ;

static void *forks(void *opaque)
{
	static volatile unsigned int i;

	for (;; i++) {
		char *argv[] = { "true", NULL };
		pid_t pid = 0;

		switch (i % 3) {
		case 0:
			pid = fork();
			if (!pid) {
				allocate();
				_exit(0);
			}
			break;
		case 1:
			pid = vfork();
			if (!pid) {
				allocate();
				_exit(0);
			}
			break;
		case 2:
			if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
				_exit(8);
			break;
		}
		if (waitpid(pid, (int[]){ 0 }, 0) != pid)
			_exit(9);
	}
}

static void forker(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, forks, NULL);
	pthread_create(&t, NULL, spinner, NULL);
	begin();
	forks(NULL);
}

static void forks_and_vforks(void)
{
	struct victim v;

	victim_fork(&v, forker, NULL);
	victim_line(&v);
	cycles(&v, 40, 40);
	end_well(&v);
}

/* A vfork child that lives long: its parent can't be stopped, and runs nothing. */
static void long_vfork(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, spinner, NULL);
	begin();
	if (!vfork()) {
		for (;;)
			allocate();
	}
}

static void parent_in_vfork(void)
{
	struct victim v;
	char path[96];
	FILE *children;
	int child = 0;

	victim_fork(&v, long_vfork, NULL);
	victim_line(&v);
	usleep(50000);
	cycles(&v, 10, 10);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", v.pid, v.pid);
	children = fopen(path, "re");
	check(children && fscanf(children, "%d", &child) == 1, "where is its child?");
	fclose(children);
	check(!kill(child, 0), "the vfork child is dead");
	kill(child, SIGKILL);
	victim_end(&v);
}

/* --- states ------------------------------------------------------------------------------------- */

static void leaves_threads(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, spinner, NULL);
	pthread_create(&t, NULL, spinner, NULL);
	begin();
	while (!*(volatile int *)opaque)
		usleep(1000);
	pthread_exit(NULL);
}

static bool is_zombie(void *opaque)
{
	return victim_state(opaque) == 'Z';
}

static void zombie_leader(void)
{
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int err;

	victim_fork(&v, leaves_threads, (void *)shared);
	victim_line(&v);
	/* The image is planned while its /proc still shows everything. */
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	*shared = 1;
	check(wait_until(is_zombie, &v), "its main thread does not exit");
	err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
	if (err == -EOPNOTSUPP && strstr(why.text, "Linux 6.9")) {
		printf("zombie leader: %s\n", why.text);
	} else {
		check(!err, "%s (%d)", why.text, err);
		for (int i = 0; !image_hits(image) && i < 30000; i++)
			usleep(1000);
		check(image_hits(image), "no hits");
		must_replace(&v, image, NULL, NULL);
	}
	ub_image_free(image);
	victim_reap(&v);
	munmap((void *)shared, 4096);
}

static void stopped(void)
{
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	siginfo_t info;

	victim_start(&v, "-t", "4", "-d", "100", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	kill(v.pid, SIGSTOP);
	check(!waitid(P_PID, v.pid, &info, WSTOPPED), "it does not stop");
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	usleep(20000);
	check(victim_state(&v) == 'T', "attach woke it: state %c", victim_state(&v));
	check(!image_hits(image), "it runs");
	kill(v.pid, SIGCONT);
	for (int i = 0; !image_hits(image) && i < 30000; i++)
		usleep(1000);
	check(image_hits(image), "no hits after SIGCONT");
	kill(v.pid, SIGSTOP);
	check(!waitid(P_PID, v.pid, &info, WSTOPPED), "it does not stop again");
	must_replace(&v, image, NULL, NULL);
	usleep(20000);
	check(victim_state(&v) == 'T', "detach woke it: state %c", victim_state(&v));
	kill(v.pid, SIGCONT);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	ub_image_free(image);
	victim_end(&v);
}

/* --- restrictions ------------------------------------------------------------------------------- */

/* Kills for every call but those the spinner makes. */
static void sandbox(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_yield, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	allocate();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		_exit(9);
}

static void sandboxed(void *opaque)
{
	sandbox();
	(void)!write(STDOUT_FILENO, "ready\n", 6);
	for (;;) {
		allocate();
		sched_yield();
	}
}

static void sandboxed_nobody(void *opaque)
{
	if (setgid(65534) || setuid(65534))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	sandboxed(NULL);
}

static void under_seccomp(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int status, err;
	pid_t pid;

	victim_fork(&v, sandboxed, NULL);
	victim_line(&v);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	if (!geteuid()) {
		cycles(&v, 10, 10);
		ub_image_free(image);
		end_well(&v);
		/* And without privilege: a process of nobody's, by nobody. */
		victim_fork(&v, sandboxed_nobody, NULL);
		victim_line(&v);
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	}
	pid = fork();
	if (!pid) {
		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		err = ub_surgeon_replace(v.pid, -1, NULL, image, &result, &why);
		check(err == -EOPNOTSUPP && strstr(why.text, "seccomp"), "%s (%d)", why.text, err);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "unprivileged attach to a process under seccomp");
	ub_image_free(image);
	victim_end(&v);
}

static void sandboxed_later(void *opaque)
{
	if (!geteuid() && (setgid(65534) || setuid(65534)))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	begin();
	for (int i = 0; i < 1000; i++)
		allocate();
	/* Until somebody has attached. */
	while (!*(volatile int *)opaque)
		usleep(1000);
	sandbox();
	*(volatile int *)opaque = 2;
	for (;;) {
		allocate();
		sched_yield();
	}
}

static void seccomp_after_attach(void)
{
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct victim v;
	int status;
	pid_t pid;

	victim_fork(&v, sandboxed_later, (void *)shared);
	victim_line(&v);
	pid = fork();
	if (!pid) {
		struct ub_surgery result;
		struct ub_reason why = { "" };
		struct ub_image *image;
		int err;

		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		check(image, "no image");
		err = ub_surgeon_replace(v.pid, -1, NULL, image, &result, &why);
		check(!err, "attach: %s (%d)", why.text, err);
		*shared = 1;
		while (*shared != 2)
			usleep(1000);
		/* Bytes come back, the mapping must stay: our munmap would kill. */
		err = ub_surgeon_replace(v.pid, -1, image, NULL, &result, &why);
		check(!err && result.removal == UB_REMOVED_LATER, "detach: %s (%d, %d)", why.text, err,
		      result.removal);
		check(strstr(result.left.text, "seccomp"), "says '%s'", result.left.text);
		usleep(10000);
		{
			u64 hits = image_hits(image);

			usleep(20000);
			check(hits == image_hits(image), "it still counts");
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "detach from a process that sandboxed itself");
	/* Root can finish it. */
	if (!geteuid()) {
		struct ub_reason why = { "" };
		int err = ub_surgeon_repair(v.pid, &why);

		check(err >= 0, "repair: %s (%d)", why.text, err);
		end_well(&v);
	} else {
		victim_end(&v);
	}
	munmap((void *)shared, 4096);
}

static void no_descriptors(void *opaque)
{
	struct rlimit limit = { 64, 256 };

	setrlimit(RLIMIT_NOFILE, &limit);
	while (dup(0) >= 0)
		;
	begin();
	spinner(NULL);
}

static void full_descriptor_table(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	victim_fork(&v, no_descriptors, NULL);
	victim_line(&v);
	snapshot = before(&v, UB_RESIDUE_FULL);
	cycles(&v, 3, 3);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

static void locked(void *opaque)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		dprintf(STDOUT_FILENO, "cannot lock\n");
	else
		begin();
	spinner(NULL);
}

static void locked_memory(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	victim_fork(&v, locked, NULL);
	if (strcmp(victim_line(&v), "ready")) {
		printf("locked memory: not tried, mlockall() is not allowed\n");
		victim_reap(&v);
		return;
	}
	snapshot = before(&v, UB_RESIDUE_FULL);
	cycles(&v, 3, 3);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

static void as_nobody(void *opaque)
{
	if (setgid(65534) || setuid(65534))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	begin();
	spinner(NULL);
}

/* Everything without any privilege, and as root on somebody else's process. */
static void unprivileged(void)
{
	struct victim v;
	int status;
	pid_t pid;

	if (geteuid()) {
		printf("unprivileged: all of this is\n");
		return;
	}
	victim_fork(&v, as_nobody, NULL);
	victim_line(&v);
	pid = fork();
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(9);
		prctl(PR_SET_DUMPABLE, 1);
		cycles(&v, 10, 10);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "unprivileged");
	cycles(&v, 3, 3);
	end_well(&v);
}

/* --- many threads, many signals ----------------------------------------------------------------- */

static void many_threads(void)
{
	struct ub_residue *snapshot;
	struct ub_surgery in, out;
	struct ub_image *image;
	struct victim v;

	victim_start(&v, "-t", "1000", "-d", "20000", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	for (int i = 0; i < 3; i++) {
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		must_replace(&v, NULL, image, &in);
		for (int tries = 0; !image_hits(image) && tries < 30000; tries++)
			usleep(1000);
		check(image_hits(image), "no hits");
		check(in.nr_threads == 1001, "%u threads", in.nr_threads);
		must_replace(&v, image, NULL, &out);
		printf("1001 threads: pause in %.1f ms, out %.1f ms\n", in.pause_ns / 1e6, out.pause_ns / 1e6);
		ub_image_free(image);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

#define NR_QUEUED 20000

static _Atomic int nr_taken, nr_wrong;

static void on_queued(int signo, siginfo_t *info, void *context)
{
	static int expected[2];
	int i = signo - SIGRTMIN;

	/* Real-time signals come in order, each once, with what was sent. */
	if (info->si_code != SI_QUEUE || info->si_value.sival_int != expected[i])
		nr_wrong++;
	expected[i] = info->si_value.sival_int + 1;
	nr_taken++;
}

static void takes_signals(void *opaque)
{
	struct sigaction action = { .sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART };

	sigfillset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, NULL);
	sigaction(SIGRTMIN + 1, &action, NULL);
	begin();
	while (nr_taken < 2 * NR_QUEUED)
		allocate();
	dprintf(STDOUT_FILENO, "%d taken, %d wrong\n", nr_taken, nr_wrong);
	for (;;)
		pause();
}

static void signals_with_siginfo(void)
{
	const char *line;
	struct victim v;
	pid_t sender;

	victim_fork(&v, takes_signals, NULL);
	victim_line(&v);
	sender = fork();
	if (!sender) {
		for (int i = 0; i < 2 * NR_QUEUED; i++) {
			union sigval value = { .sival_int = i / 2 };

			while (sigqueue(v.pid, SIGRTMIN + i % 2, value))
				usleep(100);
			if (i % 20 == 0)
				usleep(200);
		}
		_exit(0);
	}
	while (!waitpid(sender, NULL, WNOHANG))
		cycles(&v, 1, 1);
	line = victim_line(&v);
	check(!strcmp(line, "40000 taken, 0 wrong"), "%s", line);
	end_well(&v);
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	{ "exec", exec_loops },
	{ "threads", threads_come_and_go },
	{ "forks", forks_and_vforks },
	{ "vfork", parent_in_vfork },
	{ "zombie-leader", zombie_leader },
	{ "stopped", stopped },
	{ "seccomp", under_seccomp },
	{ "seccomp-later", seccomp_after_attach },
	{ "descriptors", full_descriptor_table },
	{ "locked", locked_memory },
	{ "unprivileged", unprivileged },
	{ "signals", signals_with_siginfo },
	{ "many-threads", many_threads },
};

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "exec-loop"))
		exec_loop(atoi(argv[2]));
	for (u32 i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc > 1 && strcmp(argv[1], cases[i].name))
			continue;
		snprintf(test_case, sizeof(test_case), "%s", cases[i].name);
		cases[i].fn();
	}
	return 0;
}
