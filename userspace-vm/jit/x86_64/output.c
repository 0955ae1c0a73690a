// SPDX-License-Identifier: MIT
/*
 * What is emitted: bytes, what they leave open, and where things are among them.
 */
#include <errno.h>
#include <stdlib.h>

#include <jit/x86_64/compile.h>

bool straight(const struct compiler *c, u32 pc, u32 n)
{
	if (pc + n >= c->program->nr_insns)
		return false;
	for (u32 i = 1; i <= n; i++) {
		if (c->facts[pc + i].flags & (FACT_TARGET | FACT_DEAD | FACT_SECOND))
			return false;
	}
	return true;
}

/* Leaves room for its long form; what it is in the end, layout.c writes. */
int add_piece(struct compiler *c, u8 kind, u32 target)
{
	if (c->nr_pieces == c->max_pieces) {
		u32 max = c->max_pieces ? 2 * c->max_pieces : 64;
		void *grown = realloc(c->pieces, max * sizeof(*c->pieces));

		if (!grown)
			return -ENOMEM;
		c->pieces = grown;
		c->max_pieces = max;
	}
	c->pieces[c->nr_pieces++] =
		(struct piece) { .at = code_len(c), .target = target, .kind = kind };
	if (kind != PIECE_PADDING)
		c->out.at += kind & PIECE_JCC ? 6 : 5;
	return 0;
}

int add_reloc(struct compiler *c, enum ub_reloc_kind kind, u16 index, s64 addend, u32 offset)
{
	if (c->nr_relocs == c->max_relocs) {
		u32 max = c->max_relocs ? 2 * c->max_relocs : 32;
		void *grown = realloc(c->relocs, max * sizeof(*c->relocs));

		if (!grown)
			return -ENOMEM;
		c->relocs = grown;
		c->max_relocs = max;
	}
	c->relocs[c->nr_relocs++] = (struct ub_reloc) {
		.offset = offset,
		.kind = kind,
		.index = index,
		.addend = addend,
	};
	return 0;
}

int reserve(struct compiler *c, u32 more)
{
	u32 used = code_len(c), capacity;
	u8 *grown;

	if (used + more <= c->capacity)
		return 0;
	capacity = 2 * c->capacity + more;
	if (capacity > INT32_MAX / 2)
		return -E2BIG;
	grown = realloc(c->buf, capacity);
	if (!grown)
		return -ENOMEM;
	c->buf = grown;
	c->capacity = capacity;
	c->out.at = grown + used;
	return 0;
}

struct place here(const struct compiler *c)
{
	return (struct place) { .at = code_len(c), .pieces = c->nr_pieces };
}

struct place *detour_place(const struct compiler *c, u32 detour, enum detour_place which)
{
	return &c->places[c->program->nr_insns + 1 + DETOUR_PLACES * detour + which];
}
