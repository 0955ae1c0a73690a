// SPDX-License-Identifier: MIT
/*
 * Which program types may call which helper, compared with the kernel: a program that calls it and
 * then reads an uninitialised register never loads, but the log says whether the call was the
 * reason. And of the helpers that a uprobe's program may call there, each is known here: it works,
 * or is refused with a reason.
 */
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <helper/helper.h>

#include "../map/sides.h"

static const enum bpf_prog_type types[] = {
	BPF_PROG_TYPE_KPROBE,	  BPF_PROG_TYPE_TRACEPOINT,    BPF_PROG_TYPE_RAW_TRACEPOINT,
	BPF_PROG_TYPE_PERF_EVENT, BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS,
	BPF_PROG_TYPE_XDP,	  BPF_PROG_TYPE_CGROUP_SKB,    BPF_PROG_TYPE_CGROUP_DEVICE,
};

static bool kernel_allows(u32 id, enum bpf_prog_type type)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = (s32)id },
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_9 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	static char log[65536];
	union bpf_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	memset(log, 0, sizeof(log));
	attr.prog_type = type;
	attr.insns = (u64)insns;
	attr.insn_cnt = ub_array_size(insns);
	attr.license = (u64) "GPL";
	attr.log_buf = (u64)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	fd = kernel_bpf(BPF_PROG_LOAD, &attr);
	if (fd >= 0)
		close((int)fd);
	return !strstr(log, "cannot use helper") && !strstr(log, "unknown func") &&
	       !strstr(log, "invalid func");
}

int main(void)
{
	int bad = 0;

	if (!kernel_comparable())
		return 77;
	for (u32 id = 1; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		if (helper && (helper->fn || helper->why || id == BPF_FUNC_tail_call))
			continue;
		if (kernel_allows(id, BPF_PROG_TYPE_KPROBE)) {
			printf("helper #%u works in the kernel and is not known here\n", id);
			bad++;
		}
	}
	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		/* These two depend on how the kernel was configured and locked down. */
		if (!helper || id == BPF_FUNC_probe_write_user || id == BPF_FUNC_override_return)
			continue;
		for (u32 i = 0; i < ub_array_size(types); i++) {
			bool kernel = kernel_allows(id, types[i]);
			bool ours = ub_helper_allowed(helper, types[i]);

			if (kernel == ours)
				continue;
			printf("%s from program type %d: kernel %d, ours %d\n", helper->name,
			       types[i], kernel, ours);
			bad++;
		}
	}
	return bad != 0;
}
