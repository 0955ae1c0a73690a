// SPDX-License-Identifier: MIT
/*
 * Malformed bytecode is refused with the instruction's number and a reason; the disassembler prints
 * what the kernel's log does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <common/cleanup.h>
#include <isa/isa.h>

#include "../fuzz/generate.h"

#define MOV(reg, value)                                                                            \
	{                                                                                          \
		BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, value                                      \
	}
#define EXIT                                                                                       \
	{                                                                                          \
		BPF_JMP | BPF_EXIT, 0, 0, 0, 0                                                     \
	}

static const struct {
	const char *reason;
	u32 nr;
	struct bpf_insn insns[4];
	int err;
} malformed[] = {
	{ "insn 0: unknown opcode ff", 2, { { 0xff }, EXIT }, -EINVAL },
	{ "insn 1: unknown opcode 00", 3, { MOV(0, 0), { 0 }, EXIT }, -EINVAL },
	{ "insn 0: R11 is invalid", 2, { MOV(11, 0), EXIT }, -EINVAL },
	{ "insn 0: R15 is invalid", 2, { { BPF_ALU64 | BPF_MOV | BPF_X, 0, 15 }, EXIT }, -EINVAL },
	{ "insn 0: frame pointer is read only", 2, { MOV(10, 0), EXIT }, -EACCES },
	{ "insn 0: frame pointer is read only",
	  2,
	  { { BPF_STX | BPF_ATOMIC | BPF_DW, 1, 10, 0, BPF_ADD | BPF_FETCH }, EXIT },
	  -EACCES },
	{ "insn 0: opcode b7 uses reserved fields",
	  2,
	  { { BPF_ALU64 | BPF_MOV | BPF_K, 0, 3 }, EXIT },
	  -EINVAL },
	{ "insn 0: opcode 95 uses reserved fields", 1, { { BPF_JMP | BPF_EXIT, 1 } }, -EINVAL },
	{ "insn 0: opcode 07 uses reserved fields",
	  2,
	  { { BPF_ALU64 | BPF_ADD | BPF_K, 0, 1 }, EXIT },
	  -EINVAL },
	{ "insn 0: unknown opcode 07",
	  2,
	  { { BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 1 }, EXIT },
	  -EINVAL },
	{ "insn 0: unknown opcode dc",
	  2,
	  { { BPF_ALU | BPF_END | BPF_TO_BE, 0, 0, 0, 24 }, EXIT },
	  -EINVAL },
	{ "insn 0: unknown opcode db",
	  2,
	  { { BPF_STX | BPF_ATOMIC | BPF_DW, 1, 0, 0, 0x77 }, EXIT },
	  -EINVAL },
	{ "insn 0: unknown opcode cb",
	  2,
	  { { BPF_STX | BPF_ATOMIC | BPF_H, 1, 0, 0, BPF_ADD }, EXIT },
	  -EINVAL },
	{ "insn 0: unknown opcode bf",
	  2,
	  { { BPF_ALU64 | BPF_MOV | BPF_X, 0, 1, 7 }, EXIT },
	  -EINVAL },
	{ "insn 0: invalid bpf_ld_imm64 insn", 1, { { BPF_LD | BPF_IMM | BPF_DW } }, -EINVAL },
	{ "insn 0: invalid bpf_ld_imm64 insn",
	  2,
	  { { BPF_LD | BPF_IMM | BPF_DW }, EXIT },
	  -EINVAL },
	{ "insn 0: jump out of range from insn 0 to 2",
	  2,
	  { { BPF_JMP | BPF_JA, 0, 0, 1 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump out of range from insn 0 to -1",
	  2,
	  { { BPF_JMP | BPF_JA, 0, 0, -2 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump out of range from insn 0 to -2147483647",
	  2,
	  { { BPF_JMP32 | BPF_JA, 0, 0, 0, INT32_MIN }, EXIT },
	  -EINVAL },
	{ "insn 0: jump out of range",
	  2,
	  { { BPF_JMP | BPF_CALL, 0, 1, 0, INT32_MAX }, EXIT },
	  -EINVAL },
	{ "insn 0: jump into the middle of ldimm64 insn 2",
	  4,
	  { { BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1 }, { BPF_LD | BPF_IMM | BPF_DW }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump into the middle of ldimm64 insn 2",
	  4,
	  { { BPF_JMP32 | BPF_JA, 0, 0, 0, 1 }, { BPF_LD | BPF_IMM | BPF_DW }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump into the middle of ldimm64 insn 2",
	  4,
	  { { BPF_JMP | BPF_CALL, 0, 1, 0, 1 }, { BPF_LD | BPF_IMM | BPF_DW }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump into the middle of ldimm64 insn 2",
	  4,
	  { { BPF_JMP | BPF_JCOND, 0, 0, 1 }, { BPF_LD | BPF_IMM | BPF_DW }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: invalid insn idx 1",
	  3,
	  { { BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_FUNC, 0, 0 }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: jump out of range from insn 0 to 6",
	  2,
	  { { BPF_JMP | BPF_JCOND, 0, 0, 5 }, EXIT },
	  -EINVAL },
	{ "insn 1: jump out of range from insn 1 to 32769",
	  3,
	  { MOV(0, 0), { BPF_JMP32 | BPF_JSLT | BPF_X, 0, 1, 32767 }, EXIT },
	  -EINVAL },
	{ "insn 0: invalid insn idx 9",
	  3,
	  { { BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_FUNC, 0, 8 }, { 0 }, EXIT },
	  -EINVAL },
	{ "insn 0: last insn is not an exit or jmp", 1, { MOV(0, 0) }, -EINVAL },
	{ "insn 0: BPF_LD_[ABS|IND] instructions not allowed",
	  2,
	  { { BPF_LD | BPF_ABS | BPF_W }, EXIT },
	  -EINVAL },
	{ "insn 0: calling kernel function #5 is not allowed",
	  2,
	  { { BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, 5 }, EXIT },
	  -EACCES },
	{ "insn 0: unknown opcode 8d", 2, { { BPF_JMP | BPF_CALL | BPF_X, 1 }, EXIT }, -EINVAL },
};

static void malformed_is_refused(void **state)
{
	for (u32 i = 0; i < ub_array_size(malformed); i++) {
		struct ub_reason why = { "" };
		int err = ub_isa_check(malformed[i].insns, malformed[i].nr, &why);

		if (err != malformed[i].err ||
		    strncmp(why.text, malformed[i].reason, strlen(malformed[i].reason)))
			fail_msg("%d '%s', not %d '%s'", err, why.text, malformed[i].err,
				 malformed[i].reason);
	}
}

static void sizes_are_limited(void **state)
{
	_cleanup_free_ struct bpf_insn *insns = calloc(1000001, sizeof(*insns));
	struct ub_reason why = { "" };

	assert_non_null(insns);
	assert_int_equal(ub_isa_check(insns, 0, &why), -EINVAL);
	assert_non_null(strstr(why.text, "no instructions"));
	for (u32 i = 0; i <= 1000000; i++)
		insns[i] = (struct bpf_insn) { BPF_ALU64 | BPF_MOV | BPF_K };
	insns[1000000] = (struct bpf_insn) { BPF_JMP | BPF_EXIT };
	assert_int_equal(ub_isa_check(insns, 1000001, &why), -E2BIG);
	assert_non_null(strstr(why.text, "1000001 instructions"));
	insns[999999] = (struct bpf_insn) { BPF_JMP | BPF_EXIT };
	assert_int_equal(ub_isa_check(insns, 1000000, &why), 0);
}

static void every_row_decodes_to_itself(void **state)
{
	for (enum ub_op op = 1; op < UB_NR_OPS; op++) {
		const struct ub_op_info *info = &ub_isa_ops[op];
		struct bpf_insn insn = { .code = info->code };
		char text[128];

		switch (info->form) {
		case UB_FORM_ALU_REG:
		case UB_FORM_ALU_IMM:
			insn.off = (s16)info->sub;
			break;
		case UB_FORM_END:
		case UB_FORM_ATOMIC:
		case UB_FORM_LOAD_ACQ:
		case UB_FORM_STORE_REL:
			insn.imm = info->sub;
			break;
		default:
			insn.src_reg = (u8)info->sub;
			break;
		}
		assert_int_equal(ub_isa_decode(&insn), op);
		if (info->form != UB_FORM_LD_IMM64) {
			ub_isa_print(&insn, text, sizeof(text));
			assert_null(strstr(text, "BUG"));
		}
	}
}

static void printing_fits_any_buffer(void **state)
{
	struct bpf_insn insn = { BPF_STX | BPF_ATOMIC | BPF_DW, 1, 2, -32768, BPF_CMPXCHG };
	char text[64];

	for (size_t size = 1; size <= sizeof(text); size++) {
		ub_isa_print(&insn, text, size);
		assert_true(strlen(text) < size);
	}
	ub_isa_print(&insn, text, sizeof(text));
	assert_string_equal(text, "(db) r0 = atomic64_cmpxchg((u64 *)(r1 -32768), r0, r2)");
}

/* Compares each "N: (xx) ..." line of the kernel's log with ours; the number of lines. */
static u32 compare_log(char *log, const struct vm_case *test)
{
	u32 nr = 0;

	for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
		char text[128], *end, *comment;
		u32 pc = (u32)strtoul(line, &end, 10);

		if (end == line || strncmp(end, ": (", 3) || pc >= test->nr)
			continue;
		line = end + 2;
		comment = strchr(line, ';');
		if (comment)
			*comment = 0;
		for (end = line + strlen(line); end > line && end[-1] == ' ';)
			*--end = 0;
		ub_isa_print(&test->insns[pc], text, sizeof(text));
		if (strcmp(line, text))
			fail_msg("insn %u: '%s', the kernel prints '%s'", pc, text, line);
		nr++;
	}
	return nr;
}

