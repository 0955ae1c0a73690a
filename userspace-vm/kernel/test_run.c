// SPDX-License-Identifier: MIT
/* BPF_PROG_TEST_RUN: bpf_prog_test_run() of kernel/bpf/syscall.c. */
#include <kernel/kinds.h>

#define ENOTSUPP 524

s64 ub_cmd_prog_test_run(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;
	struct ub_object *object;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(test.batch_size)))
		return -EINVAL;
	if ((a->test.ctx_size_in && !a->test.ctx_in) || (!a->test.ctx_size_in && a->test.ctx_in) ||
	    (a->test.ctx_size_out && !a->test.ctx_out) || (!a->test.ctx_size_out && a->test.ctx_out))
		return -EINVAL;
	err = ub_file_object(k, c, (s32)a->test.prog_fd, UB_KIND_PROG, &object);
	if (err)
		return err;
	/* kprobe, tracepoint and perf_event programs have no test_run, on Linux neither. */
	return -ENOTSUPP;
}
