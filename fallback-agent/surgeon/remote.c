/* SPDX-License-Identifier: MIT */
/*
 * System calls made by a thread of the target on our behalf, so that the tracer may die at any
 * instant.
 *
 * A thread whose registers are borrowed and whose tracer is killed runs on with what is in them. So
 * from the first moment the borrowed registers are a program that gives everything back:
 *
 *	rip -> syscall; ret		found in the target's text
 *	rsp -> [ address of "mov $15, %eax; syscall" ]	rt_sigreturn, found in the text too
 *	       [ struct ucontext: all registers, signal mask, xstate as they were ]
 *
 * Left alone it makes the system call that it was about to make, returns into rt_sigreturn, and is
 * what it was. The frame lies in dead memory: the far end of the main stack, or below the red zone
 * of the thread itself. Dead as far as one can see: a main thread that has switched to a coroutine
 * or a handler's stack may have left its own nearly used up, and Go's goroutines live in the heap.
 * So what was there is put back. What may be lost is the system call's effect (a mapping): those
 * are found by name afterwards (memory.c).
 *
 *   - Signals are blocked meanwhile, after the registers point at the frame and until before they
 *     are given back, so that an orphan's mask comes back with the frame. A signal that is being
 *     delivered to the thread is delivered first, up to the handler's first instruction: queued
 *     again, it would be out of order.
 *   - The frame's uc_stack is invalid on purpose: rt_sigreturn then leaves the alternate stack as
 *     it is.
 *   - PTRACE_SYSCALL stops only, with TRACESYSGOOD: a tracer that dies before it has taken such a
 *     stop makes the kernel send the stop's code as a signal; 0x85 is none, but without
 *     TRACESYSGOOD it would be a SIGTRAP, and fatal. Breakpoints and single steps would leave
 *     forced signals behind, too.
 *   - rt_sigreturn forgets how to continue an interrupted nanosleep or poll. So in the frame such a
 *     system call starts anew; when we live, the original registers are put back and the kernel
 *     continues it.
 *   - In a restartable sequence (rseq) the thread would be resumed without the abort it is due, so
 *     it is moved to its abort handler first, as the kernel does.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <surgeon/remote.h>

static pid_t worker(const struct ub_target *t)
{
	return t->helper ? t->helper : t->host->tid;
}

int ub_remote_set(struct ub_target *t, u64 frame, long nr, const u64 args[6])
{
	struct user_regs_struct regs = t->host->regs;

	regs.rip = t->gadget;
	regs.rsp = frame;
	regs.rax = nr;
	regs.orig_rax = -1;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	regs.eflags &= ~0x100ul; /* trap flag */
	return ptrace(PTRACE_SETREGS, worker(t), 0, &regs) ? -ESRCH : 0;
}

/* The host's, until it is let go: stopped from here on, or in calls of ours. Its helper inherits
 * that. */
static int suspend_filters(const struct ub_target *t)
{
	if (!t->suspended)
		return 0;
	return ptrace(PTRACE_SETOPTIONS, t->host->tid, 0,
		      UB_TRACE_OPTIONS | PTRACE_O_SUSPEND_SECCOMP)
		       ? -ESRCH
		       : 0;
}

int ub_remote_begin(struct ub_target *t, struct ub_reason *why)
{
	static const u64 nothing[6];
	u64 all = ~0ull, mask = 0;
	int err;

	if (t->filtered)
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"process %d has no thread that may make our system calls: each is under a "
			"seccomp filter or a system call dispatcher (as Wine's)",
			t->pid);
	t->busy = !t->host;
	if (!t->host)
		return ub_reason_set(why, -EBUSY,
				     "every thread of process %d is blocked in the kernel", t->pid);
	err = ub_host_scratch(t);
	t->busy = err == -EBUSY;
	if (err)
		return ub_reason_set(why, err, "process %d has no stack space to work with",
				     t->pid);
	t->frame = t->scratch;
	t->wait_frame = t->frame + UB_FRAME_BYTES;
	t->exit_frame = t->wait_frame + UB_FRAME_BYTES;
	if (!t->under)
		t->under = malloc(UB_SCRATCH_BYTES);
	if (!t->under)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	t->under_bytes = UB_STATE_OFFSET + 64 + ub_frame_state_bytes(t->host);
	err = ub_target_read(t, t->scratch, t->under, t->under_bytes);
	if (err)
		return ub_reason_set(why, err, "cannot read the stack of process %d: %s", t->pid,
				     strerror(-err));
	if (ptrace(PTRACE_GETSIGMASK, t->host->tid, 8, &mask))
		return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	t->saved_mask = mask;
	err = ub_frame_write(t, mask);
	if (err)
		return ub_reason_set(why, err, "process %d: cannot prepare a thread: %s", t->pid,
				     strerror(-err));
	err = suspend_filters(t);
	if (!err)
		err = ub_remote_set(t, t->frame, SYS_getpid, nothing);
	if (err)
		return ub_reason_set(why, err, "process %d is gone", t->pid);
	t->host_in_use = true;
	t->host->changed = true;
	ptrace(PTRACE_SETSIGMASK, t->host->tid, 8, &all);
	return ub_fault(t, UB_FAULT_remote_begin);
}

