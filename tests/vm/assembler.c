// SPDX-License-Identifier: MIT
#include "assembler.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>
#include <isa/isa.h>

#define MAX_LABELS 1024
#define MAX_WORDS  8
#define MAX_NAME   64

/* A use of a label, to be filled in at the end. */
struct use {
	u32 pc;
	u32 line;
	char label[MAX_NAME];
	bool in_imm;
};

struct assembler {
	struct bpf_insn *insns;
	u32 nr, max;
	u32 line;
	u32 nr_labels, nr_uses;
	struct {
		char name[MAX_NAME];
		u32 pc;
	} labels[MAX_LABELS];
	struct use uses[MAX_LABELS];
	struct ub_reason *why;
};

static int complain(const struct assembler *as, const char *what, const char *word)
{
	return ub_reason_set(as->why, -EINVAL, "line %u: %s '%s'", as->line, what, word);
}

static int parse_reg(const struct assembler *as, const char *word)
{
	char *end;
	long nr;

	if (*word == '%')
		word++;
	if (*word != 'r' || !isdigit((unsigned char)word[1]))
		return -EINVAL;
	nr = strtol(word + 1, &end, 10);
	return *end || nr > 10 ? -EINVAL : (int)nr;
}

static bool parse_number(const char *word, u64 *value)
{
	char *end;

	errno = 0;
	*value = *word == '-' ? (u64)strtoll(word, &end, 0) : strtoull(word, &end, 0);
	return !errno && end != word && !*end;
}

static int parse_imm(const struct assembler *as, const char *word, s32 *imm)
{
	u64 value;

	if (!parse_number(word, &value))
		return complain(as, "not a number:", word);
	if ((s64)value < INT32_MIN || ((s64)value > (s64)UINT32_MAX))
		return complain(as, "does not fit 32 bits:", word);
	*imm = (s32)(u32)value;
	return 0;
}

/* "[%r1+4]" */
static int parse_memory(const struct assembler *as, const char *word, u8 *reg, s16 *off)
{
	char text[MAX_NAME], *sign, *close;
	u64 value = 0;
	int r;

	snprintf(text, sizeof(text), "%s", word);
	close = strchr(text, ']');
	if (text[0] != '[' || !close)
		return complain(as, "not a memory operand:", word);
	*close = 0;
	sign = strpbrk(text + 1, "+-");
	if (sign) {
		if (!parse_number(*sign == '+' ? sign + 1 : sign, &value))
			return complain(as, "not an offset:", word);
		*sign = 0;
	}
	r = parse_reg(as, text + 1);
	if (r < 0)
		return complain(as, "not a register:", word);
	*reg = r;
	*off = (s16)value;
	return 0;
}

static int use_label(struct assembler *as, const char *word, bool in_imm)
{
	struct bpf_insn *insn = &as->insns[as->nr];
	struct use *use;
	u64 value;

	if ((*word == '+' && parse_number(word + 1, &value)) ||
	    (*word == '-' && parse_number(word, &value))) {
		if (in_imm)
			insn->imm = (s32)value;
		else
			insn->off = (s16)value;
		return 0;
	}
	if (as->nr_uses == MAX_LABELS)
		return complain(as, "too many labels:", word);
	use = &as->uses[as->nr_uses++];
	use->pc = as->nr;
	use->line = as->line;
	use->in_imm = in_imm;
	snprintf(use->label, sizeof(use->label), "%s", word);
	return 0;
}

static int add_label(struct assembler *as, const char *name)
{
	if (as->nr_labels == MAX_LABELS)
		return complain(as, "too many labels:", name);
	snprintf(as->labels[as->nr_labels].name, MAX_NAME, "%s", name);
	as->labels[as->nr_labels++].pc = as->nr;
	return 0;
}

/* Splits "add32" into "add" and 32. Without a width: 64. */
static int split_width(const char *word, char *name)
{
	size_t n = strlen(word);

	snprintf(name, MAX_NAME, "%s", word);
	if (n > 2 && n < MAX_NAME && (!strcmp(word + n - 2, "32") || !strcmp(word + n - 2, "64"))) {
		name[n - 2] = 0;
		return atoi(word + n - 2);
	}
	return 64;
}

static int find_name(const char *name, const char *const *names, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (names[i] && !strcmp(name, names[i]))
			return (int)i;
	}
	return -1;
}

/* dst and a register or a number */
static int operands(struct assembler *as, struct bpf_insn *insn, char **words, int nr)
{
	int dst, src;

	if (nr < 3)
		return complain(as, "operands are missing:", words[0]);
	dst = parse_reg(as, words[1]);
	if (dst < 0)
		return complain(as, "not a register:", words[1]);
	insn->dst_reg = dst;
	src = parse_reg(as, words[2]);
	if (src >= 0) {
		insn->src_reg = src;
		insn->code |= BPF_X;
		return 0;
	}
	return parse_imm(as, words[2], &insn->imm);
}

