// SPDX-License-Identifier: MIT
/*
 * Waiting until threads have stopped, and what each kind of stop means.
 *
 * A thread may meet us in a signal-delivery stop: the signal is off the queue already. If wait()
 * takes that stop and the tracer dies, the signal is lost with it. So such stops are looked at with
 * WNOWAIT and never taken: then the thread carries on with the signal, siginfo and all, however we
 * end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <surgeon/seize.h>

static void thread_is_gone(struct ub_thread *thread)
{
	thread->state = UB_THREAD_GONE;
	thread->unconsumed = false;
	thread->signal = 0;
}

static void read_registers(const struct ub_target *t, struct ub_thread *thread)
{
	if (ptrace(PTRACE_GETREGS, thread->tid, 0, &thread->regs)) {
		thread_is_gone(thread);
		return;
	}
	thread->state = UB_THREAD_STOPPED;
	thread->pc = thread->regs.rip;
	thread->sp = thread->regs.rsp;
	thread->restarts_at = 0;
	ub_restart_interrupted(t, thread);
}

/* A child that a seized thread has just made, seized with it. */
static int new_tracee(struct ub_target *t, const struct ub_thread *parent)
{
	pid_t process = parent->process;
	unsigned long tid = 0;
	char proc[64];
	u64 tgid;
	int err, shares;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &tid) || !tid || ub_thread_find(t, tid))
		return 0;
	snprintf(proc, sizeof(proc), "/proc/%lu", tid);
	if (!ub_proc_status(proc, "Tgid", 10, &tgid))
		process = tgid;
	err = ub_thread_add(t, process, tid, UB_THREAD_SEIZED);
	if (err || process == parent->process)
		return err;
	shares = ub_shares(t, (pid_t)tid, &t->report->why);
	t->threads[t->nr_threads - 1].foreign = shares != 1;
	return shares < 0 ? shares : 0;
}

/* Takes note of a stop. 0, or -errno. @i is an index since threads may be added. */
static int settle(struct ub_target *t, u32 i, const siginfo_t *info)
{
	struct ub_thread *thread = &t->threads[i];
	int status = info->si_status, signal = status & 0xff, event = status >> 8;
	int taken, err;

	if (info->si_code != CLD_TRAPPED && info->si_code != CLD_STOPPED) {
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		thread_is_gone(thread);
		return 0;
	}
	switch (event) {
	case 0:
		/* A signal is being delivered: leave the stop untaken. */
		thread->unconsumed = true;
		thread->signal = signal & 0x7f;
		read_registers(t, thread);
		return 0;
	case PTRACE_EVENT_STOP:
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		if (!thread->foreign) {
			read_registers(t, thread);
			return 0;
		}
		/* A forked child has memory of its own by now: none of our business. */
		ptrace(PTRACE_DETACH, thread->tid, 0, 0);
		thread_is_gone(thread);
		return 0;
	case PTRACE_EVENT_EXEC:
		if (thread->process == t->pid)
			t->execed = true;
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		thread_is_gone(thread); /* not of this memory any more */
		return 0;
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		err = new_tracee(t, thread);
		if (err)
			return err;
		thread = &t->threads[i];
		break;
	}
	/* In the middle of a system call: on to its end. Any stop eats the one that INTERRUPT had
	 * made pending. */
	waitpid(thread->tid, &taken, __WALL | WNOHANG);
	ptrace(PTRACE_INTERRUPT, thread->tid, 0, 0);
	ptrace(PTRACE_CONT, thread->tid, 0, 0);
	return 0;
}

/* One look at a thread; @block: wait for it until the next tick. */
int ub_thread_look(struct ub_target *t, u32 i, bool block)
{
	struct ub_thread *thread = &t->threads[i];
	siginfo_t info = { 0 };

	if (waitid(P_PID, thread->tid, &info,
		   WSTOPPED | WEXITED | WNOWAIT | __WALL | (block ? 0 : WNOHANG))) {
		if (errno == ECHILD)
			thread_is_gone(thread);
		return 0;
	}
	return info.si_pid ? settle(t, i, &info) : 0;
}

