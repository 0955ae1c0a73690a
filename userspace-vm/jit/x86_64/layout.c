// SPDX-License-Identifier: MIT
/*
 * Layout: how long branches are, and where loops lie.
 *
 * The code was emitted with all branches long and nothing before loops. Between its fixed bytes lie
 * pieces whose length is decided here, branches and paddings:
 *
 *  1. Branches that reach with a byte become short, which brings others into reach. Code only
 *     shrinks, so a branch that is short stays right, and the passes end.
 *  2. Innermost loops that touch one cache line more than they need to are moved to the next line:
 *     processors fetch by lines, and a loop of 32 bytes across two of them runs up to 40 % slower
 *     (measured on Zen). A branch that does not reach any more becomes long again, which may
 *     move loops; branches only ever grow, so this ends too.
 */
#include <errno.h>
#include <stdlib.h>

#include <common/cleanup.h>
#include <jit/x86_64/compile.h>

/* Loops longer than this lose little at a line's border. */
#define MAX_ALIGNED_LOOP 256
/* Branches that are each waiting for the next one would need as many passes as there are. Real
 * programs need a few; what is left then stays long. */
#define MAX_PASSES 64

struct layout {
	const struct compiler *c;
	struct piece *pieces;
	s32 *saved; /* [i] = bytes by which the code before the i-th piece has shrunk */
	u32 *ends;  /* of a padding: 1 + index of the branch that ends its loop, 0 = leave it */
};

static u32 long_length(const struct piece *piece)
{
	if (piece->kind == PIECE_PADDING)
		return 0;
	return piece->kind & PIECE_JCC ? 6 : 5;
}

static u32 length(const struct piece *piece)
{
	if (piece->kind == PIECE_PADDING)
		return piece->padding;
	return piece->is_short ? 2 : long_length(piece);
}

static void sum_savings(struct layout *l)
{
	l->saved[0] = 0;
	for (u32 i = 0; i < l->c->nr_pieces; i++)
		l->saved[i + 1] =
			l->saved[i] + (s32)long_length(&l->pieces[i]) - (s32)length(&l->pieces[i]);
}

static s64 place_offset(const struct layout *l, const struct place *place)
{
	return (s64)place->at - l->saved[place->pieces];
}

/* Where branch @piece leads: calls to a subprogram's entry, jumps behind its prologue. */
static const struct place *target_of(const struct layout *l, const struct piece *piece)
{
	if (piece->kind == PIECE_CALL)
		return &l->c->entries[l->c->facts[piece->target].subprog];
	return &l->c->places[piece->target];
}

/* From the end of branch @i, in the current layout, to its target. */
static s64 distance(const struct layout *l, u32 i)
{
	const struct piece *piece = &l->pieces[i];

	return place_offset(l, target_of(l, piece)) -
	       ((s64)piece->at - l->saved[i] + length(piece));
}

static void shorten_branches(struct layout *l)
{
	bool changed = true;

	sum_savings(l);
	for (u32 pass = 0; changed && pass < MAX_PASSES; pass++) {
		changed = false;
		for (u32 i = 0; i < l->c->nr_pieces; i++) {
			struct piece *piece = &l->pieces[i];
			s64 far;

			if (piece->is_short || piece->kind == PIECE_PADDING ||
			    piece->kind == PIECE_CALL)
				continue;
			far = distance(l, i);
			/* Backwards, a shorter branch ends nearer to its target. */
			if (far < 0)
				far += long_length(piece) - 2;
			if (fits8(far)) {
				piece->is_short = true;
				changed = true;
			}
		}
		sum_savings(l);
	}
}

/* The padding before instruction @pc, or -1. */
static s64 padding_before(const struct layout *l, u32 pc)
{
	u32 pieces = l->c->places[pc].pieces;

	if (!pieces || l->pieces[pieces - 1].kind != PIECE_PADDING ||
	    l->pieces[pieces - 1].target != pc)
		return -1;
	return (s64)pieces - 1;
}

/* Which paddings have an innermost loop behind them, and where that ends. */
static void find_loops(struct layout *l)
{
	s64 outer = -1;

	for (u32 i = 0; i < l->c->nr_pieces; i++) {
		s64 head;

		if (l->pieces[i].kind == PIECE_PADDING || l->pieces[i].kind == PIECE_CALL)
			continue;
		head = padding_before(l, l->pieces[i].target);
		if (head >= 0 && head < (s64)i)
			l->ends[head] = i + 1;
	}
	for (u32 i = 0; i < l->c->nr_pieces; i++) {
		if (!l->ends[i])
			continue;
		if (outer >= 0 && i < l->ends[outer] - 1)
			l->ends[outer] = 0;
		outer = i;
	}
}

static u32 lines(s64 start, s64 end)
{
	return (u32)((end - 1) / UB_CODE_ALIGN - start / UB_CODE_ALIGN + 1);
}

/* Paddings for the branch lengths as they are, from the first to the last. */
static void choose_paddings(struct layout *l)
{
	for (u32 i = 0; i < l->c->nr_pieces; i++) {
		struct piece *piece = &l->pieces[i];

		l->saved[i + 1] = l->saved[i] + (s32)long_length(piece) - (s32)length(piece);
		if (l->ends[i]) {
			u32 last = l->ends[i] - 1;
			s64 start = (s64)piece->at - l->saved[i], size = length(&l->pieces[last]);

			size += (s64)l->pieces[last].at - piece->at;
			for (u32 j = i + 1; j < last; j++)
				size -= (s64)long_length(&l->pieces[j]) - length(&l->pieces[j]);
			piece->padding = 0;
			if (size <= MAX_ALIGNED_LOOP && lines(start, start + size) > lines(0, size))
				piece->padding = -start & (UB_CODE_ALIGN - 1);
			l->saved[i + 1] = l->saved[i] - piece->padding;
		}
	}
}

