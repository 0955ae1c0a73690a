/* SPDX-License-Identifier: MIT */
/*
 * Processes that make it hard: that execute, fork, vfork and create threads all the time, whose
 * main thread has exited, that are stopped, under a seccomp filter, out of descriptors, locked in
 * memory, of another user, or have a thousand threads.
 *
 *   test_inject_targets [CASE]
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <surgeon/target.h>

#include "inject.h"

/* --- helpers ------------------------------------------------------------------------------- */

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
		check(err == -ESRCH || err == -EBUSY || err == -EAGAIN, "attach: %s (%d)", why.text,
		      err);
		ub_image_free(image);
		return GONE;
	}
	for (int i = 0;; i++) {
		err = ub_surgeon_replace(v->pid, v->pidfd, image, NULL, &result, &why);
		check(!err, "detach: %s (%d)", why.text, err);
		if (result.removal != UB_REMOVED_LATER)
			break;
		check(i < 3000, "detach: %s", result.left.text);
		usleep(10000);
	}
	ub_image_free(image);
	return result.removal == UB_REMOVED_GONE ? GONE : DONE;
}

static void odd_start_unready(struct victim *v, const char *name)
{
	const char *argv[] = { victim_path("ubpf-odd-victim"), name, NULL };

	victim_exec(v, argv);
}

static void odd_start(struct victim *v, const char *name)
{
	odd_start_unready(v, name);
	check(!strcmp(victim_line(v), "ready"), "ubpf-odd-victim %s does not start", name);
}

static void end_well(struct victim *v)
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

static void cycles(struct victim *v, u32 nr, u32 must_be_done)
{
	u32 done = 0;

	for (u32 i = 0; i < nr || (done < must_be_done && i < 100 * nr); i++)
		done += once(v, "malloc") == DONE;
	check(done >= must_be_done, "only %u of %u cycles got through", done, nr);
}

/* --- executes ------------------------------------------------------------------------------ */

static void exec_loops(void)
{
	const char *argv[] = { victim_path("ubpf-odd-victim"), "exec", "150", NULL };
	struct victim v;
	u64 end;

	victim_exec(&v, argv);
	end = monotonic_ns() + 120000000000ull;
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

/* --- threads, forks, vforks ---------------------------------------------------------------- */

static void threads_come_and_go(void)
{
	struct victim v;

	odd_start(&v, "threads");
	cycles(&v, 40, 40);
	end_well(&v);
}

static void forks_and_vforks(void)
{
	struct victim v;

	odd_start(&v, "forks");
	cycles(&v, 40, 40);
	end_well(&v);
}

static pid_t only_child(pid_t parent)
{
	char path[96];
	FILE *children;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	children = fopen(path, "re");
	if (!children || fscanf(children, "%d", &child) != 1)
		child = 0;
	if (children)
		fclose(children);
	return child;
}

static bool has_child(void *opaque)
{
	return only_child(*(pid_t *)opaque) != 0;
}

/* The child for which the victim waits in vfork(). */
static pid_t vfork_child(struct victim *v)
{
	check(wait_until(has_child, &v->pid), "where is its child?");
	return only_child(v->pid);
}

static void long_vfork(void (*cycle)(struct victim *))
{
	struct victim v;
	pid_t child;

	odd_start(&v, "vfork");
	child = vfork_child(&v);
	cycle(&v);
	check(!kill(child, 0), "the vfork child is dead");
	kill(child, SIGKILL);
	victim_end(&v);
}

static void ten_cycles(struct victim *v)
{
	cycles(v, 10, 10);
}

static void parent_in_vfork(void)
{
	long_vfork(ten_cycles);
}

/* --- no kcmp ------------------------------------------------------------------------------- */

/* As a container's filter does. */
static void forbid_kcmp(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		      !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program),
	      "no filter: %s", strerror(errno));
	check(syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) < 0 && errno == EPERM,
	      "kcmp works nevertheless");
}

static int waits_forever(void *opaque)
{
	for (;;)
		syscall(SYS_pause);
	return 0;
}

static unsigned long dump_filter(pid_t pid)
{
	unsigned long filter = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/coredump_filter", pid);
	file = fopen(path, "re");
	check(file && fscanf(file, "%lx", &filter) == 1, "no %s", path);
	fclose(file);
	return filter;
}

