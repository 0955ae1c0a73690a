// SPDX-License-Identifier: MIT
/*
 * The compiler: BPF to x86-64.
 *
 * Registers, the kernel's choice, so that arguments of helpers are where the SysV ABI wants them
 * and a call needs no shuffling:
 *
 *	r0 rax   r1 rdi   r2 rsi   r3 rdx   r4 rcx   r5 r8    caller-saved on both sides
 *	r6 rbx   r7 r13   r8 r14   r9 r15   r10 rbp           callee-saved on both sides
 *
 * r12 holds the struct ub_run of this execution in programs that need it, and goes to helpers in
 * r9. r9, r10, r11 are scratch within one BPF instruction.
 *
 * Frames. A subprogram saves the callee-saved registers that it writes and no others, and makes a
 * frame only if it uses r10 or calls something:
 *
 *	push %rbp; mov %rsp, %rbp      rbp is r10: the BPF stack lies right below it
 *	sub  $stack, %rsp              BPF stack, may_goto counter, padding to 16 at calls
 *	push saved registers           ...
 *	pop  saved registers
 *	leave; ret
 *
 * so the chain of frame pointers leads through compiled code. A leaf without pushes and with up to
 * 128 bytes of stack leaves rsp where it is and uses the red zone. A tail call undoes its frame and
 * jumps: the program it leads to returns to our caller.
 *
 * Passes: jit_analyse() finds jump targets, liveness, constant maps. Then each instruction (or a
 * few that make one) is emitted with all jumps long; then layout.c chooses how long each is, keeps
 * small loops within cache lines, and moves the code together once.
 * Constants and displacements take the shortest encoding from the start.
 *
 * Output is position-independent up to its relocations, and makes no call but to helpers: nothing
 * in it allocates, enters the kernel or belongs to libc.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <jit/x86_64/compile.h>

#define RED_ZONE  128
#define MAX_LOOPS (8 << 20) /* the kernel's BPF_MAX_LOOPS */

bool straight(const struct compiler *c, u32 pc, u32 n)
{
	if (pc + n >= c->program->nr_insns)
		return false;
	for (u32 i = 1; i <= n; i++) {
		if (c->facts[pc + i].flags & (FACT_TARGET | FACT_DEAD | FACT_SECOND))
			return false;
	}
	return true;
}

/* Leaves room for its long form; what it is in the end, layout.c writes. */
int add_piece(struct compiler *c, u8 kind, u32 target)
{
	if (c->nr_pieces == c->max_pieces) {
		u32 max = c->max_pieces ? 2 * c->max_pieces : 64;
		void *grown = realloc(c->pieces, max * sizeof(*c->pieces));

		if (!grown)
			return -ENOMEM;
		c->pieces = grown;
		c->max_pieces = max;
	}
	c->pieces[c->nr_pieces++] =
		(struct piece) { .at = code_len(c), .target = target, .kind = kind };
	if (kind != PIECE_PADDING)
		c->out.at += kind & PIECE_JCC ? 6 : 5;
	return 0;
}

int add_reloc(struct compiler *c, enum ub_reloc_kind kind, u16 index, s64 addend, u32 offset)
{
	if (c->nr_relocs == c->max_relocs) {
		u32 max = c->max_relocs ? 2 * c->max_relocs : 32;
		void *grown = realloc(c->relocs, max * sizeof(*c->relocs));

		if (!grown)
			return -ENOMEM;
		c->relocs = grown;
		c->max_relocs = max;
	}
	c->relocs[c->nr_relocs++] = (struct ub_reloc) {
		.offset = offset,
		.kind = kind,
		.index = index,
		.addend = addend,
	};
	return 0;
}

/* What the instructions of a subprogram need of its frame. */
struct needs {
	u16 written;
	bool fp, calls, run, loops;
};

static void add_base(struct frame_shape *frame, u32 map)
{
	for (u32 i = 0; i < frame->nr_bases; i++)
		if (frame->bases[i] == map)
			return;
	if (frame->nr_bases < ub_array_size(frame->bases))
		frame->bases[frame->nr_bases++] = (u8)map;
}

