// SPDX-License-Identifier: MIT
/*
 * The code that diverted return addresses lead to (agent/divert.c). A `ret` has brought the thread
 * here, so its stack pointer is right above the place on the stack; everything else is the caller's
 * to look at, flags included. Afterwards all is as it was right before that `ret`, with the
 * original return address in place, and the continuation goes on from there.
 *
 *   entry n:  lea -8(%rsp),%rsp; push $n; jmp common	the place is covered again
 *   common:   rsp -> flags, rdx, rcx, rax, n, place	all below the place, where nothing lives
 *
 * A signal's handler may look at the stack in between, at any instruction. Then the original is put
 * back at the place, and the entry is free for another thread. So whose the return is is decided by
 * one instruction, which exchanges what stands at the place. If that is the entry's address no
 * more, it is where to return to. What was read of the entry before is good if it still was: nobody
 * takes an entry whose address stands at its place.
 */
#include <hook/x86_64/trampoline.h>

#include <agent/data.h>

_Static_assert(sizeof(struct ub_divert) == 2 * UB_DIVERT_ENTRY, "added to itself below");
_Static_assert(UB_DIVERT_ENTRY == 16, "shifted by 4 below");
_Static_assert(offsetof(struct ub_divert, place) == 0, "see below");
_Static_assert(offsetof(struct ub_divert, original) == 8, "see below");
_Static_assert(offsetof(struct ub_divert, continuation) == 16, "see below");

/* Registers as they were; rsp -> the word below the place. */
static void restore(struct ub_emit *emit)
{
	static const u8 code[] = {
		0x58,		  /* pop %rax */
		0x04, 0x7f, 0x9e, /* add $127,%al; sahf */
		0x5a,		  /* pop %rdx */
		0x59,		  /* pop %rcx */
		0x58,		  /* pop %rax */
	};

	ub_emit_bytes(emit, code, sizeof(code));
	ub_emit_lea(emit, UB_RSP, UB_RSP, 8);
}

static void common(struct ub_emit *emit, u64 entries, u64 diverts)
{
	static const u8 save[] = {
		0x50, 0x51, 0x52,	      /* push %rax, %rcx, %rdx */
		0x9f, 0x0f, 0x90, 0xc0,	      /* lahf; seto %al */
		0x50,			      /* push %rax */
		0x48, 0x8b, 0x4c, 0x24, 0x20, /* mov 32(%rsp),%rcx: n */
		0x48, 0xc1, 0xe1, 0x04,	      /* shl $4,%rcx */
	};
	static const u8 find[] = {
		0x48, 0x01, 0xc8, /* add %rcx,%rax: the entry's code */
		0x48, 0x01, 0xc9, /* add %rcx,%rcx */
		0x48, 0x01, 0xd1, /* add %rdx,%rcx: the entry */
	};
	static const u8 take[] = {
		0x48, 0x8b, 0x51, 0x10,			  /* mov 16(%rcx),%rdx */
		0x48, 0x89, 0x54, 0x24, 0x20,		  /* mov %rdx,32(%rsp): continuation */
		0x48, 0x8b, 0x51, 0x08,			  /* mov 8(%rcx),%rdx: original */
		0xf0, 0x48, 0x0f, 0xb1, 0x54, 0x24, 0x28, /* lock cmpxchg %rdx,40(%rsp) */
	};
	/* Unless somebody has taken the entry since, or it was free (returned twice). */
	static const u8 release[] = {
		0x48, 0x8d, 0x44, 0x24, 0x28, /* lea 40(%rsp),%rax: the place */
		0x31, 0xd2,		      /* xor %edx,%edx */
		0xf0, 0x48, 0x0f, 0xb1, 0x11, /* lock cmpxchg %rdx,(%rcx) */
	};
	static const u8 fewer[] = { 0xf0, 0xff, 0x09 };			/* lock decl (%rcx) */
	static const u8 to_continuation[] = { 0xff, 0x64, 0x24, 0xf8 }; /* jmp *-8(%rsp) */
	u32 gone, not_ours;

	ub_emit_bytes(emit, save, sizeof(save));
	ub_emit_set(emit, UB_RAX, entries);
	ub_emit_set(emit, UB_RDX, diverts + offsetof(struct ub_diverts, entries));
	ub_emit_bytes(emit, find, sizeof(find));
	ub_emit_bytes(emit, take, sizeof(take));
	gone = ub_emit_jcc_forward(emit, UB_CC_NZ);
	ub_emit_bytes(emit, release, sizeof(release));
	not_ours = ub_emit_jcc_forward(emit, UB_CC_NZ);
	ub_emit_set(emit, UB_RCX, diverts + offsetof(struct ub_diverts, pending));
	ub_emit_bytes(emit, fewer, sizeof(fewer));
	ub_emit_land(emit, not_ours);
	restore(emit);
	ub_emit_bytes(emit, to_continuation, sizeof(to_continuation));

	ub_emit_land(emit, gone);
	restore(emit);
	ub_emit_u8(emit, 0xc3); /* ret */
}

u64 ub_trampoline_diverts(struct ub_emit *emit, u64 diverts)
{
	u64 entries;

	ub_emit_align(emit, UB_DIVERT_ENTRY);
	entries = ub_emit_here(emit);
	for (u32 i = 0; i < UB_MAX_DIVERTS; i++) {
		ub_emit_lea(emit, UB_RSP, UB_RSP, -8);
		ub_emit_u8(emit, 0x68); /* push */
		ub_emit_u32(emit, i);
		ub_emit_jmp(emit, entries + UB_MAX_DIVERTS * UB_DIVERT_ENTRY);
		ub_emit_align(emit, UB_DIVERT_ENTRY);
	}
	common(emit, entries, diverts);
	return entries;
}
