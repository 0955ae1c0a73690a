/* SPDX-License-Identifier: MIT */
/*
 * System calls that our stop interrupts.
 *
 * Stopping a thread wakes it from whatever it waits in. Most system calls then return one of the
 * kernel's -ERESTART codes, which nobody outside ever sees: with the registers as they are, the
 * kernel starts the call again when the thread goes on, timeouts of nanosleep, poll and futex
 * continued by its restart block. A few know only -EINTR, which the program would see although it
 * took no signal. For those that had no effect before they returned it, we do what the kernel does
 * for the others: number back into rax, ip back onto the instruction.
 *
 * A timeout then starts anew, and would do so with every stop. epoll_wait() has its own in a
 * register: it is reduced by what has passed since the first stop, which the caller of surgeons
 * remembers; so a call takes twice as long at most. To be known again it gets a mark, in the half of
 * that register that Linux does not look at. All that only where the register is known to be dead
 * behind the call. Timeouts that lie in memory (rt_sigtimedwait, semtimedop, epoll_pwait2) or in a
 * socket are not ours to change: each stop has them start anew.
 *
 * Nor is there another place for what is left of those. The kernel reads it where the call begins,
 * which is after the thread was let go, and perhaps long after: a handler may run first, and only
 * its return leads to the call. Below the stack pointer that handler's frame overwrites it. In the
 * image it is gone when a detach comes in between, which does not find registers that a handler's
 * frame holds: the call would fail with EFAULT, or wait for whatever is mapped there by then. Memory
 * that stays for good would be left behind in the target. Signals that are kept away meanwhile
 * (PTRACE_SETSIGMASK) stay away for ever if we are killed, and a stop at the call's beginning
 * (PTRACE_SYSCALL) comes before the kernel reads. No other call does the same with a timeout in a
 * register, and the restart blocks of nanosleep, poll and futex are made by these calls alone.
 *
 * The restart block is asked for by restart_syscall(2). A seccomp filter of the target that does
 * not know that call would kill for it: then these calls are made again by hand, too.
 *
 * All of it is done as soon as a thread has stopped, and not when it is released, so that it also
 * holds if we are killed in between. What is left is the moment between the thread's waking and our
 * look at it, in which nobody can change its registers: some 10 us, more where it has to wait for a
 * CPU. So threads that sleep in such a call are stopped one after another (seize.c), and a surgeon
 * that is killed leaves EINTR to one thread at most. No order of ours can close that: whatever stops
 * a thread on Linux (PTRACE_INTERRUPT, a group stop, a freezer of version 2) begins with waking it,
 * by then its call has failed, and a tracer that is killed lets its threads run before anybody can
 * step in. To leave sleepers asleep would need them to be kept from waking amid the patch, which
 * only a stop can. It is what signal(7) says of these calls for every SIGSTOP and SIGCONT.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define ERESTARTSYS	      512
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516

bool ub_restart_is_needed(long nr)
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
	case SYS_preadv2:
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
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

/* Whether any signal waits for @tid or its process, blocked or not. */
static bool signal_queued(pid_t tid)
{
	struct __ptrace_peeksiginfo_args args = { .nr = 1 };
	siginfo_t info;

	if (ptrace(PTRACE_PEEKSIGINFO, tid, &args, &info))
		return true;
	args.flags = PTRACE_PEEKSIGINFO_SHARED;
	return ptrace(PTRACE_PEEKSIGINFO, tid, &args, &info) != 0;
}

static u64 signals(const char *status, const char *key)
{
	return strtoull(ub_proc_status_field(status, key), NULL, 16);
}

/*
 * Whether a signal is a true reason for -EINTR: one that a handler takes or that stops the process.
 * Others that it ignores, SIGCHLD above all, reach a thread only because it is traced.
 */
static bool signal_taken(const struct ub_thread *thread)
{
	const u64 stops = 1ull << (SIGSTOP - 1) | 1ull << (SIGTSTP - 1) | 1ull << (SIGTTIN - 1) |
			  1ull << (SIGTTOU - 1);
	_cleanup_free_ char *status = NULL;
	u64 own, caught, ignored;
	char proc[64];

	if (!thread->signal && !signal_queued(thread->tid))
		return false;
	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", thread->process, thread->tid);
	if (ub_proc_status_read(proc, &status))
		return true;
	own = (signals(status, "SigPnd") | signals(status, "ShdPnd")) & ~signals(status, "SigBlk");
	ignored = signals(status, "SigIgn");
	caught = signals(status, "SigCgt");
	if (thread->signal)
		own |= 1ull << (thread->signal - 1);
	return own & ~ignored & (caught | stops);
}

static bool was_interrupted(const struct user_regs_struct *regs)
{
	return (s64)regs->rax == -EINTR && (s64)regs->orig_rax >= 0 &&
	       ub_restart_is_needed(regs->orig_rax);
}

static void restart(struct user_regs_struct *regs)
{
	regs->rax = regs->orig_rax;
	regs->orig_rax = -1;
	regs->rip -= 2;
}

/* --- timeouts in registers --------------------------------------------------------------------- */

#define NR_REMEMBERED 1024 /* threads, by tid; who is forgotten waits a little longer */

/* A timeout that was reduced. */
struct reduced {
	pid_t tid;
	u64 timeout;	 /* in the register: the mark, and what is left in ms */
	u64 deadline_ns; /* of the call */
};