s32 frame_base_of(const struct frame_shape *frame, u32 map)
{
	for (u32 i = 0; i < frame->nr_bases; i++)
		if (frame->bases[i] == map)
			return -(s32)(frame->depth + (frame->loops ? 8 : 0) + 8 * (i + 1));
	return 0;
}

static void find_needs(struct compiler *c, struct needs *needs)
{
	for (u32 pc = 0; pc < c->program->nr_insns; pc++) {
		const struct facts *fact = &c->facts[pc];
		const struct bpf_insn *insn = &c->program->insns[pc];
		struct needs *n = &needs[fact->subprog];

		if (fact->flags & (FACT_DEAD | FACT_SECOND))
			continue;
		n->written |= jit_writes(insn, fact);
		if (fact->fused)
			n->written |= REG_BIT(insn->src_reg);
		if (jit_reads(insn, fact, c->program) & REG_BIT(10))
			n->fp = true;
		switch (fact->op) {
		case UB_OP_MAY_GOTO:
			n->fp = n->loops = true;
			break;
		case UB_OP_CALL_LOCAL:
			n->calls = true;
			break;
		case UB_OP_CALL:
			if (jit_inlines_lookup(insn, fact, c->program) &&
			    c->program->maps[fact->const_map - 1].type == BPF_MAP_TYPE_ARRAY)
				break;
			n->calls = n->run = true;
			if (jit_inlines_lookup(insn, fact, c->program))
				add_base(&c->frames[fact->subprog], fact->const_map - 1);
			break;
		default:
			break;
		}
	}
}

static int plan_frame(struct compiler *c, u32 index, const struct needs *needs)
{
	static const u8 callee_saved[] = { 6, 7, 8, 9 };
	const struct ub_subprog *sub = &c->program->subprogs[index];
	struct frame_shape *frame = &c->frames[index];
	u32 below, pushed;

	if (sub->stack_depth > UB_STACK_SIZE + UB_STACK_EXTRA)
		return ub_reason_set(c->why, -EINVAL,
				     "subprogram %u uses %u bytes of stack, at most %u", index,
				     sub->stack_depth, UB_STACK_SIZE + UB_STACK_EXTRA);
	frame->depth = needs->fp ? ub_round_up(sub->stack_depth, 8) : 0;
	frame->loops = needs->loops;
	frame->has_rbp = needs->fp || needs->calls;
	frame->saves_run = c->needs_run && (index == 0 || sub->is_callback);
	if (frame->saves_run)
		frame->saved[frame->nr_saved++] = RUN_REG;
	for (u32 i = 0; i < ub_array_size(callee_saved); i++) {
		if (needs->written & REG_BIT(callee_saved[i]))
			frame->saved[frame->nr_saved++] = hw_reg(callee_saved[i]);
	}
	below = frame->depth + (frame->loops ? 8 : 0) + 8 * frame->nr_bases;
	pushed = 8 * frame->nr_saved;
	if (!needs->calls && !pushed && below <= RED_ZONE)
		frame->stack = 0;
	else if (needs->calls)
		frame->stack = ub_round_up(below + pushed, 16) - pushed;
	else
		frame->stack = below;
	return 0;
}

static int plan_frames(struct compiler *c)
{
	_cleanup_free_ struct needs *needs = calloc(c->program->nr_subprogs, sizeof(*needs));
	int err;

	if (!needs)
		return -ENOMEM;
	find_needs(c, needs);
	for (u32 i = 0; i < c->program->nr_subprogs; i++)
		c->needs_run |= needs[i].run;
	for (u32 i = 0; i < c->program->nr_subprogs; i++) {
		err = plan_frame(c, i, &needs[i]);
		if (err)
			return err;
	}
	return 0;
}

