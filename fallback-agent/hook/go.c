// SPDX-License-Identifier: MIT
/*
 * Trampolines in Go code.
 *
 * A goroutine's stack starts with 2 KiB and may be used up to the last byte, so programs run on a
 * stack of the thread's slot. To get there a trampoline needs two registers and the flags. At the
 * entry of a function that is called, and before a ret, r12, r13 and the flags are free by the
 * calling convention. Anywhere else they are saved in the three words below sp
 * (x86_64/trampoline.c), which is right if these are the goroutine's, if nobody else wants them,
 * and if nobody minds.
 *
 * They are the goroutine's: functions begin with a stack check (cmp 16(%r14),%rsp; jbe) which
 * leaves them at least 800 bytes below their frame, StackLimit, for what has no check
 * (runtime/stack.go). Of code that no check precedes (the check itself, the way to morestack,
 * NOSPLIT functions) is known only that sp is not below the stack's end: the linker counts what
 * chains of such functions use (cmd/link/internal/ld/stackcheck.go). There the trampoline looks
 * first: at stack.lo, the first word of the goroutine in r14, or in assembly, which keeps other
 * things in r14, at sp's low bits, since stacks end at multiples of 2048, the smallest that there
 * are. Where the end is, or might be, near it does without the hit, a miss. Where r14 is 0 a thread
 * of C's has come to Go's code, by a callback or a signal, and has no goroutine yet: it is on C's
 * stack, which has room. So has the stack of a signal's handler, which keeps the goroutine in r14
 * at first: where sp is below all of the goroutine's stack, it is on that one. Looking takes flags
 * which are dead, or, at the check's own jump, r12, which a function enters without. Elsewhere, between a comparison and its jump in a NOSPLIT
 * function, nothing is free: UB_REFUSED_GO_STACK.
 *
 * Nobody else wants them: Go's code has no red zone, its assembler addresses locals from the
 * frame's lower end up. Signals' handlers have a stack of their own, all of them. The stack is
 * moved only by the goroutine itself, in morestack, or while it is stopped at a safe point, which
 * no address outside of Go's text is (isAsyncSafePoint() in runtime/preempt.go): threads in a
 * trampoline are not preempted.
 *
 * Nobody minds: who profiles finds an unknown address and counts it as external code (sigprof() in
 * runtime/proc.go); gentraceback() gives up without a word unless it prints. Calls that were moved
 * push the original return address.
 *
 * Instructions keep their places (UB_REFUSED_SAVED_IPS in tactics.c): a preempted goroutine's ip lies
 * on its stack, where nobody looks for it.
 */
#include <hook/go.h>

#include <string.h>

#define MAX_CHECK   5 /* instructions to the end of the stack check */
#define MAX_RELOAD  4
#define MAX_FLAGS   32 /* instructions looked at for what becomes of the flags */
#define OPCODE_POPF 0x9d
#define OPCODE_JBE  0x6

bool ub_go_is_code(struct ub_elf *elf, u64 address)
{
	const struct ub_elf_function *function =
		elf->is_go ? ub_elf_function_at(elf, address) : NULL;

	return elf->is_go && !(function && function->described);
}

static bool is_one_of(const char *name, const char *const *prefixes, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

/* Of C or C++ that Go's own linker put in, as of the race detector: it leaves their unwinding tables
 * out, by which they would be known. Go has names like "main.part.String" and "main.coldStart" too;
 * a compiler's part has a number, or nothing, behind. */
static bool is_c_name(const char *name)
{
	static const char *const parts[] = { ".part.", ".isra.", ".constprop.", ".cold." };
	const size_t len = strlen(name);

	if (!strncmp(name, "_Z", 2) || !strncmp(name, "__", 2) || strstr(name, "(."))
		return true;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const char *at = strstr(name, parts[i]);

		if (at && at[strlen(parts[i])] >= '0' && at[strlen(parts[i])] <= '9')
			return true;
	}
	return len >= 5 && !strcmp(name + len - 5, ".cold");
}

void ub_go_name(struct ub_elf_function *function, const char *name)
{
	/* What the compiler, the signal handler and assembly enter with registers, and flags, in
	 * use that the calling convention leaves free. */
	static const char *const not_called[] = {
		"runtime.asyncPreempt", "runtime.gcWriteBarrier", "runtime.duffzero",
		"runtime.duffcopy",	"runtime.debugCall",	  "runtime.spillArgs",
		"runtime.unspillArgs",	"runtime.stackcheck",	  "runtime.racecallback",
	};
	/* All has the goroutine in r14 but assembly of the stack-based convention (ABI0), what only
	 * such calls, and what switches goroutines. */
	static const char *const no_g[] = {
		"runtime.debugCall",  "runtime.spillArgs",    "runtime.unspillArgs",
		"runtime.stackcheck", "runtime.mcall",	      "runtime.gogo",
		"runtime.rt0",	      "runtime.sigprofNonGo", "runtime.(*cpuProfile).addNonGo",
	};
	/* Where a thread begins, and ends. */
	static const char *const no_thread[] = {
		"runtime.clone",
		"runtime.exitThread",
		"runtime.settls",
	};
	const size_t len = name ? strlen(name) : 0;

	if (!name)
		return;
	/* Its registers, and within it a red zone. */
	if (is_c_name(name)) {
		function->not_called = true;
		function->no_thread = true;
		return;
	}
	/* What only assembly of the same file calls has no package in its name; crosscall2() is
	 * called by C, whose registers these are. */
	if (!strchr(name, '.') || !strcmp(name, "crosscall2")) {
		function->not_called = true;
		return;
	}
	function->not_called = is_one_of(name, not_called, ub_array_size(not_called));
	function->no_thread = is_one_of(name, no_thread, ub_array_size(no_thread));
	function->g_in_r14 = !(len > 5 && !strcmp(name + len - 5, ".abi0")) &&
			     !is_one_of(name, no_g, ub_array_size(no_g));
}

