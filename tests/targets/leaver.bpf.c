// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Changes maps of all kinds in each hit, of which many are left half-way: see leaver.c. */
#include "ubpf.h"

#define ENTRIES 64

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} kept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, u64);
	__type(value, u64);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ENTRIES);
	__type(value, u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");

SEC("uprobe/leaver:probed_left")
int BPF_KPROBE(change, u64 n)
{
	u64 key = n & 7, *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	bpf_map_update_elem(&kept, &key, &n, BPF_ANY);
	bpf_map_update_elem(&kept, &key, &n, BPF_ANY);
	bpf_map_delete_elem(&kept, &key);
	bpf_map_update_elem(&recent, &n, &n, BPF_ANY);
	bpf_map_push_elem(&queue, &n, 0);
	bpf_map_pop_elem(&queue, &key);
	if (record) {
		*record = n;
		bpf_ringbuf_discard(record, 0);
	}
	return 0;
}

SEC("uprobe/leaver:probed_fill")
int BPF_KPROBE(fill, u64 n, void *says)
{
	u64 key = 1000 + n, value;
	long failed = 0;
	u64 *record;

	if (bpf_map_update_elem(&kept, &key, &n, BPF_ANY) ||
	    bpf_map_update_elem(&recent, &key, &n, BPF_ANY))
		failed = 1;
	/* Each round finds the queue full of the round before. */
	if (!n)
		for (int i = 0; i < ENTRIES; i++)
			bpf_map_pop_elem(&queue, &value);
	if (bpf_map_push_elem(&queue, &n, 0))
		failed = 2;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	else
		failed = 3;
	if (failed)
		bpf_probe_write_user(says, &failed, sizeof(failed));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