void emit_prologue(struct compiler *c, u32 subprog)
{
	const struct frame_shape *frame = &c->frames[subprog];
	struct bytes *b = &c->out;

	if (frame->has_rbp) {
		x_push(b, RBP);
		x_mov_rr(b, true, RBP, RSP);
	}
	if (frame->stack)
		x_alu_ri(b, true, X_SUB, RSP, frame->stack);
	for (u32 i = 0; i < frame->nr_saved; i++)
		x_push(b, frame->saved[i]);
	if (frame->saves_run)
		x_mov_rr(b, true, RUN_REG, subprog == 0 ? RSI : R9);
	if (frame->loops) {
		x_rm(b, true, 0xc7, 0, RBP, -(s32)frame->depth - 8);
		put32(b, MAX_LOOPS);
	}
	for (u32 i = 0; i < frame->nr_bases; i++) {
		x_rm(b, true, 0xc7, 0, RBP, frame_base_of(frame, frame->bases[i]));
		put32(b, 0);
	}
}

struct place *detour_place(const struct compiler *c, u32 detour, enum detour_place which)
{
	return &c->places[c->program->nr_insns + 1 + DETOUR_PLACES * detour + which];
}

void emit_unwind(struct compiler *c, const struct frame_shape *frame)
{
	struct bytes *b = &c->out;

	for (u32 i = frame->nr_saved; i-- > 0;)
		x_pop(b, frame->saved[i]);
	if (frame->stack)
		put8(b, 0xc9); /* leave */
	else if (frame->has_rbp)
		x_pop(b, RBP);
}

int reserve(struct compiler *c, u32 more)
{
	u32 used = code_len(c), capacity;
	u8 *grown;

	if (used + more <= c->capacity)
		return 0;
	capacity = 2 * c->capacity + more;
	if (capacity > INT32_MAX / 2)
		return -E2BIG;
	grown = realloc(c->buf, capacity);
	if (!grown)
		return -ENOMEM;
	c->buf = grown;
	c->capacity = capacity;
	c->out.at = grown + used;
	return 0;
}

static int emit_insn(struct compiler *c, u32 pc)
{
	switch (ub_isa_ops[c->facts[pc].op].form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_ALU_IMM:
	case UB_FORM_NEG:
	case UB_FORM_END:
		return emit_alu(c, pc);
	case UB_FORM_LOAD:
	case UB_FORM_STORE_IMM:
	case UB_FORM_STORE:
	case UB_FORM_ATOMIC:
	case UB_FORM_LOAD_ACQ:
	case UB_FORM_STORE_REL:
	case UB_FORM_LD_IMM64:
		return emit_memory(c, pc);
	default:
		return emit_control(c, pc);
	}
}

struct place here(const struct compiler *c)
{
	return (struct place) { .at = code_len(c), .pieces = c->nr_pieces };
}

static int emit_program(struct compiler *c)
{
	const struct ub_program *program = c->program;
	u32 next_sub = 0, pc = 0;

	while (pc < program->nr_insns) {
		int covered = 1, err = reserve(c, 2 * MAX_INSN_BYTES);

		if (err)
			return err;
		if (next_sub < program->nr_subprogs && program->subprogs[next_sub].start == pc) {
			c->entries[next_sub] = here(c);
			emit_prologue(c, next_sub++);
		}
		if (c->facts[pc].flags & FACT_LOOP) {
			err = add_piece(c, PIECE_PADDING, pc);
			if (err)
				return err;
		}
		c->places[pc] = here(c);
		if (!(c->facts[pc].flags & (FACT_DEAD | FACT_SECOND))) {
			covered = emit_insn(c, pc);
			if (covered < 0)
				return covered;
		}
		for (int i = 1; i < covered; i++)
			c->places[pc + i] = here(c);
		pc += covered;
	}
	c->places[pc] = here(c);
	return emit_detours(c);
}

