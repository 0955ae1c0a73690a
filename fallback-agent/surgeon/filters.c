// SPDX-License-Identifier: MIT
/*
 * Whether seccomp filters let pass what is done in targets. There are two ways to know.
 *
 * Those that a target shares with us (hook/filter.h) are tried: a child of ours, under the same
 * filters, makes each call first. A call that fails is no harm, here or there, and then says so in
 * its place; one that kills kills the child.
 *
 * Those of its own can be read by whoever has CAP_SYS_ADMIN and is under none: they are programs of
 * classic BPF, and run here, on each call that a program's helpers and the agent make. (What the
 * surgeon itself does needs no permission then: it suspends them.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif

struct call {
	const char *name;
	long nr;
	u64 args[6];
	u32 varies; /* bit n: args[n] is another value each time */
};

#define VARY_1(a)	(1u << (a))
#define VARY_2(a, b)	(VARY_1(a) | VARY_1(b))
#define VARY_3(a, b, c) (VARY_2(a, b) | VARY_1(c))

/* Of programs (userspace-vm/helper, userspace-vm/map) and the agent. */
static const struct call runtime_calls[] = {
	{ "getpid", SYS_getpid, { 0 }, 0 },
	{ "gettid", SYS_gettid, { 0 }, 0 },
	{ "getuid", SYS_getuid, { 0 }, 0 },
	{ "getgid", SYS_getgid, { 0 }, 0 },
	{ "newfstatat", SYS_newfstatat, { (u64)AT_FDCWD }, VARY_2(1, 2) },
	{ "prctl", SYS_prctl, { PR_GET_NAME }, VARY_1(1) },
	{ "clock_gettime", SYS_clock_gettime, { CLOCK_MONOTONIC }, VARY_2(0, 1) },
	{ "clock_getres", SYS_clock_getres, { CLOCK_MONOTONIC_COARSE }, VARY_1(1) },
	{ "futex", SYS_futex, { 0, FUTEX_WAKE, 1 }, VARY_1(0) },
	{ "sched_yield", SYS_sched_yield, { 0 }, 0 },
	{ "process_vm_readv", SYS_process_vm_readv, { 0, 0, 1, 0, 1 }, VARY_3(0, 1, 3) },
	{ "process_vm_writev", SYS_process_vm_writev, { 0, 0, 1, 0, 1 }, VARY_3(0, 1, 3) },
	{ "kill", SYS_kill, { 0 }, VARY_2(0, 1) },
	{ "tgkill", SYS_tgkill, { 0 }, VARY_3(0, 1, 2) },
	{ "rt_sigaction", SYS_rt_sigaction, { SIGSEGV, 0, 0, 8 }, VARY_1(2) },
	{ "rt_sigprocmask", SYS_rt_sigprocmask, { SIG_BLOCK, 0, 0, 8 }, VARY_3(0, 1, 2) },
	{ "rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo, { 0, 0, SIGSEGV }, VARY_3(0, 1, 3) },
};

/* The kernel has a thread make it that we stopped in a call with a timeout (restart.c). */
static const struct call restart_call = { "restart_syscall", SYS_restart_syscall, { 0 }, 0x3f };

/* --- tried ----------------------------------------------------------------------------------- */

static int leave(void *opaque)
{
	syscall(SYS_exit, 0);
	return 0;
}

static void make_calls(const struct call *calls, size_t nr, const char *volatile *name)
{
	for (size_t i = 0; i < nr; i++) {
		const u64 *a = calls[i].args;

		*name = calls[i].name;
		syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
}

/* Each call with arguments as they are in targets, as far as a filter can see them; *@name is
 * always the one that is being made. */
static void perform(const char *volatile *name)
{
	static u8 page[4096] __attribute__((aligned(4096))), stack[16384];
	static s32 pair[2], tid;
	const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };
	/* The surgeon's (helper.c, memory.c, cow.c, remote.c). */
	const struct call calls[] = {
		{ "socketpair",
		  SYS_socketpair,
		  { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (u64)pair } },
		{ "socket",
		  SYS_socket,
		  { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK } },
		{ "connect", SYS_connect, { ~0u, (u64)&unnamed, sizeof(unnamed) } },
		{ "recvmsg", SYS_recvmsg, { ~0u, 0, MSG_CMSG_CLOEXEC | MSG_DONTWAIT } },
		{ "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, ~0u } },
		{ "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ~0u } },
		{ "munmap", SYS_munmap, { 1, 4096 } },
		{ "madvise", SYS_madvise, { (u64)page, sizeof(page), MADV_DONTNEED } },
		{ "madvise", SYS_madvise, { (u64)page, sizeof(page), MADV_WIPEONFORK } },
		{ "close_range", SYS_close_range, { ~0u, ~0u } },
		{ "wait4", SYS_wait4, { (u64)getpid(), 0, __WALL } },
	};

	make_calls(calls, ub_array_size(calls), name);
	make_calls(runtime_calls, ub_array_size(runtime_calls), name);
	make_calls(&restart_call, 1, name);
	*name = "clone";
	clone(leave, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID, NULL,
	      &tid);
	*name = NULL;
}

int ub_filters_try(struct ub_reason *why)
{
	const char *volatile *name = mmap(NULL, sizeof(*name), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *killer;
	pid_t child;
	int err;

	if (name == MAP_FAILED)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	*name = "fork";
	child = fork();
	if (!child) {
		prctl(PR_SET_DUMPABLE, 0); /* no core file */
		perform(name);
		_exit(0);
	}
	if (child < 0) {
		err = -errno;
		munmap((void *)name, sizeof(*name));
		return ub_reason_set(
			why, err, "cannot make a process to try the seccomp filter around us: %s",
			strerror(-err));
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	killer = *name;
	munmap((void *)name, sizeof(*name));
	if (!killer)
		return 0;
	return ub_reason_set(
		why, -EOPNOTSUPP,
		"the seccomp filter around us and the process kills for %s(2), which is needed "
		"in the process: allow it in the profile of the container",
		killer);
}

/* --- read ------------------------------------------------------------------------------------ */

struct filter {
	struct sock_filter *insns;
	u32 nr;
};

/* A machine of classic BPF (Linux: Documentation/networking/filter.rst, kernel/seccomp.c's
 * subset). */
struct machine {
	struct seccomp_data data;
	u32 unknown; /* bit n: word n of the data */
	u32 a, x, mem[BPF_MEMWORDS];
};

static bool load_data(struct machine *m, u32 offset)
{
	if (offset % 4 || offset >= sizeof(m->data) || m->unknown >> offset / 4 & 1)
		return false;
	memcpy(&m->a, (const u8 *)&m->data + offset, 4);
	return true;
}

static bool calculate(struct machine *m, u16 op, u32 operand)
{
	switch (op) {
	case BPF_ADD:
		m->a += operand;
		return true;
	case BPF_SUB:
		m->a -= operand;
		return true;
	case BPF_MUL:
		m->a *= operand;
		return true;
	case BPF_DIV:
		m->a = operand ? m->a / operand : 0;
		return operand != 0;
	case BPF_AND:
		m->a &= operand;
		return true;
	case BPF_OR:
		m->a |= operand;
		return true;
	case BPF_XOR:
		m->a ^= operand;
		return true;
	case BPF_LSH:
		m->a <<= operand & 31;
		return true;
	case BPF_RSH:
		m->a >>= operand & 31;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

static bool is_taken(const struct machine *m, u16 op, u32 operand)
{
	switch (op) {
	case BPF_JEQ:
		return m->a == operand;
	case BPF_JGT:
		return m->a > operand;
	case BPF_JGE:
		return m->a >= operand;
	default: /* BPF_JSET */
		return m->a & operand;
	}
}

/* A load, store or move: whether it is one, and what it takes is known. */
static bool move(struct machine *m, const struct sock_filter *insn)
{
	switch (insn->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return load_data(m, insn->k);
	case BPF_LD | BPF_W | BPF_LEN:
		m->a = sizeof(m->data);
		return true;
	case BPF_LDX | BPF_W | BPF_LEN:
		m->x = sizeof(m->data);
		return true;
	case BPF_LD | BPF_IMM:
		m->a = insn->k;
		return true;
	case BPF_LDX | BPF_IMM:
		m->x = insn->k;
		return true;
	case BPF_MISC | BPF_TAX:
		m->x = m->a;
		return true;
	case BPF_MISC | BPF_TXA:
		m->a = m->x;
		return true;
	}
	if (insn->k >= BPF_MEMWORDS)
		return false;
	switch (insn->code) {
	case BPF_LD | BPF_MEM:
		m->a = m->mem[insn->k];
		return true;
	case BPF_LDX | BPF_MEM:
		m->x = m->mem[insn->k];
		return true;
	case BPF_ST:
		m->mem[insn->k] = m->a;
		return true;
	case BPF_STX:
		m->mem[insn->k] = m->x;
		return true;
	default:
		return false;
	}
}

/* What @filter returns, or that it kills if that hangs on what is not known. Jumps go forward
 * only. */
static u32 run(const struct filter *filter, struct machine *m)
{
	for (u32 i = 0; i < filter->nr; i++) {
		const struct sock_filter *insn = &filter->insns[i];
		const u32 operand = BPF_SRC(insn->code) == BPF_X ? m->x : insn->k;

		switch (BPF_CLASS(insn->code)) {
		case BPF_RET:
			return BPF_RVAL(insn->code) == BPF_A ? m->a : insn->k;
		case BPF_JMP:
			if (BPF_OP(insn->code) == BPF_JA)
				i += insn->k;
			else
				i += is_taken(m, BPF_OP(insn->code), operand) ? insn->jt : insn->jf;
			break;
		case BPF_ALU:
			if (!calculate(m, BPF_OP(insn->code), operand))
				return SECCOMP_RET_KILL_PROCESS;
			break;
		default:
			if (!move(m, insn))
				return SECCOMP_RET_KILL_PROCESS;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static bool lets_pass(const struct filter *filter, const struct call *call)
{
	struct machine m = {
		.data = { .nr = (int)call->nr, .arch = AUDIT_ARCH_X86_64 },
		.unknown = 3u << 2, /* the instruction pointer */
	};

	for (u32 i = 0; i < ub_array_size(call->args); i++) {
		m.data.args[i] = call->args[i];
		if (call->varies >> i & 1)
			m.unknown |= 3u << (4 + 2 * i);
	}
	switch (run(filter, &m) & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ERRNO:
		return true;
	default:
		return false;
	}
}

static bool lets_all_pass(const struct filter *filter)
{
	/* agent/null.c's; it can't be tried, but then no handler of a signal would come back. */
	static const struct call back = { "rt_sigreturn", SYS_rt_sigreturn, { 0 }, 0 };

	if (!lets_pass(filter, &back))
		return false;
	for (size_t i = 0; i < ub_array_size(runtime_calls); i++)
		if (!lets_pass(filter, &runtime_calls[i]))
			return false;
	return true;
}

static int read_filter(pid_t tid, u32 index, struct filter *filter)
{
	long nr = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (long)index, NULL);

	if (nr <= 0)
		return nr ? -errno : -EBADMSG;
	filter->insns = calloc((size_t)nr, sizeof(*filter->insns));
	if (!filter->insns)
		return -ENOMEM;
	filter->nr = (u32)nr;
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (long)index, filter->insns) == nr)
		return 0;
	free(filter->insns);
	filter->insns = NULL;
	return -errno;
}

static bool is_same(const struct filter *a, const struct filter *b)
{
	return a->nr == b->nr && !memcmp(a->insns, b->insns, a->nr * sizeof(*a->insns));
}

/* @passing: one that was found to let all pass, if any; threads mostly have the same. */
static bool thread_passes(pid_t tid, u32 nr, struct filter *passing)
{
	for (u32 i = 0; i < nr; i++) {
		struct filter filter = { 0 };

		if (read_filter(tid, i, &filter))
			return false;
		if (!(passing->nr && is_same(&filter, passing)) && !lets_all_pass(&filter)) {
			free(filter.insns);
			return false;
		}
		free(passing->insns);
		*passing = filter;
	}
	/* And no more. */
	return ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (long)nr, NULL) < 0 && errno == ENOENT;
}

u32 ub_filters_ask(const struct ub_target *t)
{
	struct filter passing = { 0 };
	u64 nr = 0;
	bool pass = t->suspended && !ub_proc_status(t->proc, "Seccomp_filters", 10, &nr);

	for (u32 i = 0; pass && i < t->nr_threads; i++)
		pass = t->threads[i].state == UB_THREAD_STOPPED &&
		       thread_passes(t->threads[i].tid, (u32)nr, &passing);
	free(passing.insns);
	return pass ? (u32)nr : 0;
}

bool ub_filters_let_restart(pid_t tid)
{
	bool pass = true;

	for (u32 i = 0; pass; i++) {
		struct filter filter = { 0 };
		int err = read_filter(tid, i, &filter);

		/* There is no such filter (any more), or none at all. */
		if (err)
			return err == -ENOENT || err == -EINVAL;
		pass = lets_pass(&filter, &restart_call);
		free(filter.insns);
	}
	return false;
}
