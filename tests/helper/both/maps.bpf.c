// SPDX-License-Identifier: MIT
/* Map helpers from a program: results and errno. What the maps themselves do is for tests/map. */
#include "both.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 2);
	__type(value, u64);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u64);
} storage SEC(".maps");

static __always_inline s64 value_at(void *map, u32 key)
{
	u64 *value = bpf_map_lookup_elem(map, &key);

	return value ? (s64)*value : -1;
}

SEC("uprobe")
int tables(struct pt_regs *ctx)
{
	u32 key = 1;
	u64 value = 10, *at;

	start(ctx, 0);
	CHECK("hash lookup none", value_at(&hash, 1));
	CHECK("hash update exist", bpf_map_update_elem(&hash, &key, &value, BPF_EXIST));
	CHECK("hash update", bpf_map_update_elem(&hash, &key, &value, BPF_ANY));
	CHECK("hash update noexist", bpf_map_update_elem(&hash, &key, &value, BPF_NOEXIST));
	CHECK("hash update flags", bpf_map_update_elem(&hash, &key, &value, 99));
	key = 2;
	CHECK("hash update second", bpf_map_update_elem(&hash, &key, &value, BPF_NOEXIST));
	key = 3;
	CHECK("hash update full", bpf_map_update_elem(&hash, &key, &value, BPF_NOEXIST));
	CHECK("hash delete none", bpf_map_delete_elem(&hash, &key));
	key = 1;
	CHECK("hash delete", bpf_map_delete_elem(&hash, &key));
	CHECK("hash lookup deleted", value_at(&hash, 1));
	CHECK("hash lookup", value_at(&hash, 2));
	CHECK("array update", bpf_map_update_elem(&array, &key, &value, BPF_ANY));
	CHECK("array lookup", value_at(&array, 1));
	CHECK("array update noexist", bpf_map_update_elem(&array, &key, &value, BPF_NOEXIST));
	CHECK("array delete", bpf_map_delete_elem(&array, &key));
	key = 2;
	CHECK("array update behind", bpf_map_update_elem(&array, &key, &value, BPF_ANY));
	CHECK("array lookup behind", value_at(&array, 2));
	key = 0;
	CHECK("percpu update", bpf_map_update_elem(&percpu, &key, &value, BPF_ANY));
	CHECK("percpu lookup", value_at(&percpu, 0));
	at = bpf_map_lookup_percpu_elem(&percpu, &key, bpf_get_smp_processor_id());
	CHECK("lookup_percpu_elem", at ? (s64)*at : -1);
	CHECK("lookup_percpu_elem no cpu", !!bpf_map_lookup_percpu_elem(&percpu, &key, 100000));
	key = 2;
	CHECK("lookup_percpu_elem behind", !!bpf_map_lookup_percpu_elem(&percpu, &key, 0));
	return 0;
}

SEC("uprobe")
int lists(struct pt_regs *ctx)
{
	u64 value = 1, got = 77;

	start(ctx, 0);
	CHECK("queue pop empty", bpf_map_pop_elem(&queue, &got));
	CHECK("queue popped", got);
	CHECK("queue push", bpf_map_push_elem(&queue, &value, 0));
	value = 2;
	CHECK("queue push", bpf_map_push_elem(&queue, &value, 0));
	value = 3;
	CHECK("queue push full", bpf_map_push_elem(&queue, &value, 0));
	CHECK("queue push flags", bpf_map_push_elem(&queue, &value, 99));
	CHECK("queue push, replacing", bpf_map_push_elem(&queue, &value, BPF_EXIST));
	CHECK("queue peek", bpf_map_peek_elem(&queue, &got));
	CHECK("queue peeked", got);
	CHECK("queue pop", bpf_map_pop_elem(&queue, &got));
	CHECK("queue popped", got);
	value = 1;
	CHECK("stack push", bpf_map_push_elem(&stack, &value, 0));
	value = 2;
	CHECK("stack push", bpf_map_push_elem(&stack, &value, 0));
	CHECK("stack push full", bpf_map_push_elem(&stack, &value, 0));
	CHECK("stack peek", bpf_map_peek_elem(&stack, &got));
	CHECK("stack peeked", got);
	CHECK("stack pop", bpf_map_pop_elem(&stack, &got));
	CHECK("stack pop", bpf_map_pop_elem(&stack, &got));
	CHECK("stack popped", got);
	CHECK("stack pop empty", bpf_map_pop_elem(&stack, &got));
	return 0;
}

SEC("uprobe")
int tasks(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 value = 5, *at;

	start(ctx, 0);
	CHECK("task_storage_get none", !!bpf_task_storage_get(&storage, task, NULL, 0));
	CHECK("task_storage_delete none", bpf_task_storage_delete(&storage, task));
	at = bpf_task_storage_get(&storage, task, &value, BPF_LOCAL_STORAGE_GET_F_CREATE);
	CHECK("task_storage_get", at ? (s64)(*at)++ : -1);
	at = bpf_task_storage_get(&storage, task, NULL, 0);
	CHECK("task_storage_get again", at ? (s64)*at : -1);
	CHECK("task_storage_get flags", !!bpf_task_storage_get(&storage, task, NULL, 2));
	CHECK("task_storage_delete", bpf_task_storage_delete(&storage, task));
	CHECK("task_storage_delete again", bpf_task_storage_delete(&storage, task));
	at = bpf_task_storage_get(&storage, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	CHECK("task_storage_get zero", at ? (s64)*at : -1);
	return 0;
}
