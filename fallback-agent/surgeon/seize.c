/* SPDX-License-Identifier: MIT */
/*
 * Stopping everything that runs in a target's memory, and letting it go again.
 *
 * Threads come in three kinds (threads.c): those of the process; those of other processes in the
 * same memory (children of vfork() and posix_spawn() until they exec, raw clone(CLONE_VM)), found
 * by sharing.c; and those that are born while we look, which are ours from birth because all of the
 * others are seized with TRACECLONE, TRACEFORK and TRACEVFORK. We are done when every thread that
 * /proc lists is known and settled (wait.c):
 *
 *   stopped	in a ptrace stop
 *   blocked	in the kernel, in a sleep that INTERRUPT does not end: the parent of a vfork(), a
 *		thread that waits for a disk. It can't get back to user code without meeting the
 *		pending stop, so it is as good as stopped as long as nobody has to change its
 *		registers.
 *   gone
 *
 * What a stop must not do to the target:
 *
 *   Signals	must not be lost (wait.c).
 *   Job control	A stopped process stays stopped: its threads go back into their group stop by
 *		themselves when the tracer detaches or exits.
 *   System calls	must not notice (restart.c): threads that would are stopped one after another.
 *
 * What a target must not do to us: execve() while we seize (watchdog.c); and create threads faster
 * than we can seize them, which it can't any more once INTERRUPT is out.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <surgeon/seize.h>

#define GIVE_UP_MS    20
#define SPIN_US	      30
#define STARVED_US    1000 /* until a sleeper stops: then those who run take its CPU */
#define ONE_BY_ONE_MS 500  /* in all, for sleepers that have to be stopped so */

static bool in_64_bit_mode(const struct ub_target *t)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].state == UB_THREAD_STOPPED)
			return t->threads[i].regs.cs == 0x33;
	}
	return true;
}

bool ub_may_suspend_filters(void)
{
	return ub_have_capability(CAP_SYS_ADMIN) && !ub_filter_on_us();
}

static void decide_about_seccomp(struct ub_target *t)
{
	t->filters_known = ub_may_suspend_filters();
	t->suspended = t->seccomp && t->filters_known;
}

static void start(struct ub_target *t)
{
	ub_watchdog_borrow(t->gadget);
	t->nr_threads = 0;
	t->execed = t->alone = false;
	t->host = NULL;
	decide_about_seccomp(t);
	t->first = ub_prefer(0);
}

/* What has stopped by now is settled, so that nobody is left with an EINTR of ours. */
static int give_up(struct ub_target *t, int err)
{
	u64 end = ub_now_ns() + GIVE_UP_MS * 1000000ull;

	while (ub_threads_unsettled(t) && ub_now_ns() < end) {
		for (u32 i = 0; i < t->nr_threads; i++) {
			if (t->threads[i].state == UB_THREAD_SEIZED && ub_thread_look(t, i, false))
				return err;
		}
	}
	return err;
}

/* Whether to stop the thread leaves it with an EINTR, until we have looked at it. */
static bool is_delicate(const struct ub_thread *thread)
{
	u64 sp, pc;
	long nr;

	return thread->state == UB_THREAD_SEIZED && !ub_thread_sleeps_in(thread, &nr, &sp, &pc) &&
	       ub_restart_is_needed(nr);
}

/* Until a thread that was woken has stopped. After @end it is waited for with the others. */
static int await_sleeper(struct ub_target *t, u32 i, u64 end)
{
	const u64 start = ub_now_ns();
	u64 now = start;
	int err;

	/* On another CPU it stops sooner than we could fall asleep. */
	do {
		err = ub_thread_look(t, i, now - start > SPIN_US * 1000ull);
		now = ub_now_ns();
	} while (!err && t->threads[i].state == UB_THREAD_SEIZED && now < end);
	return err;
}

/* Stops a thread that sleeps. It does so as soon as it gets a CPU. */
static int interrupt_sleeper(struct ub_target *t, u32 i, u64 end)
{
	int err;

	ptrace(PTRACE_INTERRUPT, t->threads[i].tid, 0, 0);
	err = ub_fault(t, UB_FAULT_interrupted);
	return err ? err : await_sleeper(t, i, end);
}

static void interrupt_others(struct ub_target *t, const bool *delicate, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (t->threads[i].state == UB_THREAD_SEIZED && !delicate[i])
			ptrace(PTRACE_INTERRUPT, t->threads[i].tid, 0, 0);
	}
}

/* Stops those who would be left with an EINTR, one after another, the others all together: those
 * last, since they run and lose more by the pause, unless a sleeper that was woken does not get a
 * CPU for them. */
