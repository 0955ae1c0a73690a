// SPDX-License-Identifier: MIT
#include <kernel/worker.h>

int ub_worker_start(struct ub_kprog *prog, u64 period_ns, u64 cookie, u32 cpu, struct ub_worker **out,
		    struct ub_reason *why)
{
	return ub_reason_set(why, -EOPNOTSUPP, "programs can't run on a clock here");
}

void ub_worker_stop(struct ub_worker *worker)
{
}
