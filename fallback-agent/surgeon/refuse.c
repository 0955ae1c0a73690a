/* SPDX-License-Identifier: MIT */
/*
 * What can't be operated on though it may be traced, and why, in one line each.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#define PF_KTHREAD 0x00200000

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

/*
 * Frozen by its control group, as all of a paused container is: it can be stopped but not made to run
 * anything, and nothing tells but where it sleeps. Linux has its second freezer's sleep in
 * do_freezer_trap(), which compilers make part of get_signal(), where nobody else sleeps in state S.
 */
static bool is_frozen(const char *proc, char state)
{
	char path[80], where[64];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/wchan", proc);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, where, sizeof(where) - 1);
	if (n < 0)
		return false;
	where[n] = '\0';
	return !strcmp(where, "__refrigerator") ||
	       (state == 'S' &&
		(!strcmp(where, "do_freezer_trap") || !strcmp(where, "get_signal")));
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
	err = ub_refuse_traced(pid, comm, why);
	if (err)
		return err;
	if (is_frozen(proc, state))
		return ub_reason_set(
			why, -EBUSY,
			"process %d (%s) is frozen by its control group (a paused container?): "
			"thaw it first",
			pid, comm);
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
