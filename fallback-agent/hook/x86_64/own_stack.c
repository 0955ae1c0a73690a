// SPDX-License-Identifier: MIT
/*
 * Probes of Go code: frames on a stack of the thread's slot.
 *
 * A goroutine's stack may be all but used up anywhere, so nothing but three words below sp is ever
 * written there (hook/go.c tells when those are the goroutine's), and those only where r12 and r13
 * are in use. With these two registers alone the slot is found, and its stack.
 */
#include <stddef.h>

#include <hook/x86_64/frame.h>

#define STACK_ALIGN 2048u /* Go's stacks, at least */
#define ROOM	    32u	  /* for saved registers; powers of two */
#define SEARCH_ROOM 128u  /* and the search for a slot */
#define USER_FLAGS  0x202

u32 ub_trampoline_find_slot(struct ub_emit *emit, u32 bits)
{
	static const u8 rdfsbase_r13[] = { 0xf3, 0x49, 0x0f, 0xae, 0xc5 };
	static const u8 rdfsbase_r12[] = { 0xf3, 0x49, 0x0f, 0xae, 0xc4 };
	static const u8 inc_r13d[] = { 0x41, 0xff, 0xc5 };
	static const u8 inc_r12[] = { 0x49, 0xff, 0xc4 };
	static const u8 multiply[] = {
		0x45, 0x69, 0xed, 0xb1, 0x79, 0x37, 0x9e
	}; /* imul $..,%r13d,%r13d */
	const u8 right[] = { 0x41, 0xc1, 0xed, (u8)(32 - bits) };
	static const u8 left[] = { 0x41, 0xc1, 0xe5, UB_SLOT_SHIFT };
	static const u8 address[] = { 0x4f, 0x8d, 0xac, 0x2c }; /* lea d(%r12,%r13),%r13 */
	static const u8 compare[] = { 0x4d, 0x39, 0x65, 0x00 }; /* cmp %r12,0(%r13) */

	ub_emit_bytes(emit, rdfsbase_r13, sizeof(rdfsbase_r13));
	ub_emit_bytes(emit, inc_r13d, sizeof(inc_r13d));
	ub_emit_bytes(emit, multiply, sizeof(multiply));
	ub_emit_bytes(emit, right, sizeof(right));
	ub_emit_bytes(emit, left, sizeof(left));
	ub_emit_bytes(emit, address, sizeof(address));
	ub_emit_u32(emit, UB_DATA_SLOTS);
	ub_emit_bytes(emit, rdfsbase_r12, sizeof(rdfsbase_r12));
	ub_emit_bytes(emit, inc_r12, sizeof(inc_r12));
	ub_emit_bytes(emit, compare, sizeof(compare));
	return ub_emit_jcc_forward(emit, UB_CC_NZ);
}

u32 ub_trampoline_look_for_room(struct ub_emit *emit, bool g_in_r14, u32 room)
{
	/* cmp (%r14),%rsp: g's stack.lo; is the lowest word that is used below? */
	static const u8 compare[] = { 0x49, 0x3b, 0x26 };
	/* Handlers may run on threads that Go did not make, without any g, on C's stack: test
	 * %r14,%r14; jz. */
	static const u8 is_null[] = { 0x4d, 0x85, 0xf6, 0x74 };
	static const u8 jb = 0x72;
	u32 without_g, elsewhere, no_room;
	static const u8 test[] = { 0xf7, 0xc4 }; /* test $..,%esp */

	if (!g_in_r14) {
		ub_emit_bytes(emit, test, sizeof(test));
		ub_emit_u32(emit, STACK_ALIGN - room);
		return ub_emit_jcc_forward(emit, UB_CC_Z);
	}
	ub_emit_bytes(emit, is_null, sizeof(is_null));
	without_g = emit->size;
	ub_emit_u8(emit, 0);
	/* Below all of g's stack: on another one, the signal handlers'. It has room. */
	ub_emit_bytes(emit, compare, sizeof(compare));
	ub_emit_u8(emit, jb);
	elsewhere = emit->size;
	ub_emit_u8(emit, 0);
	ub_emit_lea(emit, UB_RSP, UB_RSP, -(s32)room);
	ub_emit_bytes(emit, compare, sizeof(compare));
	ub_emit_lea(emit, UB_RSP, UB_RSP, (s32)room);
	no_room = ub_emit_jcc_forward(emit, UB_CC_B);
	if (!emit->error) {
		emit->bytes[without_g] = (u8)(emit->size - without_g - 1);
		emit->bytes[elsewhere] = (u8)(emit->size - elsewhere - 1);
	}
	return no_room;
}

