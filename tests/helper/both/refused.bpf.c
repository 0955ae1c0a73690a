// SPDX-License-Identifier: MIT
/* One program per helper that a process can't have. The kernel may accept them; here each is refused with a reason. */
#include "both.bpf.h"

SEC("uprobe")
int get_current_task(void *ctx)
{
	return bpf_get_current_task() != 0;
}

SEC("uprobe")
int get_cgroup_classid(void *ctx)
{
	return bpf_get_cgroup_classid(ctx);
}

SEC("uprobe")
int get_branch_snapshot(void *ctx)
{
	char entries[64];

	return bpf_get_branch_snapshot(entries, sizeof(entries), 0);
}
