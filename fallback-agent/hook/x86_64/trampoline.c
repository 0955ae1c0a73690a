// SPDX-License-Identifier: MIT
/*
 * Trampolines.
 *
 * A probe runs between two instructions of code that knows nothing of it, so it may change nothing:
 * not the 128 bytes below rsp (leaf functions keep variables there), no register, not the flags
 * unless they are dead by the calling convention (function entries), no vector register (programs
 * and helpers are compiled without). Everything it needs is on the target's stack, below the red
 * zone:
 *
 *   rsp -> struct pt_regs   as the kernel lays it out; holds what the program reads and what is
 *			     restored afterwards
 *	    struct ub_run
 *	    slot, guard, flags
 *	    red zone	     128 bytes
 *	    the code's own stack
 *
 * What it costs is mostly stores, so only what somebody needs is stored: registers that the
 * compiled program or the probe itself overwrite, and the words of pt_regs that the program reads
 * (the verifier knows).
 *
 * The thread's slot (agent/layout.h) holds its hit counters, so that a hit is one plain increment
 * that no other thread races with and whose cache line no other thread wants; a signal handler that
 * hits in between is no race, since the increment is one instruction. It also holds the guard: the
 * stack pointer of the innermost active probe. Nested hits, from signal handlers, run as they do in
 * the kernel; the guard tells the surgeon that a thread is still inside while its ip is elsewhere
 * (a handler, the vDSO). It is compared with the stack pointer, so a siglongjmp out of a handler
 * leaves no thread disabled.
 *
 * Goroutines have small stacks, and at a function's entry nothing may be left of one. There r12 and
 * r13 are free by Go's calling convention, so the slot is found with them alone and the frame lies
 * on a stack of the slot's (own_stack). Elsewhere both, and the flags, are saved below sp before
 * (hook/go.c). Go's signal handlers have a stack of their own, where nested hits stay.
 *
 * Within a function the direction flag may be set (std); helpers copy with string instructions,
 * which believe the ABI that it is not. It is cleared for them and set again.
 *
 * The frame is not aligned to 16: nothing that runs on it uses vector registers.
 *
 * A hit touches five lines that are not the stack's (the thread's TCB, the fork page, the head of
 * the data, the slot, the counters) and four of the stack. AMD's first-level cache predicts the
 * way of a line from 8 bits, which are a hash of bits 12 to 27 of its virtual address (12^27,
 * 13^26, 14^25, 15^20, 16^21, 17^22, 18^23, 19^24): two lines of one set whose hash is the same
 * put each other out of that prediction at each access, and where one of them is written, a hit
 * takes 5 to 30 ns in place of 4. Two or three of 800 attaches to a process with one call site met
 * that, as 30 pairs in 64 * 256 lead to expect. Where our own lines lie can't help it: the partner is
 * the stack, which lies where the caller's depth has it, and TCBs, of threads to come. It
 * concerns one depth of one thread's stack, not the image: calls from elsewhere are as fast as
 * ever. (What else makes hits slower for a while, by a third, makes calls without a probe slower
 * by a third, too: the core's other half is busy.)
 */
#include <stddef.h>

#include <hook/x86_64/frame.h>

static const u8 pt_word[16] = {
	[UB_RAX] = PT_AX,  [UB_RCX] = PT_CX,  [UB_RDX] = PT_DX,	 [UB_RBX] = PT_BX,
	[UB_RSP] = PT_SP,  [UB_RBP] = PT_BP,  [UB_RSI] = PT_SI,	 [UB_RDI] = PT_DI,
	[UB_R8] = PT_R8,   [UB_R9] = PT_R9,   [UB_R10] = PT_R10, [UB_R11] = PT_R11,
	[UB_R12] = PT_R12, [UB_R13] = PT_R13, [UB_R14] = PT_R14, [UB_R15] = PT_R15,
};

#define BIT(n) (1u << (n))
#define CALLER_SAVED                                                                               \
	(BIT(UB_RAX) | BIT(UB_RCX) | BIT(UB_RDX) | BIT(UB_RSI) | BIT(UB_RDI) | BIT(UB_R8) |        \
	 BIT(UB_R9) | BIT(UB_R10) | BIT(UB_R11))
/* The probe's own: saved first and restored last. */
#define SCRATCH (BIT(UB_RAX) | BIT(UB_RCX) | BIT(UB_RDX))

