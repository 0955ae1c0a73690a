/* SPDX-License-Identifier: MIT */
/*
 * System calls made by a thread of the target on our behalf, so that the tracer may die at any
 *instant.
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
 * So what was there is put back. What may be lost is the system call's effect (a
 *mapping): those are found by name afterwards (memory.c).
 *
 *   - Signals are blocked meanwhile, after the registers point at the frame and until before they
 *are given back, so that an orphan's mask comes back with the frame. A signal that is being
 *delivered to the thread is delivered first, up to the handler's first instruction: queued again,
 *it would be out of order.
 *   - The frame's uc_stack is invalid on purpose: rt_sigreturn then leaves the alternate stack as
 *it is.
 *   - PTRACE_SYSCALL stops only, with TRACESYSGOOD: a tracer that dies before it has taken such a
 *stop makes the kernel send the stop's code as a signal; 0x85 is none, but without TRACESYSGOOD it
 *would be a SIGTRAP, and fatal. Breakpoints and single steps would leave forced signals behind,
 *too.
 *   - rt_sigreturn forgets how to continue an interrupted nanosleep or poll. So in the frame such a
 *system call starts anew; when we live, the original registers are put back and the kernel
 *continues it.
 *   - In a restartable sequence (rseq) the thread would be resumed without the abort it is due, so
 *it is moved to its abort handler first, as the kernel does.
 */
#include <cpuid.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <agent/sigframe.h>
#include <common/cleanup.h>
#include <surgeon/target.h>

#define RED_ZONE    128
#define FRAME_BYTES 512 /* pretcode, ucontext, siginfo */
/* Frames of remote.c and helper.c, arguments, and the first one's xstate. */
#define STATE_OFFSET  (3 * FRAME_BYTES + UB_REMOTE_ARGUMENTS)
#define SCRATCH_BYTES (STATE_OFFSET + UB_MAX_XSTATE + 256)
#define STACK_TO_GROW (64u << 10)
#define SEARCH_CHUNK  65536
#define LOADING_TRIES 20

#define XSTATE_AMX (3ull << 17)

#define GET_RSEQ_CONFIGURATION 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION */
/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG */
#define GET_SYSCALL_USER_DISPATCH 0x4211

_Static_assert(sizeof(struct ub_signal_frame) <= FRAME_BYTES, "frame space");

