// SPDX-License-Identifier: MIT
/*
 * Programs and maps that are reached through maps, while the loader (runner.c) puts others in their
 * places. What the programs that are called use is used by no other.
 */
#include "both.bpf.h"

int tail_one(struct pt_regs *ctx);
int tail_two(struct pt_regs *ctx);

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} inner_one SEC(".maps"), inner_two SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct inner);
} outer_array SEC(".maps") = { .values = { [0] = &inner_one } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct inner);
} outer_hash SEC(".maps") = { .values = { [1] = &inner_one } };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [0] = (void *)&tail_one } };

/* Of tail_two() alone; it leads back. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} back SEC(".maps") = { .values = { [0] = (void *)&tail_one } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

static u64 nr_missed;

/* Counted up by each lookup. */
static __always_inline s64 value_of(void *outer, u32 key)
{
	u32 zero = 0;
	void *inner = bpf_map_lookup_elem(outer, &key);
	u64 *value = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;

	return value ? (s64)++ * value : -1;
}

SEC("uprobe")
int tail_one(struct pt_regs *ctx)
{
	u32 key = 1;
	u64 value = 1, *at = bpf_map_lookup_elem(&own, &key);

	if (at)
		value = *at + 1;
	bpf_map_update_elem(&own, &key, &value, BPF_ANY);
	CHECK("first program: own map", value);
	CHECK("first program: parameter", PT_REGS_PARM1(ctx) != 0);
	CHECK("first program: cookie", bpf_get_attach_cookie(ctx));
	return 0;
}

SEC("uprobe")
int tail_two(struct pt_regs *ctx)
{
	CHECK("second program", bpf_ringbuf_output(&ring, "second", 6, 0));
	RECORDS("second program: records", 1, 0);
	bpf_tail_call(ctx, &back, 0);
	CHECK("second program: back", 0);
	return 0;
}

SEC("uprobe")
int tail_quiet(struct pt_regs *ctx)
{
	CHECK("quiet program", 1);
	return 0;
}

/* In the array that it jumps through. */
SEC("uprobe")
int tail_loop(struct pt_regs *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return 0;
}

SEC("uprobe")
int changing(struct pt_regs *ctx)
{
	start(ctx, 0);
	CHECK("array of maps, first", value_of(&outer_array, 0));
	CHECK("array of maps, second", value_of(&outer_array, 1));
	CHECK("array of maps, behind", value_of(&outer_array, 2));
	CHECK("hash of maps, 0", value_of(&outer_hash, 0));
	CHECK("hash of maps, 1", value_of(&outer_hash, 1));
	CHECK("missed so far", nr_missed);
	bpf_tail_call(ctx, &jumps, 0);
	CHECK("tail call to nothing", 1);
	return 0;
}

/* Often, while others take the places. */
SEC("uprobe")
int changing_busy(struct pt_regs *ctx)
{
	start(ctx, 0);
	if (value_of(&outer_array, 0) < 0)
		nr_missed++;
	if (value_of(&outer_hash, 1) < 0)
		nr_missed++;
	CHECK("missed", nr_missed);
	bpf_tail_call(ctx, &jumps, 0);
	nr_missed++;
	return 0;
}