#define USER_CS 0x33
#define USER_DS 0x2b

static bool is_return(const struct ub_trampoline_point *point)
{
	return point->kind == UB_TRAMPOLINE_RETURN || point->kind == UB_TRAMPOLINE_NOTED;
}

static bool runs(const struct ub_trampoline_point *point)
{
	return point->kind == UB_TRAMPOLINE_RUN || is_return(point);
}

static struct needs find_needs(const struct ub_trampoline_point *point)
{
	struct needs needs = { .restore = SCRATCH };

	if (point->kind != UB_TRAMPOLINE_RUN && point->kind != UB_TRAMPOLINE_RETURN)
		needs.restore |= CALLER_SAVED;
	if (!runs(point))
		return needs;
	for (u32 i = 0; i < point->nr_links; i++) {
		const struct ub_trampoline_link *link = &point->links[i];

		needs.restore |= link->code->clobbers;
		if (link->code->calls_helpers || link->tail_calls) {
			needs.restore |= CALLER_SAVED;
			needs.direction = (point->keep_flags || point->keep_registers) &&
					  point->kind == UB_TRAMPOLINE_RUN;
		}
		if (link->code->calls_helpers || link->code->nr_relocs || link->tail_calls)
			needs.run = true;
		if (link->ctx.words || link->ctx.escapes || link->ctx.written || needs.run)
			needs.context = true;
		needs.words |= link->ctx.escapes || link->ctx.written ? (1ull << PT_NR) - 1
								      : link->ctx.words;
	}
	if (needs.context)
		needs.restore |= BIT(UB_RDI);
	if (needs.run)
		needs.restore |= BIT(UB_RSI);
	if (needs.direction)
		needs.words |= point->own_stack ? 0 : 1ull << PT_FLAGS;
	needs.restore &= ~(BIT(UB_RSP) | BIT(UB_RBP) | BIT(UB_RBX) | BIT(UB_R12) | BIT(UB_R13) |
			   BIT(UB_R14) | BIT(UB_R15));
	return needs;
}

/* rax = the thread's key. rdfsbase is right everywhere, but takes as long as the rest of a hit. */
static void load_key(struct ub_emit *emit, const struct ub_trampoline_space *space)
{
	static const u8 rdfsbase[] = { 0xf3, 0x48, 0x0f, 0xae, 0xc0 };	       /* rdfsbase %rax */
	static const u8 self[] = { 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0 }; /* mov %fs:0,%rax */
	static const u8 inc[] = { 0x48, 0xff, 0xc0 };

	if (space->self_pointer)
		ub_emit_bytes(emit, self, sizeof(self));
	else
		ub_emit_bytes(emit, rdfsbase, sizeof(rdfsbase));
	ub_emit_bytes(emit, inc, sizeof(inc));
}

/* mov %fs:(disp),%eax */
static void load_fs32(struct ub_emit *emit, s32 disp)
{
	static const u8 load[] = { 0x64, 0x8b, 0x04, 0x25 };

	ub_emit_bytes(emit, load, sizeof(load));
	ub_emit_u32(emit, (u32)disp);
}

/* rcx = address of the slot that the key in rax hashes to; rdx = data. */
static void hash_slot(struct ub_emit *emit, u32 bits)
{
	static const u8 multiply[] = {
		0x69, 0xc8, 0xb1, 0x79, 0x37, 0x9e
	};							/* imul $..,%eax,%ecx */
	const u8 right[] = { 0xc1, 0xe9, (u8)(32 - bits) };	/* shr $n,%ecx */
	static const u8 left[] = { 0xc1, 0xe1, UB_SLOT_SHIFT }; /* shl $6,%ecx */
	static const u8 address[] = { 0x48, 0x8d, 0x8c, 0x0a }; /* lea d(%rdx,%rcx),%rcx */

	ub_emit_bytes(emit, multiply, sizeof(multiply));
	ub_emit_bytes(emit, right, sizeof(right));
	ub_emit_bytes(emit, left, sizeof(left));
	ub_emit_bytes(emit, address, sizeof(address));
	ub_emit_u32(emit, UB_DATA_SLOTS);
}