static int interrupt_all(struct ub_target *t)
{
	const u32 nr = t->nr_threads;
	_cleanup_free_ bool *delicate = calloc(nr + 1, sizeof(*delicate));
	int err = delicate ? 0 : -ENOMEM;
	bool others_told = false;
	u64 end;

	for (u32 i = 0; i < nr && !err; i++)
		delicate[i] = is_delicate(&t->threads[i]);
	t->interrupted_ns = ub_now_ns();
	end = t->interrupted_ns + ONE_BY_ONE_MS * 1000000ull;
	for (u32 i = 0; i < nr && !err; i++) {
		if (!delicate[i])
			continue;
		err = interrupt_sleeper(t, i,
					others_told ? end : ub_now_ns() + STARVED_US * 1000ull);
		if (err || others_told || t->threads[i].state != UB_THREAD_SEIZED)
			continue;
		interrupt_others(t, delicate, nr);
		others_told = true;
		err = await_sleeper(t, i, end);
	}
	if (!err && !others_told)
		interrupt_others(t, delicate, nr);
	return err;
}

int ub_seize_main(struct ub_target *t, struct ub_reason *why)
{
	int err;

	start(t);
	err = ub_seize_thread(t, t->pid, t->pid, why);
	if (err || !t->nr_threads || t->threads[0].state != UB_THREAD_SEIZED)
		return err;
	t->interrupted_ns = ub_now_ns();
	err = interrupt_sleeper(t, 0, t->interrupted_ns + UB_TICK_US * 1000ull);
	if (!err)
		err = ub_threads_wait(t, why);
	if (!err && t->execed)
		err = ub_reason_set(why, -ESRCH, "process %d has executed another program", t->pid);
	return err ? give_up(t, err) : 0;
}

static int stop_all(struct ub_target *t, struct ub_reason *why)
{
	int err, nr;

	start(t);
	for (u32 pass = 0; pass < 4; pass++) {
		nr = ub_seize_process(t, t->pid, false, why);
		if (nr < 0)
			return nr;
		if (!nr)
			break;
	}
	err = ub_seize_sharers(t, why);
	if (!err)
		err = ub_fault(t, UB_FAULT_seize);
	if (err)
		return err;

	err = interrupt_all(t);
	if (err)
		return err;
	do {
		err = ub_threads_wait(t, why);
		if (err)
			return err;
		if (t->execed)
			return ub_reason_set(why, -ESRCH, "process %d has executed another program",
					     t->pid);
		nr = ub_seize_process(t, t->pid, true, why);
		if (nr < 0)
			return nr;
	} while (nr);
	err = ub_threads_look_again(t);
	if (err)
		return err;
	if (ub_target_gone(t))
		return ub_reason_set(why, -ESRCH,
				     "process %d has exited or executed another program", t->pid);
	if (!in_64_bit_mode(t))
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"process %d runs 32-bit code: only 64-bit programs are supported", t->pid);
	return ub_fault(t, UB_FAULT_stopped);
}

int ub_seize(struct ub_target *t, struct ub_reason *why)
{
	int err = stop_all(t, why);

	return err ? give_up(t, err) : 0;
}

static u32 write_registers(struct ub_target *t)
{
	u32 nr = 0;

	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];

		if (thread->state != UB_THREAD_STOPPED)
			continue;
		nr++;
		if (t->host_in_use && thread == t->host)
			continue;
		ub_restart_reconsider(thread);
		if (thread->changed)
			ptrace(PTRACE_SETREGS, thread->tid, 0, &thread->regs);
		thread->changed = false;
	}
	return nr;
}

/* A thread that was blocked has meanwhile run into its stop, or will and find nobody there:
 * DETACH needs a stopped one, so the blocked are left to our exit. */
static void detach(struct ub_target *t, const struct ub_thread *but)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];

		if (thread->state != UB_THREAD_STOPPED || thread == but)
			continue;
		ptrace(PTRACE_DETACH, thread->tid, 0, (long)thread->signal);
		thread->state = UB_THREAD_GONE;
	}
}

void ub_release_others(struct ub_target *t)
{
	if (t->alone || t->nr_threads > UB_MAX_DETACHES || !ub_remote_can_work_alone(t))
		return;
	t->report->surgery.nr_threads = write_registers(t);
	detach(t, t->host);
	t->alone = true;
	t->resumed_ns = ub_now_ns();
}

void ub_release(struct ub_target *t)
{
	u32 nr = write_registers(t);
	/* Each that goes on may take our CPU, unless we are first; an exit lets all of them go at
	 * once. */
	const bool by_exit = nr > UB_MAX_DETACHES && !t->first;

	if (!t->alone)
		t->report->surgery.nr_threads = nr;
	if (!by_exit)
		detach(t, NULL);
	if (t->alone)
		t->report->surgery.alone_ns += ub_now_ns() - t->resumed_ns;
	else
		t->resumed_ns = by_exit ? 0 : ub_now_ns();
}