/* The system call that a thread sleeps in, -1 if it sleeps outside of any. -ENOENT: it runs. */
int ub_thread_sleeps_in(const struct ub_thread *thread, long *nr, u64 *sp, u64 *pc)
{
	_cleanup_close_ int fd = -1;
	char path[96], line[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", thread->process, thread->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n <= 0)
		return -ESRCH;
	line[n] = '\0';
	/* "nr arg arg arg arg arg arg sp pc", or "-1 sp pc" outside a system call */
	if (sscanf(line, "%ld", nr) != 1)
		return -ENOENT;
	n = *nr >= 0 ? sscanf(line, "%*d %*s %*s %*s %*s %*s %*s %lx %lx", sp, pc)
		     : sscanf(line, "%*d %lx %lx", sp, pc);
	return n == 2 ? 0 : -ENOENT;
}

/* A thread that won't stop: is it asleep where it can do no harm? */
static void look_blocked(struct ub_thread *thread)
{
	u64 flags, sp, pc;
	char state;
	long nr;

	if (ub_thread_stat(thread, &state, &flags) || state == 'Z' || state == 'X') {
		/* A dead leader whose threads live on is never reported to us. */
		thread_is_gone(thread);
		return;
	}
	if (state != 'D' || ub_thread_sleeps_in(thread, &nr, &sp, &pc))
		return;
	thread->state = UB_THREAD_BLOCKED;
	thread->sp = sp;
	thread->pc = pc;
}

int ub_deliver_signal(struct ub_target *t, struct ub_thread *thread)
{
	u32 i = thread - t->threads;

	while (thread->unconsumed) {
		long signal = thread->signal;
		int err;

		thread->unconsumed = false;
		thread->signal = 0;
		thread->state = UB_THREAD_SEIZED;
		if (ptrace(PTRACE_INTERRUPT, thread->tid, 0, 0) ||
		    ptrace(PTRACE_CONT, thread->tid, 0, signal))
			return -ESRCH;
		while (t->threads[i].state == UB_THREAD_SEIZED) {
			err = ub_thread_look(t, i, true);
			if (err)
				return err;
		}
		thread = &t->threads[i];
	}
	return thread->state == UB_THREAD_STOPPED ? 0 : -ESRCH;
}

int ub_threads_unsettled(const struct ub_target *t)
{
	int nr = 0;

	for (u32 i = 0; i < t->nr_threads; i++)
		nr += t->threads[i].state == UB_THREAD_SEIZED;
	return nr;
}

/* Waits until every known thread is settled. */
int ub_threads_wait(struct ub_target *t, struct ub_reason *why)
{
	int err;

	for (u32 round = 0; ub_threads_unsettled(t); round++) {
		for (u32 i = 0; i < t->nr_threads; i++) {
			if (t->threads[i].state != UB_THREAD_SEIZED)
				continue;
			/* First those that are there already; then we sleep until the next tick at
			 * most, unless it is of no use. */
			err = ub_thread_look(t, i, false);
			if (err)
				return err;
			if (!round || t->threads[i].state != UB_THREAD_SEIZED)
				continue;
			look_blocked(&t->threads[i]);
			if (t->threads[i].state == UB_THREAD_BLOCKED)
				err = ub_seize_children(t, &t->threads[i], why);
			else if (t->threads[i].state == UB_THREAD_SEIZED)
				err = ub_thread_look(t, i, true);
			if (err < 0)
				return err;
		}
	}
	return 0;
}

/* A blocked thread may have come as far as its stop by now, which is better: then it can be moved.
 */
int ub_threads_look_again(struct ub_target *t)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		int err;

		if (t->threads[i].state != UB_THREAD_BLOCKED)
			continue;
		err = ub_thread_look(t, i, false);
		if (err)
			return err;
	}
	return 0;
}