static int alu(struct assembler *as, char **words, int nr)
{
	static const char *const names[16] = { "add", "sub", "mul", "div", "or",  "and", "lsh",
					       "rsh", "neg", "mod", "xor", "mov", "arsh" };
	struct bpf_insn *insn = &as->insns[as->nr];
	char name[MAX_NAME];
	int width = split_width(words[0], name), op = find_name(name, names, 16), dst;

	if (op < 0 && name[0] == 's') {
		op = find_name(name + 1, names, 16);
		if (op != BPF_DIV >> 4 && op != BPF_MOD >> 4)
			op = -1;
		insn->off = 1;
	}
	if (op < 0)
		return 1;
	insn->code = op << 4 | (width == 64 ? BPF_ALU64 : BPF_ALU);
	if (op == BPF_NEG >> 4) {
		dst = nr > 1 ? parse_reg(as, words[1]) : -1;
		if (dst < 0)
			return complain(as, "not a register:", words[0]);
		insn->dst_reg = dst;
		return 0;
	}
	return operands(as, insn, words, nr);
}

static int movsx(struct assembler *as, char **words, int nr)
{
	struct bpf_insn *insn = &as->insns[as->nr];
	const char *widths = words[0] + 5;

	if (strncmp(words[0], "movsx", 5))
		return 1;
	if (!strncmp(widths, "8", 1))
		insn->off = 8;
	else if (!strncmp(widths, "16", 2))
		insn->off = 16;
	else
		insn->off = 32;
	insn->code =
		BPF_MOV | (strcmp(widths + (insn->off == 8 ? 1 : 2), "32") ? BPF_ALU64 : BPF_ALU);
	return operands(as, insn, words, nr);
}

static int swap(struct assembler *as, char **words, int nr)
{
	struct bpf_insn *insn = &as->insns[as->nr];
	static const struct {
		const char *name;
		u8 code;
	} kinds[] = {
		{ "le", BPF_ALU | BPF_END | BPF_TO_LE },
		{ "be", BPF_ALU | BPF_END | BPF_TO_BE },
		{ "bswap", BPF_ALU64 | BPF_END | BPF_TO_LE },
		{ "swap", BPF_ALU64 | BPF_END | BPF_TO_LE },
	};
	int dst;

	for (u32 i = 0; i < ub_array_size(kinds); i++) {
		size_t n = strlen(kinds[i].name);

		if (strncmp(words[0], kinds[i].name, n) || !isdigit((unsigned char)words[0][n]))
			continue;
		dst = nr > 1 ? parse_reg(as, words[1]) : -1;
		if (dst < 0)
			return complain(as, "not a register:", words[0]);
		insn->code = kinds[i].code;
		insn->imm = atoi(words[0] + n);
		insn->dst_reg = dst;
		return 0;
	}
	return 1;
}

static int size_code(const char *suffix)
{
	if (!strcmp(suffix, "b"))
		return BPF_B;
	if (!strcmp(suffix, "h"))
		return BPF_H;
	if (!strcmp(suffix, "w"))
		return BPF_W;
	return strcmp(suffix, "dw") ? -1 : BPF_DW;
}

static int memory(struct assembler *as, char **words, int nr)
{
	static const struct {
		const char *name;
		u8 code;
	} kinds[] = {
		{ "ldxs", BPF_LDX | BPF_MEMSX },
		{ "ldx", BPF_LDX | BPF_MEM },
		{ "stx", BPF_STX | BPF_MEM },
		{ "st", BPF_ST | BPF_MEM },
	};
	struct bpf_insn *insn = &as->insns[as->nr];
	u8 reg = 0;
	int r, size = -1;
	u32 i;

	for (i = 0; i < ub_array_size(kinds); i++) {
		size_t n = strlen(kinds[i].name);

		if (strncmp(words[0], kinds[i].name, n))
			continue;
		size = size_code(words[0] + n);
		if (size >= 0)
			break;
	}
	if (size < 0)
		return 1;
	if (nr < 3)
		return complain(as, "operands are missing:", words[0]);
	insn->code = kinds[i].code | size;
	if (BPF_CLASS(insn->code) == BPF_LDX) {
		r = parse_reg(as, words[1]);
		insn->dst_reg = r < 0 ? 0 : r;
		if (r < 0)
			return complain(as, "not a register:", words[1]);
		r = parse_memory(as, words[2], &reg, &insn->off);
		insn->src_reg = reg;
		return r;
	}
	r = parse_memory(as, words[1], &reg, &insn->off);
	insn->dst_reg = reg;
	if (r)
		return r;
	if (BPF_CLASS(insn->code) == BPF_ST)
		return parse_imm(as, words[2], &insn->imm);
	r = parse_reg(as, words[2]);
	if (r < 0)
		return complain(as, "not a register:", words[2]);
	insn->src_reg = r;
	return 0;
}

