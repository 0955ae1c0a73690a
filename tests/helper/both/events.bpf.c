// SPDX-License-Identifier: MIT
/* Records to the loader, which prints those that come. */
#include "both.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

/* Of one entry that nobody reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} unread SEC(".maps");

static char large[65536];

SEC("uprobe")
int rings(struct pt_regs *ctx)
{
	char *record;

	start(ctx, 0);
	__builtin_memcpy(large, "output", 7);
	CHECK("ringbuf_query position", bpf_ringbuf_query(&ring, BPF_RB_PROD_POS));
	CHECK("ringbuf_output", bpf_ringbuf_output(&ring, large, 7, 0));
	CHECK("ringbuf_query position", bpf_ringbuf_query(&ring, BPF_RB_PROD_POS));
	CHECK("ringbuf_output no wakeup", bpf_ringbuf_output(&ring, large, 7, BPF_RB_NO_WAKEUP));
	CHECK("ringbuf_output wakeup", bpf_ringbuf_output(&ring, large, 7, BPF_RB_FORCE_WAKEUP));
	CHECK("ringbuf_output flags", bpf_ringbuf_output(&ring, large, 7, 4));
	CHECK("ringbuf_output 0", bpf_ringbuf_output(&ring, large, 0, 0));
	CHECK("ringbuf_output too large", bpf_ringbuf_output(&ring, large, 4096, 0));
	CHECK("ringbuf_reserve flags", !!({
		      record = bpf_ringbuf_reserve(&ring, 8, 1);
		      if (record)
			      bpf_ringbuf_discard(record, 0);
		      record;
	      }));
	CHECK("ringbuf_reserve too large", !!({
		      record = bpf_ringbuf_reserve(&ring, 4089, 0);
		      if (record)
			      bpf_ringbuf_discard(record, 0);
		      record;
	      }));
	record = bpf_ringbuf_reserve(&ring, 16, 0);
	CHECK("ringbuf_reserve", !!record);
	if (record) {
		__builtin_memcpy(record, "reserved\0\0\0\0\0\0\0", 16);
		bpf_ringbuf_submit(record, 0);
	}
	record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (record)
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	CHECK("ringbuf_query size", bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE));
	CHECK("ringbuf_query other", bpf_ringbuf_query(&ring, 99));
	RECORDS("records", 5, 0);
	return 0;
}

SEC("uprobe")
int dynptrs(struct pt_regs *ctx)
{
	struct bpf_dynptr dynptr;
	char *data;

	start(ctx, 0);
	CHECK("reserve_dynptr", bpf_ringbuf_reserve_dynptr(&ring, 12, 0, &dynptr));
	CHECK("its write", bpf_dynptr_write(&dynptr, 0, "dynamic", 8, 0));
	CHECK("its write behind", bpf_dynptr_write(&dynptr, 8, "dynamic", 8, 0));
	CHECK("its write flags", bpf_dynptr_write(&dynptr, 0, "dynamic", 8, 1));
	data = bpf_dynptr_data(&dynptr, 8, 4);
	CHECK("its data", !!data);
	if (data)
		__builtin_memcpy(data, "end", 4);
	data = bpf_dynptr_data(&dynptr, 8, 5);
	CHECK("its data behind", !!data);
	bpf_ringbuf_submit_dynptr(&dynptr, 0);
	CHECK("reserve_dynptr flags", bpf_ringbuf_reserve_dynptr(&ring, 12, 1, &dynptr));
	CHECK("its write", bpf_dynptr_write(&dynptr, 0, "dynamic", 8, 0));
	bpf_ringbuf_submit_dynptr(&dynptr, 0);
	CHECK("reserve_dynptr large", bpf_ringbuf_reserve_dynptr(&ring, 1 << 20, 0, &dynptr));
	bpf_ringbuf_discard_dynptr(&dynptr, 0);
	CHECK("reserve_dynptr huge", bpf_ringbuf_reserve_dynptr(&ring, 1 << 24, 0, &dynptr));
	bpf_ringbuf_discard_dynptr(&dynptr, 0);
	CHECK("reserve_dynptr again", bpf_ringbuf_reserve_dynptr(&ring, 12, 0, &dynptr));
	bpf_ringbuf_discard_dynptr(&dynptr, 0);

	CHECK("dynptr_from_mem", bpf_dynptr_from_mem(large, 16, 0, &dynptr));
	CHECK("dynptr_write", bpf_dynptr_write(&dynptr, 2, "0123456789", 10, 0));
	CHECK("dynptr_write at its end", bpf_dynptr_write(&dynptr, 6, "0123456789", 10, 0));
	CHECK("dynptr_write behind", bpf_dynptr_write(&dynptr, 7, "0123456789", 10, 0));
	CHECK_BYTES("dynptr_read", bpf_dynptr_read(large + 64, 8, &dynptr, 6, 0), large + 64, 16);
	CHECK("dynptr_read behind", bpf_dynptr_read(large + 64, 8, &dynptr, 9, 0));
	CHECK("dynptr_read far", bpf_dynptr_read(large + 64, 8, &dynptr, -1, 0));
	CHECK("dynptr_read flags", bpf_dynptr_read(large + 64, 8, &dynptr, 0, 1));
	/* Onto itself. */
	CHECK_BYTES("dynptr_read overlapping", bpf_dynptr_read(large + 4, 10, &dynptr, 2, 0), large,
		    16);
	CHECK_BYTES("dynptr_read overlapping", bpf_dynptr_read(large, 10, &dynptr, 2, 0), large,
		    16);
	CHECK("dynptr_data 0", !!bpf_dynptr_data(&dynptr, 16, 0));
	CHECK("dynptr_from_mem flags", bpf_dynptr_from_mem(large, 16, 1, &dynptr));
	CHECK("its read", bpf_dynptr_read(large + 64, 8, &dynptr, 0, 0));
	CHECK("its data", !!bpf_dynptr_data(&dynptr, 0, 1));
	RECORDS("records", 1, 0);
	return 0;
}

SEC("uprobe")
int perfs(struct pt_regs *ctx)
{
	start(ctx, 0);
	__builtin_memcpy(large, "perf output", 12);
	CHECK("perf_event_output", bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, large, 12));
	CHECK("perf_event_output 0",
	      bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, large, 0));
	CHECK("perf_event_output flags", bpf_perf_event_output(ctx, &perf, 1ull << 33, large, 12));
	CHECK("perf_event_output no cpu", bpf_perf_event_output(ctx, &perf, 99999, large, 12));
	CHECK("perf_event_output large",
	      bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, large, 16384));
	CHECK("perf_event_output nobody", bpf_perf_event_output(ctx, &unread, 0, large, 12));
	CHECK("perf_event_output behind", bpf_perf_event_output(ctx, &unread, 1, large, 12));
	RECORDS("records", 3, 1);
	return 0;
}
