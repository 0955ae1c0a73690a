// SPDX-License-Identifier: MIT
/*
 * The kernel's printf as BPF programs see it: what bpf_bprintf_prepare() lets through, formatted as
 * vsprintf() there does. Freestanding.
 */
#include <helper/internal.h>

#define STR_MAX	  512 /* MAX_BPRINTF_BUF: of one %s */
#define STR_PIECE 64

struct output {
	char *to;
	u64 size; /* of the buffer, NUL included */
	u64 used; /* may exceed size: what all of it would take */
};

struct spec {
	bool left, plus, space, zero;
	u32 width;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_print(char c)
{
	return c >= ' ' && c <= '~';
}

static bool is_punct(char c)
{
	return c > ' ' && c <= '~' && !is_digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Linux takes bytes for Latin-1. */
static bool is_alnum(char c)
{
	const u8 byte = (u8)c;

	return is_digit(c) || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7) ||
	       ((byte | 32) >= 'a' && (byte | 32) <= 'z');
}

/* Whether a conversion may end before @c. */
static bool ends(char c)
{
	return !c || is_space(c) || is_punct(c);
}

static void put(struct output *out, char c)
{
	if (out->used + 1 < out->size)
		out->to[out->used] = c;
	out->used++;
}

static void put_padded(struct output *out, const struct spec *spec, const char *text, u64 length)
{
	u64 fill = spec->width > length ? spec->width - length : 0;

	for (u64 i = 0; !spec->left && i < fill; i++)
		put(out, ' ');
	for (u64 i = 0; i < length; i++)
		put(out, text[i]);
	for (u64 i = 0; spec->left && i < fill; i++)
		put(out, ' ');
}

static void put_number(struct output *out, const struct spec *spec, u64 value, u32 base,
		       bool is_signed, bool upper)
{
	char digits[24];
	u32 n = 0, width;
	char sign = 0;

	if (is_signed) {
		if ((s64)value < 0) {
			sign = '-';
			value = -value;
		} else if (spec->plus) {
			sign = '+';
		} else if (spec->space) {
			sign = ' ';
		}
	}
	do {
		u32 digit = (u32)(value % base);

		digits[n++] = (char)(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
		value /= base;
	} while (value);
	width = n + !!sign;
	for (u32 i = width; !spec->left && !spec->zero && i < spec->width; i++)
		put(out, ' ');
	if (sign)
		put(out, sign);
	for (u32 i = width; !spec->left && spec->zero && i < spec->width; i++)
		put(out, '0');
	while (n)
		put(out, digits[--n]);
	for (u32 i = width; spec->left && i < spec->width; i++)
		put(out, ' ');
}

/* Addresses and strings behind a %p get no padding: to the kernel's printf they are text
 * already. */
static void put_text(struct output *out, const char *text, u64 length)
{
	for (u64 i = 0; i < length; i++)
		put(out, text[i]);
}

static void put_ipv4(struct output *out, const u8 *ip, bool zeroes)
{
	char text[16];
	u32 n = 0;

	for (u32 i = 0; i < 4; i++) {
		if (i)
			text[n++] = '.';
		if (zeroes || ip[i] >= 100)
			text[n++] = (char)('0' + ip[i] / 100);
		if (zeroes || ip[i] >= 10)
			text[n++] = (char)('0' + ip[i] / 10 % 10);
		text[n++] = (char)('0' + ip[i] % 10);
	}
	put_text(out, text, n);
}

static char hex(u32 digit)
{
	return (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
}

/* %pI6 separates the groups, %pi6 does not. */
static void put_ipv6(struct output *out, const u8 *ip, bool colons)
{
	char text[40];
	u32 n = 0;

	for (u32 i = 0; i < 16; i++) {
		text[n++] = hex(ip[i] >> 4);
		text[n++] = hex(ip[i] & 15);
		if (colons && i % 2 && i < 15)
			text[n++] = ':';
	}
	put_text(out, text, n);
}

/* %p and its relatives, @at behind the p. 0 or -EINVAL. */
static int put_pointer(struct ub_run *run, struct output *out, struct spec *spec, const char *at,
		       u64 arg)
{
	u8 ip[16];
	u64 size;

	if (ends(at[0]) || at[0] == 'K' || at[0] == 'x' || at[0] == 's' || at[0] == 'S' ||
	    at[0] == 'B') {
		bool symbol = at[0] == 's' || at[0] == 'S' || at[0] == 'B';

		if (symbol) {
			put(out, '0');
			put(out, 'x');
		} else if (!spec->width) {
			spec->width = 16;
			spec->zero = true;
		}
		put_number(out, spec, arg, 16, false, false);
		return 0;
	}
	if ((at[0] != 'i' && at[0] != 'I') || (at[1] != '4' && at[1] != '6'))
		return -EINVAL;
	size = at[1] == '4' ? 4 : 16;
	ub_mem_zero(ip, sizeof(ip));
	if (ub_memory_read(run, ip, arg, size))
		ub_mem_zero(ip, sizeof(ip));
	if (size == 4)
		put_ipv4(out, ip, at[0] == 'i');
	else
		put_ipv6(out, ip, at[0] == 'I');
	return 0;
}

/* Puts the string, in small pieces because stacks may be small; its length, 0 where it can't be
 * read. */
static u64 put_pieces(struct ub_run *run, struct output *out, u64 arg)
{
	const u64 from = out->used;
	char piece[STR_PIECE];
	u64 length = 0;

	while (length < STR_MAX) {
		u64 size = STR_PIECE - (arg + length) % STR_PIECE; /* within a page */

		size = size < STR_MAX - length ? size : STR_MAX - length;
		if (ub_memory_read(run, piece, arg + length, size)) {
			out->used = from;
			return 0;
		}
		for (u64 i = 0; i < size; i++, length++) {
			if (!piece[i] || length == STR_MAX - 1)
				return length;
			put(out, piece[i]);
		}
	}
	return length;
}

static void put_string(struct ub_run *run, struct output *out, const struct spec *spec, u64 arg)
{
	struct output nowhere = { 0 };
	/* Before anything is written: of what can't be read nothing may be. */
	u64 length = put_pieces(run, &nowhere, arg);

	for (u64 i = length; !spec->left && i < spec->width; i++)
		put(out, ' ');
	if (length)
		put_pieces(run, out, arg);
	for (u64 i = length; spec->left && i < spec->width; i++)
		put(out, ' ');
}

/* One conversion, @at behind the %. Number of letters that belong to it, or -EINVAL. */
static int convert(struct ub_run *run, struct output *out, const char *at, u64 arg)
{
	struct spec spec = { 0 };
	u32 bytes = 4;
	char c;
	int i = 0;

	for (; at[i] == '0' || at[i] == '+' || at[i] == '-' || at[i] == ' '; i++) {
		spec.zero |= at[i] == '0';
		spec.plus |= at[i] == '+';
		spec.left |= at[i] == '-';
		spec.space |= at[i] == ' ';
	}
	for (; is_digit(at[i]); i++)
		spec.width = spec.width < 10000 ? spec.width * 10 + (u32)(at[i] - '0') : spec.width;
	if (at[i] == 'p') {
		int err;

		i++;
		if ((at[i] == 'k' || at[i] == 'u') && at[i + 1] == 's') {
			if (!ends(at[i + 2]))
				return -EINVAL;
			put_string(run, out, &(struct spec) { 0 }, arg);
			return i + 2;
		}
		err = put_pointer(run, out, &spec, at + i, arg);
		if (err)
			return err;
		/* Letters behind it that mean nothing are passed over. */
		while (is_alnum(at[i]))
			i++;
		return i;
	}
	if (at[i] == 's') {
		if (!ends(at[i + 1]))
			return -EINVAL;
		put_string(run, out, &spec, arg);
		return i + 1;
	}
	if (at[i] == 'c') {
		char text = (char)arg;

		put_padded(out, &spec, &text, 1);
		return i + 1;
	}
	for (int longs = 0; at[i] == 'l' && longs < 2; longs++, i++)
		bytes = 8;
	c = at[i];
	if (bytes == 4)
		arg = c == 'd' || c == 'i' ? (u64)(s64)(s32)arg : (u32)arg;
	switch (c) {
	case 'd':
	case 'i':
		put_number(out, &spec, arg, 10, true, false);
		break;
	case 'u':
		put_number(out, &spec, arg, 10, false, false);
		break;
	case 'x':
		put_number(out, &spec, arg, 16, false, false);
		break;
	case 'X':
		put_number(out, &spec, arg, 16, false, true);
		break;
	default:
		return -EINVAL;
	}
	return i + 1;
}

long ub_format(struct ub_run *run, char *out, u64 size, const char *fmt, u64 fmt_size,
	       const u64 *args, u32 nr_args)
{
	struct output output = { .to = out, .size = size };
	u32 arg = 0;
	u64 end = 0;

	while (end < fmt_size && fmt[end])
		end++;
	if (end == fmt_size)
		return -EINVAL;
	for (u64 i = 0; i < end; i++) {
		int used;

		/* Plain text may be UTF-8; control characters may not be. */
		if (!is_print(fmt[i]) && !is_space(fmt[i]) && !(fmt[i] & 0x80))
			return -EINVAL;
		if (fmt[i] != '%') {
			put(&output, fmt[i]);
			continue;
		}
		if (fmt[i + 1] == '%') {
			put(&output, '%');
			i++;
			continue;
		}
		if (arg >= nr_args)
			return -EINVAL;
		used = convert(run, &output, fmt + i + 1, args[arg++]);
		if (used < 0)
			return used;
		i += (u64)used;
	}
	if (size)
		out[output.used < size ? output.used : size - 1] = 0;
	return (long)output.used;
}