static int ordered(struct assembler *as, char **words, int nr)
{
	struct bpf_insn *insn = &as->insns[as->nr];
	bool load = !strncmp(words[0], "ldaq", 4);
	u8 reg = 0;
	int r, err, bits;

	if ((!load && strncmp(words[0], "strl", 4)) || nr < 3)
		return 1;
	bits = atoi(words[0] + 4);
	insn->code = BPF_STX | BPF_ATOMIC |
		     (bits == 8	   ? BPF_B
		      : bits == 16 ? BPF_H
		      : bits == 32 ? BPF_W
				   : BPF_DW);
	insn->imm = load ? BPF_LOAD_ACQ : BPF_STORE_REL;
	err = parse_memory(as, words[load ? 2 : 1], &reg, &insn->off);
	r = parse_reg(as, words[load ? 1 : 2]);
	if (err || r < 0)
		return err ? err : complain(as, "not a register:", words[0]);
	insn->dst_reg = load ? r : reg;
	insn->src_reg = load ? reg : r;
	return 0;
}

static int lock(struct assembler *as, char **words, int nr)
{
	static const struct {
		const char *name;
		s32 imm;
	} kinds[] = {
		{ "add", BPF_ADD }, { "or", BPF_OR },	  { "and", BPF_AND },
		{ "xor", BPF_XOR }, { "xchg", BPF_XCHG }, { "cmpxchg", BPF_CMPXCHG },
	};
	struct bpf_insn *insn = &as->insns[as->nr];
	char name[MAX_NAME];
	bool fetch = nr > 1 && !strcmp(words[1], "fetch");
	u8 reg = 0;
	int width, r;

	if (strcmp(words[0], "lock"))
		return 1;
	words += 1 + fetch;
	nr -= 1 + fetch;
	if (nr < 3)
		return complain(as, "operands are missing:", "lock");
	width = split_width(words[0], name);
	insn->code = BPF_STX | BPF_ATOMIC | (width == 64 ? BPF_DW : BPF_W);
	for (u32 i = 0; i < ub_array_size(kinds); i++) {
		if (strcmp(name, kinds[i].name))
			continue;
		insn->imm = kinds[i].imm | (fetch ? BPF_FETCH : 0);
		r = parse_memory(as, words[1], &reg, &insn->off);
		insn->dst_reg = reg;
		if (r)
			return r;
		r = parse_reg(as, words[2]);
		if (r < 0)
			return complain(as, "not a register:", words[2]);
		insn->src_reg = r;
		return 0;
	}
	return complain(as, "unknown atomic", words[0]);
}

static int lddw(struct assembler *as, char **words, int nr)
{
	struct bpf_insn *insn = &as->insns[as->nr];
	u64 value = 0, offset = 0;
	int dst, err;

	if (strcmp(words[0], "lddw"))
		return 1;
	if (as->nr + 2 > as->max || nr < 3)
		return complain(as, "no room or no operand:", words[0]);
	dst = parse_reg(as, words[1]);
	if (dst < 0)
		return complain(as, "not a register:", words[1]);
	insn->code = BPF_LD | BPF_IMM | BPF_DW;
	insn->dst_reg = dst;
	memset(insn + 1, 0, sizeof(*insn));
	if (!strcmp(words[2], "func") && nr > 3) {
		insn->src_reg = BPF_PSEUDO_FUNC;
		err = use_label(as, words[3], true);
	} else if (!strncmp(words[2], "map", 3) && nr > 3) {
		bool is_value = !strcmp(words[2], "map_value");

		insn->src_reg = is_value ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD;
		err = !parse_number(words[3], &value) ||
		      (is_value && (nr < 5 || !parse_number(words[4], &offset)));
		insn->imm = (s32)value;
		insn[1].imm = (s32)offset;
	} else {
		err = !parse_number(words[2], &value);
		insn->imm = (s32)value;
		insn[1].imm = (s32)(value >> 32);
	}
	if (err)
		return complain(as, "not an operand of lddw:", words[2]);
	as->nr++;
	return 0;
}

