// SPDX-License-Identifier: MIT
/*
 * bpf_snprintf(), bpf_strtol(), bpf_strtoul() and bpf_strncmp(): results, errno and what is
 * written, compared with the kernel's. All cases are calls of one program, run once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <helper/helper.h>

#include "../map/sides.h"

#define OUT 160 /* bytes of output per case */

/* Arguments: values, or with a bit set in @pointers, offsets into strings[]. */
struct format_case {
	const char *format;
	u32 size;
	u32 nr;
	u64 args[4];
	u32 pointers;
};

static const char strings[] =
	"hello\0world, this is long\0\x7f\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";

#define HELLO 0
#define WORLD 6
#define BYTES 26

static const struct format_case formats[] = {
	{ "plain", OUT, 0 },
	{ "", OUT, 0 },
	{ "%d %i %u", OUT, 3, { (u64)-1, 42, 0xffffffff } },
	{ "%d", OUT, 1, { 0x1ffffffffull } },
	{ "%ld|%lu|%lld|%llu", OUT, 4, { (u64)-5, (u64)-5, 1ull << 63, 1ull << 63 } },
	{ "%x %X %lx %llX", OUT, 4, { 0xdeadbeef, 0xdeadbeef, 0xdeadbeefcafe, 0xdeadbeefcafe } },
	{ "[%5d][%-5d][%05d][%+d]", OUT, 4, { 42, 42, 42, 42 } },
	{ "[% d][%+05d][%-+5d][%0-5d]", OUT, 4, { 42, 42, 42, 42 } },
	{ "[%5x][%08lx][%-8X]", OUT, 3, { 0xab, 0xab, 0xab } },
	{ "%%|%d%%", OUT, 1, { 7 } },
	{ "%c|%5c|%-5c|", OUT, 3, { 'a', 'b', 'c' } },
	{ "%s", OUT, 1, { HELLO }, 1 },
	{ "[%10s][%-10s][%2s]", OUT, 3, { HELLO, HELLO, HELLO }, 7 },
	{ "%s, %s!", OUT, 2, { HELLO, WORLD }, 3 },
	{ "%pks", OUT, 1, { WORLD }, 1 },
	{ "%pI4 %pi4", OUT, 2, { BYTES, BYTES }, 3 },
	{ "%pi6", OUT, 1, { BYTES }, 1 },
	{ "%pI6", OUT, 1, { BYTES }, 1 },
	{ "%px", OUT, 1, { 0xffff888012345678ull } },
	{ "[%20px]", OUT, 1, { 0x1234 } },
	/* Too small: what is returned is what it would have taken. */
	{ "%s %d", 4, 2, { HELLO, 12345 }, 1 },
	{ "%d", 1, 1, { 12345 } },
	/* Refused. */
	{ "%d %d", OUT, 1, { 1 } },
	{ "%f", OUT, 1, { 1 } },
	{ "%hd", OUT, 1, { 1 } },
	{ "%", OUT, 0 },
	{ "%l", OUT, 1, { 1 } },
	{ "%sx", OUT, 1, { HELLO }, 1 },
	{ "%pI5", OUT, 1, { BYTES }, 1 },
	{ "%pz", OUT, 1, { 1 } },
	{ "%#x", OUT, 1, { 1 } },
	{ "%.3d", OUT, 1, { 1 } },
	{ "\x01 is not", OUT, 0 },
	{ "tab\tand newline\n", OUT, 0 },
	{ "%s", OUT, 1, { 0 } },
	{ "%d extra", OUT, 2, { 1, 2 } },
	/* Odd ones. */
	{ "[%0d][%00d][%000005d]", OUT, 3, { 7, 7, 7 } },
	{ "[%  d][%++d][%--5d]", OUT, 3, { 7, 7, 7 } },
	{ "[%+u][% x][%+x]", OUT, 3, { 7, 7, 7 } },
	{ "[%-05d][%0-5x]", OUT, 2, { 7, 7 } },
	{ "[%60d]", OUT, 1, { 7 } },
	{ "[%9999d]", OUT, 1, { 7 } },
	{ "%1$d", OUT, 1, { 7 } },
	{ "%*d", OUT, 2, { 5, 7 } },
	{ "%5%", OUT, 0 },
	{ "%%%", OUT, 0 },
	{ "%d%", OUT, 1, { 7 } },
	{ "%lld %li %lli", OUT, 3, { (u64)-1, (u64)-2, (u64)-3 } },
	{ "%lx %llx %lX", OUT, 3, { (u64)-1, (u64)-2, (u64)-3 } },
	{ "%llld", OUT, 1, { 7 } },
	{ "%zd", OUT, 1, { 7 } },
	{ "%o", OUT, 1, { 7 } },
	{ "%n", OUT, 1, { 7 } },
	{ "%lc", OUT, 1, { 'a' } },
	{ "%ls", OUT, 1, { HELLO }, 1 },
	{ "%c%c", OUT, 2, { 0, 'a' } },
	{ "%05c|%-05s|%05s", OUT, 3, { 'a', HELLO, HELLO }, 6 },
	{ "%+s|% s", OUT, 2, { HELLO, HELLO }, 3 },
	{ "%pk", OUT, 1, { HELLO }, 1 },
	{ "%pu", OUT, 1, { HELLO }, 1 },
	{ "%pksx", OUT, 1, { HELLO }, 1 },
	{ "%10pks|%-10pks", OUT, 2, { HELLO, HELLO }, 3 },
	{ "%-20pI4|%pi4x", OUT, 2, { BYTES, BYTES }, 3 },
	{ "%pI4 %pI4", OUT, 2, { BYTES, BYTES }, 3 },
	{ "%pI", OUT, 1, { BYTES }, 1 },
	{ "%px %px", OUT, 2, { 0, (u64)-1 } },
	{ "%-20pxx", OUT, 1, { 0x1234 } },
	{ "%x%X%u%d%i", OUT, 4, { 1, 2, 3, 4 } },
	{ "%s %s %s %s", OUT, 4, { HELLO, WORLD, HELLO, WORLD }, 15 },
	{ "%s", 5, 1, { HELLO }, 1 },
	{ "%s", 6, 1, { HELLO }, 1 },
	{ "%pks%d", 7, 2, { HELLO, 12345 }, 1 },
	{ "\x80", OUT, 0 },
	{ "\x7f", OUT, 0 },
	{ "\v\f\r\a", OUT, 0 },
};

