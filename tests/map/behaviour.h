/* SPDX-License-Identifier: MIT */
/* The same map and program on Linux and on a userspace kernel in this process. */
#ifndef UB_TESTS_MAP_BEHAVIOUR_H
#define UB_TESTS_MAP_BEHAVIOUR_H

#include <harness.h>

#include <map/mem.h>

#include "sides.h"

#define MAX_KEY	  64
#define MAX_VALUE 128

/* What a program is told to do, and what came of it: the value of a one-element array. */
struct io {
	u64 op; /* enum op */
	u64 flags;
	s64 ret; /* of the helper; lookups: 1 found, 0 NULL */
	u8 key[MAX_KEY];
	u8 value[MAX_VALUE];
};

enum op {
	OP_LOOKUP,
	OP_UPDATE,
	OP_DELETE,
	OP_PUSH,
	OP_POP,
	OP_PEEK,
	OP_LOOKUP_PERCPU, /* flags: which CPU */
	OP_FOR_EACH,	  /* ret: elements met */
	OP_INNER,	  /* maps of maps: looks key 0 up in the inner map */
	OP_LOCK,	  /* adds one to the first word of a value whose lock is at 8 */
	OP_OUTPUT,	  /* ring buffer: 16 bytes of value */
	OP_QUERY,	  /* flags: what */
	NR_OPS,
};

struct side {
	const char *name;
	struct harness *harness; /* NULL: Linux */
	int map, io, program, inner, btf;
};

/* Result or -errno. */
s64 side_bpf(struct side *side, u32 cmd, union bpf_attr *attr);

/* Most instructions that make_program() writes. */
#define MAX_INSNS 512
/* A program (SCHED_CLS) for maps of @attr that does what io->op says; @ops: which, as bits.
 * *callback: where a callback begins, or 0. */
u32 make_program(const struct ub_map_attr *attr, u32 ops, int map, int io, struct bpf_insn *insns,
		 u32 *callback);

/* BTF for the maps that need some and for callbacks: ids of an int, of struct { u64, struct
 * bpf_spin_lock, ... }, of functions. */
enum {
	BTF_INT = 1,
	BTF_U64,
	BTF_LOCK,
	BTF_VALUE,
	BTF_LOCKED_VALUE,
	BTF_PROTO,
	BTF_MAIN,
	BTF_CALLBACK
};
/* Size of both values. */
#define BTF_VALUE_SIZE 24
#define BTF_LOCK_AT    8
int load_btf(struct side *side);

#endif
