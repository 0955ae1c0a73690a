// SPDX-License-Identifier: MIT
/* Helpers that say who runs and where. Freestanding. */
#include <helper/internal.h>

#include <map/array.h>

#define PR_GET_NAME 16
#define COMM_LEN    16
#define AT_FDCWD    (-100)

/* In a child that fork made of the process that the image was built for. */
static bool is_forked(const struct ub_process *process)
{
	return process->fork_page && *(const volatile u64 *)process->fork_page != 1;
}

u32 ub_run_tid(struct ub_run *run)
{
	const struct ub_process *process = run ? run->process : NULL;

	if (process && process->tid_offset && !process->vm_sharers && !is_forked(process)) {
		u64 base = ub_run_fs_base(run);

		if (base)
			return *(const volatile u32 *)(base + (u64)process->tid_offset);
	}
	return (u32)sys_call(run, SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/*
 * The fork page: word 0 is 1 in the process that it was made for, and zeroed in forked children;
 * word 1 is a child's own tgid once it was asked for (word 0 is 2 then). From KNOWN_AT on, threads
 * that are known to be of this process, by tid: who is not among them may be a child of vfork(2) or
 * clone(CLONE_VM), which runs in the same memory with another tgid.
 */
#define KNOWN_AT 64
#define NR_KNOWN ((4096 - KNOWN_AT) / sizeof(u32))

static bool is_known(const struct ub_process *process, u32 tid)
{
	u32 *known = (u32 *)(process->fork_page + KNOWN_AT);

	return process->fork_page &&
	       __atomic_load_n(&known[tid % NR_KNOWN], __ATOMIC_RELAXED) == tid;
}

static void remember(const struct ub_process *process, u32 tid)
{
	u32 *known = (u32 *)(process->fork_page + KNOWN_AT);

	if (process->fork_page)
		__atomic_store_n(&known[tid % NR_KNOWN], tid, __ATOMIC_RELAXED);
}

/* The tgid of a process that forked from the one that the image was built for. */
static u32 forked_tgid(const struct ub_process *process, struct ub_run *run)
{
	volatile u64 *page = (volatile u64 *)process->fork_page;

	if (page[0] != 2) {
		long pid = sys_call(run, SYS_getpid, 0, 0, 0, 0, 0, 0);

		if (pid <= 0)
			return (u32)process->tgid_pid;
		page[1] = (u64)pid;
		__atomic_store_n((u64 *)&page[0], 2, __ATOMIC_RELEASE);
	}
	return (u32)page[1];
}

/* The tgid of thread @tid, the caller; @as_seen: in its own pid namespace rather than the client's.
 */
static u32 run_tgid(struct ub_run *run, u32 tid, bool as_seen)
{
	const struct ub_process *process = run ? run->process : NULL;
	u32 own = process && process->own_tgid ? process->own_tgid
		  : process		       ? (u32)process->tgid_pid
					       : 0;
	long pid = 0;

	if (!process)
		return (u32)sys_call(run, SYS_getpid, 0, 0, 0, 0, 0, 0);
	if (is_forked(process))
		own = forked_tgid(process, run);
	if (tid != own && (s32)tid > 0 && !(process->tid_offset && !process->vm_sharers) &&
	    !is_known(process, tid)) {
		pid = sys_call(run, SYS_getpid, 0, 0, 0, 0, 0, 0);
		if (pid == own)
			remember(process, tid);
		else if (pid > 0)
			return (u32)pid;
	}
	return as_seen || is_forked(process) ? own : (u32)process->tgid_pid;
}

/* What process_vm_readv(2) may be given for this process. */
u32 ub_run_own_pid(struct ub_run *run)
{
	const struct ub_process *process = run ? run->process : NULL;

	/* Any process that shares the memory will do, as long as it lives. */
	if (!process || !process->own_tgid || process->vm_sharers)
		return (u32)sys_call(run, SYS_getpid, 0, 0, 0, 0, 0, 0);
	return is_forked(process) ? forked_tgid(process, run) : process->own_tgid;
}

HELPER(get_current_pid_tgid)
{
	const struct ub_process *process = ((struct ub_run *)run_)->process;
	u32 tid = ub_run_tid(run_), tgid = run_tgid(run_, tid, false);

	/*
	 * Where the thread may not be asked for, the leader it is. And in another pid namespace
	 * than the client's the leader's number is the only one known there.
	 */
	if ((s32)tid <= 0 || (process && tid == process->own_tgid))
		tid = tgid;
	return (u64)tgid << 32 | tid;
}

HELPER(get_ns_current_pid_tgid)
{
	struct ub_run *run = run_;
	const struct ub_process *process = run->process;
	u64 dev = process ? process->pidns_dev : 0, ino = process ? process->pidns_ino : 0;
	u32 *info = (u32 *)r3;

	if (r4 != 2 * sizeof(u32)) {
		ub_mem_zero(info, r4);
		return (u64)-EINVAL;
	}
	if (!ino) {
		/* struct stat of x86-64: st_dev and st_ino come first. */
		u64 stat[18] = { 0 };
		char path[24];

		ub_mem_copy(path, "/proc/self/ns/pid", 18);
		if (!sys_call(run, SYS_newfstatat, (u64)AT_FDCWD, (u64)path, (u64)stat, 0, 0, 0)) {
			dev = stat[0];
			ino = stat[1];
		}
	}
	if (!ino || dev != r1 || ino != r2) {
		ub_mem_zero(info, r4);
		return (u64)-EINVAL;
	}
	info[0] = ub_run_tid(run);
	info[1] = run_tgid(run, info[0], true);
	return 0;
}

HELPER(get_current_uid_gid)
{
	const struct ub_process *process = ((struct ub_run *)run_)->process;
	u64 uid, gid;

	if (process && process->uid_gid != UINT64_MAX)
		return process->uid_gid;
	uid = (u32)sys_call(run_, SYS_getuid, 0, 0, 0, 0, 0, 0);
	gid = (u32)sys_call(run_, SYS_getgid, 0, 0, 0, 0, 0, 0);
	return gid << 32 | uid;
}

HELPER(get_current_comm)
{
	char comm[COMM_LEN] = { 0 };
	char *to = (char *)r1;
	u64 size = (u32)r2;
	long err = sys_call(run_, SYS_prctl, PR_GET_NAME, (u64)comm, 0, 0, 0, 0);

	ub_mem_zero(to, size);
	if (err)
		return (u64)-EINVAL;
	for (u64 i = 0; i + 1 < size && i < COMM_LEN && comm[i]; i++)
		to[i] = comm[i];
	return 0;
}

/* Programs can do nothing with a task but hand it to other helpers, for which there is only this
 * one. */
HELPER(get_current_task_btf)
{
	return (u64)run_;
}

HELPER(get_smp_processor_id)
{
	return ub_run_cpu(run_);
}

HELPER(get_numa_node_id)
{
	u32 limit;

	__asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7bu) : "cc");
	return limit >> 12;
}

