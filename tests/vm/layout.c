// SPDX-License-Identifier: MIT
/*
 * The layout of compiled code: small loops lie within as few cache lines as they can, and wherever
 * they come to lie, all branches still lead where they should. Large programs take no more time than their
 * size explains.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <interpreter/interpreter.h>
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

/* Compiled and interpreted alike. */
static void check_result(const struct bpf_insn *insns, u32 nr, u64 expected)
{
	static u64 helpers[256];
	struct ub_run run = { 0 };
	struct ub_program *program;
	struct ub_jitted *jitted;
	struct ub_code code;
	u64 result;

	assert_int_equal(ub_program_from_insns(insns, nr, &program, NULL), 0);
	assert_int_equal(ub_interpret(program, NULL, 0, &run, NULL, &result, NULL), 0);
	assert_int_equal(result, expected);
	assert_int_equal(ub_jit_compile(program, &code, NULL), 0);
	assert_int_equal(ub_jitted_create(&code, helpers, NULL, &jitted, NULL), 0);
	assert_int_equal(ub_jitted_run(jitted, NULL, &run), expected);
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	ub_program_free(program);
}

/* Each block jumps to the one before it, and only the first reads what was set at the start: what
 * goes over the whole program once per block would not end. */
static void blocks_in_reverse_order(void **state)
{
	const u32 nr_blocks = 200000;
	struct bpf_insn *insns = calloc(2 * nr_blocks + 4, sizeof(*insns));
	u32 nr;

	assert_non_null(insns);
	nr = put(insns, 0, BPF_ALU64 | BPF_MOV | BPF_K, 5, 0, 7);
	nr = put(insns, nr, BPF_JMP32 | BPF_JA, 0, 0, (s32)(2 * nr_blocks));
	nr = put(insns, nr, BPF_ALU64 | BPF_ADD | BPF_K, 5, 0, 1);
	insns[nr++] = (struct bpf_insn) { BPF_ALU64 | BPF_MOV | BPF_X, 0, 5, 0, 0 };
	nr = put(insns, nr, BPF_JMP | BPF_EXIT, 0, 0, 0);
	for (u32 i = 1; i < nr_blocks; i++) {
		u32 before = i == 1 ? 2 : nr - 2;

		nr = put(insns, nr, BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, (s32)i);
		nr = put(insns, nr, BPF_JMP | BPF_JA, 0, (s16)((s32)before - (s32)nr - 1), 0);
	}
	insns[1].imm = (s32)(nr - 2 - 2);
	check_result(insns, nr, 8);
	free(insns);
}

/* Branches that would each reach with a byte if the next one did. */
static void chain_of_branches(void **state)
{
	const u32 nr_branches = 300000, far = 10;
	struct bpf_insn *insns = calloc(nr_branches + far + 4, sizeof(*insns));
	u32 nr;

	assert_non_null(insns);
	nr = put(insns, 0, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0);
	nr = put(insns, nr, BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0);
	for (u32 i = 0; i < nr_branches; i++)
		nr = put(insns, nr, BPF_JMP | BPF_JEQ | BPF_K, 1, (s16)(far - 1), 1000 + (s32)i);
	for (u32 i = 0; i < far; i++)
		nr = put(insns, nr, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 1);
	nr = put(insns, nr, BPF_JMP | BPF_EXIT, 0, 0, 0);
	check_result(insns, nr, far);
	free(insns);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(loops_lie_within_lines),
		cmocka_unit_test(loops_within_loops),
		cmocka_unit_test(blocks_in_reverse_order),
		cmocka_unit_test(chain_of_branches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