/* @to = the probed code's stack pointer + @disp */
static void load_user_sp(struct ub_emit *emit, const struct ub_trampoline_point *point,
			 enum ub_reg to, s32 disp)
{
	if (!point->own_stack) {
		ub_emit_lea(emit, to, UB_RSP, FRAME + disp);
		return;
	}
	ub_emit_load(emit, to, UB_RSP, USER_SP);
	if (disp)
		ub_emit_lea(emit, to, to, disp);
}

/* Stores the words that describe more than a register. */
static void fill_context(struct ub_emit *emit, const struct ub_trampoline_point *point, u64 words)
{
	if (words & 1ull << PT_ORIG_AX)
		ub_emit_store_imm(emit, -1, UB_RSP, PT_ORIG_AX * 8);
	if (words & 1ull << PT_CS)
		ub_emit_store_imm(emit, USER_CS, UB_RSP, PT_CS * 8);
	if (words & 1ull << PT_SS)
		ub_emit_store_imm(emit, USER_DS, UB_RSP, PT_SS * 8);
	if (words & 1ull << PT_IP) {
		if (is_return(point)) {
			load_user_sp(emit, point, UB_RAX, 0);
			ub_emit_load(emit, UB_RAX, UB_RAX, 0);
		} else {
			ub_emit_set(emit, UB_RAX, point->ip);
		}
		ub_emit_store(emit, UB_RAX, UB_RSP, PT_IP * 8);
	}
	if (words & 1ull << PT_SP) {
		load_user_sp(emit, point, UB_RAX, is_return(point) ? 8 : 0);
		ub_emit_store(emit, UB_RAX, UB_RSP, PT_SP * 8);
	}
}

#define FIELD(name) (RUN + (s32)offsetof(struct ub_run, name))

static void fill_cpu(struct ub_emit *emit, const struct ub_trampoline_space *space)
{
	if (space->self_pointer && space->has_rseq) {
		load_fs32(emit, space->rseq_cpu);
		ub_emit_store32(emit, UB_RAX, UB_RSP, FIELD(cpu));
	} else {
		ub_emit_store_imm32(emit, (s32)UB_CPU_UNKNOWN, UB_RSP, FIELD(cpu));
	}
}

/* rcx = slot */
static void fill_run(struct ub_emit *emit, const struct ub_trampoline_space *space,
		     const struct ub_trampoline_point *point)
{
	ub_emit_load(emit, UB_RAX, UB_RCX, 0);
	ub_emit_lea(emit, UB_RAX, UB_RAX, -1);
	ub_emit_store(emit, UB_RAX, UB_RSP, FIELD(fs_base));
	ub_emit_store(emit, UB_RSP, UB_RSP, FIELD(ctx));
	ub_emit_store(emit, UB_RDX, UB_RSP, FIELD(process));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(tail_calls));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(tail_target));
	fill_cpu(emit, space);
	ub_emit_store_imm32(emit, 0, UB_RSP, FIELD(flags));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(stack_low));
	load_user_sp(emit, point, UB_RAX, is_return(point) ? 8 : 0);
	ub_emit_store(emit, UB_RAX, UB_RSP, FIELD(user_sp));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(call_callback));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(program));
	ub_emit_load(emit, UB_RAX, UB_RCX, UB_SLOT_HOLDS);
	ub_emit_store(emit, UB_RAX, UB_RSP, FIELD(holds));
	ub_emit_store_imm(emit, 0, UB_RSP, FIELD(held));
}

/* Calls one link's program; rcx = slot. */
static void call_link(struct ub_emit *emit, const struct ub_trampoline_space *space,
		      const struct ub_trampoline_link *link, const struct needs *needs, bool first)
{
	ub_emit_load(emit, UB_RAX, UB_RCX, UB_SLOT_COUNTERS);
	ub_emit_inc_mem(emit, UB_RAX, (s32)(link->counters * sizeof(struct ub_hit_counters)),
			false);
	if (needs->run) {
		ub_emit_set(emit, UB_RAX, link->info);
		ub_emit_store(emit, UB_RAX, UB_RSP, FIELD(link));
		ub_emit_set(emit, UB_RAX, link->maps);
		ub_emit_store(emit, UB_RAX, UB_RSP, FIELD(maps));
		if (!first) {
			ub_emit_store_imm(emit, 0, UB_RSP, FIELD(tail_calls));
			fill_cpu(emit, space);
			ub_emit_store_imm32(emit, 0, UB_RSP, FIELD(flags));
		}
		ub_emit_lea(emit, UB_RSI, UB_RSP, RUN);
	}
	if (needs->context)
		ub_emit_lea(emit, UB_RDI, UB_RSP, 0);
	ub_emit_call(emit, link->program);
}

