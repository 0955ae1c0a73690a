// SPDX-License-Identifier: MIT
/* Helpers that call back, tell about the probe, or act on the process. */
#include "both.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, u64);
} array SEC(".maps");

static long count(u32 i, void *opaque)
{
	u64 *sum = opaque;

	*sum += i;
	return i == 100;
}

static long fill(u32 i, void *opaque)
{
	u64 value = i + 1;

	bpf_map_update_elem(&hash, &i, &value, BPF_ANY);
	bpf_map_update_elem(&array, &i, &value, BPF_ANY);
	return 0;
}

static long all(u32 i, void *opaque)
{
	return 0;
}

static long sum_up(void *map, const u32 *key, u64 *value, void *opaque)
{
	u64 *sum = opaque;

	*sum += *key * 1000 + *value;
	return 0;
}

static long first_only(void *map, const u32 *key, u64 *value, void *opaque)
{
	return 1;
}

static long delete_all(void *map, const u32 *key, u64 *value, void *opaque)
{
	bpf_map_delete_elem(map, key);
	return 0;
}

SEC("uprobe")
int loops(struct pt_regs *ctx)
{
	u64 sum = 0;

	start(ctx, 0);
	CHECK("loop 10", bpf_loop(10, count, &sum, 0));
	CHECK("loop 10 sum", sum);
	CHECK("loop ended", bpf_loop(1000, count, &sum, 0));
	CHECK("loop 0", bpf_loop(0, count, &sum, 0));
	CHECK("loop flags", bpf_loop(1, count, &sum, 1));
	/* Calls that the kernel's compiler makes in line lose the upper half. */
	CHECK("loop too many", (s32)bpf_loop((8 << 20) + 1, all, NULL, 0));
	bpf_loop(5, fill, NULL, 0);
	sum = 0;
	CHECK("for_each hash", bpf_for_each_map_elem(&hash, sum_up, &sum, 0));
	CHECK("for_each hash sum", sum);
	sum = 0;
	CHECK("for_each array", bpf_for_each_map_elem(&array, sum_up, &sum, 0));
	CHECK("for_each array sum", sum);
	CHECK("for_each ended", bpf_for_each_map_elem(&array, first_only, NULL, 0));
	CHECK("for_each flags", bpf_for_each_map_elem(&array, first_only, NULL, 1));
	CHECK("for_each deleting", bpf_for_each_map_elem(&hash, delete_all, NULL, 0));
	CHECK("for_each emptied", bpf_for_each_map_elem(&hash, sum_up, &sum, 0));
	return 0;
}

SEC("uprobe")
int probe(struct pt_regs *ctx)
{
	start(ctx, 0);
	CHECK("get_attach_cookie", bpf_get_attach_cookie(ctx));
	CHECK("get_func_ip", bpf_get_func_ip(ctx) - input.probe);
	CHECK("send_signal bad", bpf_send_signal(65));
	CHECK("send_signal none", bpf_send_signal(0));
	CHECK("send_signal_thread bad", bpf_send_signal_thread(99));
	CHECK("send_signal", bpf_send_signal(10));
	CHECK("send_signal_thread", bpf_send_signal_thread(12));
	return 0;
}
