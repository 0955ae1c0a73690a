// SPDX-License-Identifier: MIT
/* Records of more than half of what a process's own ring would have, and where the next one stands. */
#include "both.bpf.h"

#define SIZE (1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SIZE);
} ring SEC(".maps");

static u64 position(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_PROD_POS);
}

/* First and last byte of a record of @size, a constant. */
#define WRITE(name, size)                                                                          \
	({                                                                                         \
		char *record_ = bpf_ringbuf_reserve(&ring, size, 0);                               \
		CHECK(name, !!record_);                                                            \
		if (record_) {                                                                     \
			__builtin_memcpy(record_, "front\0\0\0\0\0\0", 12);                        \
			__builtin_memcpy(record_ + (size)-6, "back!", 6);                          \
			bpf_ringbuf_submit(record_, 0);                                            \
		}                                                                                  \
	})

SEC("uprobe")
int larges(struct pt_regs *ctx)
{
	char *record;

	start(ctx, 0);
	CHECK("position", position());
	WRITE("ringbuf_reserve 600000", 600000);
	CHECK("position", position());
	WRITE("ringbuf_reserve 100", 100);
	CHECK("position", position());
	WRITE("ringbuf_reserve too large", SIZE - 8);
	WRITE("ringbuf_reserve far too large", SIZE);
	CHECK("position", position());
	record = bpf_ringbuf_reserve(&ring, 6000, BPF_RB_NO_WAKEUP);
	if (record)
		bpf_ringbuf_discard(record, 0);
	RECORDS("records", 2, 0);
	return 0;
}

SEC("uprobe")
int largest(struct pt_regs *ctx)
{
	u64 before;

	start(ctx, 0);
	before = position();
	WRITE("ringbuf_reserve largest", SIZE - 16);
	CHECK("position", position() - before);
	CHECK("available", bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) <= SIZE - 8);
	RECORDS("records", 1, 0);
	return 0;
}