/* al = whether the agent's @function, asked about the place of the return address and the link,
 * says yes. */
static void ask_tails(struct ub_emit *emit, const struct ub_trampoline_point *point, u64 function,
		      u32 link)
{
	static const u8 test[] = { 0x84, 0xc0 }; /* test %al,%al */

	ub_emit_load(emit, UB_RCX, UB_RSP, SLOT);
	ub_emit_load(emit, UB_RDI, UB_RCX, UB_SLOT_TAILS);
	load_user_sp(emit, point, UB_RSI, 0);
	ub_emit_set(emit, UB_RDX, link);
	ub_emit_call(emit, function);
	ub_emit_bytes(emit, test, sizeof(test));
}

static void count_miss(struct ub_emit *emit, const struct ub_trampoline_link *link)
{
	ub_emit_load(emit, UB_RCX, UB_RSP, SLOT);
	ub_emit_load(emit, UB_RAX, UB_RCX, UB_SLOT_COUNTERS);
	ub_emit_inc_mem(emit, UB_RAX,
			(s32)(link->counters * sizeof(struct ub_hit_counters) +
			      offsetof(struct ub_hit_counters, misses)),
			false);
}

/* What agent/divert.c does, by its arguments. */
static void divert(struct ub_emit *emit, const struct ub_trampoline_space *space,
		   const struct ub_trampoline_point *point)
{
	static const u8 test[] = { 0x84, 0xc0 }; /* test %al,%al */
	const bool back = point->kind == UB_TRAMPOLINE_UNDIVERT;
	const enum ub_reg thread = back ? UB_RDX : UB_RCX;
	u32 skip;

	ub_emit_set(emit, UB_RDI, space->diverts);
	load_user_sp(emit, point, UB_RSI, 0);
	ub_emit_load(emit, UB_RAX, UB_RSP, SLOT);
	ub_emit_load(emit, thread, UB_RAX, 0);
	ub_emit_lea(emit, thread, thread, -1);
	if (back) {
		ub_emit_load(emit, UB_RCX, UB_RAX, UB_SLOT_COUNTERS);
		ub_emit_call(emit, space->undivert_function);
		return;
	}
	ub_emit_set(emit, UB_RDX, point->continuation);
	ub_emit_call(emit, space->divert_function);
	ub_emit_bytes(emit, test, sizeof(test));
	skip = ub_emit_jcc_forward(emit, UB_CC_NZ);
	for (u32 i = 0; i < point->nr_links; i++)
		count_miss(emit, &point->links[i]);
	ub_emit_land(emit, skip);
}

static void run_link(struct ub_emit *emit, const struct ub_trampoline_space *space,
		     const struct ub_trampoline_point *point, u32 i, const struct needs *needs)
{
	const struct ub_trampoline_link *link = &point->links[i];
	u32 skip;

	switch (point->kind) {
	case UB_TRAMPOLINE_NOTE:
		ask_tails(emit, point, space->note_function, link->counters);
		skip = ub_emit_jcc_forward(emit, UB_CC_NZ);
		count_miss(emit, link);
		ub_emit_land(emit, skip);
		return;
	case UB_TRAMPOLINE_NOTED:
		ask_tails(emit, point, space->noted_function, link->counters);
		skip = ub_emit_jcc_forward(emit, UB_CC_Z);
		ub_emit_load(emit, UB_RCX, UB_RSP, SLOT);
		call_link(emit, space, link, needs, !i);
		ub_emit_land(emit, skip);
		return;
	default:
		if (i)
			ub_emit_load(emit, UB_RCX, UB_RSP, SLOT);
		call_link(emit, space, link, needs, !i);
	}
}

/* The frame on the target's own stack. Returns with rcx = slot, rdx = data and the frame's scratch
 * registers saved. */