/* Flags back from r12, where flags_to_r12() put them; rax stays. */
static void flags_from_r12(struct ub_emit *emit)
{
	/* xchg %rax,%r12; add $127,%al; sahf; mov %r12,%rax */
	static const u8 code[] = { 0x49, 0x94, 0x04, 0x7f, 0x9e, 0x4c, 0x89, 0xe0 };

	ub_emit_bytes(emit, code, sizeof(code));
}

static void flags_to_r12(struct ub_emit *emit)
{
	/* mov %rax,%r12; lahf; seto %al; xchg %rax,%r12 */
	static const u8 code[] = { 0x49, 0x89, 0xc4, 0x9f, 0x0f, 0x90, 0xc0, 0x49, 0x94 };

	ub_emit_bytes(emit, code, sizeof(code));
}

static bool saves_flags(const struct ub_trampoline_point *point, const struct needs *needs)
{
	return point->keep_registers && (point->keep_flags || needs->direction);
}

/* Go code with r12 and r13 in use: into the words below sp, with the flags. */
static void save_below(struct ub_emit *emit, const struct ub_trampoline_point *point,
		       const struct needs *needs, struct ub_trampoline_cold *cold)
{
	if (point->look) {
		if (point->keep_flags)
			flags_to_r12(emit);
		cold->no_room = ub_trampoline_look_for_room(emit, point->g_in_r14, ROOM);
		if (point->keep_flags)
			flags_from_r12(emit);
	}
	ub_emit_store(emit, UB_R12, UB_RSP, UB_TRAMPOLINE_SAVED_R12);
	ub_emit_store(emit, UB_R13, UB_RSP, UB_TRAMPOLINE_SAVED_R13);
	if (saves_flags(point, needs)) {
		ub_emit_lea(emit, UB_RSP, UB_RSP, UB_TRAMPOLINE_SAVED_FLAGS + 8);
		ub_emit_u8(emit, 0x9c); /* pushfq */
		ub_emit_lea(emit, UB_RSP, UB_RSP, -UB_TRAMPOLINE_SAVED_FLAGS);
	}
	if (needs->direction)
		ub_emit_u8(emit, 0xfc); /* cld */
}

static void restore_below(struct ub_emit *emit, const struct ub_trampoline_point *point,
			  const struct needs *needs)
{
	static const u8 rax_to_r12[] = { 0x49, 0x89, 0xc4 }, rax_from_r12[] = { 0x4c, 0x89, 0xe0 };
	/* testb $4,-23(%rsp): bit 10; jz 1f; std; 1: */
	static const u8 direction[] = { 0xf6, 0x44, 0x24, 0xe9, 0x04, 0x74, 0x01, 0xfd };
	/* xchg %al,%ah; and $8,%al; add $0x78,%al: the overflow flag; sahf */
	static const u8 flags[] = { 0x86, 0xe0, 0x24, 0x08, 0x04, 0x78, 0x9e };

	if (needs->direction)
		ub_emit_bytes(emit, direction, sizeof(direction));
	if (point->keep_flags) {
		ub_emit_bytes(emit, rax_to_r12, sizeof(rax_to_r12));
		ub_emit_load(emit, UB_RAX, UB_RSP, UB_TRAMPOLINE_SAVED_FLAGS);
		ub_emit_bytes(emit, flags, sizeof(flags));
		ub_emit_bytes(emit, rax_from_r12, sizeof(rax_from_r12));
	}
	ub_emit_load(emit, UB_R12, UB_RSP, UB_TRAMPOLINE_SAVED_R12);
	ub_emit_load(emit, UB_R13, UB_RSP, UB_TRAMPOLINE_SAVED_R13);
}

