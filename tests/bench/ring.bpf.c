// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/* A thousand records for each call, and how many of them the ring buffer took. */
#include <ubpf.h>

#define RECORDS 1000

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps"); /* taken, refused */

SEC("uprobe")
int burst(void *ctx)
{
	u32 which[2] = { 0, 1 };
	u64 *taken = bpf_map_lookup_elem(&counts, &which[0]);
	u64 *refused = bpf_map_lookup_elem(&counts, &which[1]);
	u64 nr = 0;

	for (u64 i = 0; i < RECORDS; i++)
		nr += !bpf_ringbuf_output(&records, &i, sizeof(i), 0);
	if (taken)
		__sync_fetch_and_add(taken, nr);
	if (refused)
		__sync_fetch_and_add(refused, RECORDS - nr);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