static int jump(struct assembler *as, char **words, int nr)
{
	static const char *const names[16] = {
		[BPF_JEQ >> 4] = "jeq",	  [BPF_JGT >> 4] = "jgt",   [BPF_JGE >> 4] = "jge",
		[BPF_JSET >> 4] = "jset", [BPF_JNE >> 4] = "jne",   [BPF_JSGT >> 4] = "jsgt",
		[BPF_JSGE >> 4] = "jsge", [BPF_JLT >> 4] = "jlt",   [BPF_JLE >> 4] = "jle",
		[BPF_JSLT >> 4] = "jslt", [BPF_JSLE >> 4] = "jsle",
	};
	struct bpf_insn *insn = &as->insns[as->nr];
	char name[MAX_NAME];
	int width = split_width(words[0], name), op = find_name(name, names, 16), err;

	if (!strcmp(words[0], "exit")) {
		insn->code = BPF_JMP | BPF_EXIT;
		return 0;
	}
	if (!strcmp(name, "ja") && nr > 1) {
		insn->code = (width == 64 ? BPF_JMP : BPF_JMP32) | BPF_JA;
		return use_label(as, words[1], width == 32);
	}
	if (!strcmp(words[0], "may_goto") && nr > 1) {
		insn->code = BPF_JMP | BPF_JCOND;
		return use_label(as, words[1], false);
	}
	if (!strcmp(words[0], "call") && nr > 1) {
		insn->code = BPF_JMP | BPF_CALL;
		if (strcmp(words[1], "local"))
			return parse_imm(as, words[1], &insn->imm);
		insn->src_reg = BPF_PSEUDO_CALL;
		return nr > 2 ? use_label(as, words[2], true) : -EINVAL;
	}
	if (op < 0)
		return 1;
	if (nr < 4)
		return complain(as, "operands are missing:", words[0]);
	insn->code = op << 4 | (width == 64 ? BPF_JMP : BPF_JMP32);
	err = operands(as, insn, words, nr);
	return err ? err : use_label(as, words[3], false);
}

static int assemble_line(struct assembler *as, char **words, int nr)
{
	static int (*const kinds[])(struct assembler *, char **, int) = {
		alu, movsx, swap, memory, ordered, lock, lddw, jump,
	};

	if (as->nr == as->max)
		return complain(as, "no room for", words[0]);
	for (u32 i = 0; i < ub_array_size(kinds); i++) {
		int err;

		memset(&as->insns[as->nr], 0, sizeof(as->insns[0]));
		err = kinds[i](as, words, nr);
		if (err < 0)
			return err;
		if (!err) {
			as->nr++;
			return 0;
		}
	}
	return complain(as, "unknown instruction", words[0]);
}

/* Words are separated by blanks and commas; a memory operand's blanks don't count. */
static int split(char *line, char **words)
{
	int nr = 0;
	char *p = line;

	while (*p && nr < MAX_WORDS) {
		while (*p == ' ' || *p == '\t' || *p == ',')
			p++;
		if (!*p)
			break;
		words[nr++] = p;
		while (*p && *p != ',' && *p != ' ' && *p != '\t') {
			if (*p == '[') {
				while (*p && *p != ']')
					p++;
			}
			if (*p)
				p++;
		}
		if (*p)
			*p++ = 0;
	}
	return nr;
}

static int resolve(struct assembler *as)
{
	for (u32 i = 0; i < as->nr_uses; i++) {
		const struct use *use = &as->uses[i];
		s64 target = -1, far;

		for (u32 j = 0; j < as->nr_labels; j++) {
			if (!strcmp(as->labels[j].name, use->label))
				target = as->labels[j].pc;
		}
		if (target < 0 && !strcmp(use->label, "exit")) {
			for (u32 pc = 0; pc < as->nr; pc++) {
				if (as->insns[pc].code == (BPF_JMP | BPF_EXIT) &&
				    (target < 0 || target <= use->pc))
					target = pc;
			}
		}
		as->line = use->line;
		if (target < 0)
			return complain(as, "no such label:", use->label);
		far = target - use->pc - 1;
		if (use->in_imm)
			as->insns[use->pc].imm = (s32)far;
		else if (far == (s16)far)
			as->insns[use->pc].off = (s16)far;
		else
			return complain(as, "too far:", use->label);
	}
	return 0;
}

int assemble(const char *text, struct bpf_insn *insns, u32 max, struct ub_reason *why)
{
	_cleanup_free_ struct assembler *as = calloc(1, sizeof(*as));
	_cleanup_free_ char *copy = strdup(text);
	char *line, *next = copy;
	int err;

	if (!as || !copy)
		return -ENOMEM;
	as->insns = insns;
	as->max = max;
	as->why = why;
	while (next) {
		char *words[MAX_WORDS], *colon, *comment;
		int nr;

		line = next;
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		as->line++;
		comment = strpbrk(line, "#;\r");
		if (comment)
			*comment = 0;
		colon = strchr(line, ':');
		if (colon) {
			*colon = 0;
			nr = split(line, words);
			err = nr == 1 ? add_label(as, words[0])
				      : complain(as, "not a label:", line);
			if (err)
				return err;
			line = colon + 1;
		}
		nr = split(line, words);
		if (!nr)
			continue;
		err = assemble_line(as, words, nr);
		if (err)
			return err;
	}
	err = resolve(as);
	return err ? err : (int)as->nr;
}