static void enter(struct ub_emit *emit, const struct ub_trampoline_space *space,
		  const struct ub_trampoline_point *point, const struct needs *needs,
		  struct ub_trampoline_cold *cold)
{
	static const u8 save_flags[] = { 0x9f, 0x0f, 0x90, 0xc0 }; /* lahf; seto %al */
	static const u8 push_pop[] = { 0x9c, 0x58 };		   /* pushfq; pop %rax */
	static const u8 compare[] = { 0x48, 0x39, 0x01 };	   /* cmp %rax,(%rcx) */

	ub_emit_lea(emit, UB_RSP, UB_RSP, -FRAME);
	ub_emit_store(emit, UB_RAX, UB_RSP, PT_AX * 8);
	if (needs->words & 1ull << PT_FLAGS) {
		ub_emit_bytes(emit, push_pop, sizeof(push_pop));
		ub_emit_store(emit, UB_RAX, UB_RSP, PT_FLAGS * 8);
	}
	if (needs->direction)
		ub_emit_u8(emit, 0xfc); /* cld */
	if (point->keep_flags) {
		ub_emit_bytes(emit, save_flags, sizeof(save_flags));
		ub_emit_store(emit, UB_RAX, UB_RSP, FLAGS);
	}
	ub_emit_store(emit, UB_RCX, UB_RSP, PT_CX * 8);
	ub_emit_store(emit, UB_RDX, UB_RSP, PT_DX * 8);
	ub_emit_set(emit, UB_RDX, space->data);
	/* What was taken over must be put back to the end, in children, too. */
	if (point->kind != UB_TRAMPOLINE_UNDIVERT) {
		ub_emit_cmp32_mem_imm8(emit, UB_RDX, offsetof(struct ub_process, enabled), 0);
		cold->disabled = ub_emit_jcc_forward(emit, UB_CC_Z);
		ub_emit_cmp32_mem_imm8(emit, UB_RDX, UB_DATA_FORK, 0);
		cold->child = ub_emit_jcc_forward(emit, UB_CC_Z);
	}

	load_key(emit, space);
	hash_slot(emit, space->slot_bits);
	ub_emit_bytes(emit, compare, sizeof(compare));
	cold->slow = ub_emit_jcc_forward(emit, UB_CC_NZ);
	cold->back = ub_emit_here(emit);

	if (point->kind == UB_TRAMPOLINE_NOTED) {
		/* Nearly always nothing is noted. */
		ub_emit_load(emit, UB_RAX, UB_RCX, UB_SLOT_TAILS);
		ub_emit_cmp64_mem_imm8(emit, UB_RAX, 0, 0);
		cold->nothing = ub_emit_jcc_forward(emit, UB_CC_Z);
	}

	ub_emit_store(emit, UB_RCX, UB_RSP, SLOT);
	ub_emit_load(emit, UB_RAX, UB_RCX, UB_SLOT_GUARD);
	ub_emit_store(emit, UB_RAX, UB_RSP, OLD_GUARD);
	ub_emit_store(emit, UB_RSP, UB_RCX, UB_SLOT_GUARD);
}

/*
 * The old guard is put back by a branch, not by its value: nearly always it is 0, and a value that
 * goes through memory three times makes each hit wait for the one before.
 */
static void put_guard_back(struct ub_emit *emit, struct ub_trampoline_cold *cold)
{
	ub_emit_load(emit, UB_RCX, UB_RSP, SLOT);
	ub_emit_cmp64_mem_imm8(emit, UB_RSP, OLD_GUARD, 0);
	cold->nested = ub_emit_jcc_forward(emit, UB_CC_NZ);
	ub_emit_store_imm(emit, 0, UB_RCX, UB_SLOT_GUARD);
	cold->nested_back = ub_emit_here(emit);
}

