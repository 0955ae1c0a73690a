// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * How long calls of a function take: a histogram of nanoseconds by powers of two, per process.
 * Where: LIB:FUNCTION after the program's name.
 */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u64); /* thread */
	__type(value, u64);
} entered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, struct ubpf_histogram);
} nanoseconds SEC(".maps");

SEC("uprobe")
int enter(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	bpf_map_update_elem(&entered, &thread, &now, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int leave(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
	u64 *start = bpf_map_lookup_elem(&entered, &thread);
	u32 pid = thread >> 32;

	if (!start)
		return 0; /* a call that began before we came */
	ubpf_histogram_add(&nanoseconds, &pid, now - *start);
	bpf_map_delete_elem(&entered, &thread);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