u64 ub_remote_arguments(const struct ub_target *t)
{
	return t->exit_frame + UB_FRAME_BYTES;
}

static int worker_is_gone(struct ub_target *t)
{
	if (t->helper) {
		t->helper = 0;
		return -EAGAIN; /* somebody killed it, and not the target */
	}
	t->host->state = UB_THREAD_GONE;
	return -ESRCH;
}

int ub_remote_wait(struct ub_target *t)
{
	pid_t tid = worker(t);
	int status;

	for (;;) {
		long signal = 0;

		while (waitpid(tid, &status, __WALL) < 0) {
			if (errno != EINTR)
				return worker_is_gone(t);
		}
		if (!WIFSTOPPED(status))
			return worker_is_gone(t);
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			return 0;
		switch (status >> 16) {
		case PTRACE_EVENT_VFORK:
			return 1;
		case PTRACE_EVENT_EXEC:
			t->execed = true;
			return -ESRCH;
		case 0:
			/* A signal that can't be blocked goes on its way; stops by job control come
			 * through. */
			signal = WSTOPSIG(status);
			break;
		}
		if (ptrace(PTRACE_SYSCALL, tid, 0, signal))
			return worker_is_gone(t);
	}
}

int ub_remote_run(struct ub_target *t)
{
	return ptrace(PTRACE_SYSCALL, worker(t), 0, 0) ? worker_is_gone(t) : ub_remote_wait(t);
}

int ub_remote_result(struct ub_target *t, s64 *result)
{
	errno = 0;
	*result = ptrace(PTRACE_PEEKUSER, worker(t), offsetof(struct user_regs_struct, rax), 0);
	return errno ? worker_is_gone(t) : 0;
}

int ub_remote_call(struct ub_target *t, long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f,
		   s64 *result)
{
	const u64 args[6] = { a, b, c, d, e, f };
	int err;

	if (!t->host_in_use || t->host->state != UB_THREAD_STOPPED)
		return -ESRCH;
	err = ub_remote_set(t, t->helper ? t->exit_frame : t->frame, nr, args);
	if (!err)
		err = ub_remote_run(t);
	if (err)
		return err;
	/* Failing here would leave the thread within the call. */
	(void)ub_fault(t, UB_FAULT_remote_entry);
	err = ub_remote_run(t);
	if (!err)
		err = ub_remote_result(t, result);
	return err ? err : ub_fault(t, UB_FAULT_remote_exit);
}

int ub_remote_do(struct ub_target *t, const char *what, long nr, u64 a, u64 b, u64 c, u64 d, u64 e,
		 u64 f, s64 *result, struct ub_reason *why)
{
	int err = ub_remote_call(t, nr, a, b, c, d, e, f, result);

	if (err == -ESRCH)
		return ub_reason_set(why, err, "process %d is gone", t->pid);
	if (err)
		return ub_reason_set(why, err, "%s in process %d was interrupted", what, t->pid);
	if (*result < 0 && *result > -4096)
		return ub_reason_set(why, *result, "%s in process %d: %s", what, t->pid,
				     strerror(-*result));
	return 0;
}

void ub_remote_end(struct ub_target *t)
{
	if (!t->host_in_use)
		return;
	t->host_in_use = false;
	if (t->host->state != UB_THREAD_STOPPED)
		return;
	ptrace(PTRACE_SETSIGMASK, t->host->tid, 8, &t->saved_mask);
	if (ptrace(PTRACE_SETREGS, t->host->tid, 0, &t->host->regs))
		return; /* killed; and nobody returns to a frame that is half overwritten */
	t->host->changed = false;
	if (ub_target_write(t, t->scratch, t->under, t->under_bytes))
		return; /* gone */
}

int ub_thread_set_ip(struct ub_target *t, struct ub_thread *thread, u64 ip)
{
	thread->regs.rip = thread->pc = ip;
	if (t->host_in_use && thread == t->host)
		return ub_frame_write(t, t->saved_mask);
	return ptrace(PTRACE_SETREGS, thread->tid, 0, &thread->regs) ? -ESRCH : 0;
}
