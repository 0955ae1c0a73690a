// SPDX-License-Identifier: MIT
/*
 * The child asks to be traced and executes the command. At the exec we put an int3 on the entry
 * point that the auxiliary vector names: the dynamic loader jumps there when all libraries are
 * mapped and relocated. Once it is reached, the instruction is put back and the tracer leaves with
 * a SIGSTOP, so that whoever attaches finds an untraced, stopped process. Should we be killed while
 * it waits, the kernel sends it SIGCONT.
 */
#include "spawn.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "symbol.h"

static void __attribute__((noreturn)) child(char *const *argv, int error_fd, pid_t parent)
{
	sigset_t none;
	int err;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGCONT);
	/* Else, where Yama lets only ancestors trace, the userspace kernel could not. */
	ub_client_allow_tracing();
	if (getppid() == parent && !ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		execvp(argv[0], argv);
	err = errno;
	(void)!write(error_fd, &err, sizeof(err));
	_exit(127);
}

static int entry_point(pid_t pid, u64 *entry)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	Elf64_auxv_t aux;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (read(fd, &aux, sizeof(aux)) == sizeof(aux) && aux.a_type != AT_NULL) {
		if (aux.a_type == AT_ENTRY) {
			*entry = aux.a_un.a_val;
			return 0;
		}
	}
	return -ENOENT;
}

/* Waits for the next ptrace stop. 0 and *sig, or -ECHILD if the process ended. */
static int wait_for_stop(pid_t pid, int *sig)
{
	int status;

	if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
		return -ECHILD;
	*sig = WSTOPSIG(status);
	return 0;
}

/* Runs the traced process from its exec to @entry. */
static int run_to(pid_t pid, u64 entry)
{
	struct user_regs_struct regs;
	int sig, err;
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, pid, entry, NULL);
	if (errno || ptrace(PTRACE_POKETEXT, pid, entry, (word & ~0xffL) | 0xcc))
		return -errno;
	sig = 0;
	for (;;) {
		if (ptrace(PTRACE_CONT, pid, NULL, sig))
			return -errno;
		err = wait_for_stop(pid, &sig);
		if (err)
			return err;
		if (sig != SIGTRAP)
			continue;
		if (ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			return -errno;
		if (regs.rip == entry + 1)
			break;
	}
	regs.rip = entry;
	if (ptrace(PTRACE_POKETEXT, pid, entry, word) || ptrace(PTRACE_SETREGS, pid, NULL, &regs))
		return -errno;
	return 0;
}

static int bring_to_entry(pid_t pid, struct ub_reason *why)
{
	char exe[64];
	u64 entry = 0;
	int sig, err;

	err = wait_for_stop(pid, &sig);
	if (err)
		return err;
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
	err = ub_elf_check(exe, NULL);
	if (err)
		return ub_reason_set(why, err, "it is not a 64-bit x86 program");
	err = entry_point(pid, &entry);
	if (!err)
		err = run_to(pid, entry);
	if (err)
		return err;
	if (ptrace(PTRACE_DETACH, pid, NULL, SIGSTOP) || waitpid(pid, &sig, WUNTRACED) != pid ||
	    !WIFSTOPPED(sig))
		return -ECHILD;
	return 0;
}

int ub_spawn_stopped(char *const *argv, pid_t *pid, struct ub_reason *why)
{
	_cleanup_close_ int read_end = -1;
	_cleanup_close_ int write_end = -1;
	pid_t parent = getpid(), started;
	struct ub_reason detail = { 0 };
	int pipe_fds[2], exec_err, err;
	char path[PATH_MAX];

	err = ub_client_find_program(argv[0], path, sizeof(path));
	if (err)
		return ub_reason_set(why, err, "cannot run %s: %s", argv[0],
				     err == -ENOENT && !strchr(argv[0], '/') ? "command not found"
									     : strerror(-err));
	if (pipe2(pipe_fds, O_CLOEXEC))
		return ub_reason_set(why, -errno, "cannot make a pipe: %s", strerror(errno));
	read_end = pipe_fds[0];
	write_end = pipe_fds[1];
	started = fork();
	if (started < 0)
		return ub_reason_set(why, -errno, "cannot fork: %s", strerror(errno));
	if (!started)
		child(argv, write_end, parent);
	close(TAKE_FD(write_end));
	if (read(read_end, &exec_err, sizeof(exec_err)) == sizeof(exec_err)) {
		waitpid(started, NULL, 0);
		return ub_reason_set(why, -exec_err, "cannot run %s: %s", argv[0],
				     strerror(exec_err));
	}
	err = bring_to_entry(started, &detail);
	if (err) {
		kill(started, SIGKILL);
		waitpid(started, NULL, __WALL);
		return ub_reason_set(why, err, "cannot stop %s at its start: %s", argv[0],
				     detail.text[0] ? detail.text : strerror(-err));
	}
	*pid = started;
	return 0;
}

void ub_spawn_resume(pid_t pid)
{
	kill(pid, SIGCONT);
}
