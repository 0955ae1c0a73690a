// SPDX-License-Identifier: MIT
/* One program per helper that a process can't have. The kernel may accept them; here each is
 * refused with a reason. */
#include "both.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} counters SEC(".maps");

static char buffer[64];
static u64 word;

SEC("uprobe")
int get_current_task(void *ctx)
{
	return bpf_get_current_task() != 0;
}

SEC("uprobe")
int get_task_stack(void *ctx)
{
	return bpf_get_task_stack(bpf_get_current_task_btf(), buffer, sizeof(buffer), 0);
}

SEC("uprobe")
int task_pt_regs(void *ctx)
{
	return bpf_task_pt_regs(bpf_get_current_task_btf());
}

SEC("uprobe")
int find_vma(void *ctx)
{
	return bpf_find_vma(bpf_get_current_task_btf(), (u64)ctx, buffer, buffer, 0);
}

SEC("uprobe")
int get_cgroup_classid(void *ctx)
{
	return bpf_get_cgroup_classid(ctx);
}

SEC("uprobe")
int cgrp_storage_get(void *ctx)
{
	return bpf_cgrp_storage_get(&counters, ctx, NULL, 0) != NULL;
}

SEC("uprobe")
int cgrp_storage_delete(void *ctx)
{
	return bpf_cgrp_storage_delete(&counters, ctx);
}

SEC("uprobe")
int get_branch_snapshot(void *ctx)
{
	return bpf_get_branch_snapshot(buffer, sizeof(buffer), 0);
}

SEC("uprobe")
int perf_event_read(void *ctx)
{
	return bpf_perf_event_read(&counters, 0) != 0;
}

SEC("uprobe")
int perf_event_read_value(void *ctx)
{
	struct bpf_perf_event_value value;

	return bpf_perf_event_read_value(&counters, 0, &value, sizeof(value));
}

SEC("uprobe")
int snprintf_btf(void *ctx)
{
	struct btf_ptr pointer = { .ptr = ctx };

	return bpf_snprintf_btf(buffer, sizeof(buffer), &pointer, sizeof(pointer), 0);
}

SEC("uprobe")
int per_cpu_ptr(void *ctx)
{
	return bpf_per_cpu_ptr(&word, 0) != NULL;
}

SEC("uprobe")
int this_cpu_ptr(void *ctx)
{
	return bpf_this_cpu_ptr(&word) != NULL;
}

SEC("uprobe")
int kptr_xchg(void *ctx)
{
	return bpf_kptr_xchg(&word, NULL) != NULL;
}
