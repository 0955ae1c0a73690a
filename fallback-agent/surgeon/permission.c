// SPDX-License-Identifier: MIT
/*
 * Who may be traced, and by whom: why a process can't be seized, in one line each. What is wrong,
 * whose it is, what would help.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

void ub_proc_comm(pid_t pid, char comm[32])
{
	char path[64];
	_cleanup_close_ int fd = -1;
	ssize_t n = -1;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, comm, 31);
	if (n <= 0) {
		strcpy(comm, "?");
		return;
	}
	comm[n] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
}

bool ub_have_capability(int capability)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &header, data))
		return false;
	return data[capability / 32].effective & (1u << (capability % 32));
}

static void user_name(uid_t uid, char name[64])
{
	char buffer[1024];
	struct passwd entry, *found = NULL;

	if (!getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) && found)
		snprintf(name, 64, "%s", entry.pw_name);
	else
		snprintf(name, 64, "uid %u", uid);
}

int ub_refuse_traced(pid_t pid, const char *comm, struct ub_reason *why)
{
	char proc[64], tracer_comm[32];
	u64 tracer = 0;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_status(proc, "TracerPid", 10, &tracer) || !tracer)
		return 0;
	ub_proc_comm(tracer, tracer_comm);
	return ub_reason_set(why, -EBUSY,
			     "process %d (%s) is already traced by %s (pid %lu): detach that first",
			     pid, comm, tracer_comm, tracer);
}

/* A daemon, guard or loader, perhaps another user's; who only calls himself so gains a little
 * patience. */
bool ub_is_traced_by_ours(pid_t pid)
{
	static const char *const ours[] = { "ubpf-daemon", "ubpf-guard", "ubpf-run" };
	char proc[64], comm[32];
	u64 tracer = 0;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_status(proc, "TracerPid", 10, &tracer) || !tracer)
		return false;
	ub_proc_comm(tracer, comm);
	for (u32 i = 0; i < ub_array_size(ours); i++) {
		if (!strcmp(comm, ours[i]))
			return true;
	}
	return false;
}

void ub_surgeon_await(pid_t pid)
{
	enum { PATIENCE_MS = 3000, PAUSE_MS = 2 };
	const struct timespec pause = { 0, PAUSE_MS * 1000000 };

	for (int ms = 0; ms < PATIENCE_MS && ub_is_traced_by_ours(pid); ms += PAUSE_MS)
		nanosleep(&pause, NULL);
}

static int yama_scope(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	if (!file || fscanf(file, "%d", &scope) != 1)
		return 0;
	return scope;
}

static int refuse_permission(pid_t pid, const char *comm, struct ub_reason *why)
{
	char proc[64], file[64], owner[64], me[64];
	u64 uid = 0, caps = 0;
	struct stat st;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	snprintf(file, sizeof(file), "/proc/%d/stat", pid);
	if (ub_proc_status(proc, "Uid", 10, &uid) || stat(file, &st))
		return ub_reason_set(why, -ESRCH, "process %d is gone", pid);
	user_name(uid, owner);
	user_name(geteuid(), me);
	if (uid != geteuid())
		return ub_reason_set(
			why, -EPERM,
			"process %d (%s) belongs to %s and you are %s: run this as root%s%s", pid,
			comm, owner, me, uid ? " or as " : "", uid ? owner : "");
	if (st.st_uid != uid) /* the files, not the directory, become root's */
		return ub_reason_set(
			why, -EPERM,
			"process %d (%s) is not dumpable (it is setuid, or made itself so with "
			"prctl): only root may trace it",
			pid, comm);
	if (yama_scope() == 1)
		return ub_reason_set(
			why, -EPERM,
			"process %d (%s) may not be traced because kernel.yama.ptrace_scope is 1: "
			"start the program with 'ubpf-run run PROGRAM -- CMD', or as root set it to 0",
			pid, comm);
	if (yama_scope() > 1)
		return ub_reason_set(
			why, -EPERM,
			"process %d (%s) may not be traced because kernel.yama.ptrace_scope is "
			"%d: only root may, if anybody",
			pid, comm, yama_scope());
	if (!ub_proc_status(proc, "CapPrm", 16, &caps) && caps)
		return ub_reason_set(
			why, -EPERM,
			"process %d (%s) has capabilities that you lack: run this as root", pid,
			comm);
	return ub_reason_set(
		why, -EPERM,
		"process %d (%s) may not be traced by %s (a security module or container "
		"forbids it): run this as root or add CAP_SYS_PTRACE",
		pid, comm, me);
}

int ub_refuse_seize(pid_t pid, pid_t tid, int err, struct ub_reason *why)
{
	char comm[32];
	int refused;

	if (err == ESRCH || err == ENOENT)
		return ub_reason_set(why, -ESRCH, "process %d is gone", pid);
	ub_proc_comm(pid, comm);
	refused = ub_refuse_traced(tid, comm, why);
	if (refused)
		return refused;
	if (err == EPERM || err == EACCES)
		return refuse_permission(pid, comm, why);
	return ub_reason_set(why, -err, "process %d (%s) cannot be traced: %s", pid, comm,
			     strerror(err));
}
