/* SPDX-License-Identifier: MIT */
/*
 * The compiler's state, shared by its parts: compile.c (passes) on top; alu.c, memory.c, control.c
 * (instructions), frame.c, layout.c; output.c below all.
 */
#ifndef UB_JIT_X86_64_COMPILE_H
#define UB_JIT_X86_64_COMPILE_H

#include <jit/analysis.h>
#include <jit/jit.h>
#include <jit/x86_64/encode.h>

#define RUN_REG	 R12
#define SCRATCH	 R11 /* these three never hold a BPF register's value across instructions */
#define SCRATCH2 R10
#define SCRATCH3 R9

/* Bytes that one BPF instruction (or a subprogram's prologue) takes at most. */
#define MAX_INSN_BYTES 192

/* What has a length that is decided when all code is there: jumps, local calls, and the padding
 * before a loop. */
struct piece {
	u32 at;	    /* of its first byte, laid out with all branches long and without padding */
	u32 target; /* BPF instruction, or place behind all of them; of a padding: the one behind it */
	u8 kind;    /* PIECE_JCC | condition, or one of the others */
	bool is_short;
	u8 padding; /* bytes */
};

#define PIECE_JMP     0x00
#define PIECE_CALL    0x01
#define PIECE_PADDING 0x02
#define PIECE_JCC     0x10

/* A point in the code. */
struct place {
	u32 at;	    /* in the layout that was emitted */
	u32 pieces; /* how many precede it */
};

/* A subprogram's frame. */
struct frame_shape {
	bool has_rbp;	/* push %rbp; mov %rsp, %rbp */
	bool saves_run; /* r12 comes from our caller: main program and callbacks */
	bool loops;	/* has a may_goto: 8 bytes below the BPF stack count */
	u8 nr_bases; /* and below that, for each of these per-CPU arrays 8 bytes: where this CPU's */
	u8 bases[8]; /* values are, or 0: not asked yet */
	u8 nr_saved;
	u8 saved[5];
	u32 stack; /* bytes of sub $N, %rsp */
	u32 depth; /* of the BPF stack, rounded */
};

/* What a per-CPU lookup does the first time lies behind the program. Its places follow the
 * instructions'. */
struct detour {
	u32 map;
	u32 subprog;
};

enum detour_place {
	DETOUR_START, /* of the detour */
	DETOUR_KNOWN, /* in it: the CPU is known */
	DETOUR_BACK,  /* where it joins the lookup again, the address of the values being known */
	DETOUR_END,   /* behind the lookup, its result being known */
	DETOUR_PLACES
};

struct compiler {
	const struct ub_program *program;
	struct ub_reason *why;
	struct facts *facts;
	struct bytes out;
	u8 *buf;
	u32 capacity;
	struct place
		*places; /* of each instruction: where jumps to it go; and of detours, behind */
	struct detour *detours;
	u32 nr_detours;
	struct place *entries; /* of each subprogram: its prologue, where calls go */
	struct piece *pieces;  /* in the order of their places */
	u32 nr_pieces, max_pieces;
	struct ub_reloc *relocs;
	u32 nr_relocs, max_relocs;
	struct frame_shape frames[UB_MAX_SUBPROGS];
	u16 clobbers;
	bool bmi2;
	bool needs_run;
	bool calls_helpers;
};

static inline u8 hw_reg(u8 bpf_reg)
{
	static const u8 regs[16] = { RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP, R10 };

	return regs[bpf_reg & 15];
}

static inline u32 code_len(const struct compiler *c)
{
	return c->out.at - c->buf;
}

/* Says that hardware register @reg is written. */
static inline void clobber(struct compiler *c, u8 reg)
{
	c->clobbers |= 1u << (reg & 15);
}

/* Whether BPF register @r may be read after instruction @pc. */
static inline bool live_after(const struct compiler *c, u32 pc, u8 r)
{
	return c->facts[pc].live_after & REG_BIT(r);
}

/* --- output.c --- */
/* Whether @n instructions after @pc are reached only through it, so that it may swallow them. */
bool straight(const struct compiler *c, u32 pc, u32 n);
/* Room for @more bytes of code. */
int __must_check reserve(struct compiler *c, u32 more);
struct place here(const struct compiler *c);
int __must_check add_piece(struct compiler *c, u8 kind, u32 target);
/* @offset of the field to relocate. */
int __must_check add_reloc(struct compiler *c, enum ub_reloc_kind kind, u16 index, s64 addend,
			   u32 offset);
struct place *detour_place(const struct compiler *c, u32 detour, enum detour_place which);

/* --- frame.c --- */
int __must_check plan_frames(struct compiler *c);
void emit_prologue(struct compiler *c, u32 subprog);
/* Undoes the prologue, up to but without the ret. */
void emit_unwind(struct compiler *c, const struct frame_shape *frame);
/* From the frame pointer to the base of per-CPU array @map, or 0: the frame has none. */
s32 frame_base_of(const struct frame_shape *frame, u32 map);
/* Stack of the deepest chain of frames. */
u32 stack_bytes(const struct compiler *c);

/* --- alu.c, memory.c, control.c --- */
/* Each emits the instruction at @pc and says how many instructions that took care of (> 0), or
 * -errno. */
int emit_alu(struct compiler *c, u32 pc);
int emit_memory(struct compiler *c, u32 pc);
int emit_control(struct compiler *c, u32 pc);
/* The detours of all lookups, behind the program. */
int __must_check emit_detours(struct compiler *c);

/* --- layout.c --- */
/* Chooses the length of every piece and moves the code together: *out gets the final bytes,
 * relocations and offsets. */
int __must_check lay_out_code(struct compiler *c, struct ub_code *out);

/* --- compile.c --- */
/* ub_jit_compile() for a CPU with or without BMI2. */
int __must_check jit_compile_x86_64(const struct ub_program *program, bool bmi2,
				    struct ub_code *code, struct ub_reason *why);

#endif
