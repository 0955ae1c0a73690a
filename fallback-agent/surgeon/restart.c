/* SPDX-License-Identifier: MIT */
/*
 * System calls that our stop interrupts.
 *
 * Stopping a thread wakes it from whatever it waits in. Most system calls then return one of the
 * kernel's -ERESTART codes, which nobody outside ever sees: with the registers as they are, the
 * kernel starts the call again when the thread goes on, timeouts of nanosleep, poll and futex
 * continued by its restart block. A few know only -EINTR, which the program would see although it
 * took no signal. For those that had no effect before they returned it, we do what the kernel does
 * for the others: number back into rax, ip back onto the instruction. A timeout then starts anew.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>

#include <surgeon/target.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define ERESTARTSYS	      512
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516

/* -EINTR from these means that nothing has happened yet. Socket calls do so under SO_RCVTIMEO. */
static bool restartable(long nr)
{
	switch (nr) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_rt_sigtimedwait:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
	case SYS_read:
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_getrandom:
	case SYS_msgsnd:
	case SYS_msgrcv:
		return true;
	default:
		return false;
	}
}

/* A signal that is going to be handled is a true reason for -EINTR. */
static bool signal_pending(const struct ub_target *t, const struct ub_thread *thread)
{
	char proc[64];
	u64 blocked = 0, own = 0, shared = 0;

	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", thread->process, thread->tid);
	if (ub_proc_status(proc, "SigBlk", 16, &blocked) ||
	    ub_proc_status(proc, "SigPnd", 16, &own) || ub_proc_status(proc, "ShdPnd", 16, &shared))
		return true;
	return (own | shared) & ~blocked;
}

void ub_restart_interrupted(struct ub_target *t)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];
		struct user_regs_struct *regs = &thread->regs;

		if (thread->state != UB_THREAD_STOPPED || (s64)regs->rax != -EINTR ||
		    (s64)regs->orig_rax < 0 || !restartable(regs->orig_rax))
			continue;
		if (thread->signal || signal_pending(t, thread))
			continue;
		regs->rax = regs->orig_rax;
		regs->orig_rax = -1;
		regs->rip -= 2;
		thread->pc = regs->rip;
		thread->changed = true;
	}
}

void ub_restart_by_hand(struct user_regs_struct *regs)
{
	if ((s64)regs->orig_rax < 0)
		return;
	switch ((s64)regs->rax) {
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		regs->rax = regs->orig_rax;
		regs->rip -= 2;
		break;
	}
	regs->orig_rax = -1;
}
