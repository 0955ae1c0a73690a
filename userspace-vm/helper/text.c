// SPDX-License-Identifier: MIT
/* Helpers on strings, and trace_pipe. Freestanding. */
#include <helper/internal.h>

#include <map/event_ring.h>

#define LINE_MAX	   1024 /* MAX_BPRINTF_BUF */
#define MAX_VARARGS	   12	/* MAX_BPRINTF_VARARGS */
#define PR_GET_NAME	   16
#define CLOCK_MONOTONIC_NR 1

/* What ub_format() takes. */
struct line {
	const char *fmt;
	u64 fmt_size;
	const u64 *args;
	u32 nr_args;
};

/* Formats @line, known to take @length bytes, behind its head, into where it is sent from: stacks
 * may be small. */
static void print_line(struct ub_run *run, const struct line *line, u64 length)
{
	struct ub_event_ring *ring = run->process ? run->process->events : NULL;
	static const char format[] = "%16s-%-7d [%03d] ...11 %5lu.%06lu: bpf_trace_printk: ";
	char comm[16] = { 0 }, head[80];
	u64 now, args[5];
	char *to;
	long n, got;

	if (!ring)
		return;
	if (sys_call(run, SYS_prctl, PR_GET_NAME, (u64)comm, 0, 0, 0, 0))
		comm[0] = '?';
	now = ub_helper_ktime_get_ns(0, 0, 0, 0, 0, run);
	args[0] = (u64)comm;
	args[1] = ub_run_tid(run);
	args[2] = ub_run_cpu(run);
	args[3] = now / 1000000000;
	args[4] = now % 1000000000 / 1000;
	n = ub_format(run, head, sizeof(head), format, sizeof(format), args, 5);
	if (n < 0 || n >= (long)sizeof(head))
		return;
	to = ub_event_reserve(ring, UB_EVENT_PRINTK, 0, ub_run_cpu(run), (u32)((u64)n + length + 1),
			      run);
	if (!to)
		return;
	ub_mem_copy(to, head, (u64)n);
	to += n;
	got = ub_format(run, to, length + 1, line->fmt, line->fmt_size, line->args, line->nr_args);
	/* Strings may have become shorter meanwhile, or a format that is a map's wrong. */
	for (u64 i = got < 0 ? 0 : (u64)got; i < length; i++)
		to[i] = ' ';
	to[length] = '\n';
	ub_event_commit(to - n, false, 0, run);
}

/* A line of trace_pipe: "comm-tid [cpu] flags time: bpf_trace_printk: text". */
static u64 print(struct ub_run *run, const struct line *line)
{
	long n = ub_format(run, NULL, 0, line->fmt, line->fmt_size, line->args, line->nr_args);

	if (n < 0)
		return (u64)n;
	if (n >= LINE_MAX)
		n = LINE_MAX - 1;
	print_line(run, line, (u64)n);
	return (u64)n;
}

HELPER(trace_printk)
{
	u64 args[3] = { r3, r4, r5 };

	return print(run_, &(struct line) { (const char *)r1, (u32)r2, args, 3 });
}

HELPER(trace_vprintk)
{
	u64 size = (u32)r4;

	if (size & 7 || size > MAX_VARARGS * 8 || (size && !r3))
		return (u64)-EINVAL;
	return print(run_,
		     &(struct line) { (const char *)r1, (u32)r2, (const u64 *)r3, (u32)size / 8 });
}

HELPER(snprintf)
{
	u64 size = (u32)r5;
	long n;

	if (size & 7 || size > MAX_VARARGS * 8 || (size && !r4))
		return (u64)-EINVAL;
	n = ub_format(run_, (char *)r1, r1 ? (u32)r2 : 0, (const char *)r3, UINT32_MAX,
		      (const u64 *)r4, (u32)size / 8);
	return (u64)(n < 0 ? n : n + 1);
}

HELPER(strncmp)
{
	const u8 *a = (const u8 *)r1, *b = (const u8 *)r3;

	for (u64 i = 0; i < (u32)r2; i++) {
		if (a[i] != b[i])
			return (u64)(s64)(a[i] < b[i] ? -1 : 1);
		if (!a[i])
			break;
	}
	return 0;
}

static u32 digit_of(u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10u : 99;
}

/* As Linux', which takes bytes for Latin-1. */
static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || (u8)c == 0xa0;
}

/* As __bpf_strtoull(): bytes consumed or -errno. */
static long parse(const char *buf, u64 size, u64 flags, u64 *value, bool *negative)
{
	u32 base = flags & 0x1f;
	char text[64];
	u64 at = 0, n, i = 0, digits = 0, result = 0;
	bool overflow = false;

	if (!buf || !size || (base && base != 8 && base != 10 && base != 16) || flags & ~0x1full)
		return -EINVAL;
	while (at < size && is_space(buf[at]))
		at++;
	*negative = at < size && buf[at] == '-';
	at += *negative;
	if (at == size)
		return -EINVAL;
	n = size - at < sizeof(text) - 1 ? size - at : sizeof(text) - 1;
	ub_mem_copy(text, buf + at, n);
	text[n] = 0;
	if (!base)
		base = text[0] != '0'					     ? 10
		       : (text[1] | 32) == 'x' && digit_of((u8)text[2]) < 16 ? 16
									     : 8;
	if (base == 16 && text[0] == '0' && (text[1] | 32) == 'x')
		i = 2;
	for (; digit_of((u8)text[i]) < base; i++, digits++) {
		u64 next;

		if (__builtin_mul_overflow(result, (u64)base, &next) ||
		    __builtin_add_overflow(next, (u64)digit_of((u8)text[i]), &next))
			overflow = true;
		result = next;
	}
	if (overflow)
		return -ERANGE;
	if (!digits)
		return -EINVAL;
	*value = result;
	return (long)(at + i);
}

HELPER(strtol)
{
	u64 value = 0;
	bool negative = false;
	long used = parse((const char *)r1, r2, r3, &value, &negative);

	*(s64 *)r4 = 0;
	if (used < 0)
		return (u64)used;
	if (negative ? (s64)-value > 0 : (s64)value < 0)
		return (u64)-ERANGE;
	*(s64 *)r4 = negative ? (s64)-value : (s64)value;
	return (u64)used;
}

HELPER(strtoul)
{
	u64 value = 0;
	bool negative = false;
	long used = parse((const char *)r1, r2, r3, &value, &negative);

	*(u64 *)r4 = 0;
	if (used < 0)
		return (u64)used;
	if (negative)
		return (u64)-EINVAL;
	*(u64 *)r4 = value;
	return (u64)used;
}
