// SPDX-License-Identifier: MIT
/*
 * Null pointers that moved instructions follow.
 *
 * An instruction that faults in a trampoline faults at an address that the target's handler of
 * SIGSEGV knows nothing of. Handlers that expect such faults (Go's and Java's runtimes, Ada's,
 * whoever unwinds or jumps from them) expect them from null pointers. So before an instruction that
 * reads or writes memory by a base register, that register is looked at, and where it is null
 * agent/null.c makes the fault happen at the instruction's own address.
 *
 * The look costs a fused compare and jump where flags are dead (function entries, and before
 * instructions that overwrite them), and without flags:
 *
 *	lea -136(%rsp),%rsp; mov %rcx,(%rsp)	below the red zone
 *	mov BASE,%rcx
 *	jrcxz 1f; jmp 2f; 1: jmp cold; 2:
 *	mov (%rsp),%rcx; lea 136(%rsp),%rsp
 *
 * What it takes for a null pointer may be none: an index that the compiler took for the base. Only
 * the cold part looks at the address as a whole, and comes back if it can be read.
 *
 * Goroutines have no stack for it: the slot's is used, if the thread has found its slot and is not
 * in a program. r12, r13, rcx and the flags are saved below sp as for a probe (hook/go.c).
 */
#include <hook/x86_64/trampoline.h>

#include <stddef.h>

#include <agent/data.h>

#define RED_ZONE 128
#define GO_G	 UB_R14 /* never null */

/* REX.W op reg, operand of @insn. */
static void operand(struct ub_emit *emit, u8 opcode, enum ub_reg reg, const struct ub_decoded *insn)
{
	const u8 index = insn->index < 0 ? 4 : (u8)insn->index;
	const u8 rex = (u8)(0x48 | reg >> 3 << 2 | (index >> 3 & 1) << 1 | insn->base >> 3);

	ub_emit_u8(emit, rex);
	ub_emit_u8(emit, opcode);
	ub_emit_u8(emit, (u8)(2 << 6 | (reg & 7) << 3 | 4)); /* disp32, and a SIB byte */
	ub_emit_u8(emit, (u8)(insn->scale << 6 | (index & 7) << 3 | (insn->base & 7)));
	ub_emit_u32(emit, (u32)insn->disp);
}

/* test BASE,BASE */
static void test(struct ub_emit *emit, u8 base)
{
	ub_emit_u8(emit, base >> 3 ? 0x4d : 0x48);
	ub_emit_u8(emit, 0x85);
	ub_emit_u8(emit, (u8)(3 << 6 | (base & 7) << 3 | (base & 7)));
}

static s32 rcx_at(const struct ub_trampoline_null *null)
{
	return null->own_stack ? UB_TRAMPOLINE_SAVED_R12 : 0;
}

static void rcx_back(struct ub_emit *emit, const struct ub_trampoline_null *null)
{
	if (!null->rcx_saved)
		return;
	ub_emit_load(emit, UB_RCX, UB_RSP, rcx_at(null));
	if (!null->own_stack)
		ub_emit_lea(emit, UB_RSP, UB_RSP, RED_ZONE + 8);
}

void ub_trampoline_null(struct ub_emit *emit, const struct ub_decoded *insn,
			const struct ub_trampoline_point *point, struct ub_trampoline_null *null)
{
	/* jrcxz 1f; jmp 2f; 1: */
	static const u8 jrcxz_long[] = { 0xe3, 2, 0xeb, 5 };
	const u8 base_to_rcx[] = { insn->base >> 3 ? 0x4c : 0x48, 0x89,
				   (u8)(3 << 6 | (insn->base & 7) << 3 | UB_RCX) };

	*null = (struct ub_trampoline_null) {};
	if (!(insn->flags & UB_DECODED_NULLABLE) || (point->own_stack && insn->base == GO_G))
		return;
	*null = (struct ub_trampoline_null) {
		.insn = insn,
		.ip = point->ip,
		.own_stack = point->own_stack,
		.keep_registers = point->keep_registers,
		.keep_flags = point->keep_flags,
		.look = point->look,
		.g_in_r14 = point->g_in_r14,
		.rcx_saved = point->keep_flags && insn->base != UB_RCX,
	};
	if (!point->keep_flags) {
		test(emit, insn->base);
		null->jump = ub_emit_jcc_forward(emit, UB_CC_Z);
		null->back = ub_emit_here(emit);
		return;
	}
	if (null->rcx_saved) {
		if (!null->own_stack)
			ub_emit_lea(emit, UB_RSP, UB_RSP, -RED_ZONE - 8);
		ub_emit_store(emit, UB_RCX, UB_RSP, rcx_at(null));
		ub_emit_bytes(emit, base_to_rcx, sizeof(base_to_rcx));
	}
	ub_emit_bytes(emit, jrcxz_long, sizeof(jrcxz_long));
	null->jump = ub_emit_jmp_forward(emit);
	rcx_back(emit, null);
	null->back = ub_emit_here(emit);
}

