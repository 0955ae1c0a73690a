// SPDX-License-Identifier: MIT
/*
 * ubpf-container [-k NUMBER] CMD ARGS...: runs CMD as in a container of the usual engines: its own
 * pid, mount, network and IPC namespaces, the capabilities that are left to root there, and a
 * seccomp filter around all of it that answers what the engines forbid. -k: and kills for that
 * system call, as hardened profiles do. Exits with CMD's status; with 77, as a skipped test, where
 * it may not do that.
 *
 * What is forbidden are the calls that the default profiles of the engines leave out or tie to a
 * capability that a container lacks, as far as they matter to programs like ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif

static const int forbidden[] = {
	SYS_bpf,
	SYS_perf_event_open,
	SYS_kcmp,
	SYS_pidfd_getfd,
	SYS_process_madvise,
	SYS_unshare,
	SYS_setns,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_userfaultfd,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_reboot,
	SYS_init_module,
	SYS_finit_module,
	SYS_kexec_load,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_settimeofday,
	SYS_quotactl,
	SYS_acct,
	SYS_swapon,
	SYS_open_by_handle_at,
};

static const int kept[] = {
	CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,	     CAP_FOWNER,      CAP_MKNOD,
	CAP_NET_RAW, CAP_SETGID,       CAP_SETUID,	     CAP_SETFCAP,     CAP_SETPCAP,
	CAP_KILL,    CAP_SYS_CHROOT,   CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE,
};

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static void fail(const char *what)
{
	fprintf(stderr, "ubpf-container: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void install_filter(int killer)
{
	struct sock_filter filter[2 * LENGTH(forbidden) + 16], *f = filter;
	struct sock_fprog program = { .filter = filter };

#define LOAD(field)                                                                                \
	(*f++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                             \
					     offsetof(struct seccomp_data, field)))
#define UNLESS(value, skip)                                                                        \
	(*f++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip))
#define UNLESS_ANY(bits, skip)                                                                     \
	(*f++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, skip))
#define RETURN(action) (*f++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action))

	LOAD(nr);
	if (killer >= 0) {
		UNLESS((unsigned int)killer, 1);
		RETURN(SECCOMP_RET_KILL_PROCESS);
	}
	for (size_t i = 0; i < LENGTH(forbidden); i++) {
		UNLESS((unsigned int)forbidden[i], 1);
		RETURN(SECCOMP_RET_ERRNO | EPERM);
	}
	/* Its flags lie in memory: C libraries then fall back to clone(). */
	UNLESS(SYS_clone3, 1);
	RETURN(SECCOMP_RET_ERRNO | ENOSYS);
	UNLESS(SYS_clone, 3);
	LOAD(args[0]);
	UNLESS_ANY(NEW_NAMESPACES, 1);
	RETURN(SECCOMP_RET_ERRNO | EPERM);
	RETURN(SECCOMP_RET_ALLOW);
	program.len = (unsigned short)(f - filter);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		fail("seccomp");
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	for (size_t i = 0; i < LENGTH(kept); i++)
		data[kept[i] / 32].permitted |= 1u << kept[i] % 32;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (!(data[cap / 32].permitted & 1u << cap % 32) &&
		    prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			fail("capabilities");
	}
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted;
	if (syscall(SYS_capset, &header, data))
		fail("capabilities");
}

/* Process 1: whoever is left to it is buried, and with it all of them end. */
static int be_init(char **command)
{
	pid_t child = fork(), pid;
	int status;

	if (child < 0)
		fail("fork");
	if (!child) {
		execvp(command[0], command);
		fail(command[0]);
	}
	while ((pid = wait(&status)) != child) {
		if (pid < 0 && errno != EINTR)
			fail("wait");
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	int killer = -1, status, at = 1;
	pid_t init;

	if (argc > 3 && !strcmp(argv[1], "-k")) {
		killer = atoi(argv[2]);
		at = 3;
	}
	if (at >= argc) {
		fprintf(stderr, "usage: ubpf-container [-k NUMBER] CMD ARGS...\n");
		return 125;
	}
	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)) {
		printf("skip: namespaces of our own: %s\n", strerror(errno));
		return 77;
	}
	init = fork();
	if (init < 0)
		fail("fork");
	if (!init) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* In a chroot the root directory is no mount; /proc is enough. */
		if ((mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		     mount("none", "/proc", NULL, MS_PRIVATE, NULL)) ||
		    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) {
			printf("skip: a /proc of our own: %s\n", strerror(errno));
			return 77;
		}
		install_filter(killer);
		drop_capabilities();
		return be_init(argv + at);
	}
	while (waitpid(init, &status, 0) < 0) {
		if (errno != EINTR)
			fail("wait");
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
