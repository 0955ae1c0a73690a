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
