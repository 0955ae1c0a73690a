// SPDX-License-Identifier: MIT
/*
 * A null pointer that a moved instruction is about to follow.
 *
 * Runtimes take SIGSEGV for more than an error: Go and Java look up what to throw by the faulting
 * instruction's address, others unwind from it. An instruction that faults in a trampoline has an
 * address that none of them knows. So trampolines look at the base register first
 * (hook/x86_64/null.c), and where it is null and the address can't be read, the signal comes from
 * here, as the processor would have made it: it is queued while it is blocked, with the address
 * that could not be read, and rt_sigreturn() puts the thread at the original instruction, all
 * registers as they were, and unblocks it in one step. Should the handler return, the instruction
 * is tried again from its start, as after any fault.
 *
 * In the handler's context only the words cr2, err and trapno are of an earlier fault. Faults that
 * no null pointer makes, and those that can't be made here (system calls may be forbidden, the
 * signal blocked), happen in the trampoline.
 */
#include <sys/syscall.h>

#include <agent/ask.h>
#include <agent/data.h>
#include <agent/sigframe.h>

#define SIGNAL_SEGV   11
#define SEGV_MAPERR   1
#define MASK_SEGV     (1ull << (SIGNAL_SEGV - 1))
#define SIG_SETMASK   2
#define HANDLER_DFL   0
#define HANDLER_IGN   1
#define MAX_XSTATE    (12u << 10)
#define XSTATE_AMX    (3ull << 17)
#define CPUID_OSXSAVE (1u << 27)
#define USER_CS	      0x33
#define USER_DS	      0x2b
#define FXSAVE_SIZE   512u

/* What glue.S leaves on the stack. */
struct ub_null_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, eflags;
	u64 return_address;
	u64 *guard; /* of the slot on whose stack this is, or NULL */
	const struct ub_process *process;
	u64 ip;	     /* of the original instruction */
	u64 address; /* of its operand */
	u64 sp;
	u64 rax_again;
};

struct signal_info {
	s32 signo, error, code, pad;
	u64 address;
	u64 rest[13];
};

struct action {
	u64 handler, flags, restorer, mask;
};

_Static_assert(sizeof(struct signal_info) == 128, "siginfo_t");

void ub_agent_null_signal(struct ub_null_frame *f) __attribute__((visibility("hidden")));

static bool is_readable(const struct ub_process *process, u64 address)
{
	u8 byte;
	struct {
		u64 base;
		u64 size;
	} here = { (u64)&byte, 1 }, there = { address, 1 };
	const u64 self = (u64)ub_syscall(process, SYS_getpid, 0, 0, 0, 0, 0, 0);

	return ub_syscall(process, SYS_process_vm_readv, self, (u64)&here, 1, (u64)&there, 1, 0) ==
	       1;
}

/* Whether the signal will end the process or be handled. The first process of a namespace ignores
 * what it sends itself, and would be back here for ever. */
static bool will_be_taken(const struct ub_process *process)
{
	struct action action = {};

	if (ub_syscall(process, SYS_rt_sigaction, SIGNAL_SEGV, 0, (u64)&action, 8, 0, 0))
		return false;
	if (action.handler == HANDLER_DFL)
		return ub_syscall(process, SYS_getpid, 0, 0, 0, 0, 0, 0) != 1;
	return action.handler != HANDLER_IGN;
}

static void cpuid(u32 leaf, u32 subleaf, u32 *a, u32 *b, u32 *c)
{
	u32 d;

	*a = leaf;
	*c = subleaf;
	__asm__ volatile("cpuid" : "+a"(*a), "=b"(*b), "+c"(*c), "=d"(d));
}

static u64 xgetbv(u32 number)
{
	u32 low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(number));
	return (u64)high << 32 | low;
}

/*
 * Bytes that xstate_save() needs, and for which features; none: FXSAVE's only. 0 = too many. Tiles
 * (AMX) only where they are not in use: the kernel takes a frame that has room for them for damaged
 * unless the thread has used them.
 */
static u32 xstate_size(u64 *features)
{
	u32 size = FXSAVE_SIZE + 64, a, b, c;

	*features = 0;
	cpuid(1, 0, &a, &b, &c);
	if (!(c & CPUID_OSXSAVE))
		return FXSAVE_SIZE;
	*features = xgetbv(0);
	if (*features & XSTATE_AMX && xgetbv(1) & XSTATE_AMX)
		return 0;
	*features &= ~XSTATE_AMX;
	for (u32 i = 2; i < 63; i++) {
		if (!(*features & 1ull << i))
			continue;
		cpuid(0xd, i, &a, &b, &c);
		if (a + b > size)
			size = a + b;
	}
	return size > MAX_XSTATE ? 0 : size + 4; /* and the second magic number */
}

