/* SPDX-License-Identifier: MIT */
/* Who shares a process's memory is found where kcmp(2) is forbidden, too, or it is refused. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <surgeon/target.h>

#include "targets.h"

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

void without_kcmp(void)
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