static const u8 syscall_ret[] = { 0x0f, 0x05, 0xc3 };
static const u8 sigreturn_rax[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const u8 sigreturn_eax[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

/* --- gadgets ------------------------------------------------------------------------------- */

/* Bytes that are going to be overwritten or unmapped are no place to execute. */
static bool avoided(const struct ub_image *image, u64 address, u64 size)
{
	for (u32 i = 0; image && i < image->nr_sites; i++) {
		if (address < image->sites[i].address + image->sites[i].len &&
		    image->sites[i].address < address + size)
			return true;
	}
	for (u32 i = 0; image && i < image->nr_parts; i++) {
		if (address < image->parts[i].address + image->parts[i].size &&
		    image->parts[i].address < address + size)
			return true;
	}
	return false;
}

struct search {
	const struct ub_image *avoid[2];
	const u8 *bytes; /* in memory at address */
	u64 address;
	size_t size;
};

static u64 search(const struct search *s, const u8 *pattern, size_t size)
{
	const u8 *at = s->bytes, *end = s->bytes + s->size;

	while ((at = memmem(at, end - at, pattern, size))) {
		u64 address = s->address + (at - s->bytes);

		if (!avoided(s->avoid[0], address, size) && !avoided(s->avoid[1], address, size))
			return address;
		at++;
	}
	return 0;
}

static int find_gadgets(struct ub_target *t, const struct ub_image *avoid,
			const struct ub_image *avoid_too)
{
	_cleanup_free_ u8 *chunk = malloc(SEARCH_CHUNK + 16);
	struct search s = { { avoid, avoid_too }, chunk, 0, 0 };

	if (!chunk)
		return -ENOMEM;
	for (u32 i = 0; i < t->nr_mappings && !(t->gadget && t->restorer); i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (!(m->prot & PROT_EXEC) || !(m->prot & PROT_READ) || (m->prot & PROT_WRITE) ||
		    strstr(ub_mapping_name(t, m), UB_NAME_PREFIX))
			continue;
		for (u64 at = m->start; at < m->end && !(t->gadget && t->restorer);
		     at += SEARCH_CHUNK) {
			s.address = at;
			s.size = m->end - at < SEARCH_CHUNK + 16 ? m->end - at : SEARCH_CHUNK + 16;
			if (ub_target_read(t, at, chunk, s.size))
				break;
			if (!t->gadget)
				t->gadget = search(&s, syscall_ret, sizeof(syscall_ret));
			if (!t->restorer)
				t->restorer = search(&s, sigreturn_rax, sizeof(sigreturn_rax));
			if (!t->restorer)
				t->restorer = search(&s, sigreturn_eax, sizeof(sigreturn_eax));
		}
	}
	return 0;
}

int ub_remote_prepare(struct ub_target *t, const struct ub_image *avoid,
		      const struct ub_image *avoid_too, struct ub_reason *why)
{
	int err;

	t->gadget = t->restorer = 0;
	err = find_gadgets(t, avoid, avoid_too);
	/* In the middle of execve() or of the dynamic linker's work libc may be missing. */
	for (u32 i = 0; i < LOADING_TRIES && !err && !(t->gadget && t->restorer); i++) {
		usleep(1000);
		if (ub_target_gone(t) || ub_target_read_mappings(t))
			break;
		err = find_gadgets(t, avoid, avoid_too);
	}
	if (err)
		return ub_reason_set(why, err, "out of memory");
	if ((!t->gadget || !t->restorer) && ub_target_gone(t))
		return ub_reason_set(why, -ESRCH,
				     "process %d has exited or executed another program", t->pid);
	if (!t->gadget || !t->restorer)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "process %d has no %s instruction in its text to operate with",
				     t->pid, t->gadget ? "rt_sigreturn" : "syscall; ret");
	return 0;
}

/* --- the frame ----------------------------------------------------------------------------- */

/* Size of the xstate of a signal frame: that of all features the kernel has enabled, AMX only where
 * the thread has used it (until then the kernel takes a larger one for damaged). */
static u32 xstate_size(u64 features)
{
	u32 eax, ebx, ecx, edx, size = 576;

	for (u32 i = 2; i < 63; i++) {
		if (!(features & (1ull << i)))
			continue;
		__cpuid_count(0xd, i, eax, ebx, ecx, edx);
		if (ebx + eax > size)
			size = ebx + eax;
	}
	return size;
}

static int read_xstate(const struct ub_thread *thread, u8 *xstate, u32 *size)
{
	struct iovec iov = { xstate, UB_MAX_XSTATE };
	u64 features, used;
	u32 words[4];

	if (ptrace(PTRACE_GETREGSET, thread->tid, NT_X86_XSTATE, &iov)) {
		if (ptrace(PTRACE_GETFPREGS, thread->tid, 0, xstate))
			return -errno;
		memset(xstate + 464, 0, 48);
		*size = 512;
		return 0;
	}
	memcpy(&features, xstate + 464, 8);
	memcpy(&used, xstate + 512, 8);
	if (!(used & XSTATE_AMX))
		features &= ~XSTATE_AMX;
	*size = xstate_size(features);
	if (*size > iov.iov_len || *size + 4 > UB_MAX_XSTATE)
		return -EOPNOTSUPP;
	/* struct _fpx_sw_bytes */
	memset(xstate + 464, 0, 48);
	words[0] = UB_XSTATE_MAGIC1;
	words[1] = *size + 4;
	memcpy(xstate + 464, words, 8);
	memcpy(xstate + 472, &features, 8);
	memcpy(xstate + 480, size, 4);
	words[0] = UB_XSTATE_MAGIC2;
	memcpy(xstate + *size, words, 4);
	*size += 4;
	return 0;
}

/* How much read_xstate() will need at most. */
static u32 xstate_bytes(const struct ub_thread *thread)
{
	u8 xstate[UB_MAX_XSTATE];
	u32 size = 0;

	return read_xstate(thread, xstate, &size) ? 512 : size;
}

static int write_frame(struct ub_target *t, u64 sigmask)
{
	struct user_regs_struct regs = t->host->regs;
	struct ub_signal_frame f = { 0 };
	u8 xstate[UB_MAX_XSTATE];
	u64 fpstate;
	u32 size = 0;
	int err;

	err = read_xstate(t->host, xstate, &size);
	if (err)
		return err;
	fpstate = ub_round_up(t->scratch + STATE_OFFSET, 64);
	if (fpstate + size > t->scratch + t->under_bytes)
		return -EOPNOTSUPP; /* it has grown since */
	ub_restart_by_hand(&regs);
	f = (struct ub_signal_frame) {
		.pretcode = t->restorer,
		.uc_flags = (size > 512 ? UB_UC_FP_XSTATE : 0) | UB_UC_SIGCONTEXT_SS |
			    UB_UC_STRICT_RESTORE_SS,
		.ss_flags = UB_NO_ALTSTACK,
		.r8 = regs.r8,
		.r9 = regs.r9,
		.r10 = regs.r10,
		.r11 = regs.r11,
		.r12 = regs.r12,
		.r13 = regs.r13,
		.r14 = regs.r14,
		.r15 = regs.r15,
		.rdi = regs.rdi,
		.rsi = regs.rsi,
		.rbp = regs.rbp,
		.rbx = regs.rbx,
		.rdx = regs.rdx,
		.rax = regs.rax,
		.rcx = regs.rcx,
		.rsp = regs.rsp,
		.rip = regs.rip,
		.eflags = regs.eflags,
		.cs = regs.cs,
		.ss = regs.ss,
		.fpstate = fpstate,
		.sigmask = sigmask,
	};
	err = ub_target_write(t, fpstate, xstate, size);
	if (!err)
		err = ub_target_write(t, t->frame, &f, sizeof(f));
	return err;
}

u64 ub_frame_argument(u64 frame)
{
	return frame + offsetof(struct ub_signal_frame, rdi);
}

int ub_remote_write_call(struct ub_target *t, u64 frame, const struct ub_frame_call *call)
{
	const struct ub_signal_frame f = {
		.pretcode = t->restorer,
		.uc_flags = UB_UC_SIGCONTEXT_SS | UB_UC_STRICT_RESTORE_SS,
		.ss_flags = 0x7f,
		.rax = call->nr,
		.rdi = call->a,
		.rsi = call->b,
		.rdx = call->c,
		.rsp = call->then,
		.rip = t->gadget,
		.eflags = t->host->regs.eflags & ~0x100ul,
		.cs = t->host->regs.cs,
		.ss = t->host->regs.ss,
		.sigmask = ~0ull,
	};

	return ub_target_write(t, frame, &f, sizeof(f));
}

/* --- the host ------------------------------------------------------------------------------ */

static bool usable_below(const struct ub_target *t, u64 sp, u64 *scratch)
{
	const struct ub_mapping *m = ub_target_mapping(t, sp);
	u64 top = (sp - RED_ZONE) & ~63ull;

	/* Small stacks (of Go, of coroutines) sit in larger mappings: what is below is not theirs.
	 */
	if (!m || !(m->prot & PROT_WRITE) || m->shared || top < m->start + SCRATCH_BYTES)
		return false;
	*scratch = top - SCRATCH_BYTES;
	return true;
}

static int choose_scratch(struct ub_target *t)
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
			    thread->sp < m->start + SCRATCH_BYTES + 4096)
				taken = true;
		}
		orphan = taken;
		if (!taken && m->end - m->start > SCRATCH_BYTES + 4096) {
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

bool ub_remote_can_work_alone(const struct ub_target *t)
{
	const struct ub_mapping *m;

	if (!t->host || t->host->tid != t->pid || t->host->regs.cs != 0x33)
		return false;
	m = ub_target_mapping(t, t->host->sp);
	return m && !strcmp(ub_mapping_name(t, m), "[stack]") &&
	       t->host->sp - m->start > SCRATCH_BYTES + STACK_TO_GROW;
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
	err = choose_scratch(t);
	t->busy = err == -EBUSY;
	if (err)
		return ub_reason_set(why, err, "process %d has no stack space to work with",
				     t->pid);
	t->frame = t->scratch;
	t->wait_frame = t->frame + FRAME_BYTES;
	t->exit_frame = t->wait_frame + FRAME_BYTES;
	if (!t->under)
		t->under = malloc(SCRATCH_BYTES);
	if (!t->under)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	t->under_bytes = STATE_OFFSET + 64 + xstate_bytes(t->host);
	err = ub_target_read(t, t->scratch, t->under, t->under_bytes);
	if (err)
		return ub_reason_set(why, err, "cannot read the stack of process %d: %s", t->pid,
				     strerror(-err));
	if (ptrace(PTRACE_GETSIGMASK, t->host->tid, 8, &mask))
		return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	t->saved_mask = mask;
	err = write_frame(t, mask);
	if (err)
		return ub_reason_set(why, err, "process %d: cannot prepare a thread: %s", t->pid,
				     strerror(-err));
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
	return t->exit_frame + FRAME_BYTES;
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
		return write_frame(t, t->saved_mask);
	return ptrace(PTRACE_SETREGS, thread->tid, 0, &thread->regs) ? -ESRCH : 0;
}
