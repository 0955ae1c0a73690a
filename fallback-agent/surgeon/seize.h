/* SPDX-License-Identifier: MIT */
/*
 * Private to seize.c and what it is made of. Each may call those above it: watchdog.c, threads.c, wait.c, seize.c.
 */
#ifndef UB_SURGEON_SEIZE_H
#define UB_SURGEON_SEIZE_H

#include <surgeon/operation.h>

/* --- watchdog.c ------------------------------------------------------------------------------ */

#define UB_TICK_US 2000 /* in which waiting ends for a moment */

/* A thread that was seized: to be reaped if it dies. */
void ub_watchdog_note(pid_t tid);
/* Instruction pointer of threads whose registers are not their own. */
void ub_watchdog_borrow(u64 ip);

/* --- threads.c ------------------------------------------------------------------------------- */

struct ub_thread *ub_thread_find(struct ub_target *t, pid_t tid);
int __must_check ub_thread_add(struct ub_target *t, pid_t process, pid_t tid,
			       enum ub_thread_state state);
/* Its state by /proc (R, S, D, ...) and the kernel's flags. -ESRCH. */
int __must_check ub_thread_stat(const struct ub_thread *thread, char *state, u64 *flags);
/* Seizes one thread. 0: done, or there is nothing that could be. */
int __must_check ub_seize_thread(struct ub_target *t, pid_t process, pid_t tid,
				 struct ub_reason *why);
/* Seizes the threads of @process that are not known yet; @interrupt: and stops them. Number of them, or -errno. */
int __must_check ub_seize_process(struct ub_target *t, pid_t process, bool interrupt,
				  struct ub_reason *why);
/* Seizes every process that shares the memory. */
int __must_check ub_seize_sharers(struct ub_target *t, struct ub_reason *why);
/* Seizes and stops the children of a thread that waits in vfork(). Number of threads, or -errno. */
int __must_check ub_seize_children(struct ub_target *t, const struct ub_thread *parent,
				   struct ub_reason *why);

/* --- wait.c ---------------------------------------------------------------------------------- */

/* One look at a thread, by index; @block: waits for it until the next tick. */
int __must_check ub_thread_look(struct ub_target *t, u32 i, bool block);
/* The system call that a thread sleeps in, -1 if it sleeps outside of any. -ENOENT: it runs. */
int __must_check ub_thread_sleeps_in(const struct ub_thread *thread, long *nr, u64 *sp, u64 *pc);
int ub_threads_unsettled(const struct ub_target *t);
/* Waits until every known thread is settled. */
int __must_check ub_threads_wait(struct ub_target *t, struct ub_reason *why);
/* A blocked thread may have come as far as its stop by now, which is better: then it can be moved. */
int __must_check ub_threads_look_again(struct ub_target *t);

#endif
