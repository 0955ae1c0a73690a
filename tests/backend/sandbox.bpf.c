// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Whatever may want a system call, at each hit. */
#include "ubpf.h"

#include "sandbox.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, u64);
} by_thread SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_COUNTS);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, u32);
	__type(value, u32);
} perf SEC(".maps");

static __always_inline void count(u32 what)
{
	u64 *value = bpf_map_lookup_elem(&counts, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline bool equal(const char *a, const char *b, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (a[i] != b[i])
			return false;
	}
	return true;
}

SEC("uprobe")
int probe(struct pt_regs *ctx)
{
	struct record record = { .id = bpf_get_current_pid_tgid(), .ns = bpf_ktime_get_ns() };
	const u64 one = 1;
	u32 zero = 0, recently = (u32)record.ns & 63;
	char text[16] = {};
	u64 *hits;
	long err;

	count(HITS);
	hits = bpf_map_lookup_elem(&by_thread, &record.id);
	if (hits)
		__sync_fetch_and_add(hits, 1);
	else
		bpf_map_update_elem(&by_thread, &record.id, &one, BPF_NOEXIST);
	bpf_map_push_elem(&queue, &record.ns, BPF_EXIST);
	bpf_map_update_elem(&recent, &recently, &record.ns, BPF_ANY);
	bpf_map_delete_elem(&recent, &zero);
	if (!bpf_probe_read_user(text, 13, (void *)PT_REGS_PARM2(ctx)) &&
	    equal(text, "on the stack", 13))
		count(STACK_READ);
	err = bpf_probe_read_user(text, 12, (void *)PT_REGS_PARM1(ctx));
	if (!err && equal(text, "on the heap.", 12))
		count(HEAP_READ);
	else if (err == -14)
		count(HEAP_REFUSED);
	if (!bpf_get_current_comm(text, sizeof(text)))
		count(NAMED);
	if (record.ns)
		count(TIMED);
	if (!bpf_ringbuf_output(&ring, &record, sizeof(record), 0))
		count(TO_RING);
	if (!bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &record, sizeof(record)))
		count(TO_PERF);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
