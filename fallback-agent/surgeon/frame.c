// SPDX-License-Identifier: MIT
/* Signal frames, from which rt_sigreturn gives a borrowed thread back what it had (remote.c). */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include <agent/sigframe.h>
#include <surgeon/remote.h>

#define XSTATE_AMX (3ull << 17)

_Static_assert(sizeof(struct ub_signal_frame) <= UB_FRAME_BYTES, "frame space");

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

u32 ub_frame_state_bytes(const struct ub_thread *thread)
{
	u8 xstate[UB_MAX_XSTATE];
	u32 size = 0;

	return read_xstate(thread, xstate, &size) ? 512 : size;
}

int ub_frame_write(struct ub_target *t, u64 sigmask)
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
	fpstate = ub_round_up(t->scratch + UB_STATE_OFFSET, 64);
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

int ub_frame_write_call(struct ub_target *t, u64 frame, const struct ub_frame_call *call)
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