void ub_own_stack_fill(struct ub_emit *emit, const struct ub_trampoline_point *point,
		       const struct needs *needs)
{
	const struct {
		u32 word;
		s32 at;
		bool saved;
	} words[] = {
		{ PT_R12, UB_TRAMPOLINE_SAVED_R12, point->keep_registers },
		{ PT_R13, UB_TRAMPOLINE_SAVED_R13, point->keep_registers },
		{ PT_FLAGS, UB_TRAMPOLINE_SAVED_FLAGS, saves_flags(point, needs) },
	};

	for (u32 i = 0; i < ub_array_size(words); i++) {
		if (!(needs->words & 1ull << words[i].word))
			continue;
		if (!words[i].saved) {
			/* Free by the calling convention. */
			ub_emit_store_imm(emit, words[i].word == PT_FLAGS ? USER_FLAGS : 0, UB_RSP,
					  (s32)words[i].word * 8);
			continue;
		}
		ub_emit_load(emit, UB_RAX, UB_RSP, USER_SP);
		ub_emit_load(emit, UB_RAX, UB_RAX, words[i].at);
		ub_emit_store(emit, UB_RAX, UB_RSP, (s32)words[i].word * 8);
	}
}

/* Uses r12 and r13 only, until the frame is there. */
void ub_own_stack_enter(struct ub_emit *emit, const struct ub_trampoline_space *space,
			const struct ub_trampoline_point *point, const struct needs *needs,
			struct ub_trampoline_cold *cold)
{
	static const u8 sp_to_r12[] = { 0x49, 0x89, 0xe4 };
	static const u8 slot_to_rcx[] = { 0x4c, 0x89, 0xe9 };
	u32 nested, common;

	if (point->keep_registers)
		save_below(emit, point, needs, cold);
	ub_emit_set(emit, UB_R12, space->data);
	ub_emit_cmp32_mem_imm8(emit, UB_R12, offsetof(struct ub_process, enabled), 0);
	cold->disabled = ub_emit_jcc_forward(emit, UB_CC_Z);
	ub_emit_cmp32_mem_imm8(emit, UB_R12, UB_DATA_FORK, 0);
	cold->child = ub_emit_jcc_forward(emit, UB_CC_Z);
	cold->slow = ub_trampoline_find_slot(emit, space->slot_bits);
	cold->back = ub_emit_here(emit);

	/*
	 * In a handler on top of a program: it has a stack of its own, and the slot's is taken. It
	 * is from before anything is written there, by the guard, until everything has been read
	 * (leave_own_stack): a handler comes at any instruction, and hits, too.
	 */
	ub_emit_bytes(emit, sp_to_r12, sizeof(sp_to_r12));
	ub_emit_cmp64_mem_imm8(emit, UB_R13, UB_SLOT_GUARD, 0);
	nested = ub_emit_jcc_forward(emit, UB_CC_NZ);
	ub_emit_store(emit, UB_R12, UB_R13, UB_SLOT_GUARD);
	ub_emit_load(emit, UB_RSP, UB_R13, UB_SLOT_STACK);
	ub_emit_lea(emit, UB_RSP, UB_RSP, -FRAME);
	ub_emit_store(emit, UB_RAX, UB_RSP, PT_AX * 8);
	ub_emit_store_imm(emit, 0, UB_RSP, OLD_GUARD);
	common = ub_emit_jmp_forward(emit);
	ub_emit_land(emit, nested);
	ub_emit_lea(emit, UB_RSP, UB_RSP, -FRAME);
	ub_emit_store(emit, UB_RAX, UB_RSP, PT_AX * 8);
	ub_emit_load(emit, UB_RAX, UB_R13, UB_SLOT_GUARD);
	ub_emit_store(emit, UB_RAX, UB_RSP, OLD_GUARD);
	ub_emit_store(emit, UB_R12, UB_R13, UB_SLOT_GUARD);
	ub_emit_land(emit, common);
	ub_emit_store(emit, UB_R12, UB_RSP, USER_SP);
	ub_emit_store(emit, UB_RCX, UB_RSP, PT_CX * 8);
	ub_emit_store(emit, UB_RDX, UB_RSP, PT_DX * 8);
	ub_emit_store(emit, UB_R13, UB_RSP, SLOT);
	ub_emit_bytes(emit, slot_to_rcx, sizeof(slot_to_rcx));
	ub_emit_set(emit, UB_RDX, space->data);
}

