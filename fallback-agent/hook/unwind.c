// SPDX-License-Identifier: MIT
/*
 * Compiles .eh_frame to rows (run/unwind.h).
 *
 * A function's entry is a program for an abstract machine (DWARF 5, 6.4.2) whose state is a rule
 * for the canonical frame address (CFA), and one for each register. Of those two matter: rbp, by
 * which callers may find their frames, and the return address. The state at each address becomes a
 * row; what a row can't say (other registers, expressions) becomes "unknown". Compilers use
 * expressions in three places, which rows do know: entries of the PLT, functions that align their
 * stack, and the return from a signal handler.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/eh_frame.h>
#include <hook/memfd.h>
#include <hook/unwind.h>

#define PAGE	     4096ull
#define MAX_ROWS     (8u << 20)
#define MAX_STEPS    (64u << 20) /* for a file: large ones need some 10 million */
#define MAX_REMEMBER 8
#define MAX_OFFSET   (1 << 20) /* in units of eight bytes */

enum { RBP = 6, RSP = 7, RETURN_ADDRESS = 16 };

enum {
	CFA_ADVANCE = 0x40, /* these three hold an operand in their lower bits */
	CFA_OFFSET = 0x80,
	CFA_RESTORE = 0xc0,
	CFA_NOP = 0x00,
	CFA_SET_LOC = 0x01,
	CFA_ADVANCE1 = 0x02,
	CFA_ADVANCE2 = 0x03,
	CFA_ADVANCE4 = 0x04,
	CFA_OFFSET_EXTENDED = 0x05,
	CFA_RESTORE_EXTENDED = 0x06,
	CFA_UNDEFINED = 0x07,
	CFA_SAME_VALUE = 0x08,
	CFA_REGISTER = 0x09,
	CFA_REMEMBER_STATE = 0x0a,
	CFA_RESTORE_STATE = 0x0b,
	CFA_DEF_CFA = 0x0c,
	CFA_DEF_CFA_REGISTER = 0x0d,
	CFA_DEF_CFA_OFFSET = 0x0e,
	CFA_DEF_CFA_EXPRESSION = 0x0f,
	CFA_EXPRESSION = 0x10,
	CFA_OFFSET_EXTENDED_SF = 0x11,
	CFA_DEF_CFA_SF = 0x12,
	CFA_DEF_CFA_OFFSET_SF = 0x13,
	CFA_VAL_OFFSET = 0x14,
	CFA_VAL_OFFSET_SF = 0x15,
	CFA_VAL_EXPRESSION = 0x16,
	CFA_GNU_ARGS_SIZE = 0x2e,
	CFA_GNU_NEGATIVE_OFFSET = 0x2f,
};

struct state {
	enum ub_unwind_kind kind; /* of the CFA */
	u64 reg;		  /* with kind UB_UNWIND_SP and _BP: which it really is */
	s64 offset;		  /* bytes; of UB_UNWIND_PLT as the row's */
	u32 rbp;		  /* as the row's */
	bool ends;		  /* the return address is undefined */
};

struct function {
	u64 start;
	u64 end;
	u64 first_row;
	u64 nr_rows;
};

struct compiler {
	u64 nr_functions, functions_capacity;
	struct function *functions;
	u64 nr_rows, rows_capacity;
	struct ub_unwind_row *rows; /* pc from the function's start */
	/* Of the function in work. */
	const struct ub_eh_entry *entry;
	struct state state;
	struct state initial; /* as the common instructions leave it */
	struct state remembered[MAX_REMEMBER];
	u32 nr_remembered;
	u64 pc;
	u64 steps; /* so far: every function may begin with the same long common instructions */
};

