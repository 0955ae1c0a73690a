// SPDX-License-Identifier: MIT
/*
 * Whether the seccomp filters that a target shares with us (hook/filter.h) let pass what is done in targets: a child
 * of ours, under the same filters, does it first. A call that fails is no harm, here or there, and then says so
 * in its place; one that kills kills the child.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

struct call {
	const char *name;
	long nr;
	u64 args[6];
};

static int leave(void *opaque)
{
	syscall(SYS_exit, 0);
	return 0;
}

/* Each call with arguments as they are in targets, as far as a filter can see them; *@name is always the one that
 * is being made. */
static void perform(const char *volatile *name)
{
	static u8 page[4096] __attribute__((aligned(4096))), stack[16384];
	static s32 pair[2], tid;
	static u32 word;
	static struct stat stat;
	static struct timespec time;
	static char comm[16];
	const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };
	const pid_t pid = getpid();
	const struct call calls[] = {
		/* the surgeon's (helper.c, memory.c, cow.c, remote.c) */
		{ "socketpair",
		  SYS_socketpair,
		  { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (u64)pair } },
		{ "socket",
		  SYS_socket,
		  { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK } },
		{ "connect", SYS_connect, { ~0u, (u64)&unnamed, sizeof(unnamed) } },
		{ "recvmsg", SYS_recvmsg, { ~0u, 0, MSG_CMSG_CLOEXEC | MSG_DONTWAIT } },
		{ "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, ~0u } },
		{ "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ~0u } },
		{ "munmap", SYS_munmap, { 1, 4096 } },
		{ "madvise", SYS_madvise, { (u64)page, sizeof(page), MADV_DONTNEED } },
		{ "madvise", SYS_madvise, { (u64)page, sizeof(page), MADV_WIPEONFORK } },
		{ "close_range", SYS_close_range, { ~0u, ~0u } },
		{ "wait4", SYS_wait4, { (u64)pid, 0, __WALL } },
		/* those of programs (userspace-vm/helper, map) and agent */
		{ "getpid", SYS_getpid, { 0 } },
		{ "gettid", SYS_gettid, { 0 } },
		{ "getuid", SYS_getuid, { 0 } },
		{ "getgid", SYS_getgid, { 0 } },
		{ "newfstatat",
		  SYS_newfstatat,
		  { (u64)AT_FDCWD, (u64) "/proc/self/ns/pid", (u64)&stat } },
		{ "prctl", SYS_prctl, { PR_GET_NAME, (u64)comm } },
		{ "clock_gettime", SYS_clock_gettime, { CLOCK_MONOTONIC, (u64)&time } },
		{ "clock_getres", SYS_clock_getres, { CLOCK_MONOTONIC_COARSE, (u64)&time } },
		{ "futex", SYS_futex, { (u64)&word, FUTEX_WAKE, 1 } },
		{ "sched_yield", SYS_sched_yield, { 0 } },
		{ "process_vm_readv", SYS_process_vm_readv, { (u64)pid } },
		{ "process_vm_writev", SYS_process_vm_writev, { (u64)pid } },
		{ "kill", SYS_kill, { (u64)pid } },
		{ "tgkill", SYS_tgkill, { (u64)pid, (u64)pid } },
	};

	for (size_t i = 0; i < ub_array_size(calls); i++) {
		const u64 *a = calls[i].args;

		*name = calls[i].name;
		syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	*name = "clone";
	clone(leave, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID, NULL,
	      &tid);
	*name = NULL;
}

int ub_rehearse(struct ub_reason *why)
{
	const char *volatile *name = mmap(NULL, sizeof(*name), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *killer;
	pid_t child;

	if (name == MAP_FAILED)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	*name = "fork";
	child = fork();
	if (!child) {
		prctl(PR_SET_DUMPABLE, 0); /* no core file */
		perform(name);
		_exit(0);
	}
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	killer = *name;
	munmap((void *)name, sizeof(*name));
	if (!killer)
		return 0;
	return ub_reason_set(
		why, -EOPNOTSUPP,
		"the seccomp filter around us and the process kills for %s(2), which is needed "
		"in the process: allow it in the profile of the container",
		killer);
}
