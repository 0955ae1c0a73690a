/* SPDX-License-Identifier: MIT */
/* Private to targets.c and what it is made of: a file for each kind of process that makes it hard. */
#ifndef UB_TEST_TARGETS_H
#define UB_TEST_TARGETS_H

#include "inject.h"

/* --- targets.c ------------------------------------------------------------------------------ */

/* How an attempt on a target that may not hold still ended. */
enum outcome {
	DONE,
	GONE,
};

/* In and out once; a target that has executed or exited meanwhile is no failure. */
enum outcome once(struct victim *v, const char *symbol);
/* @nr times; so many of them, or 100 times as many in all, must get through. */
void cycles(struct victim *v, u32 nr, u32 must_be_done);
/* Starts tests/lib's ubpf-odd-victim, and waits until it is ready. */
void odd_start(struct victim *v, const char *name);
void odd_start_unready(struct victim *v, const char *name);
/* Nothing is left, and it lives. */
void end_well(struct victim *v);

/* --- targets_births.c: that execute, fork, vfork and create threads all the time -------------- */

/* The child for which the victim waits in vfork(). */
pid_t vfork_child(struct victim *v);
/* Has @cycle operate on a process that waits for its child. */
void long_vfork(void (*cycle)(struct victim *));
void exec_loops(void);
void threads_come_and_go(void);
void forks_and_vforks(void);
void parent_in_vfork(void);

/* --- targets_sharers.c: whose memory others may share, where kcmp(2) is forbidden ------------- */

void without_kcmp(void);

/* --- targets_restricted.c: that may not do everything ----------------------------------------- */

void under_seccomp(void);
void seccomp_after_attach(void);
void full_descriptor_table(void);
void locked_memory(void);
void locked_to_the_limit(void);
void dispatched(void);
void sandboxed_thread(void);
void sandbox_holds(void);
void unprivileged(void);

/* --- targets_states.c: in odd states, and with much of something ------------------------------ */

void zombie_leader(void);
void stopped(void);
void deep_stack(void);
void stale_frame(void);
void libraries_come_and_go(void);
void signals_with_siginfo(void);
void many_threads(void);
void many_probes(void);

#endif
