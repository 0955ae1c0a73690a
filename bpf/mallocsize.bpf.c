// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * How large the blocks are that are asked of malloc: a histogram by powers of two, per process.
 * Slot n counts sizes from 2^n to 2^(n+1) - 1; slot 0 also 0.
 */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, struct ubpf_histogram);
} malloc_sizes SEC(".maps");

SEC("uprobe/libc:malloc")
int BPF_KPROBE(count_size, u64 size)
{
	u32 pid = ubpf_pid();

	ubpf_histogram_add(&malloc_sizes, &pid, size);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