/* Whether @bytes are cmp stackguard(g),%rsp or %r12, with g in r14, or rcx in assembly of old. */
static bool is_guard(const u8 *bytes)
{
	return (bytes[0] == 0x48 || bytes[0] == 0x49 || bytes[0] == 0x4c || bytes[0] == 0x4d) &&
	       bytes[1] == 0x3b && bytes[2] == (bytes[0] & 1 ? 0x66 : 0x61) &&
	       (bytes[3] == 0x10 || bytes[3] == 0x18);
}

/* The stack check's jump to where morestack is called, or NULL. */
static const struct ub_decoded *find_check(struct ub_elf *elf, const struct ub_flow_insns *insns)
{
	for (u32 i = 0; i < MAX_CHECK && i + 1 < insns->nr; i++) {
		const struct ub_decoded *insn = &insns->insns[i], *next = insn + 1;
		u64 size = 0;
		const u8 *bytes = ub_elf_bytes(elf, insn->address, &size);

		if (insn->flow != UB_FLOW_NEXT)
			continue;
		if (insn->len == 4 && bytes && size >= 4 && is_guard(bytes))
			return next->flow == UB_FLOW_BRANCH && next->opcode < 0xe0 &&
					       (next->opcode & 0xf) == OPCODE_JBE &&
					       next->target > next->address &&
					       next->target < insns->function->end
				       ? next
				       : NULL;
	}
	return NULL;
}

/* Whether @function gives its caller's flags back: asyncPreempt, debugCall. */
static bool restores_flags(const struct ub_flow_insns *insns)
{
	for (u32 i = 0; insns->function->not_called && i < insns->nr; i++)
		if (insns->insns[i].len == 1 && insns->insns[i].opcode == OPCODE_POPF)
			return true;
	return false;
}

/* Whether no code from instruction @i on looks at flags as they are before it. */
static bool are_flags_dead(const struct ub_flow_insns *insns, s64 i)
{
	const struct ub_elf_function *function = insns->function;

	for (u32 steps = 0; steps < MAX_FLAGS && i >= 0 && i < insns->nr; steps++) {
		const struct ub_decoded *insn = &insns->insns[i];

		switch (insn->flow) {
		case UB_FLOW_RET:
			return !restores_flags(insns);
		case UB_FLOW_CALL:
		case UB_FLOW_CALL_MEM:
		case UB_FLOW_STOP:
			return true;
		case UB_FLOW_BRANCH:
		case UB_FLOW_JUMP_MEM:
			return false;
		case UB_FLOW_JUMP:
			if (insn->target < function->start || insn->target >= function->end)
				return !restores_flags(insns);
			i = ub_flow_find(insns, insn->target);
			continue;
		default:
			break;
		}
		if (insn->flags & UB_DECODED_FLAGS_READ)
			return false;
		if (insn->flags & UB_DECODED_FLAGS_WRITE)
			return true;
		if (i + 1 < insns->nr && insn[1].address != insn->address + insn->len)
			return false;
		i++;
	}
	return false;
}

/* Whether the goroutine is about to be loaded into r14, after a call of a function that does not
 * keep it. */
static bool is_g_lost(struct ub_elf *elf, const struct ub_flow_insns *insns, s64 i)
{
	static const u8 load[] = { 0x64, 0x4c, 0x8b, 0x34, 0x25 }; /* mov %fs:..,%r14 */
	/* Position-independent: the offset is loaded into r14 before; mov %fs:(%r14),%r14 */
	static const u8 load_pie[] = { 0x64, 0x4d, 0x8b, 0x36 };

	for (u32 k = 0; k < MAX_RELOAD && i + k < insns->nr; k++) {
		u64 size = 0;
		const u8 *bytes = ub_elf_bytes(elf, insns->insns[i + k].address, &size);

		if (bytes && size >= sizeof(load) &&
		    (!memcmp(bytes, load, sizeof(load)) ||
		     !memcmp(bytes, load_pie, sizeof(load_pie))))
			return true;
	}
	return false;
}

int ub_go_look(struct ub_elf *elf, u64 address, struct ub_flow_insns *insns,
	       struct ub_go_point *point)
{
	struct ub_elf_function *function = ub_elf_function_at(elf, address);
	const struct ub_decoded *check;
	s64 i;

	*point = (struct ub_go_point) { .refused = true };
	if (!function || function->gap)
		return 0;
	if (insns->function != function) {
		int err = ub_flow_decode(elf, function, insns);

		if (err)
			return err;
		ub_flow_scan(elf, function);
	}
	i = insns->function ? ub_flow_find(insns, address) : -1;
	if (i < 0 || (function->no_thread && address != function->start))
		return 0;
	*point = (struct ub_go_point) {
		.g_in_r14 = elf->go_has_g && function->g_in_r14 && !is_g_lost(elf, insns, i),
	};
	check = find_check(elf, insns);
	/* Its own loop may come back to what has no check. */
	if (!function->not_called &&
	    (insns->insns[i].flow == UB_FLOW_RET ||
	     (address == function->start && (check || !function->loops_to_start))))
		return 0;
	point->keep_registers = true;
	point->keep_flags = !are_flags_dead(insns, i);
	point->look = !check || address <= check->address || address >= check->target;
	point->refused = point->look && point->keep_flags &&
			 !(check && check->address == address && !function->not_called);
	return 0;
}
