// SPDX-License-Identifier: MIT
/*
 * A trampoline saves what ub_code.clobbers names and no more. So: programs of one or two
 * instructions, every instruction with some registers, called with a known value in every hardware
 * register; those that are not named must be the same afterwards, and the stack pointer too.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <isa/isa.h>
#include <jit/jit.h>
#include <jit/x86_64/compile.h>
#include <run/run.h>

/* In hardware numbering; [4], rsp, is compared by the thunk. */
u64 clobbers_before[16] __attribute__((visibility("hidden")));
u64 clobbers_after[16] __attribute__((visibility("hidden")));
u64 clobbers_target __attribute__((visibility("hidden")));

#define before clobbers_before
#define after  clobbers_after

/*
 * Loads all registers but rsp from before[], calls target, stores them to after[]. after[4] = how
 * far rsp moved. rdi and rsi are the arguments and come from before[] like the others.
 */
void call_with_registers(void);

__asm__(".pushsection .text\n"
	"call_with_registers:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	sub $8, %rsp\n"
	"	mov %rsp, saved_rsp(%rip)\n"
	"	mov clobbers_before+0(%rip), %rax\n"
	"	mov clobbers_before+8(%rip), %rcx\n"
	"	mov clobbers_before+16(%rip), %rdx\n"
	"	mov clobbers_before+24(%rip), %rbx\n"
	"	mov clobbers_before+40(%rip), %rbp\n"
	"	mov clobbers_before+48(%rip), %rsi\n"
	"	mov clobbers_before+56(%rip), %rdi\n"
	"	mov clobbers_before+64(%rip), %r8\n"
	"	mov clobbers_before+72(%rip), %r9\n"
	"	mov clobbers_before+80(%rip), %r10\n"
	"	mov clobbers_before+88(%rip), %r11\n"
	"	mov clobbers_before+96(%rip), %r12\n"
	"	mov clobbers_before+104(%rip), %r13\n"
	"	mov clobbers_before+112(%rip), %r14\n"
	"	mov clobbers_before+120(%rip), %r15\n"
	"	call *clobbers_target(%rip)\n"
	"	mov %rax, clobbers_after+0(%rip)\n"
	"	mov %rcx, clobbers_after+8(%rip)\n"
	"	mov %rdx, clobbers_after+16(%rip)\n"
	"	mov %rbx, clobbers_after+24(%rip)\n"
	"	mov %rbp, clobbers_after+40(%rip)\n"
	"	mov %rsi, clobbers_after+48(%rip)\n"
	"	mov %rdi, clobbers_after+56(%rip)\n"
	"	mov %r8, clobbers_after+64(%rip)\n"
	"	mov %r9, clobbers_after+72(%rip)\n"
	"	mov %r10, clobbers_after+80(%rip)\n"
	"	mov %r11, clobbers_after+88(%rip)\n"
	"	mov %r12, clobbers_after+96(%rip)\n"
	"	mov %r13, clobbers_after+104(%rip)\n"
	"	mov %r14, clobbers_after+112(%rip)\n"
	"	mov %r15, clobbers_after+120(%rip)\n"
	"	mov %rsp, %rax\n"
	"	sub saved_rsp(%rip), %rax\n"
	"	mov %rax, clobbers_after+32(%rip)\n"
	"	mov saved_rsp(%rip), %rsp\n"
	"	add $8, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".local saved_rsp\n"
	".comm saved_rsp, 8\n"
	".popsection\n");

static u64 memory[64];

static void check(struct bpf_insn *insns, u32 nr, bool bmi2, bool percpu)
{
	static const u64 no_helpers[256];
	struct ub_run run = { .cpu = 0 };
	struct ub_program *program;
	struct ub_jitted *jitted;
	struct ub_code code;
	struct ub_reason why = { "" };

	if (ub_program_from_insns(insns, nr, &program, &why))
		fail_msg("%s", why.text);
	program->aux = calloc(nr, sizeof(*program->aux));
	assert_non_null(program->aux);
	for (u32 pc = 0; percpu && pc < nr; pc++)
		program->aux[pc].flags = UB_INSN_PERCPU;
	if (jit_compile_x86_64(program, bmi2, &code, &why) ||
	    ub_jitted_create(&code, no_helpers, NULL, &jitted, &why))
		fail_msg("%s", why.text);
	for (u32 i = 0; i < 16; i++)
		before[i] = 0x5151515100000001ull * (i + 1);
	before[RDI] = (u64)memory;
	before[RSI] = (u64)&run;
	clobbers_target = ub_jitted_entry(jitted);
	call_with_registers();
	assert_int_equal(after[RSP], 0);
	for (u32 i = 0; i < 16; i++) {
		char text[128];

		if (i == RSP || code.clobbers & 1u << i || before[i] == after[i])
			continue;
		ub_isa_print(&insns[1], text, sizeof(text));
		fail_msg("%s: hardware register %u changes and is not in clobbers 0x%x", text, i,
			 code.clobbers);
	}
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	ub_program_free(program);
}

