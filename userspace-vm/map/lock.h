/* SPDX-License-Identifier: MIT */
/*
 * struct bpf_spin_lock in a map's value: a word in shared memory whose holder may be dead or
 * stopped. Freestanding.
 *
 * The wait is bounded: nobody hangs for another. When it is over the lock is taken over, and what
 * it guards may be seen half changed, as after the holder's death. Holders that were only preempted
 * get the CPU meanwhile. The word holds the holder's thread id, so that a release by one who has
 * lost the lock frees nothing.
 */
#ifndef UB_MAP_LOCK_H
#define UB_MAP_LOCK_H

#include <run/run.h>

/* @run NULL: not a program, but this very process. */
void ub_lock_acquire(u32 *lock, struct ub_run *run);
void ub_lock_release(u32 *lock, struct ub_run *run);

#endif
