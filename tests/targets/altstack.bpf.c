// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * What takes most of the stack of the thread that it runs on: the helpers that go deepest, each
 * from a program that uses hundreds of bytes itself.
 */
#include "ubpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u64);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 64);
	__uint(key_size, 4);
	__uint(value_size, 127 * 8);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} prefixes SEC(".maps");

struct memory {
	char bytes[384];
};

/* So that it stays on the stack. */
static __always_inline void use(struct memory *memory)
{
	barrier_var(memory);
	bpf_ringbuf_output(&ring, memory, sizeof(*memory), BPF_RB_NO_WAKEUP);
}

static __always_inline void count(u32 program)
{
	ubpf_count(&runs, &program, 1);
}

SEC("uprobe/altstack:probed_on_altstack")
int BPF_KPROBE(maps, const char *text)
{
	struct memory memory = {};
	u64 key = 8, value = 1;

	bpf_probe_read_user_str(memory.bytes, sizeof(memory.bytes), text);
	bpf_map_update_elem(&prefixes, &key, &value, BPF_ANY);
	bpf_map_lookup_elem(&prefixes, &key);
	bpf_map_delete_elem(&prefixes, &key);
	use(&memory);
	count(1);
	return 0;
}

SEC("uprobe/altstack:probed_on_altstack")
int BPF_KPROBE(stack, const char *text)
{
	struct memory memory = {};

	bpf_get_stack(ctx, memory.bytes, sizeof(memory.bytes), BPF_F_USER_STACK);
	bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	use(&memory);
	count(2);
	return 0;
}

SEC("uprobe/altstack:probed_on_altstack")
int BPF_KPROBE(print, const char *text)
{
	static const char format[] = "%s and %d\n";
	struct memory memory = {};

	bpf_probe_read_user_str(memory.bytes, sizeof(memory.bytes), text);
	bpf_trace_printk(format, sizeof(format), memory.bytes, 5);
	use(&memory);
	count(3);
	return 0;
}

SEC("uretprobe/altstack:probed_on_altstack")
int BPF_KRETPROBE(format, long result)
{
	struct memory memory = {};
	char text[64];

	BPF_SNPRINTF(text, sizeof(text), "%s and %d", memory.bytes, result);
	bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	use(&memory);
	count(4);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