/* Shared with all surgeons of this process; NULL if there was no memory. */
static struct reduced *remembered;

static void remember(void)
{
	void *memory = mmap(NULL, NR_REMEMBERED * sizeof(*remembered), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	remembered = memory == MAP_FAILED ? NULL : memory;
}

void ub_restart_remember(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, remember);
}

/* Whether @m is a C library. */
static bool is_libc(const struct ub_target *t, const struct ub_mapping *m)
{
	static const char *const names[] = { "libc.so.6", "libc-2.", "ld-musl-", "libc.musl-" };
	const char *name = m ? strrchr(ub_mapping_name(t, m), '/') : NULL;

	for (u32 i = 0; name && i < ub_array_size(names); i++) {
		if (!strncmp(name + 1, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

/*
 * Whether the fourth argument's register is dead at @ip, behind a system call: where a function
 * returns, where a C library compares the result with the errors, and in Go's Syscall6. Compiled
 * into a loop, a system call may find there next time what it has left.
 */
static bool is_dead_behind(const struct ub_target *t, u64 ip)
{
	/* cmp $-4096, %rax */
	static const u8 compare[] = { 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff };
	/* cmp $-4095, %rax; jbe 1f; neg %rax; mov %rax, %rcx; mov $-1, %rax; mov $0, %rbx; ret;
	 * 1: mov %rdx, %rbx; mov $0, %rcx; ret */
	static const u8 go[] = { 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x76, 0x15, 0x48, 0xf7,
				 0xd8, 0x48, 0x89, 0xc1, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff,
				 0xff, 0x48, 0xc7, 0xc3, 0,    0,    0,	   0,	 0xc3, 0x48,
				 0x89, 0xd3, 0x48, 0xc7, 0xc1, 0,    0,	   0,	 0,    0xc3 };
	/* mov %eax, N(%rsp); ret: in Go until 1.20 */
	static const u8 store[] = { 0x89, 0x44, 0x24 };
	u8 bytes[sizeof(go)];

	if (ub_target_read(t, ip, bytes, sizeof(bytes)))
		return false;
	return bytes[0] == 0xc3 || !memcmp(bytes, go, sizeof(go)) ||
	       (!memcmp(bytes, store, sizeof(store)) && bytes[sizeof(store) + 1] == 0xc3) ||
	       (!memcmp(bytes, compare, sizeof(compare)) && is_libc(t, ub_target_mapping(t, ip)));
}

/* Of epoll_wait(), which is about to be made again. */
static void reduce_timeout(const struct ub_target *t, pid_t tid, u64 ip,
			   struct user_regs_struct *regs)
{
	const u64 now = ub_now_ns();
	const s32 ms = (s32)regs->r10;
	struct reduced *reduced;
	u64 left;

	if (!remembered || ms <= 0 || !is_dead_behind(t, ip))
		return;
	reduced = &remembered[(u32)tid % NR_REMEMBERED];
	if (reduced->tid != tid || reduced->timeout != regs->r10)
		*reduced = (struct reduced) { tid, 0, now + (u64)ms * 1000000 };
	left = reduced->deadline_ns > now ? (reduced->deadline_ns - now + 999999) / 1000000 : 0;
	/* Never 0, which would make a loop of a wait. */
	regs->r10 = (now | 1) << 32 | (left ? left : 1);
	reduced->timeout = regs->r10;
}

/* ----------------------------------------------------------------------------------------------- */

/* Whether the kernel would have it continue by a call that its filter is not known to allow. */
static bool would_be_killed(const struct ub_target *t, const struct ub_thread *thread)
{
	if ((s64)thread->regs.rax != -ERESTART_RESTARTBLOCK || (s64)thread->regs.orig_rax < 0)
		return false;
	return t->filters_known ? !ub_filters_let_restart(thread->tid)
				: t->seccomp || t->fears_filters;
}

void ub_restart_interrupted(const struct ub_target *t, struct ub_thread *thread)
{
	struct user_regs_struct regs = thread->regs;

	if ((!was_interrupted(&regs) && !would_be_killed(t, thread)) || signal_taken(thread))
		return;
	restart(&regs);
	if (regs.rax == SYS_epoll_wait || regs.rax == SYS_epoll_pwait)
		reduce_timeout(t, thread->tid, thread->regs.rip, &regs);
	if (ptrace(PTRACE_SETREGS, thread->tid, 0, &regs))
		return;
	thread->regs = regs;
	thread->pc = thread->restarts_at = regs.rip;
}

void ub_restart_reconsider(struct ub_thread *thread)
{
	struct user_regs_struct *regs = &thread->regs;

	if (!thread->restarts_at || regs->rip != thread->restarts_at || !signal_taken(thread))
		return;
	regs->orig_rax = regs->rax;
	regs->rax = -EINTR;
	regs->rip += 2;
	thread->changed = true;
}

void ub_restart_blindly(pid_t tid, u64 gadget)
{
	struct user_regs_struct regs;
	siginfo_t info;

	if (ptrace(PTRACE_GETSIGINFO, tid, 0, &info) || info.si_code >> 8 != PTRACE_EVENT_STOP ||
	    ptrace(PTRACE_GETREGS, tid, 0, &regs) || !was_interrupted(&regs) ||
	    regs.rip - gadget <= 2 || signal_queued(tid))
		return;
	restart(&regs);
	ptrace(PTRACE_SETREGS, tid, 0, &regs);
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