static void leave(struct ub_emit *emit, const struct ub_trampoline_point *point,
		  const struct needs *needs, struct ub_trampoline_cold *cold)
{
	static const u8 restore_flags[] = { 0x04, 0x7f, 0x9e }; /* add $127,%al; sahf */
	static const u8 test[] = { 0xf6, 0x84, 0x24 };		/* testb $4,disp32(%rsp): bit 10 */
	static const u8 set[] = { 0x04, 0x74, 0x01, 0xfd };	/* jz 1f; std; 1: */

	if (cold->disabled) {
		ub_emit_land(emit, cold->disabled);
		ub_emit_land(emit, cold->child);
	}
	if (cold->nothing)
		ub_emit_land(emit, cold->nothing);
	cold->out = ub_emit_here(emit);
	if (needs->direction) {
		ub_emit_bytes(emit, test, sizeof(test));
		ub_emit_u32(emit, PT_FLAGS * 8 + 1);
		ub_emit_bytes(emit, set, sizeof(set));
	}
	if (point->keep_flags) {
		ub_emit_load(emit, UB_RAX, UB_RSP, FLAGS);
		ub_emit_bytes(emit, restore_flags, sizeof(restore_flags));
	}
	ub_emit_load(emit, UB_RDX, UB_RSP, PT_DX * 8);
	ub_emit_load(emit, UB_RCX, UB_RSP, PT_CX * 8);
	ub_emit_load(emit, UB_RAX, UB_RSP, PT_AX * 8);
	ub_emit_lea(emit, UB_RSP, UB_RSP, FRAME);
}

void ub_trampoline_probe(struct ub_emit *emit, const struct ub_trampoline_space *space,
			 const struct ub_trampoline_point *point, struct ub_trampoline_cold *cold)
{
	const struct needs needs = find_needs(point);

	*cold = (struct ub_trampoline_cold) { .point = point };
	if (point->own_stack)
		ub_own_stack_enter(emit, space, point, &needs, cold);
	else
		enter(emit, space, point, &needs, cold);
	for (u32 i = 0; i < 16; i++)
		if (((needs.restore & ~SCRATCH) & BIT(i)) ||
		    (i != UB_RSP && !(SCRATCH & BIT(i)) && (needs.words & 1ull << pt_word[i])))
			ub_emit_store(emit, i, UB_RSP, pt_word[i] * 8);
	if (point->own_stack)
		ub_own_stack_fill(emit, point, &needs);
	fill_context(emit, point, needs.words);
	if (needs.run)
		fill_run(emit, space, point);

	if (point->kind == UB_TRAMPOLINE_DIVERT || point->kind == UB_TRAMPOLINE_UNDIVERT)
		divert(emit, space, point);
	for (u32 i = 0; i < point->nr_links && (runs(point) || point->kind == UB_TRAMPOLINE_NOTE);
	     i++)
		run_link(emit, space, point, i, &needs);

	if (point->own_stack)
		ub_own_stack_prepare_leave(emit);
	else
		put_guard_back(emit, cold);
	for (u32 i = 0; i < 16; i++)
		if ((needs.restore & ~SCRATCH) & BIT(i))
			ub_emit_load(emit, i, UB_RSP, pt_word[i] * 8);

	if (point->own_stack)
		ub_own_stack_leave(emit, point, &needs, cold);
	else
		leave(emit, point, &needs, cold);
}

void ub_trampoline_cold(struct ub_emit *emit, const struct ub_trampoline_space *space,
			const struct ub_trampoline_cold *cold)
{
	static const u8 test[] = { 0x48, 0x85, 0xc9 }; /* test %rcx,%rcx */

	const enum ub_reg scratch = cold->point->own_stack ? UB_R13 : UB_RCX;

	ub_emit_land(emit, cold->slow);
	if (cold->point->own_stack) {
		ub_own_stack_find_slot(emit, space, cold);
	} else {
		ub_emit_call(emit, space->slot_function);
		ub_emit_bytes(emit, test, sizeof(test));
		ub_emit_jcc(emit, UB_CC_NZ, cold->back);
	}
	for (u32 i = 0; cold->point->kind != UB_TRAMPOLINE_NOTED && i < cold->point->nr_links;
	     i++) {
		ub_emit_set(emit, scratch,
			    space->shared_counters + cold->point->links[i].counters *
							     sizeof(struct ub_hit_counters));
		ub_emit_inc_mem(emit, scratch, offsetof(struct ub_hit_counters, misses), true);
	}
	ub_emit_jmp(emit, cold->out);
	if (cold->no_room)
		ub_own_stack_without_room(emit, space, cold);

	if (cold->point->own_stack)
		return;
	ub_emit_land(emit, cold->nested);
	ub_emit_load(emit, UB_RAX, UB_RSP, OLD_GUARD);
	ub_emit_store(emit, UB_RAX, UB_RCX, UB_SLOT_GUARD);
	ub_emit_jmp(emit, cold->nested_back);
}

u32 ub_trampoline_bound(u32 nr_links)
{
	return 1024 + nr_links * 176;
}
