/* SPDX-License-Identifier: MIT */
/*
 * What can't be operated on, and why, in one line each: what is wrong, whose it is, what would
 * help.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <common/cleanup.h>
#include <surgeon/surgeon.h>
#include <surgeon/target.h>

#define PF_KTHREAD 0x00200000

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

static int refuse_32_bit(pid_t pid, const char *comm, struct ub_reason *why)
{
	char path[64];
	_cleanup_close_ int fd = -1;
	Elf64_Ehdr header;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG))
		return 0;
	if (header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_machine == EM_X86_64)
		return 0;
	return ub_reason_set(why, -EOPNOTSUPP,
			     "process %d (%s) is a 32-bit program; only 64-bit x86-64 programs are "
			     "supported by the userspace backend",
			     pid, comm);
}

static int refuse_traced(pid_t pid, const char *comm, struct ub_reason *why)
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
	refused = refuse_traced(tid, comm, why);
	if (refused)
		return refused;
	if (err == EPERM || err == EACCES)
		return refuse_permission(pid, comm, why);
	return ub_reason_set(why, -err, "process %d (%s) cannot be traced: %s", pid, comm,
			     strerror(err));
}

int ub_refuse(pid_t pid, int pidfd, struct ub_reason *why)
{
	char proc[64], comm[32], stat[UB_PROC_STAT_MAX], state;
	struct ub_target probe = { .mem = -1 };
	u64 flags, nr_threads = 1;
	int err;

	if (pid <= 0)
		return ub_reason_set(why, -EINVAL, "%d is not a process id", pid);
	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_stat_read(proc, stat))
		return ub_reason_set(why, -ESRCH, "no process with pid %d", pid);
	state = *ub_proc_stat_field(stat, UB_PROC_STAT_STATE);
	flags = strtoull(ub_proc_stat_field(stat, UB_PROC_STAT_FLAGS), NULL, 10);
	ub_proc_comm(pid, comm);
	if (pid == getpid())
		return ub_reason_set(
			why, -EINVAL,
			"process %d (%s) is the one that does the tracing: it cannot be "
			"its own target",
			pid, comm);
	if (flags & PF_KTHREAD)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "process %d (%s) is a kernel thread: it has no user code", pid,
				     comm);
	if (state == 'X' ||
	    (state == 'Z' && (ub_proc_status(proc, "Threads", 10, &nr_threads) || nr_threads <= 1)))
		return ub_reason_set(
			why, -ESRCH,
			"process %d (%s) is a zombie: it has exited and waits for its parent", pid,
			comm);
	ub_surgeon_await(pid);
	err = refuse_traced(pid, comm, why);
	if (err)
		return err;
	err = ub_target_open(&probe, pid, pidfd, why);
	if (err)
		return err;
	err = refuse_32_bit(probe.alive, comm, why);
	ub_target_close(&probe);
	return err;
}

/* Where @site lies, for people: "libc.so.6+0x8e2a0". */
static void describe_site(struct ub_target *t, const struct ub_site *site, char *text, size_t size)
{
	const struct ub_mapping *m;
	const char *name = "", *slash;

	if (!t->nr_mappings && ub_target_read_mappings(t))
		t->nr_mappings = 0;
	m = ub_target_mapping(t, site->address);
	if (m)
		name = ub_mapping_name(t, m);
	slash = strrchr(name, '/');
	snprintf(text, size, "%s+0x%lx", slash ? slash + 1 : name, site->offset);
}

int ub_refuse_bytes(struct ub_target *t, const struct ub_site *site, const u8 *found,
		    struct ub_reason *why)
{
	char where[160], bytes[3 * UB_SITE_BYTES + 1];
	const struct ub_mapping *m;
	u64 target;
	s32 rel;

	describe_site(t, site, where, sizeof(where));
	for (u32 i = 0; i < site->len; i++)
		sprintf(bytes + 3 * i, "%02x ", found[i]);
	for (u32 i = 0; i < site->len; i++) {
		if (found[i] == 0xcc && site->old[i] != 0xcc)
			return ub_reason_set(
				why, -EBUSY,
				"%s in process %d holds a breakpoint (int3) that is not ours: a kernel "
				"uprobe or a debugger is there; remove it first, or use --kernel",
				where, t->pid);
	}
	if (found[0] == 0xe8 && site->len >= 5) {
		memcpy(&rel, found + 1, 4);
		target = site->address + 5 + rel;
		m = ub_target_mapping(t, target);
		if (m && !strcmp(ub_mapping_name(t, m), "[uprobes]"))
			return ub_reason_set(
				why, -EBUSY,
				"%s in process %d is held by an optimised kernel uprobe; remove it "
				"first, or use --kernel",
				where, t->pid);
	}
	return ub_reason_set(
		why, -EBUSY,
		"%s in process %d differs from its file and is not ours (found %s): somebody "
		"else patched it",
		where, t->pid, bytes);
}