static void push_constant(struct ub_emit *emit, u64 value)
{
	ub_emit_set(emit, UB_RAX, value);
	ub_emit_u8(emit, 0x50); /* push %rax */
}

/* struct ub_null_frame in agent/null.c, from its end: rax, sp, address, ip, process, guard. */
void ub_trampoline_null_cold(struct ub_emit *emit, const struct ub_trampoline_space *space,
			     const struct ub_trampoline_null *null)
{
	static const u8 push_rax[] = { 0x50 }, push_zero[] = { 0x6a, 0 };
	static const u8 sp_to_r12[] = { 0x49, 0x89, 0xe4 };
	static const u8 push_r12[] = { 0x41, 0x54 };
	u32 no_slot = 0, nested = 0, no_room = 0;

	if (!null->insn)
		return;
	ub_emit_land(emit, null->jump);
	rcx_back(emit, null);
	if (null->keep_registers) {
		/* Flags are kept only where there is room: see the planner. */
		if (null->look && !null->keep_flags)
			no_room = ub_trampoline_look_for_room(emit, null->g_in_r14, 32);
		ub_emit_store(emit, UB_R12, UB_RSP, UB_TRAMPOLINE_SAVED_R12);
		ub_emit_store(emit, UB_R13, UB_RSP, UB_TRAMPOLINE_SAVED_R13);
		ub_emit_lea(emit, UB_RSP, UB_RSP, UB_TRAMPOLINE_SAVED_FLAGS + 8);
		ub_emit_u8(emit, 0x9c); /* pushfq */
		ub_emit_lea(emit, UB_RSP, UB_RSP, -UB_TRAMPOLINE_SAVED_FLAGS);
	}
	if (null->own_stack) {
		ub_emit_set(emit, UB_R12, space->data);
		no_slot = ub_trampoline_find_slot(emit, space->slot_bits);
		ub_emit_cmp64_mem_imm8(emit, UB_R13, UB_SLOT_GUARD, 0);
		nested = ub_emit_jcc_forward(emit, UB_CC_NZ);
		ub_emit_bytes(emit, sp_to_r12, sizeof(sp_to_r12));
		ub_emit_store(emit, UB_R12, UB_R13, UB_SLOT_GUARD);
		ub_emit_load(emit, UB_RSP, UB_R13, UB_SLOT_STACK);
		ub_emit_bytes(emit, push_rax, sizeof(push_rax));
		ub_emit_bytes(emit, push_r12, sizeof(push_r12));
	} else {
		ub_emit_lea(emit, UB_RSP, UB_RSP, -RED_ZONE);
		ub_emit_bytes(emit, push_rax, sizeof(push_rax));
		ub_emit_lea(emit, UB_RAX, UB_RSP, RED_ZONE + 8);
		ub_emit_bytes(emit, push_rax, sizeof(push_rax));
		ub_emit_load(emit, UB_RAX, UB_RSP, 8);
	}
	operand(emit, 0x8d, UB_RAX, null->insn); /* lea */
	ub_emit_bytes(emit, push_rax, sizeof(push_rax));
	push_constant(emit, null->ip);
	push_constant(emit, space->data);
	if (null->own_stack) {
		ub_emit_lea(emit, UB_RAX, UB_R13, UB_SLOT_GUARD);
		ub_emit_bytes(emit, push_rax, sizeof(push_rax));
	} else {
		ub_emit_bytes(emit, push_zero, sizeof(push_zero));
	}
	ub_emit_load(emit, UB_RAX, UB_RSP, 40);
	ub_emit_call(emit, space->null_function);
	ub_emit_load(emit, UB_RSP, UB_RSP, 32);
	if (null->own_stack) {
		ub_emit_store_imm(emit, 0, UB_R13, UB_SLOT_GUARD);
		ub_emit_land(emit, no_slot);
		ub_emit_land(emit, nested);
	}
	if (null->keep_registers) {
		ub_emit_lea(emit, UB_RSP, UB_RSP, UB_TRAMPOLINE_SAVED_FLAGS);
		ub_emit_u8(emit, 0x9d); /* popfq */
		ub_emit_lea(emit, UB_RSP, UB_RSP, -(UB_TRAMPOLINE_SAVED_FLAGS + 8));
		ub_emit_load(emit, UB_R12, UB_RSP, UB_TRAMPOLINE_SAVED_R12);
		ub_emit_load(emit, UB_R13, UB_RSP, UB_TRAMPOLINE_SAVED_R13);
	}
	if (no_room)
		ub_emit_land(emit, no_room);
	ub_emit_jmp(emit, null->back);
}
