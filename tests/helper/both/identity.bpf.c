// SPDX-License-Identifier: MIT
/* Who runs, where and when. Rounds: the main thread, another thread, a child by vfork(2),
 * renamed. */
#include "both.bpf.h"

#define ROUND 36

#define CLOCK_MONOTONIC 1
#define CLOCK_BOOTTIME	7
#define CLOCK_TAI	11

static char comm[64];

#define COMM(name, size)                                                                           \
	({                                                                                         \
		__builtin_memset(comm, 'Z', sizeof(comm));                                         \
		s64 ret_ = bpf_get_current_comm(comm, size);                                       \
		CHECK_BYTES(name, ret_, comm, 32);                                                 \
	})

SEC("uprobe")
int identity(struct pt_regs *ctx)
{
	struct bpf_pidns_info info = {};
	u64 random, other;

	start(ctx, ROUND);
	CHECK("round", input.round);
	CHECK("get_current_pid_tgid", bpf_get_current_pid_tgid() == input.pid_tgid);
	CHECK("get_current_uid_gid", bpf_get_current_uid_gid() == input.uid_gid);
	CHECK("get_ns_current_pid_tgid",
	      bpf_get_ns_current_pid_tgid(input.pidns_dev, input.pidns_ino, &info, sizeof(info)));
	CHECK("pid", (u32)info.pid == (u32)input.pid_tgid);
	CHECK("tgid", info.tgid == input.pid_tgid >> 32);
	info.pid = info.tgid = 7;
	CHECK("get_ns_current_pid_tgid, other ino",
	      bpf_get_ns_current_pid_tgid(input.pidns_dev, input.pidns_ino + 1, &info,
					  sizeof(info)));
	CHECK("other ino, pid", info.pid);
	info.pid = info.tgid = 7;
	CHECK("get_ns_current_pid_tgid, other dev",
	      bpf_get_ns_current_pid_tgid(input.pidns_dev + 1, input.pidns_ino, &info,
					  sizeof(info)));
	CHECK("get_ns_current_pid_tgid, size",
	      bpf_get_ns_current_pid_tgid(input.pidns_dev, input.pidns_ino, &info, 4));
	CHECK("size, pid", info.pid);
	COMM("get_current_comm 16", 16);
	COMM("get_current_comm 32", 32);
	COMM("get_current_comm 4", 4);
	COMM("get_current_comm 1", 1);
	CHECK_CLOCK("ktime_get_ns", bpf_ktime_get_ns(), CLOCK_MONOTONIC);
	CHECK_CLOCK("ktime_get_boot_ns", bpf_ktime_get_boot_ns(), CLOCK_BOOTTIME);
	CHECK_CLOCK("ktime_get_tai_ns", bpf_ktime_get_tai_ns(), CLOCK_TAI);
	other = bpf_ktime_get_ns();
	CHECK("ktime goes on", bpf_ktime_get_ns() >= other);
	CHECK_CLOCK("jiffies64", bpf_jiffies64(), -1u);
	CHECK("get_smp_processor_id", bpf_get_smp_processor_id() < 1024);
	CHECK("get_smp_processor_id twice",
	      bpf_get_smp_processor_id() == bpf_get_smp_processor_id());
	CHECK("get_numa_node_id", bpf_get_numa_node_id());
	random = bpf_get_prandom_u32();
	other = bpf_get_prandom_u32();
	CHECK("get_prandom_u32", random != other);
	CHECK("get_current_cgroup_id", bpf_get_current_cgroup_id());
	CHECK("get_current_ancestor_cgroup_id 0", bpf_get_current_ancestor_cgroup_id(0));
	CHECK("get_current_ancestor_cgroup_id -1", bpf_get_current_ancestor_cgroup_id(-1));
	CHECK("get_current_ancestor_cgroup_id 99", bpf_get_current_ancestor_cgroup_id(99));
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 6);
	__uint(key_size, 4);
	__uint(value_size, 4);
} groups SEC(".maps");

/* The loader has put in what BOTH_GROUPS names, and last what is no group (runner.c). */
SEC("uprobe")
int groups_of_task(struct pt_regs *ctx)
{
	start(ctx, 0);
	CHECK("current_task_under_cgroup 0", bpf_current_task_under_cgroup(&groups, 0));
	CHECK("current_task_under_cgroup 1", bpf_current_task_under_cgroup(&groups, 1));
	CHECK("current_task_under_cgroup 2", bpf_current_task_under_cgroup(&groups, 2));
	CHECK("current_task_under_cgroup 3", bpf_current_task_under_cgroup(&groups, 3));
	CHECK("current_task_under_cgroup 4", bpf_current_task_under_cgroup(&groups, 4));
	CHECK("current_task_under_cgroup 5", bpf_current_task_under_cgroup(&groups, 5));
	CHECK("current_task_under_cgroup 6", bpf_current_task_under_cgroup(&groups, 6));
	CHECK("current_task_under_cgroup -1", bpf_current_task_under_cgroup(&groups, -1));
	return 0;
}
