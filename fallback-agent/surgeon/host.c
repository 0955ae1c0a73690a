// SPDX-License-Identifier: MIT
/* Which thread makes our system calls, and where its frames lie (remote.c). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

#include <surgeon/remote.h>

#define RED_ZONE      128
#define STACK_TO_GROW (64u << 10)

#define GET_RSEQ_CONFIGURATION 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION */
/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG */
#define GET_SYSCALL_USER_DISPATCH 0x4211

static bool usable_below(const struct ub_target *t, u64 sp, u64 *scratch)
{
	const struct ub_mapping *m = ub_target_mapping(t, sp);
	u64 top = (sp - RED_ZONE) & ~63ull;

	/* Small stacks (of Go, of coroutines) sit in larger mappings: what is below is not theirs.
	 */
	if (!m || !(m->prot & PROT_WRITE) || m->shared || top < m->start + UB_SCRATCH_BYTES)
		return false;
	*scratch = top - UB_SCRATCH_BYTES;
	return true;
}

int ub_host_scratch(struct ub_target *t)
{
	bool orphan = false;

	for (u32 i = 0; i < t->nr_mappings; i++) {
		const struct ub_mapping *m = &t->mappings[i];
		bool taken = false;

		if (strcmp(ub_mapping_name(t, m), "[stack]") || !(m->prot & PROT_WRITE))
			continue;
		for (u32 k = 0; k < t->nr_threads; k++) {
			const struct ub_thread *thread = &t->threads[k];

			if (thread->state != UB_THREAD_GONE && thread->sp >= m->start &&
			    thread->sp < m->start + UB_SCRATCH_BYTES + 4096)
				taken = true;
		}
		orphan = taken;
		if (!taken && m->end - m->start > UB_SCRATCH_BYTES + 4096) {
			t->scratch = m->start + 64;
			return 0;
		}
	}
	if (usable_below(t, t->host->sp, &t->scratch))
		return 0;
	/* A thread whose surgeon was killed is still on its way home. */
	return orphan ? -EBUSY : -ENOSPC;
}

/* A filter (seccomp) or a dispatcher (Wine's) is a thread's own: the main thread may have none
 * while others would be killed for our system calls. */
static bool may_call(const struct ub_target *t, const struct ub_thread *thread)
{
	struct {
		u64 mode, selector, offset, len;
	} dispatch = { 0 };
	char proc[64];

	if (!ptrace(GET_SYSCALL_USER_DISPATCH, thread->tid, sizeof(dispatch), &dispatch) &&
	    dispatch.mode)
		return false;
	if (t->suspended)
		return true;
	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", thread->process, thread->tid);
	return !ub_filter_on(proc, t->nr_harmless_filters);
}

/* The thread that is disturbed least: one that is not about to take a signal. */
static struct ub_thread *choose_host(struct ub_target *t)
{
	struct ub_thread *best = NULL;

	t->filtered = false;

	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];

		if (thread->state != UB_THREAD_STOPPED)
			continue;
		if (!best || (best->process != t->pid && thread->process == t->pid) ||
		    (best->unconsumed && !thread->unconsumed && thread->process == t->pid))
			best = thread;
		if (best->process == t->pid && !best->unconsumed)
			break;
	}
	if (!best || may_call(t, best))
		return best;
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].state == UB_THREAD_STOPPED && may_call(t, &t->threads[i]))
			return &t->threads[i];
	}
	t->filtered = true;
	return NULL;
}

static void leave_restartable_sequence(struct ub_target *t, struct ub_thread *thread)
{
	struct {
		u64 address;
		u32 size, signature, flags, pad;
	} conf = { 0 };
	struct {
		u32 version, flags;
		u64 start, length, abort;
	} section;
	u64 pointer;

	if (ptrace(GET_RSEQ_CONFIGURATION, thread->tid, sizeof(conf), &conf) <= 0 ||
	    !conf.address || ub_target_read(t, conf.address + 8, &pointer, 8) || !pointer ||
	    ub_target_read(t, pointer, &section, sizeof(section)))
		return;
	if (thread->regs.rip - section.start < section.length)
		thread->regs.rip = thread->pc = section.abort;
	thread->changed = true;
}

bool ub_remote_can_work_alone(const struct ub_target *t)
{
	const struct ub_mapping *m;

	if (!t->host || t->host->tid != t->pid || t->host->regs.cs != 0x33)
		return false;
	m = ub_target_mapping(t, t->host->sp);
	return m && !strcmp(ub_mapping_name(t, m), "[stack]") &&
	       t->host->sp - m->start > UB_SCRATCH_BYTES + STACK_TO_GROW;
}

int ub_remote_choose(struct ub_target *t, struct ub_reason *why)
{
	t->host = choose_host(t);
	if (!t->host)
		return 0;
	if (ub_deliver_signal(t, t->host))
		return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	leave_restartable_sequence(t, t->host);
	return 0;
}