/* One instruction between copies of the context pointer and a result. @base: a register to be the
 * pointer, or 16. */
static void check_insn(struct bpf_insn insn, u8 base)
{
	struct bpf_insn insns[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_X, base < 10 ? base : 1, 1, 0, 0 },
		insn,
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1 },
		{ BPF_JMP | BPF_EXIT },
	};

	check(insns, ub_array_size(insns), true, false);
	check(insns, ub_array_size(insns), false, false);
}

static void check_registers(const struct ub_op_info *info)
{
	for (u8 dst = 0; dst < 10; dst++) {
		for (u8 src = 0; src < 10; src++) {
			struct bpf_insn insn = { info->code, dst, src, 0, 0 };

			switch (info->form) {
			case UB_FORM_ALU_REG:
				insn.off = (s16)info->sub;
				check_insn(insn, 16);
				break;
			case UB_FORM_ALU_IMM:
				insn.off = (s16)info->sub;
				insn.src_reg = 0;
				insn.imm = 3 + src;
				check_insn(insn, 16);
				break;
			case UB_FORM_NEG:
			case UB_FORM_END:
				insn.src_reg = 0;
				insn.imm = info->sub;
				check_insn(insn, 16);
				break;
			case UB_FORM_LOAD:
				check_insn(insn, src);
				break;
			case UB_FORM_LOAD_ACQ:
				insn.imm = info->sub;
				check_insn(insn, src);
				break;
			case UB_FORM_STORE:
				check_insn(insn, dst);
				break;
			case UB_FORM_STORE_REL:
			case UB_FORM_ATOMIC:
				insn.imm = info->sub;
				check_insn(insn, dst);
				break;
			case UB_FORM_STORE_IMM:
				insn.src_reg = 0;
				insn.imm = 77;
				check_insn(insn, dst);
				break;
			default:
				break;
			}
		}
	}
}

static void every_instruction(void **state)
{
	for (enum ub_op op = 1; op < UB_NR_OPS; op++)
		check_registers(&ub_isa_ops[op]);
}

/* With a register or a constant, with the new value used or not. */
static void per_cpu_updates(void **state)
{
	static const u8 ops[] = { BPF_ADD, BPF_SUB, BPF_OR, BPF_AND, BPF_XOR };

	for (u32 i = 0; i < ub_array_size(ops) * 2 * 10; i++) {
		u8 value = i % 10, op = ops[i / 10 % 5], base = value == 1 ? 2 : 1;
		bool by_reg = i / 50;

		for (u32 used = 0; used < 2; used++) {
			struct bpf_insn insns[] = {
				{ BPF_ALU64 | BPF_MOV | BPF_X, base, 1, 0, 0 },
				{ BPF_LDX | BPF_MEM | BPF_DW, value, base, 8, 0 },
				{ BPF_ALU64 | op | (by_reg ? BPF_X : BPF_K), value,
				  by_reg ? base : 0, 0, by_reg ? 0 : 5 },
				{ BPF_STX | BPF_MEM | BPF_DW, base, value, 8, 0 },
				{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1 },
				{ BPF_JMP | BPF_EXIT },
			};

			if (used)
				insns[4] =
					(struct bpf_insn) { BPF_ALU64 | BPF_MOV | BPF_X, 0, value };
			check(insns, ub_array_size(insns), true, true);
		}
	}
}

/* Frames: stack, calls, a counter, many saved registers. */
static void frames(void **state)
{
	struct bpf_insn leaf[] = {
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -512, 1 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 9, 0, 0, 1 },
		{ BPF_JMP | BPF_JCOND, 0, 0, 0, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1 },
		{ BPF_JMP | BPF_EXIT },
	};
	struct bpf_insn calls[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_K, 6, 0, 0, 1 },
		{ BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 2 },
		{ BPF_ALU64 | BPF_ADD | BPF_X, 0, 6, 0, 0 },
		{ BPF_JMP | BPF_EXIT },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 6, 0, 0, 9 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 8, 0, 0, 9 },
		{ BPF_STX | BPF_MEM | BPF_DW, 10, 8, -8, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 0, 6, 0, 0 },
		{ BPF_JMP | BPF_EXIT },
	};

	check(leaf, ub_array_size(leaf), true, false);
	check(calls, ub_array_size(calls), true, false);
	assert_int_equal(after[RAX], 10);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction),
		cmocka_unit_test(per_cpu_updates),
		cmocka_unit_test(frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
