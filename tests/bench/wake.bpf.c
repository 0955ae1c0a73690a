// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/* When it was: one record for each call. */
#include <ubpf.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} records SEC(".maps");

SEC("uprobe")
int note(void *ctx)
{
	u64 now = bpf_ktime_get_ns();

	bpf_ringbuf_output(&records, &now, sizeof(now), 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
