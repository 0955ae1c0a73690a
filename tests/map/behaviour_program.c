// SPDX-License-Identifier: MIT
#include "behaviour.h"

#include <stddef.h>
#include <string.h>

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV(d, s)	 INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_K(d, i)	 INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_K(d, i)	 INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD(d, s, o)	 INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define LOAD_B(d, s, o)	 INSN(BPF_LDX | BPF_MEM | BPF_B, d, s, o, 0)
#define STORE(d, s, o)	 INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE_B(d, s, o) INSN(BPF_STX | BPF_MEM | BPF_B, d, s, o, 0)
#define CALL(f)		 INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT()		 INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 };

#define IO(field) ((s16)offsetof(struct io, field))

struct writer {
	struct bpf_insn *insns;
	u32 n;
	const struct ub_map_attr *attr;
	int map;
	u32 callback; /* instruction to be patched, 0: none */
};

static void put(struct writer *w, struct bpf_insn insn)
{
	w->insns[w->n++] = insn;
}

static void put_map(struct writer *w, int reg, int fd)
{
	put(w, INSN(BPF_LD | BPF_IMM | BPF_DW, reg, BPF_PSEUDO_MAP_FD, 0, fd));
	put(w, INSN(0, 0, 0, 0, 0));
}

/* r2 = what the operation is about. */
static void put_argument(struct writer *w, s16 field)
{
	put(w, MOV(R2, R6));
	put(w, ADD_K(R2, field));
}

/* r0 is a value or NULL: it goes into io, with what was found in the return value. */
static void put_found(struct writer *w, u32 size)
{
	u32 jump;

	put(w, MOV_K(R7, 0));
	jump = w->n;
	put(w, INSN(BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 0, 0));
	put(w, MOV_K(R7, 1));
	for (u32 at = 0; at < size;) {
		bool word = size - at >= 8;

		/* The lock can't be looked at. */
		if (w->attr->lock && at == BTF_LOCK_AT) {
			at += 8;
			continue;
		}
		put(w, word ? LOAD(R1, R0, (s16)at) : LOAD_B(R1, R0, (s16)at));
		put(w, word ? STORE(R6, R1, (s16)(IO(value) + at))
			    : STORE_B(R6, R1, (s16)(IO(value) + at)));
		at += word ? 8 : 1;
	}
	w->insns[jump].off = (s16)(w->n - jump - 1);
	put(w, STORE(R6, R7, IO(ret)));
}

static void put_lock(struct writer *w)
{
	u32 jump;

	put_argument(w, IO(key));
	put(w, CALL(BPF_FUNC_map_lookup_elem));
	put(w, MOV_K(R7, 0));
	jump = w->n;
	put(w, INSN(BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 0, 0));
	put(w, MOV(R8, R0));
	put(w, MOV(R1, R8));
	put(w, ADD_K(R1, BTF_LOCK_AT));
	put(w, CALL(BPF_FUNC_spin_lock));
	put(w, LOAD(R7, R8, 0));
	put(w, ADD_K(R7, 1));
	put(w, STORE(R8, R7, 0));
	put(w, MOV(R1, R8));
	put(w, ADD_K(R1, BTF_LOCK_AT));
	put(w, CALL(BPF_FUNC_spin_unlock));
	w->insns[jump].off = (s16)(w->n - jump - 1);
	put(w, STORE(R6, R7, IO(ret)));
}

static void put_inner(struct writer *w)
{
	u32 jump;

	put_argument(w, IO(key));
	put(w, CALL(BPF_FUNC_map_lookup_elem));
	put(w, MOV_K(R7, -1));
	jump = w->n;
	put(w, INSN(BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 0, 0));
	put(w, MOV(R1, R0));
	put(w, INSN(BPF_ST | BPF_MEM | BPF_DW, R10, 0, -8, 0));
	put(w, MOV(R2, R10));
	put(w, ADD_K(R2, -8));
	put(w, CALL(BPF_FUNC_map_lookup_elem));
	put(w, MOV_K(R7, 0));
	put(w, INSN(BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 1, 0));
	put(w, LOAD(R7, R0, 0));
	w->insns[jump].off = (s16)(w->n - jump - 1);
	put(w, STORE(R6, R7, IO(ret)));
}

