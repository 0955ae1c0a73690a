// SPDX-License-Identifier: MIT
/*
 * The layout of compiled code: small loops lie within as few cache lines as they can, and wherever
 * they come to lie, all branches still lead where they should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jit/jit.h>

#define MAX_INSNS 512

static u32 put(struct bpf_insn *insns, u32 at, u8 code, u8 dst, s16 off, s32 imm)
{
	insns[at] = (struct bpf_insn) { code, dst, 0, off, imm };
	return at + 1;
}

/* @before instructions, a loop of @body and three more that runs five times, a jump over it all
 * that may or may not reach with a byte; r0 = before + 5 * body. */
static u32 make_loop(struct bpf_insn *insns, u32 before, u32 body, u32 *head, u32 *end)
{
	u32 nr = put(insns, 0, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0), over = nr + 1;

	nr = put(insns, nr, BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 5);
	nr = put(insns, nr, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 0);
	for (u32 i = 0; i < before; i++)
		nr = put(insns, nr, BPF_ALU | BPF_ADD | BPF_K, 0, 0, 1);
	*head = nr;
	for (u32 i = 0; i < body; i++)
		nr = put(insns, nr, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 1);
	nr = put(insns, nr, BPF_ALU64 | BPF_SUB | BPF_K, 2, 0, 1);
	nr = put(insns, nr, BPF_JMP | BPF_JNE | BPF_K, 2, (s16)((s32)*head - (s32)nr - 1), 0);
	*end = nr;
	insns[over].off = (s16)(nr - over - 1);
	return put(insns, nr, BPF_JMP | BPF_EXIT, 0, 0, 0);
}

static void check_loop(u32 before, u32 body)
{
	struct bpf_insn insns[MAX_INSNS];
	static u64 helpers[256];
	struct ub_run run = { 0 };
	struct ub_program *program;
	struct ub_jitted *jitted;
	struct ub_code code;
	u32 nr, head, end, first, last, size;

	nr = make_loop(insns, before, body, &head, &end);
	assert_int_equal(ub_program_from_insns(insns, nr, &program, NULL), 0);
	assert_int_equal(ub_jit_compile(program, &code, NULL), 0);
	first = code.insn_offsets[head];
	last = code.insn_offsets[end] - 1;
	size = last - first + 1;
	if (size <= 256 &&
	    last / UB_CODE_ALIGN - first / UB_CODE_ALIGN > (size - 1) / UB_CODE_ALIGN)
		fail_msg("a loop of %u bytes lies from %u to %u", size, first, last);
	assert_int_equal(ub_jitted_create(&code, helpers, NULL, &jitted, NULL), 0);
	assert_int_equal(ub_jitted_run(jitted, NULL, &run), before + 5 * body);
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	ub_program_free(program);
}

static void loops_lie_within_lines(void **state)
{
	for (u32 before = 0; before < 40; before++) {
		for (u32 body = 1; body < 80; body += 1 + body / 8)
			check_loop(before, body);
	}
}

static void loops_within_loops(void **state)
{
	/* The inner one is aligned within the outer one; r0 = 3 * 4. */
	const struct bpf_insn insns[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 3 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 4 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, 1 },
		{ BPF_ALU64 | BPF_SUB | BPF_K, 2, 0, 0, 1 },
		{ BPF_JMP | BPF_JNE | BPF_K, 2, 0, -3, 0 },
		{ BPF_ALU64 | BPF_SUB | BPF_K, 1, 0, 0, 1 },
		{ BPF_JMP | BPF_JNE | BPF_K, 1, 0, -6, 0 },
		{ BPF_JMP | BPF_EXIT },
	};
	static u64 helpers[256];
	struct ub_run run = { 0 };
	struct ub_program *program;
	struct ub_jitted *jitted;
	struct ub_code code;

	assert_int_equal(ub_program_from_insns(insns, ub_array_size(insns), &program, NULL), 0);
	assert_int_equal(ub_jit_compile(program, &code, NULL), 0);
	assert_int_equal(ub_jitted_create(&code, helpers, NULL, &jitted, NULL), 0);
	assert_int_equal(ub_jitted_run(jitted, NULL, &run), 12);
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	ub_program_free(program);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(loops_lie_within_lines),
		cmocka_unit_test(loops_within_loops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