/* @area: aligned to 64. */
static void xstate_save(u8 *area, u32 size, u64 features)
{
	u32 *software = (u32 *)(area + UB_XSTATE_SOFTWARE);

	if (!features) {
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
		for (u32 i = 0; i < (FXSAVE_SIZE - UB_XSTATE_SOFTWARE) / 4; i++)
			software[i] = 0;
		return;
	}
	for (u32 i = UB_XSTATE_SOFTWARE; i < FXSAVE_SIZE + 64; i += 8)
		*(u64 *)(area + i) = 0;
	__asm__ volatile("xsave64 (%0)"
			 :
			 : "r"(area), "a"((u32)features), "d"((u32)(features >> 32))
			 : "memory");
	software[0] = UB_XSTATE_MAGIC1;
	software[1] = size;
	*(u64 *)(software + 2) = features;
	software[4] = size - 4;
	*(u32 *)(area + size - 4) = UB_XSTATE_MAGIC2;
}

static void __attribute__((noreturn))
go_back(const struct ub_null_frame *f, u64 mask, u64 xstate, u64 features)
{
	const struct ub_signal_frame frame = {
		.uc_flags = (features ? UB_UC_FP_XSTATE : 0) | UB_UC_SIGCONTEXT_SS |
			    UB_UC_STRICT_RESTORE_SS,
		.ss_flags = UB_NO_ALTSTACK,
		.r8 = f->r8,
		.r9 = f->r9,
		.r10 = f->r10,
		.r11 = f->r11,
		.r12 = f->r12,
		.r13 = f->r13,
		.r14 = f->r14,
		.r15 = f->r15,
		.rdi = f->rdi,
		.rsi = f->rsi,
		.rbp = f->rbp,
		.rbx = f->rbx,
		.rdx = f->rdx,
		.rax = f->rax,
		.rcx = f->rcx,
		.rsp = f->sp,
		.rip = f->ip,
		.eflags = f->eflags,
		.cs = USER_CS,
		.ss = USER_DS,
		.fpstate = xstate,
		.sigmask = mask,
	};

	__asm__ volatile("mov %0, %%rsp; mov %1, %%eax; syscall; ud2"
			 :
			 : "r"(&frame.uc_flags), "i"(SYS_rt_sigreturn)
			 : "memory");
	__builtin_unreachable();
}

/* Does not return if the signal is on its way. */
void __attribute__((section(".text.ub_agent_null_signal")))
ub_agent_null_signal(struct ub_null_frame *f)
{
	const struct ub_process *process = f->process;
	const u64 block = ~0ull;
	u64 old = 0, features, self;
	struct signal_info info = {
		.signo = SIGNAL_SEGV,
		.code = SEGV_MAPERR,
		.address = f->address,
	};
	u32 size;

	if (f->address >= UB_NULL_REACH || !ub_agent_may_ask_kernel(process) ||
	    !will_be_taken(process) || is_readable(process, f->address))
		return;
	size = xstate_size(&features);
	if (!size ||
	    ub_syscall(process, SYS_rt_sigprocmask, SIG_SETMASK, (u64)&block, (u64)&old, 8, 0, 0))
		return;
	self = (u64)ub_syscall(process, SYS_getpid, 0, 0, 0, 0, 0, 0);
	if (!(old & MASK_SEGV) &&
	    !ub_syscall(process, SYS_rt_tgsigqueueinfo, self,
			(u64)ub_syscall(process, SYS_gettid, 0, 0, 0, 0, 0, 0), SIGNAL_SEGV,
			(u64)&info, 0, 0)) {
		u8 *area = __builtin_alloca(size + 64);

		area = (u8 *)(((u64)area + 63) & ~63ull);
		xstate_save(area, size, features);
		/* No handler needs the stack any more. */
		if (f->guard)
			*f->guard = 0;
		go_back(f, old, (u64)area, features);
	}
	ub_syscall(process, SYS_rt_sigprocmask, SIG_SETMASK, (u64)&old, 0, 8, 0, 0);
}