static void put_op(struct writer *w, enum op op)
{
	put_map(w, R1, w->map);
	switch (op) {
	case OP_LOOKUP:
		put_argument(w, IO(key));
		put(w, CALL(BPF_FUNC_map_lookup_elem));
		put_found(w, w->attr->value_size);
		return;
	case OP_UPDATE:
		put_argument(w, IO(key));
		put(w, MOV(R3, R6));
		put(w, ADD_K(R3, IO(value)));
		put(w, LOAD(R4, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_map_update_elem));
		break;
	case OP_DELETE:
		put_argument(w, IO(key));
		put(w, CALL(BPF_FUNC_map_delete_elem));
		break;
	case OP_PUSH:
		put_argument(w, IO(value));
		put(w, LOAD(R3, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_map_push_elem));
		break;
	case OP_POP:
	case OP_PEEK:
		put_argument(w, IO(value));
		put(w, CALL(op == OP_POP ? BPF_FUNC_map_pop_elem : BPF_FUNC_map_peek_elem));
		break;
	case OP_LOOKUP_PERCPU:
		put_argument(w, IO(key));
		put(w, LOAD(R3, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_map_lookup_percpu_elem));
		put_found(w, w->attr->value_size);
		return;
	case OP_FOR_EACH:
		w->callback = w->n;
		put(w, INSN(BPF_LD | BPF_IMM | BPF_DW, R2, BPF_PSEUDO_FUNC, 0, 0));
		put(w, INSN(0, 0, 0, 0, 0));
		put(w, INSN(BPF_ST | BPF_MEM | BPF_DW, R10, 0, -8, 0));
		put(w, MOV(R3, R10));
		put(w, ADD_K(R3, -8));
		put(w, LOAD(R4, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_for_each_map_elem));
		break;
	case OP_INNER:
		put_inner(w);
		return;
	case OP_LOCK:
		put_lock(w);
		return;
	case OP_OUTPUT:
		put_argument(w, IO(value));
		put(w, MOV_K(R3, 16));
		put(w, LOAD(R4, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_ringbuf_output));
		break;
	case OP_QUERY:
		put(w, LOAD(R2, R6, IO(flags)));
		put(w, CALL(BPF_FUNC_ringbuf_query));
		break;
	default:
		break;
	}
	put(w, STORE(R6, R0, IO(ret)));
}

u32 make_program(const struct ub_map_attr *attr, u32 ops, int map, int io, struct bpf_insn *insns,
		 u32 *callback)
{
	struct writer w = { .insns = insns, .attr = attr, .map = map };

	memset(insns, 0, MAX_INSNS * sizeof(*insns));
	/* r6 = io */
	put(&w, INSN(BPF_ST | BPF_MEM | BPF_DW, R10, 0, -8, 0));
	put_map(&w, R1, io);
	put(&w, MOV(R2, R10));
	put(&w, ADD_K(R2, -8));
	put(&w, CALL(BPF_FUNC_map_lookup_elem));
	put(&w, INSN(BPF_JMP | BPF_JNE | BPF_K, R0, 0, 2, 0));
	put(&w, MOV_K(R0, 0));
	put(&w, EXIT());
	put(&w, MOV(R6, R0));
	put(&w, LOAD(R9, R6, IO(op)));
	for (u32 op = 0; op < NR_OPS; op++) {
		u32 jump = w.n;

		if (!(ops >> op & 1))
			continue;
		put(&w, INSN(BPF_JMP | BPF_JNE | BPF_K, R9, 0, 0, (s32)op));
		put_op(&w, op);
		put(&w, MOV_K(R0, 0));
		put(&w, EXIT());
		insns[jump].off = (s16)(w.n - jump - 1);
	}
	put(&w, MOV_K(R0, 0));
	put(&w, EXIT());
	*callback = 0;
	if (w.callback) {
		*callback = w.n;
		insns[w.callback].imm = (s32)(w.n - w.callback - 1);
		put(&w, MOV_K(R0, 0));
		put(&w, EXIT());
	}
	return w.n;
}