static const struct {
	const char *text;
	u32 size; /* 0: with NUL */
	u64 flags;
} numbers[] = {
	{ "0" },
	{ "42" },
	{ "-42" },
	{ "  17" },
	{ "\t\n 18x" },
	{ "0x1f" },
	{ "0X1F" },
	{ "0x" },
	{ "0xg" },
	{ "010" },
	{ "08" },
	{ "-" },
	{ "" },
	{ "   " },
	{ "abc" },
	{ "+5" },
	{ "ff", 0, 16 },
	{ "0xff", 0, 16 },
	{ "77", 0, 8 },
	{ "99", 0, 8 },
	{ "12", 0, 10 },
	{ "12", 0, 2 },
	{ "12", 0, 32 },
	{ "12345", 3 },
	{ "- 5" },
	{ "9223372036854775807" },
	{ "9223372036854775808" },
	{ "-9223372036854775808" },
	{ "-9223372036854775809" },
	{ "18446744073709551615" },
	{ "18446744073709551616" },
	{ "0xffffffffffffffff" },
	{ "0x10000000000000000" },
	{ "-0" },
	{ "-0x10" },
	{ "--5" },
	{ "-+5" },
	{ " -5 " },
	{ "\v\f\r7" },
	{ "\xa0"
	  "5" },
	{ "5\n" },
	{ "0b101" },
	{ "0o17" },
	{ "00x1f" },
	{ "0x0" },
	{ "0x", 2, 16 },
	{ "0x1", 2 },
	{ "0x1", 2, 16 },
	{ "0xx1" },
	{ "1e5" },
	{ "09" },
	{ "-08" },
	{ "fF", 0, 16 },
	{ "g", 0, 16 },
	{ "-", 1 },
	{ "-1", 1 },
	{ "  9", 2 },
	{ "7", 0, 8 },
	{ "12", 0, 1 },
	{ "12", 0, 0x1000 },
	{ "1_000" },
	{ "9999999999999999999999999999999999999999" },
	{ "-9999999999999999999999999999999999999999" },
	{ "01777777777777777777777" },
	{ "02000000000000000000000" },
	{ "-01000000000000000000000" },
	{ "0x7fffffffffffffff" },
	{ "-0x8000000000000000" },
	{ "-0x8000000000000001" },
	{ "          1234567890123456789012345678901234567890123456789012345678" },
	{ "0000000000000000000000000000000000000000000000000000000000000000001" },
};

static const struct {
	const char *a, *b;
	u32 size;
} pairs[] = {
	{ "abc", "abc", 4 }, { "abc", "abd", 4 }, { "abd", "abc", 4 }, { "abcx", "abcy", 3 },
	{ "a", "abc", 2 },   { "abc", "a", 4 },	  { "\xff", "a", 2 },  { "", "", 1 },
};

#define NR_FORMATS ub_array_size(formats)
#define NR_NUMBERS ub_array_size(numbers)
#define NR_PAIRS   ub_array_size(pairs)
#define NR_CASES   (NR_FORMATS + 2 * NR_NUMBERS + NR_PAIRS)
#define TEXT	   80 /* bytes of text per case */

