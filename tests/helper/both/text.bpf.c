// SPDX-License-Identifier: MIT
/* Strings in a process: what tests/helper/text.c can't ask of a program without one. */
#include "both.bpf.h"

static char text[BOTH_BYTES];
static char own[16] = "own text";
static char number[16];
static s64 parsed;

#define FORMAT(name, size, format, ...)                                                            \
	({                                                                                         \
		static const char format_[] = format;                                              \
		u64 args_[] = { __VA_ARGS__ };                                                     \
		__builtin_memset(text, 'Z', sizeof(text));                                         \
		s64 ret_ = bpf_snprintf(text, size, format_, args_, sizeof(args_));                \
		CHECK_BYTES("snprintf " name, ret_, text, 48);                                     \
	})

#define NUMBER(name, helper, string, size, flags)                                                  \
	({                                                                                         \
		__builtin_memset(number, 0, sizeof(number));                                       \
		__builtin_memcpy(number, string, sizeof(string));                                  \
		parsed = 77;                                                                       \
		s64 ret_ = helper(number, size, flags, (void *)&parsed);                           \
		CHECK_BYTES(name, ret_, &parsed, 8);                                               \
	})

SEC("uprobe")
int texts(struct pt_regs *ctx)
{
	static const char other[] = "own thing";
	char *address = own;

	/* An array of constant addresses would be data, which libbpf does not relocate. */
	asm volatile("" : "+r"(address));
	start(ctx, 0);
	FORMAT("user string", 48, "[%pus]", input.text);
	FORMAT("user string, null", 48, "[%pus]", 0);
	FORMAT("user string, unmapped", 48, "[%pus]", input.unmapped);
	FORMAT("user string, cut", 48, "[%pus]", input.cut);
	FORMAT("user string, at end", 48, "[%pus]", input.at_end);
	FORMAT("own string", 48, "[%s] [%pks]", (u64)address, (u64)address);
	FORMAT("own string, null", 48, "[%s]", 0);
	FORMAT("truncated", 8, "%d %d", 12345, 67890);
	FORMAT("fits", 12, "%d %d", 12345, 67890);
	FORMAT("nearly", 11, "%d %d", 12345, 67890);
	FORMAT("1", 1, "%d", 12345);
	FORMAT("char, percent", 48, "%c%%%c", 'a', 'b');
	FORMAT("pointer", 48, "%px %x", 0xffffff0012345678, -1);
	FORMAT("wide", 48, "%-12pus|%12d|%12s", input.text + 7, 5, (u64)address);
	FORMAT("wide address", 48, "[%20pI4]", (u64)address);
	CHECK("strncmp equal", bpf_strncmp(own, 8, "own text"));
	CHECK("strncmp 3", bpf_strncmp(own, 3, "own thing"));
	CHECK("strncmp less", bpf_strncmp(own, 9, other) < 0);
	NUMBER("strtol", bpf_strtol, "-42 ", 16, 0);
	NUMBER("strtol size", bpf_strtol, "123456", 3, 0);
	NUMBER("strtol hex", bpf_strtol, "0x1F", 16, 0);
	NUMBER("strtol base", bpf_strtol, "12", 16, 7);
	NUMBER("strtol flags", bpf_strtol, "12", 16, 1 << 6);
	NUMBER("strtol none", bpf_strtol, "x", 16, 0);
	NUMBER("strtoul", bpf_strtoul, "42", 16, 10);
	NUMBER("strtoul negative", bpf_strtoul, "-42", 16, 0);
	NUMBER("strtoul octal", bpf_strtoul, "010", 16, 0);
	CHECK("trace_printk", bpf_trace_printk("helpers", 8));
	CHECK("trace_printk numbers", bpf_trace_printk("helpers %d %lx\n", 16, 7, 0x123456789));
	CHECK("trace_printk no NUL", bpf_trace_printk("helpers", 7));
	CHECK("trace_printk bad", bpf_trace_printk("helpers %q", 11));
	CHECK("trace_printk many", bpf_trace_printk("%d%d%d%d", 9, 1, 2, 3));
	CHECK("trace_printk string", bpf_trace_printk("helpers %s", 11, own));
	return 0;
}

#define PRINT(name, format, ...)                                                                   \
	({                                                                                         \
		static const char format_[] = format;                                              \
		u64 args_[] = { __VA_ARGS__ };                                                     \
		CHECK(name, bpf_trace_vprintk(format_, sizeof(format_), args_, sizeof(args_)));    \
	})

SEC("uprobe")
int prints(struct pt_regs *ctx)
{
	char *address = own;
	u64 args[13] = {};

	asm volatile("" : "+r"(address));
	start(ctx, 0);
	PRINT("trace_vprintk", "helpers %d %s %llx\n", 5, (u64)address, 0x123456789a);
	PRINT("trace_vprintk too few", "helpers %d %d", 5);
	PRINT("trace_vprintk too many", "helpers %d", 5, 6);
	PRINT("trace_vprintk bad", "helpers %y", 5);
	PRINT("trace_vprintk twelve", "%d%d%d%d%d%d%d%d%d%d%d%d", 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1,
	      2);
	CHECK("trace_vprintk none", bpf_trace_vprintk("helpers", 8, NULL, 0));
	CHECK("trace_vprintk no NUL", bpf_trace_vprintk("helpers", 7, NULL, 0));
	CHECK("trace_vprintk odd size", bpf_trace_vprintk("helpers", 8, args, 12));
	CHECK("trace_vprintk thirteen", bpf_trace_vprintk("helpers", 8, args, 104));
	PRINT("trace_vprintk user string", "%pus", input.text);
	PRINT("trace_vprintk bad user string", "%pus", input.unmapped);
	return 0;
}