/* Room for what lookups need, of which there are at most as many as calls. */
static int alloc_detours(struct compiler *c)
{
	u32 nr = c->program->nr_insns, calls = 0;
	struct place *grown;

	for (u32 pc = 0; pc < nr; pc++)
		calls += c->facts[pc].op == UB_OP_CALL;
	grown = realloc(c->places, (nr + 1ul + DETOUR_PLACES * calls) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	c->places = grown;
	c->detours = calloc(calls + 1, sizeof(*c->detours));
	return c->detours ? 0 : -ENOMEM;
}

static bool cpu_has_bmi2(void)
{
	unsigned int a, b = 0, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_BMI2;
}

/* Stack of the deepest chain of frames: local calls are at most UB_MAX_CALL_FRAMES deep. */
static u32 stack_bytes(const struct compiler *c)
{
	u32 deepest = 0, frames = c->program->nr_subprogs > 1 ? UB_MAX_CALL_FRAMES : 1;

	for (u32 i = 0; i < c->program->nr_subprogs; i++) {
		const struct frame_shape *frame = &c->frames[i];
		u32 bytes = 8 + frame->stack + 8 * frame->nr_saved + (frame->has_rbp ? 8 : 0);

		if (!frame->stack)
			bytes += frame->depth + (frame->loops ? 8 : 0);
		if (bytes > deepest)
			deepest = bytes;
	}
	return deepest * frames;
}

static int check_shape(const struct ub_program *program, struct ub_reason *why)
{
	if (!program->nr_insns || program->nr_insns > UB_MAX_INSNS)
		return ub_reason_set(why, -EINVAL, "a program of %u instructions can't be compiled",
				     program->nr_insns);
	if (!program->nr_subprogs || program->nr_subprogs > UB_MAX_SUBPROGS ||
	    program->subprogs[0].start)
		return ub_reason_set(why, -EINVAL, "malformed table of subprograms");
	for (u32 i = 1; i < program->nr_subprogs; i++) {
		if (program->subprogs[i].start <= program->subprogs[i - 1].start ||
		    program->subprogs[i].start >= program->nr_insns)
			return ub_reason_set(why, -EINVAL, "malformed table of subprograms");
	}
	if (program->nr_maps > UB_MAX_USED_MAPS)
		return ub_reason_set(why, -EINVAL, "more than %d maps", UB_MAX_USED_MAPS);
	return 0;
}

static void free_compiler(struct compiler *c)
{
	free(c->facts);
	free(c->buf);
	free(c->places);
	free(c->detours);
	free(c->entries);
	free(c->pieces);
	free(c->relocs);
}

int jit_compile_x86_64(const struct ub_program *program, bool bmi2, struct ub_code *code,
		       struct ub_reason *why)
{
	_cleanup_(
		free_compiler) struct compiler c = { .program = program, .why = why, .bmi2 = bmi2 };
	u32 nr = program->nr_insns;
	int err;

	err = check_shape(program, why);
	if (err)
		return err;
	c.facts = calloc(nr, sizeof(*c.facts));
	c.places = malloc((nr + 1) * sizeof(*c.places));
	c.entries = malloc(program->nr_subprogs * sizeof(*c.entries));
	c.capacity = 1024 + 8 * nr;
	c.buf = malloc(c.capacity);
	if (!c.facts || !c.places || !c.entries || !c.buf)
		return -ENOMEM;
	c.out.at = c.buf;

	err = jit_analyse(program, c.facts, why);
	if (err)
		return err;
	err = alloc_detours(&c);
	if (!err)
		err = plan_frames(&c);
	if (err)
		return err;
	err = emit_program(&c);
	if (err)
		return err;
	err = lay_out_code(&c, code);
	if (err)
		return err;
	code->clobbers = c.clobbers & ~(1u << RBX | 1u << RSP | 1u << RBP | 1u << R12 | 1u << R13 |
					1u << R14 | 1u << R15);
	code->calls_helpers = c.calls_helpers;
	code->stack_bytes = stack_bytes(&c);
	return 0;
}

int ub_jit_compile(const struct ub_program *program, struct ub_code *code, struct ub_reason *why)
{
	static int has_bmi2 = -1;

	if (ub_read_once(has_bmi2) < 0)
		ub_write_once(has_bmi2, cpu_has_bmi2());
	return jit_compile_x86_64(program, has_bmi2, code, why);
}