/* What a case reads and writes; one of each side. */
struct memory {
	u64 results[NR_CASES];
	char out[NR_CASES][OUT];
	u64 args[NR_FORMATS][4];
	char text[NR_CASES][TEXT];
	char strings[64];
};

/* Constant strings: the verifier wants to see them. */
struct constants {
	char text[NR_CASES][TEXT];
};

static struct memory ours, kernels;
static struct constants constants;

static void fill(struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	memset(memory->out, 'Z', sizeof(memory->out));
	memcpy(memory->strings, strings, sizeof(strings));
	for (u32 i = 0; i < NR_FORMATS; i++) {
		memcpy(memory->args[i], formats[i].args, sizeof(memory->args[i]));
		strcpy(constants.text[i], formats[i].format);
	}
	for (u32 i = 0; i < 2 * NR_NUMBERS; i++) {
		memcpy(memory->text[NR_FORMATS + i], numbers[i % NR_NUMBERS].text,
		       strlen(numbers[i % NR_NUMBERS].text) + 1);
	}
	for (u32 i = 0; i < NR_PAIRS; i++) {
		strcpy(memory->text[NR_FORMATS + 2 * NR_NUMBERS + i], pairs[i].a);
		strcpy(constants.text[NR_FORMATS + 2 * NR_NUMBERS + i], pairs[i].b);
	}
}

static u32 number_size(u32 i)
{
	return numbers[i].size ? numbers[i].size : (u32)strlen(numbers[i].text) + 1;
}

static void run_ours(void)
{
	struct ub_run run = { .cpu = 0 };
	u32 n = 0;

	for (u32 i = 0; i < NR_FORMATS; i++, n++) {
		const struct format_case *c = &formats[i];
		u64 args[4];

		for (u32 k = 0; k < 4; k++)
			args[k] = c->args[k] + (c->pointers >> k & 1 ? (u64)ours.strings : 0);
		ours.results[n] =
			ub_helper_snprintf((u64)ours.out[n], c->size, (u64)constants.text[n],
					   (u64)args, c->nr * 8, &run);
	}
	for (u32 i = 0; i < NR_NUMBERS; i++, n++)
		ours.results[n] = ub_helper_strtol((u64)ours.text[n], number_size(i),
						   numbers[i].flags, (u64)ours.out[n], 0, &run);
	for (u32 i = 0; i < NR_NUMBERS; i++, n++)
		ours.results[n] = ub_helper_strtoul((u64)ours.text[n], number_size(i),
						    numbers[i].flags, (u64)ours.out[n], 0, &run);
	for (u32 i = 0; i < NR_PAIRS; i++, n++)
		ours.results[n] = ub_helper_strncmp((u64)ours.text[n], pairs[i].size,
						    (u64)constants.text[n], 0, 0, &run);
}

static struct bpf_insn insns[8192];
static u32 nr_insns;

static void emit(u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	insns[nr_insns++] = (struct bpf_insn) {
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm
	};
}

static void emit_address(u8 reg, int map, size_t offset)
{
	emit(BPF_LD | BPF_IMM | BPF_DW, reg, BPF_PSEUDO_MAP_VALUE, 0, map);
	emit(0, 0, 0, 0, (s32)offset);
}

static void emit_constant(u8 reg, s32 value)
{
	emit(BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, value);
}

static void emit_call(int map, int function, u32 n)
{
	emit(BPF_JMP | BPF_CALL, 0, 0, 0, function);
	emit_address(BPF_REG_1, map, offsetof(struct memory, results) + n * sizeof(u64));
	emit(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_0, 0, 0);
}

/* The kernel refuses formats that can't be when it loads the program: only the others go into one.
 */
static void emit_formats(int map, int constant_map, bool refused, u32 first, u32 last)
{
	for (u32 i = first; i < last; i++) {
		const struct format_case *c = &formats[i];
		size_t args = offsetof(struct memory, args) + i * sizeof(ours.args[0]);

		if (((s64)ours.results[i] < 0) != refused)
			continue;
		for (u32 k = 0; k < 4; k++) {
			if (!(c->pointers >> k & 1))
				continue;
			emit_address(BPF_REG_2, map, offsetof(struct memory, strings) + c->args[k]);
			emit_address(BPF_REG_1, map, args + k * 8);
			emit(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_2, 0, 0);
		}
		emit_address(BPF_REG_1, map, offsetof(struct memory, out) + (size_t)i * OUT);
		emit_constant(BPF_REG_2, (s32)c->size);
		emit_address(BPF_REG_3, constant_map, (size_t)i * TEXT);
		emit_address(BPF_REG_4, map, args);
		emit_constant(BPF_REG_5, (s32)c->nr * 8);
		emit_call(map, BPF_FUNC_snprintf, i);
	}
}

