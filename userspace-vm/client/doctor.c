// SPDX-License-Identifier: MIT
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "filter.h"

/* Read by other processes: is it the same there? */
static const volatile int landmark = 0x5eed;

/* --- tried in a process that is neither parent nor child of the other
 * ------------------------------- */

static int try_seize(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid)
		return -errno;
	return ptrace(PTRACE_DETACH, pid, 0, 0) ? -errno : 0;
}

static int try_read(pid_t pid)
{
	int value = 0;
	struct iovec here = { &value, sizeof(value) };
	struct iovec there = { (void *)&landmark, sizeof(landmark) };

	if (process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof(value))
		return -errno;
	return value == landmark ? 0 : -EIO;
}

static int try_getfd(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int fd;

	if (pidfd < 0)
		return -errno;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);
	/* EBADF: standard input is closed there, but we were allowed to ask. */
	return fd >= 0 || errno == EBADF ? 0 : -errno;
}

static int try_write_text(pid_t pid)
{
	char path[64];
	u8 byte;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pread(fd, &byte, 1, (off_t)(uintptr_t)try_write_text) != 1 ||
	    pwrite(fd, &byte, 1, (off_t)(uintptr_t)try_write_text) != 1)
		return -errno;
	return 0;
}

/* Runs @try in one child on another. Its answer. */
static int between_siblings(int (*try)(pid_t pid))
{
	pid_t victim = fork(), actor;
	int status = 0;

	if (victim == 0) {
		for (;;)
			pause();
	}
	if (victim < 0)
		return -errno;
	actor = fork();
	if (actor == 0)
		_exit(-try(victim) & 0xff);
	if (actor > 0)
		waitpid(actor, &status, 0);
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	if (actor < 0)
		return -EAGAIN;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* --- findings ------------------------------------------------------------------------------------
 */

static int yama_scope(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	return file && fscanf(file, "%d", &scope) == 1 ? scope : 0;
}

static void find_ptrace(struct ub_finding *finding)
{
	int err = between_siblings(try_seize);
	int scope = yama_scope();

	finding->what = "tracing other processes of this user";
	if (!err)
		return;
	finding->health = scope == 1 ? UB_HEALTH_LIMITED : UB_HEALTH_FAILS;
	snprintf(finding->why, sizeof(finding->why), "ptrace: %s%s", strerror(-err),
		 scope == 1  ? "; Yama lets a process be traced by its ancestors only"
		 : scope > 1 ? "; Yama forbids it"
			     : "");
	snprintf(
		finding->advice, sizeof(finding->advice), "%s",
		scope == 1
			? "programs that ubpf-run starts (run PROGRAM -- CMD) can be attached to; for "
			  "any other: sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE"
		: scope > 1
			? "sysctl kernel.yama.ptrace_scope=0 (3 lasts until reboot)"
			: "in a container: run it with --cap-add=SYS_PTRACE, or a seccomp profile "
			  "that allows ptrace");
}

static void find_read(struct ub_finding *finding)
{
	int err = between_siblings(try_read);

	finding->what = "reading a client's memory";
	if (!err)
		return;
	finding->health = UB_HEALTH_LIMITED;
	snprintf(finding->why, sizeof(finding->why), "process_vm_readv: %s", strerror(-err));
	snprintf(finding->advice, sizeof(finding->advice),
		 "ubpf-run's own commands copy for the daemon; tools under exec need what tracing "
		 "needs");
}

static void find_getfd(struct ub_finding *finding)
{
	int err = between_siblings(try_getfd);

	finding->what = "files of other processes (pidfd_getfd)";
	if (!err)
		return;
	finding->health = UB_HEALTH_FAILS;
	snprintf(finding->why, sizeof(finding->why), "pidfd_getfd: %s", strerror(-err));
	snprintf(finding->advice, sizeof(finding->advice), "%s",
		 err == -ENOSYS ? "Linux 5.6 or later is needed" : "as for tracing");
}

static void find_text(struct ub_finding *finding)
{
	int err = between_siblings(try_write_text);

	finding->what = "writing another process's code";
	if (!err)
		return;
	finding->health = UB_HEALTH_LIMITED;
	snprintf(finding->why, sizeof(finding->why), "/proc/PID/mem: %s", strerror(-err));
	snprintf(finding->advice, sizeof(finding->advice),
		 "PTRACE_POKEDATA is used where it works (proc_mem.force_override=ptrace does)");
}

static void find_executable_memory(struct ub_finding *finding)
{
	_cleanup_close_ int fd = memfd_create("ubpf-run:doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at = MAP_FAILED;

	finding->what = "executable memory from a memfd";
	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (at != MAP_FAILED) {
		munmap(at, 4096);
		return;
	}
	finding->health = UB_HEALTH_FAILS;
	snprintf(finding->why, sizeof(finding->why), "memfd_create, mmap(PROT_EXEC): %s",
		 strerror(errno));
	snprintf(finding->advice, sizeof(finding->advice),
		 "a security module (SELinux execmem, a noexec /dev/shm policy) forbids it");
}

static void find_listener(struct ub_finding *finding)
{
	struct ub_reason why = {};
	int err = ub_filter_probe(&why);

	finding->what = "system calls of tools (seccomp listener)";
	if (!err)
		return;
	finding->health = UB_HEALTH_LIMITED;
	snprintf(finding->why, sizeof(finding->why), "%.390s", why.text);
	snprintf(finding->advice, sizeof(finding->advice),
		 "exec preloads a library instead: that reaches dynamically linked tools only");
}

static void find_daemon(struct ub_finding *finding)
{
	_cleanup_free_ char *answer = NULL;
	struct ub_reason why = {};
	char dir[PATH_MAX];
	int err;

	finding->what = "the userspace kernel's daemon";
	err = ub_client_run_dir(dir, sizeof(dir), &why);
	if (!err)
		err = ub_client_ask("{\"cmd\":\"ping\"}", &answer, &why);
	if (!err) {
		snprintf(finding->why, sizeof(finding->why), "running, at %.300s/socket", dir);
	} else if (err == -ENOENT) {
		snprintf(finding->why, sizeof(finding->why),
			 "not running; the first session starts it, at %.300s/socket", dir);
	} else {
		finding->health = UB_HEALTH_FAILS;
		snprintf(finding->why, sizeof(finding->why), "%.390s", why.text);
		snprintf(finding->advice, sizeof(finding->advice),
			 "end it (it is a process named ubpf-daemon of yours), or name another run "
			 "directory in UBPF_RUN_DIR");
	}
}

u32 ub_client_doctor(struct ub_finding findings[UB_MAX_FINDINGS])
{
	static void (*const finders[])(struct ub_finding * finding) = {
		find_ptrace,   find_text,   find_executable_memory, find_getfd, find_read,
		find_listener, find_daemon,
	};

	for (size_t i = 0; i < ub_array_size(finders); i++) {
		findings[i] = (struct ub_finding) {};
		finders[i](&findings[i]);
	}
	return ub_array_size(finders);
}