/* All branches short that can be, and no padding. */
static void forget_loops(struct layout *l)
{
	for (u32 i = 0; i < l->c->nr_pieces; i++) {
		l->ends[i] = 0;
		l->pieces[i].padding = 0;
		l->pieces[i].is_short = false;
	}
	shorten_branches(l);
}

static void align_loops(struct layout *l)
{
	bool changed = true;

	find_loops(l);
	for (u32 pass = 0; changed; pass++) {
		if (pass == MAX_PASSES) {
			forget_loops(l);
			return;
		}
		changed = false;
		choose_paddings(l);
		for (u32 i = 0; i < l->c->nr_pieces; i++) {
			if (l->pieces[i].is_short && !fits8(distance(l, i))) {
				l->pieces[i].is_short = false;
				changed = true;
			}
		}
	}
}

/* No-ops of up to nine bytes, as both vendors recommend them. */
static void put_padding(struct bytes *b, u32 left)
{
	static const u8 nops[][9] = {
		{ 0x90 },
		{ 0x66, 0x90 },
		{ 0x0f, 0x1f, 0x00 },
		{ 0x0f, 0x1f, 0x40 },
		{ 0x0f, 0x1f, 0x44 },
		{ 0x66, 0x0f, 0x1f, 0x44 },
		{ 0x0f, 0x1f, 0x80 },
		{ 0x0f, 0x1f, 0x84 },
		{ 0x66, 0x0f, 0x1f, 0x84 },
	};

	while (left) {
		u32 n = left < sizeof(nops[0]) ? left : sizeof(nops[0]);

		memcpy(b->at, nops[n - 1], n);
		b->at += n;
		left -= n;
	}
}

static u8 *put_piece(const struct piece *piece, u8 *at, s64 far)
{
	struct bytes b = { .at = at };

	if (piece->kind == PIECE_PADDING) {
		put_padding(&b, piece->padding);
		return b.at;
	}
	if (piece->is_short) {
		put8(&b, piece->kind & PIECE_JCC ? 0x70 | (piece->kind & 15) : 0xeb);
		put8(&b, (u8)far);
		return b.at;
	}
	if (piece->kind & PIECE_JCC) {
		put8(&b, 0x0f);
		put8(&b, 0x80 | (piece->kind & 15));
	} else {
		put8(&b, piece->kind == PIECE_CALL ? 0xe8 : 0xe9);
	}
	put32(&b, (u32)(s32)far);
	return b.at;
}

/* Relocations lie in order, between pieces, never in one. */
static void move_relocs(const struct layout *l, const u32 *insn_offsets)
{
	const struct compiler *c = l->c;
	u32 piece = 0;

	for (u32 i = 0; i < c->nr_relocs; i++) {
		struct ub_reloc *reloc = &c->relocs[i];

		while (piece < c->nr_pieces && c->pieces[piece].at < reloc->offset)
			piece++;
		reloc->offset -= l->saved[piece];
		if (reloc->kind == UB_RELOC_CODE)
			reloc->addend = insn_offsets[reloc->addend];
	}
}

static void free_layout(struct layout *l)
{
	free(l->saved);
	free(l->ends);
}

static void move_bytes(const struct layout *l, u8 *to)
{
	const struct compiler *c = l->c;
	u32 from = 0;

	for (u32 i = 0; i < c->nr_pieces; i++) {
		const struct piece *piece = &c->pieces[i];

		memcpy(to, c->buf + from, piece->at - from);
		to += piece->at - from;
		to = put_piece(piece, to, piece->kind == PIECE_PADDING ? 0 : distance(l, i));
		from = piece->at + long_length(piece);
	}
	memcpy(to, c->buf + from, code_len(c) - from);
}

int lay_out_code(struct compiler *c, struct ub_code *out)
{
	_cleanup_(free_layout) struct layout l = {
		.c = c,
		.pieces = c->pieces,
		.saved = malloc((c->nr_pieces + 1) * sizeof(*l.saved)),
		.ends = calloc(c->nr_pieces + 1, sizeof(*l.ends)),
	};
	u32 nr_insns = c->program->nr_insns, size;
	_cleanup_free_ u32 *offsets = malloc((nr_insns + 1) * sizeof(*offsets));
	_cleanup_free_ u8 *bytes = NULL;

	if (!l.saved || !l.ends || !offsets)
		return -ENOMEM;
	shorten_branches(&l);
	align_loops(&l);
	size = code_len(c) - l.saved[c->nr_pieces];
	bytes = malloc(size);
	if (!bytes)
		return -ENOMEM;
	move_bytes(&l, bytes);

	for (u32 pc = 0; pc <= nr_insns; pc++)
		offsets[pc] = (u32)place_offset(&l, &c->places[pc]);
	for (u32 i = 0; i < c->program->nr_subprogs; i++)
		offsets[c->program->subprogs[i].start] = (u32)place_offset(&l, &c->entries[i]);
	move_relocs(&l, offsets);

	*out = (struct ub_code) {
		.bytes = TAKE_PTR(bytes),
		.size = size,
		.nr_relocs = c->nr_relocs,
		.relocs = TAKE_PTR(c->relocs),
		.insn_offsets = TAKE_PTR(offsets),
		.nr_insns = nr_insns,
	};
	return 0;
}