static int load(char *log, u32 log_size)
{
	union bpf_attr command;

	emit_constant(BPF_REG_0, 0);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	memset(&command, 0, sizeof(command));
	command.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	command.insns = (u64)insns;
	command.insn_cnt = nr_insns;
	command.license = (u64) "GPL";
	command.log_buf = (u64)log;
	command.log_size = log_size;
	command.log_level = 1;
	nr_insns = 0;
	return (int)kernel_bpf(BPF_PROG_LOAD, &command);
}

/* 0, 77 with a message, or 1. */
static int run_kernel(void)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_ARRAY,
				    .key_size = 4,
				    .value_size = sizeof(struct memory),
				    .max_entries = 1 };
	static char log[1 << 20];
	u8 packet[64] = { 0 };
	union bpf_attr command;
	int map, constant_map, program;
	u32 zero = 0, n;

	map = kernel_map_create(&attr);
	attr.value_size = sizeof(constants);
	attr.flags = BPF_F_RDONLY_PROG;
	constant_map = kernel_map_create(&attr);
	if (map < 0 || constant_map < 0)
		return 1;
	memset(&command, 0, sizeof(command));
	command.map_fd = (u32)constant_map;
	if (kernel_update(map, &zero, &kernels, 0) ||
	    kernel_update(constant_map, &zero, &constants, 0) ||
	    kernel_bpf(BPF_MAP_FREEZE, &command))
		return 1;

	emit_formats(map, constant_map, false, 0, NR_FORMATS);
	n = NR_FORMATS;
	for (u32 i = 0; i < 2 * NR_NUMBERS; i++, n++) {
		emit_address(BPF_REG_1, map, offsetof(struct memory, text) + (size_t)n * TEXT);
		emit_constant(BPF_REG_2, (s32)number_size(i % NR_NUMBERS));
		emit_constant(BPF_REG_3, (s32)numbers[i % NR_NUMBERS].flags);
		emit_address(BPF_REG_4, map, offsetof(struct memory, out) + (size_t)n * OUT);
		emit_call(map, i < NR_NUMBERS ? BPF_FUNC_strtol : BPF_FUNC_strtoul, n);
	}
	for (u32 i = 0; i < NR_PAIRS; i++, n++) {
		emit_address(BPF_REG_1, map, offsetof(struct memory, text) + (size_t)n * TEXT);
		emit_constant(BPF_REG_2, (s32)pairs[i].size);
		emit_address(BPF_REG_3, constant_map, (size_t)n * TEXT);
		emit_call(map, BPF_FUNC_strncmp, n);
	}
	program = load(log, sizeof(log));
	if (program < 0) {
		size_t length = strlen(log);

		printf("skip: the kernel refused the program (%d): %s\n", program,
		       length > 500 ? log + length - 500 : log);
		return 77;
	}
	memset(&command, 0, sizeof(command));
	command.test.prog_fd = (u32)program;
	command.test.data_in = (u64)packet;
	command.test.data_size_in = sizeof(packet);
	if (kernel_bpf(BPF_PROG_TEST_RUN, &command) < 0)
		return 1;
	close(program);
	n = (u32)kernel_lookup(map, &zero, &kernels, 0);
	for (u32 i = 0; i < NR_FORMATS; i++) {
		if ((s64)ours.results[i] >= 0)
			continue;
		emit_formats(map, constant_map, true, i, i + 1);
		program = load(log, sizeof(log));
		kernels.results[i] = (u64)(s64)program;
		if (program >= 0)
			close(program);
	}
	close(map);
	close(constant_map);
	return n ? 1 : 0;
}

static const char *name_of(u32 n)
{
	if (n < NR_FORMATS)
		return formats[n].format;
	return ours.text[n];
}

static void test_same_as_kernel(void **state)
{
	int bad = 0;

	for (u32 n = 0; n < NR_CASES; n++) {
		if ((s64)ours.results[n] < 0 && n < NR_FORMATS) {
			/* What a refused format leaves behind is not promised. */
			memset(ours.out[n], 0, OUT);
			memset(kernels.out[n], 0, OUT);
		}
		if (ours.results[n] == kernels.results[n] &&
		    !memcmp(ours.out[n], kernels.out[n], OUT))
			continue;
		printf("case %u \"%s\": kernel %lld \"%.40s\", ours %lld \"%.40s\"\n", n,
		       name_of(n), (long long)kernels.results[n], kernels.out[n],
		       (long long)ours.results[n], ours.out[n]);
		bad++;
	}
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_as_kernel) };
	int ret;

	if (!kernel_comparable())
		return 77;
	fill(&ours);
	fill(&kernels);
	run_ours();
	ret = run_kernel();
	if (ret)
		return ret;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