void ub_own_stack_prepare_leave(struct ub_emit *emit)
{
	ub_emit_load(emit, UB_R13, UB_RSP, SLOT);
	ub_emit_load(emit, UB_R12, UB_RSP, OLD_GUARD);
}

void ub_own_stack_leave(struct ub_emit *emit, const struct ub_trampoline_point *point,
			const struct needs *needs, struct ub_trampoline_cold *cold)
{
	ub_emit_load(emit, UB_RDX, UB_RSP, PT_DX * 8);
	ub_emit_load(emit, UB_RCX, UB_RSP, PT_CX * 8);
	ub_emit_load(emit, UB_RAX, UB_RSP, PT_AX * 8);
	ub_emit_load(emit, UB_RSP, UB_RSP, USER_SP);
	ub_emit_store(emit, UB_R12, UB_R13, UB_SLOT_GUARD);
	ub_emit_land(emit, cold->disabled);
	ub_emit_land(emit, cold->child);
	cold->out = ub_emit_here(emit);
	if (point->keep_registers)
		restore_below(emit, point, needs);
	cold->end = ub_emit_here(emit);
}

/* The slot's address into r13 by the same function, with the registers that it takes saved: seven
 * words on the goroutine's stack, once a thread, if there is room. */
void ub_own_stack_find_slot(struct ub_emit *emit, const struct ub_trampoline_space *space,
			    const struct ub_trampoline_cold *cold)
{
	static const u8 before[] = {
		0x50, 0x51, 0x52, /* push %rax, %rcx, %rdx */
		0x4c, 0x89, 0xe0, /* mov %r12,%rax */
		0x4c, 0x89, 0xe9, /* mov %r13,%rcx */
	};
	static const u8 after[] = {
		0x49, 0x89, 0xcd, /* mov %rcx,%r13 */
		0x5a, 0x59, 0x58, /* pop %rdx, %rcx, %rax */
	};
	static const u8 test[] = { 0x4d, 0x85, 0xed }; /* test %r13,%r13 */
	u32 no_room = 0;

	if (cold->point->look || !cold->point->keep_registers)
		no_room = ub_trampoline_look_for_room(emit, cold->point->g_in_r14, SEARCH_ROOM);
	if (cold->point->keep_registers)
		ub_emit_lea(emit, UB_RSP, UB_RSP, UB_TRAMPOLINE_SAVED_FLAGS);
	ub_emit_bytes(emit, before, sizeof(before));
	ub_emit_set(emit, UB_RDX, space->data);
	ub_emit_call(emit, space->slot_function);
	ub_emit_bytes(emit, after, sizeof(after));
	if (cold->point->keep_registers)
		ub_emit_lea(emit, UB_RSP, UB_RSP, -UB_TRAMPOLINE_SAVED_FLAGS);
	ub_emit_bytes(emit, test, sizeof(test));
	ub_emit_jcc(emit, UB_CC_NZ, cold->back);
	if (no_room)
		ub_emit_land(emit, no_room);
}

/* No room for a register: counted, where that takes none, and gone on. */
void ub_own_stack_without_room(struct ub_emit *emit, const struct ub_trampoline_space *space,
			       const struct ub_trampoline_cold *cold)
{
	static const u8 inc[] = { 0xf0, 0x48, 0xff, 0x05 }; /* lock incq 0(%rip) */
	const struct ub_trampoline_point *point = cold->point;

	ub_emit_land(emit, cold->no_room);
	for (u32 i = 0; point->kind != UB_TRAMPOLINE_NOTED && i < point->nr_links; i++) {
		const u64 misses = space->shared_counters +
				   point->links[i].counters * sizeof(struct ub_hit_counters) +
				   offsetof(struct ub_hit_counters, misses);
		const s64 distance = (s64)(misses - (ub_emit_here(emit) + sizeof(inc) + 4));

		if (distance != (s32)distance)
			continue;
		ub_emit_bytes(emit, inc, sizeof(inc));
		ub_emit_u32(emit, (u32)distance);
	}
	if (point->keep_flags)
		flags_from_r12(emit);
	ub_emit_jmp(emit, cold->end);
}
