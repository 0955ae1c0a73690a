/* SPDX-License-Identifier: MIT */
/*
 * Workers: sandboxed, killable processes of the daemon's in which programs run that have no target
 * thread (worker.c).
 */
#ifndef UB_KERNEL_WORKER_H
#define UB_KERNEL_WORKER_H

#include <kernel/kinds.h>

/* Runs @prog every @period_ns until ub_worker_stop(); what it outputs is delivered. */
int __must_check ub_worker_start(struct ub_kprog *prog, u64 period_ns, u64 cookie, u32 cpu,
				 struct ub_worker **out, struct ub_reason *why);
void ub_worker_stop(struct ub_worker *worker);

/* One BPF_PROG_TEST_RUN: @ctx (@ctx_size bytes) is r1's memory and is changed by the program.
 * @repeat runs, the last one's result in *retval, the mean time in *duration_ns. -EINTR when it had
 * to be killed. @pointers, if not 0: where in @ctx a struct ub_packet_pointers is, which holds
 * distances from @ctx and becomes addresses for the run. */
int __must_check ub_worker_run_once(struct ub_kprog *prog, void *ctx, u32 ctx_size, u32 pointers,
				    u32 repeat, u32 *retval, u32 *duration_ns);

#endif