/* Those who share memory, those who forked, and strangers. */
static void same_memory(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	const unsigned long filter = dump_filter(getpid());
	pid_t forked = fork(), shares, stranger = getppid();

	if (!forked)
		waits_forever(NULL);
	shares = clone(waits_forever, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	check(forked > 0 && shares > 0, "clone: %s", strerror(errno));
	check(ub_same_memory(getpid(), shares) == 1, "who shares the memory is not found");
	check(ub_same_memory(shares, getpid()) == 1, "nor the other way round");
	check(ub_same_memory(getpid(), forked) == 0, "who forked does not share the memory");
	check(ub_same_memory(shares, forked) == 0, "nor with its sharer");
	check(ub_same_memory(getpid(), stranger) <= 0, "nor a stranger");
	check(dump_filter(getpid()) == filter && dump_filter(forked) == filter,
	      "the filter of core dumps is another");
	kill(forked, SIGKILL);
	kill(shares, SIGKILL);
	check(waitpid(forked, NULL, 0) == forked && waitpid(shares, NULL, 0) == shares, "wait");
	check(ub_same_memory(getpid(), forked) == -ESRCH, "a process that is gone");
}

/* Nor may the filters of core dumps be written: what can't be told is refused, and only that. */
static void forbid_to_prove(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/coredump_filter", pid);
	check(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		      !mount(path, path, NULL, MS_BIND, NULL) &&
		      !mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL),
	      "cannot make %s unwritable: %s", path, strerror(errno));
}

static void end_vfork(struct victim *v, pid_t child)
{
	kill(child, SIGKILL);
	victim_end(v);
}

static void what_cannot_be_told(void)
{
	static char stack[65536] __attribute__((aligned(16))), more[1 << 20];
	pid_t forked = fork(), shares;
	struct ub_image *image;
	struct ub_reason why = { "" };
	struct ub_surgery result;
	struct victim v;
	int err;

	if (!forked)
		waits_forever(NULL);
	shares = clone(waits_forever, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	memset(more, 1, sizeof(more));
	forbid_to_prove(getpid());
	check(ub_same_memory(getpid(), shares) == -EPERM, "how can it know?");
	check(ub_same_memory(getpid(), forked) == 0, "we have grown since");
	kill(forked, SIGKILL);
	kill(shares, SIGKILL);
	check(waitpid(forked, NULL, 0) == forked && waitpid(shares, NULL, 0) == shares, "wait");

	odd_start(&v, "vfork");
	forked = vfork_child(&v);
	forbid_to_prove(v.pid);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
	check(err == -EPERM && strstr(why.text, "may share the memory"), "a vfork: %s (%d)",
	      why.text, err);
	ub_image_free(image);
	end_vfork(&v, forked);
}

/* A surgeon that is killed while a filter is turned: its caller turns it back. */
static void killed_while_turned(void)
{
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct ub_surgery result;
	unsigned long filter;
	struct victim v;
	pid_t child;
	int err;

	odd_start(&v, "vfork");
	child = vfork_child(&v);
	filter = dump_filter(v.pid);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	ub_fault_set(UB_FAULT_KILL_SURGEON, "sharing", 1);
	err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
	ub_fault_set(UB_FAULT_NONE, "", 0);
	check(err == -EINTR, "not killed: %s (%d)", why.text, err);
	check(dump_filter(v.pid) == filter, "the filter of core dumps is another");
	ub_image_free(image);
	end_vfork(&v, child);
}

static void forked_without_kcmp(void (*run)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		forbid_kcmp();
		run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "without kcmp");
}

/* The victim was started without that filter. */
static void cycles_without_kcmp(struct victim *v)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		forbid_kcmp();
		same_memory();
		cycles(v, 10, 10);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "without kcmp");
}

static void without_kcmp(void)
{
	struct victim v;

	same_memory();
	long_vfork(cycles_without_kcmp);
	odd_start(&v, "forks");
	cycles_without_kcmp(&v);
	end_well(&v);
	forked_without_kcmp(killed_while_turned);
	if (!geteuid()) /* may mount */
		forked_without_kcmp(what_cannot_be_told);
}

/* --- states -------------------------------------------------------------------------------- */

static bool is_zombie(void *opaque)
{
	return victim_state(opaque) == 'Z';
}