static void prints_as_the_kernel(void **state)
{
	static struct vm_case test;
	static char log[4 << 20];
	u32 nr = 0;

	if (!vm_kernel_available())
		skip();
	for (u64 seed = 1; seed <= 48; seed++) {
		union bpf_attr attr = {
			.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
			.insns = (u64)test.insns,
			.license = (u64) "GPL",
			.log_buf = (u64)log,
			.log_size = sizeof(log),
			.log_level = 2,
		};
		int fd;

		generate_program(seed, &test);
		if (test.has_maps) /* maps that do not exist: there would be no log */
			continue;
		/* r1 is no memory here: the log ends early, unless it becomes something harmless.
		 */
		for (u32 pc = 0; pc < test.nr; pc++) {
			struct bpf_insn *insn = &test.insns[pc];

			if (insn->code == (BPF_ALU64 | BPF_MOV | BPF_X) && insn->src_reg == 1 &&
			    pc < 2 && !insn->off)
				insn->src_reg = 10;
		}
		attr.insn_cnt = test.nr;
		log[0] = 0;
		fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
		if (fd >= 0)
			close(fd);
		nr += compare_log(log, &test);
	}
	if (!nr)
		fail_msg("the kernel's log had no instructions");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_is_refused),
		cmocka_unit_test(sizes_are_limited),
		cmocka_unit_test(every_row_decodes_to_itself),
		cmocka_unit_test(printing_fits_any_buffer),
		cmocka_unit_test(prints_as_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
