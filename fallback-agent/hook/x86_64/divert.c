// SPDX-License-Identifier: MIT
/*
 * The code that diverted return addresses lead to (agent/divert.c). A `ret` has brought the thread
 * here, so its stack pointer is right above the place on the stack; everything else is the caller's
 * to look at, flags included. Afterwards all is as it was right before that `ret`, with the original
 * return address in place, and the continuation goes on from there.
 *
 *   entry n:  push $n; jmp common		the number lies at the place
 *   common:   rsp -> flags, rcx, rax, number	all below the place, where nothing lives
 */
#include <hook/x86_64/trampoline.h>

#include <agent/data.h>

_Static_assert(sizeof(struct ub_divert) == 32, "shifted by 5 below");
_Static_assert(offsetof(struct ub_divert, original) == 8, "see below");
_Static_assert(offsetof(struct ub_divert, continuation) == 16, "see below");

u64 ub_trampoline_diverts(struct ub_emit *emit, u64 diverts)
{
	static const u8 save[] = {
		0x50,			      /* push %rax */
		0x51,			      /* push %rcx */
		0x9f, 0x0f, 0x90, 0xc0,	      /* lahf; seto %al */
		0x50,			      /* push %rax */
		0x48, 0x8b, 0x44, 0x24, 0x18, /* mov 24(%rsp),%rax */
		0x48, 0xc1, 0xe0, 0x05,	      /* shl $5,%rax */
	};
	static const u8 take[] = {
		0x48, 0x01, 0xc1,	      /* add %rax,%rcx: the entry */
		0x48, 0x8b, 0x41, 0x08,	      /* mov 8(%rcx),%rax */
		0x48, 0x89, 0x44, 0x24, 0x18, /* mov %rax,24(%rsp): the original */
		0x48, 0x8b, 0x41, 0x10,	      /* mov 16(%rcx),%rax */
		0x48, 0x89, 0x44, 0x24, 0xf8, /* mov %rax,-8(%rsp): the continuation */
		0x31, 0xc0,		      /* xor %eax,%eax */
		0x48, 0x87, 0x01,	      /* xchg %rax,(%rcx): free */
		0x48, 0x85, 0xc0,	      /* test %rax,%rax */
		0x74, 0x0d,		      /* jz: it was already (returned twice) */
	};
	static const u8 fewer[] = { 0xf0, 0xff, 0x09 }; /* lock decl (%rcx) */
	static const u8 restore[] = {
		0x58,			/* pop %rax */
		0x04, 0x7f, 0x9e,	/* add $127,%al; sahf */
		0x59,			/* pop %rcx */
		0x58,			/* pop %rax */
		0xff, 0x64, 0x24, 0xe0, /* jmp *-32(%rsp) */
	};
	static const u8 movabs_rcx[] = { 0x48, 0xb9 };
	u64 common, entries;

	ub_emit_align(emit, 16);
	common = ub_emit_here(emit);
	ub_emit_bytes(emit, save, sizeof(save));
	ub_emit_set(emit, UB_RCX, diverts + offsetof(struct ub_diverts, entries));
	ub_emit_bytes(emit, take, sizeof(take));
	ub_emit_bytes(emit, movabs_rcx, sizeof(movabs_rcx));
	ub_emit_u64(emit, diverts + offsetof(struct ub_diverts, pending));
	ub_emit_bytes(emit, fewer, sizeof(fewer));
	ub_emit_bytes(emit, restore, sizeof(restore));

	ub_emit_align(emit, 16);
	entries = ub_emit_here(emit);
	for (u32 i = 0; i < UB_MAX_DIVERTS; i++) {
		ub_emit_u8(emit, 0x68); /* push */
		ub_emit_u32(emit, i);
		ub_emit_jmp(emit, common);
		ub_emit_align(emit, UB_DIVERT_ENTRY);
	}
	return entries;
}