static void zombie_leader(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start(&v, "leader-exits");
	/* The image is planned while its /proc still shows everything. */
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	victim_tell(&v, "exit");
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

/* --- restrictions -------------------------------------------------------------------------- */

static void under_seccomp(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int status, err;
	pid_t pid;

	odd_start(&v, "sandboxed");
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	if (!geteuid()) {
		cycles(&v, 10, 10);
		ub_image_free(image);
		end_well(&v);
		/* And without privilege: a process of nobody's, by nobody. */
		odd_start_unready(&v, "sandboxed-nobody");
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

static void seccomp_after_attach(void)
{
	struct victim v;
	int status;
	pid_t pid;

	odd_start(&v, "sandboxed-later");
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
		check(!strcmp(victim_ask(&v, "go"), "sandboxed"), "it does not sandbox itself");
		/* Bytes come back, the mapping must stay: our munmap would kill. */
		err = ub_surgeon_replace(v.pid, -1, image, NULL, &result, &why);
		check(!err && result.removal == UB_REMOVED_LATER, "detach: %s (%d, %d)", why.text,
		      err, result.removal);
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
		int err = ub_surgeon_repair(v.pid, false, &why);

		check(err >= 0, "repair: %s (%d)", why.text, err);
		end_well(&v);
	} else {
		victim_end(&v);
	}
}

static void full_descriptor_table(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	odd_start(&v, "no-descriptors");
	snapshot = before(&v, UB_RESIDUE_FULL);
	cycles(&v, 3, 3);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

static void locked_memory(void)
{
	struct ub_residue *snapshot;
	struct victim v;

	odd_start_unready(&v, "locked");
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
	odd_start(&v, "nobody");
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

/* Fails at once, and not by trying again and again. */
static void locked_to_the_limit(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start_unready(&v, "locked-to-the-limit");
	if (strcmp(victim_line(&v), "ready") || strcmp(victim_line(&v), "locked")) {
		printf("locked to the limit: not tried, mlockall() is not allowed\n");
		victim_reap(&v);
		return;
	}
	snapshot = before(&v, UB_RESIDUE_FULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	check(image, "no image");
	err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
	check(err == -ENOMEM && strstr(why.text, "mlockall"), "%s (%d)", why.text, err);
	ub_image_free(image);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

/* The main stack looks free from the stack pointer that its thread has now. */
static void deep_stack(void)
{
	struct victim v;

	odd_start(&v, "deep-stack");
	cycles(&v, 5, 5);
	victim_tell(&v, "go");
	check(!strcmp(victim_line(&v), "0 wrong"), "its stack was written to");
	end_well(&v);
}

/* The filter is not the main thread's, and that one can't work for us. */
static void sandboxed_thread(void)
{
	struct victim v;

	odd_start(&v, "sandboxed-thread");
	cycles(&v, 10, 10);
	end_well(&v);
}

/* What we suspend for calls of ours, the target's own are under all the same. */
static void sandbox_holds(void)
{
	const char *line;
	struct victim v;

	if (geteuid()) {
		printf("sandbox-holds: not tried, only root may suspend filters\n");
		return;
	}
	odd_start(&v, "forbidden-calls");
	cycles(&v, 100, 10);
	victim_tell(&v, "go");
	line = victim_line(&v);
	check(!strcmp(line, "0 escaped"), "%s", line);
	end_well(&v);
}

/* A frame that nobody will return by does not keep the image there. */
static void stale_frame(void)
{
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	char path[64];
	u64 ip = 0, address;
	int mem;

	odd_start_unready(&v, "stale-frame");
	check(sscanf(victim_line(&v), "%lx", &address) == 1, "it does not say where its frame is");
	snapshot = before(&v, UB_RESIDUE_FULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_CODE)
			ip = image->parts[i].address + image->parts[i].size - 1;
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	check(ip && pwrite(mem, &ip, sizeof(ip), (off_t)address) == sizeof(ip), "its frame: %m");
	must_replace(&v, image, NULL, NULL);
	close(mem);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	ub_image_free(image);
	end_well(&v);
}

/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG is there since Linux 6.4. */
static bool can_ask_for_dispatch(pid_t pid)
{
	u64 configuration[4];
	bool can;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
	    waitpid(pid, NULL, __WALL) != pid)
		return false;
	can = !ptrace(0x4211, pid, sizeof(configuration), configuration);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return can;
}

/* Our system calls would be its SIGSYS, which it does not survive. */
static void dispatched(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start_unready(&v, "dispatched");
	if (strcmp(victim_line(&v), "ready") || !can_ask_for_dispatch(v.pid)) {
		printf("dispatched: not tried, this kernel has no system call dispatch\n");
		victim_reap(&v);
		return;
	}
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	check(image, "no image");
	/* It says ready before it blocks its system calls. */
	for (int i = 0; i < 3000; i++) {
		err = ub_surgeon_replace(v.pid, v.pidfd, NULL, image, &result, &why);
		if (err == -EOPNOTSUPP)
			break;
		check(!err, "%s (%d)", why.text, err);
		err = ub_surgeon_replace(v.pid, v.pidfd, image, NULL, &result, &why);
		check(!err, "%s (%d)", why.text, err);
		usleep(10000);
	}
	check(err == -EOPNOTSUPP && strstr(why.text, "dispatcher"), "%s (%d)", why.text, err);
	check(victim_alive(&v) && victim_state(&v) == 'R', "it died");
	ub_image_free(image);
	victim_reap(&v);
}

/* --- libraries that come and go ------------------------------------------------------------ */

static void ask(struct victim *v, const char *command)
{
	check(!strcmp(victim_ask(v, command), command), "it does not %s", command);
}

static struct ub_image *cbrt_image(struct victim *v, const struct ub_image *current)
{
	static void *library;
	Dl_info info;

	if (!library)
		library = dlopen("libm.so.6", RTLD_NOW);
	check(library && dladdr(dlsym(library, "cbrt"), &info), "where is libm?");
	return image_of(v->pid, current, info.dli_fname, "cbrt", NULL);
}

static void must_hit(struct victim *v, struct ub_image *image)
{
	u64 hits = image_hits(image);

	ask(v, "call");
	check(image_hits(image) == hits + 10, "%lu hits of 10", image_hits(image) - hits);
}

static void libraries_come_and_go(void)
{
	struct ub_image *image, *next;
	struct ub_residue *snapshot;
	struct victim v;

	odd_start(&v, "libraries");
	ask(&v, "open");
	ask(&v, "call");
	ask(&v, "close");
	snapshot = before(&v, UB_RESIDUE_FULL);

	ask(&v, "open");
	image = cbrt_image(&v, NULL);
	must_replace(&v, NULL, image, NULL);
	must_hit(&v, image);
	/* Unloaded: a change takes no notice of what was there. */
	ask(&v, "close");
	next = image_of(v.pid, image, NULL, "free", NULL);
	must_replace(&v, image, next, NULL);
	ub_image_free(image);
	/* Loaded again: hooked again. */
	ask(&v, "open");
	image = cbrt_image(&v, next);
	must_replace(&v, next, image, NULL);
	ub_image_free(next);
	must_hit(&v, image);
	/* Loaded again behind our back, most likely at the same place. */
	ask(&v, "close");
	ask(&v, "open");
	next = cbrt_image(&v, image);
	must_replace(&v, image, next, NULL);
	ub_image_free(image);
	must_hit(&v, next);
	/* And taken out of a library that is not there. */
	ask(&v, "close");
	must_replace(&v, next, NULL, NULL);
	ub_image_free(next);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

/* --- many threads, many signals ------------------------------------------------------------ */

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
		printf("1001 threads: pause in %.1f ms, out %.1f ms\n", in.pause_ns / 1e6,
		       out.pause_ns / 1e6);
		ub_image_free(image);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

static void many_probes(void)
{
	struct ub_residue *snapshot;
	struct ub_surgery in, out;
	struct ub_image *image;
	struct victim v;

	victim_start(&v, "-t", "8", "-d", "100", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	for (int i = 0; i < 3; i++) {
		image = image_of_many(v.pid, 1000);
		must_replace(&v, NULL, image, &in);
		for (int tries = 0; !image_hits(image) && tries < 30000; tries++)
			usleep(1000);
		check(image_hits(image), "no hits");
		must_replace(&v, image, NULL, &out);
		printf("1000 probes: pause in %.2f ms, out %.2f ms\n", in.pause_ns / 1e6,
		       out.pause_ns / 1e6);
		ub_image_free(image);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

#define NR_QUEUED  20000 /* of each of two signals, as tests/lib/odd.c expects */
#define NR_PENDING 500 /* at most: the kernel looks through all of them for each that it delivers */

static bool has_taken_all(void *opaque)
{
	struct victim *v = opaque;
	char proc[32];
	u64 pending = 0;

	snprintf(proc, sizeof(proc), "/proc/%d", v->pid);
	return ub_proc_status(proc, "ShdPnd", 16, &pending) || !pending;
}

static void signals_with_siginfo(void)
{
	const char *line;
	struct victim v;
	pid_t sender;

	odd_start(&v, "signals");
	sender = fork();
	if (!sender) {
		for (int i = 0; i < 2 * NR_QUEUED; i++) {
			union sigval value = { .sival_int = i / 2 };

			while (sigqueue(v.pid, SIGRTMIN + i % 2, value))
				usleep(100);
			if (i % 20 == 0)
				usleep(200);
			if (i % NR_PENDING == 0 && !wait_until(has_taken_all, &v))
				_exit(1);
		}
		_exit(0);
	}
	while (waitpid(sender, NULL, WNOHANG) == 0)
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