HELPER(get_current_cgroup_id)
{
	const struct ub_process *process = ((struct ub_run *)run_)->process;

	return process ? process->cgroup_id : 0;
}

/* Where the process was when it was attached: being moved to another cgroup meanwhile is not
 * noticed. */
HELPER(get_current_ancestor_cgroup_id)
{
	const struct ub_process *process = ((struct ub_run *)run_)->process;
	u64 level = (u64)(s32)r1;

	return process && level < process->nr_cgroups && level < UB_MAX_CGROUPS
		       ? process->cgroups[level]
		       : 0;
}

/* Of groups deeper than UB_MAX_CGROUPS not all ancestors are known. */
HELPER(current_task_under_cgroup)
{
	const struct ub_process *process = ((struct ub_run *)run_)->process;
	const struct ub_map *map = (const struct ub_map *)r1;
	u32 index = (u32)r2;
	u64 id;

	if (index >= map->attr.max_entries)
		return (u64)-E2BIG;
	id = __atomic_load_n((const u64 *)ub_array_value(map, index, 0), __ATOMIC_ACQUIRE);
	if (!id)
		return (u64)-EAGAIN;
	if (!process || process->cgroup_id == id)
		return process != NULL;
	for (u64 i = 0; i < process->nr_lineage && i < UB_MAX_CGROUPS; i++) {
		if (process->cgroups[i] == id)
			return 1;
	}
	return 0;
}

/* Good enough for sampling, which is what programs use it for; no state, so nothing to share. */
HELPER(get_prandom_u32)
{
	struct ub_run *run = run_;
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	run->scratch[7]++;
	return (u32)ub_mix64((((u64)high << 32 | low) + run->scratch[7] * 0x9e3779b97f4a7c15ull) ^
			     (u64)run);
}