static int grow(void **array, u64 *capacity, u64 needed, size_t size)
{
	u64 wanted = *capacity ? *capacity * 2 : 1024;
	void *grown;

	if (needed <= *capacity)
		return 0;
	if (needed > MAX_ROWS)
		return -E2BIG;
	grown = realloc(*array, wanted * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = wanted;
	return 0;
}

static u32 rule_of(const struct compiler *c)
{
	const struct state *s = &c->state;
	s64 offset = s->kind == UB_UNWIND_PLT ? s->offset : s->offset / 8;

	if (c->entry->signal)
		return ub_unwind_rule(UB_UNWIND_SIGNAL, 0, 0);
	if (s->ends)
		return ub_unwind_rule(UB_UNWIND_END, 0, 0);
	if (s->kind != UB_UNWIND_PLT && s->offset % 8)
		return ub_unwind_rule(UB_UNWIND_UNKNOWN, 0, 0);
	if (offset >= MAX_OFFSET || offset < -MAX_OFFSET)
		return ub_unwind_rule(UB_UNWIND_UNKNOWN, 0, 0);
	if ((s->kind == UB_UNWIND_SP && s->reg != RSP) ||
	    (s->kind == UB_UNWIND_BP && s->reg != RBP))
		return ub_unwind_rule(UB_UNWIND_UNKNOWN, 0, 0);
	return ub_unwind_rule(s->kind, s->rbp, offset);
}

/* The state holds from c->pc on, but for what is said of the place behind the function. */
static int emit(struct compiler *c)
{
	struct function *function = &c->functions[c->nr_functions - 1];
	u32 rule = rule_of(c);
	int err;

	if (c->pc >= c->entry->end - c->entry->start)
		return 0;
	if (c->nr_rows > function->first_row) {
		struct ub_unwind_row *last = &c->rows[c->nr_rows - 1];

		if (last->rule == rule)
			return 0;
		if (last->pc == (u32)c->pc) {
			last->rule = rule;
			return 0;
		}
	}
	err = grow((void **)&c->rows, &c->rows_capacity, c->nr_rows + 1, sizeof(c->rows[0]));
	if (err)
		return err;
	c->rows[c->nr_rows++] = (struct ub_unwind_row) { (u32)c->pc, rule };
	function->nr_rows++;
	return 0;
}

static int advance(struct compiler *c, u64 by)
{
	int err = emit(c);

	if (err)
		return err;
	if (by > UINT32_MAX || c->pc + by > c->entry->end - c->entry->start)
		return -EBADMSG;
	c->pc += by;
	return 0;
}

static void set_cfa(struct compiler *c, u64 reg, s64 offset)
{
	c->state.kind = reg == RBP ? UB_UNWIND_BP : UB_UNWIND_SP;
	c->state.reg = reg;
	c->state.offset = offset;
}

/* What a file says may be too much to be multiplied. */
static s64 scaled(const struct compiler *c, u64 factor)
{
	return (s64)(factor * (u64)c->entry->data_align);
}

/* @reg is saved at CFA + @offset. */
static void set_saved(struct compiler *c, u64 reg, s64 offset)
{
	if (reg == RBP)
		c->state.rbp =
			offset < 0 && offset % 8 == 0 && offset > -8 * (s64)UB_UNWIND_RBP_AT_BP
				? (u32)(-offset / 8)
				: UB_UNWIND_RBP_LOST;
	else if (reg == RETURN_ADDRESS)
		c->state.ends = offset != -8;
}

static void set_lost(struct compiler *c, u64 reg)
{
	if (reg == RBP)
		c->state.rbp = UB_UNWIND_RBP_LOST;
	else if (reg == RETURN_ADDRESS)
		c->state.ends = true;
}

static void restore(struct compiler *c, u64 reg)
{
	if (reg == RBP)
		c->state.rbp = c->initial.rbp;
	else if (reg == RETURN_ADDRESS)
		c->state.ends = c->initial.ends;
}

/* The CFA by an expression of @size bytes. */
static void cfa_expression(struct compiler *c, const u8 *code, u64 size)
{
	/* breg7 8, breg16 0, lit15, and, LIT, ge, lit3, shl, plus */
	static const u8 plt[] = { 0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0, 0x2a, 0x33, 0x24, 0x22 };

	c->state.kind = UB_UNWIND_UNKNOWN;
	c->state.offset = 0;
	if (size == sizeof(plt) && !memcmp(code, plt, 6) && !memcmp(code + 7, plt + 7, 4) &&
	    code[6] >= 0x30 && code[6] <= 0x3f) {
		c->state.kind = UB_UNWIND_PLT;
		c->state.offset = code[6] - 0x30;
	} else if (size == 3 && code[0] == 0x76 && !(code[1] & 0x80) && code[2] == 0x06) {
		/* breg6 offset, deref */
		c->state.kind = UB_UNWIND_BP_AT;
		c->state.offset = (s8)(code[1] << 1) >> 1;
	}
}

static void saved_expression(struct compiler *c, u64 reg, const u8 *code, u64 size)
{
	/* breg6 0 */
	if (reg == RBP && size == 2 && code[0] == 0x76 && code[1] == 0)
		c->state.rbp = UB_UNWIND_RBP_AT_BP;
	else
		set_lost(c, reg);
}

static int remember(struct compiler *c)
{
	if (c->nr_remembered == MAX_REMEMBER)
		return -EBADMSG;
	c->remembered[c->nr_remembered++] = c->state;
	return 0;
}

static int recall(struct compiler *c)
{
	if (!c->nr_remembered)
		return -EBADMSG;
	c->state = c->remembered[--c->nr_remembered];
	return 0;
}

static int step(struct compiler *c, struct ub_cursor *at)
{
	const u64 code_align = c->entry->code_align;
	const u8 op = (u8)ub_cursor_fixed(at, 1);
	const u8 *code;
	u64 reg, size;

	switch (op & 0xc0) {
	case CFA_ADVANCE:
		return advance(c, (op & 0x3f) * code_align);
	case CFA_OFFSET:
		set_saved(c, op & 0x3f, scaled(c, ub_cursor_uleb(at)));
		return 0;
	case CFA_RESTORE:
		restore(c, op & 0x3f);
		return 0;
	}
	switch (op) {
	case CFA_NOP:
		return 0;
	case CFA_ADVANCE1:
		return advance(c, ub_cursor_fixed(at, 1) * code_align);
	case CFA_ADVANCE2:
		return advance(c, ub_cursor_fixed(at, 2) * code_align);
	case CFA_ADVANCE4:
		return advance(c, ub_cursor_fixed(at, 4) * code_align);
	case CFA_OFFSET_EXTENDED:
		reg = ub_cursor_uleb(at);
		set_saved(c, reg, scaled(c, ub_cursor_uleb(at)));
		return 0;
	case CFA_OFFSET_EXTENDED_SF:
		reg = ub_cursor_uleb(at);
		set_saved(c, reg, scaled(c, (u64)ub_cursor_sleb(at)));
		return 0;
	case CFA_GNU_NEGATIVE_OFFSET:
		reg = ub_cursor_uleb(at);
		set_saved(c, reg, scaled(c, -ub_cursor_uleb(at)));
		return 0;
	case CFA_RESTORE_EXTENDED:
		restore(c, ub_cursor_uleb(at));
		return 0;
	case CFA_UNDEFINED:
		set_lost(c, ub_cursor_uleb(at));
		return 0;
	case CFA_SAME_VALUE:
		reg = ub_cursor_uleb(at);
		if (reg == RBP)
			c->state.rbp = UB_UNWIND_RBP_SAME;
		return 0;
	case CFA_REGISTER:
	case CFA_VAL_OFFSET:
		set_lost(c, ub_cursor_uleb(at));
		ub_cursor_uleb(at);
		return 0;
	case CFA_VAL_OFFSET_SF:
		set_lost(c, ub_cursor_uleb(at));
		ub_cursor_sleb(at);
		return 0;
	case CFA_REMEMBER_STATE:
		return remember(c);
	case CFA_RESTORE_STATE:
		return recall(c);
	case CFA_DEF_CFA:
		reg = ub_cursor_uleb(at);
		set_cfa(c, reg, (s64)ub_cursor_uleb(at));
		return 0;
	case CFA_DEF_CFA_SF:
		reg = ub_cursor_uleb(at);
		set_cfa(c, reg, scaled(c, (u64)ub_cursor_sleb(at)));
		return 0;
	case CFA_DEF_CFA_REGISTER:
		set_cfa(c, ub_cursor_uleb(at), c->state.offset);
		return 0;
	case CFA_DEF_CFA_OFFSET:
		c->state.offset = (s64)ub_cursor_uleb(at);
		return 0;
	case CFA_DEF_CFA_OFFSET_SF:
		c->state.offset = scaled(c, (u64)ub_cursor_sleb(at));
		return 0;
	case CFA_DEF_CFA_EXPRESSION:
		size = ub_cursor_uleb(at);
		code = at->at;
		ub_cursor_skip(at, size);
		if (!at->bad)
			cfa_expression(c, code, size);
		return 0;
	case CFA_EXPRESSION:
	case CFA_VAL_EXPRESSION:
		reg = ub_cursor_uleb(at);
		size = ub_cursor_uleb(at);
		code = at->at;
		ub_cursor_skip(at, size);
		if (!at->bad && op == CFA_EXPRESSION)
			saved_expression(c, reg, code, size);
		else
			set_lost(c, reg);
		return 0;
	case CFA_GNU_ARGS_SIZE:
		ub_cursor_uleb(at);
		return 0;
	default: /* CFA_SET_LOC too: nobody writes it */
		return -EBADMSG;
	}
}

static int interpret(struct compiler *c, struct ub_cursor at)
{
	int err = at.bad ? -EBADMSG : 0;

	while (!err && at.at < at.end) {
		err = c->steps++ < MAX_STEPS ? step(c, &at) : -E2BIG;
		if (!err && at.bad)
			err = -EBADMSG;
	}
	return err;
}

static int add_function(void *opaque, const struct ub_eh_entry *entry)
{
	struct compiler *c = opaque;
	int err;

	if (entry->end - entry->start > UINT32_MAX)
		return 0;
	err = grow((void **)&c->functions, &c->functions_capacity, c->nr_functions + 1,
		   sizeof(c->functions[0]));
	if (err)
		return err;
	c->functions[c->nr_functions++] = (struct function) { .start = entry->start,
							      .end = entry->end,
							      .first_row = c->nr_rows };
	c->entry = entry;
	c->pc = 0;
	c->nr_remembered = 0;
	c->state = (struct state) { .kind = UB_UNWIND_UNKNOWN };
	c->initial = c->state;
	err = interpret(c, entry->common);
	c->initial = c->state;
	if (!err)
		err = interpret(c, entry->program);
	if (!err)
		err = emit(c);
	if (err != -EBADMSG)
		return err;
	/* Nothing is known of a function whose description makes no sense. */
	c->nr_rows = c->functions[c->nr_functions - 1].first_row;
	c->nr_functions--;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void compiler_deinit(struct compiler *c)
{
	free(c->functions);
	free(c->rows);
}

/* The rows of all functions, from the lowest address on; gaps between functions are unknown. */
static u64 join(const struct compiler *c, u64 base, struct ub_unwind_row *rows)
{
	u64 nr = 0, end = base;

	for (u64 i = 0; i < c->nr_functions; i++) {
		const struct function *function = &c->functions[i];

		/* Two descriptions of one place: the first one stands. */
		if (function->start < end || function->end - base > UINT32_MAX)
			continue;
		if (function->start > end)
			rows[nr++] = (struct ub_unwind_row) { (u32)(end - base), 0 };
		for (u64 k = 0; k < function->nr_rows; k++) {
			rows[nr] = c->rows[function->first_row + k];
			rows[nr++].pc += (u32)(function->start - base);
		}
		end = function->end;
	}
	rows[nr++] = (struct ub_unwind_row) { (u32)(end - base), 0 };
	return nr;
}

int ub_unwind_compile(struct ub_elf *elf, struct ub_unwind_row **rows, u64 *nr, u64 *base,
		      u64 *size)
{
	_cleanup_(compiler_deinit) struct compiler c = {};
	struct ub_unwind_row *all;
	int err = ub_eh_frame_each(elf, add_function, &c);

	if (!err && !c.nr_functions)
		err = -ENOENT;
	if (err)
		return err;
	qsort(c.functions, c.nr_functions, sizeof(c.functions[0]), by_start);
	all = malloc((c.nr_rows + c.nr_functions + 1) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	*base = c.functions[0].start;
	*nr = join(&c, *base, all);
	*size = all[*nr - 1].pc;
	*rows = all;
	return 0;
}

int ub_unwind_table(struct ub_elf *elf, const struct ub_unwind_table **out)
{
	_cleanup_free_ struct ub_unwind_row *rows = NULL;
	struct ub_unwind_table *table = elf->unwind;
	int err;

	if (!table) {
		table = calloc(1, sizeof(*table));
		if (!table)
			return -ENOMEM;
		table->fd = -1;
		elf->unwind = table;
		err = ub_unwind_compile(elf, &rows, &table->nr_rows, &table->base, &table->size);
		if (!err) {
			table->memory = ub_round_up(table->nr_rows * sizeof(*rows), PAGE);
			table->fd = ub_memfd_sealed(UB_NAME_PREFIX "unwind", rows,
						    table->nr_rows * sizeof(*rows), table->memory);
		}
	}
	if (table->fd < 0)
		return -ENOENT;
	*out = table;
	return 0;
}

void ub_unwind_table_free(struct ub_unwind_table *table)
{
	if (!table)
		return;
	if (table->fd >= 0)
		close(table->fd);
	free(table);
}
