/* SPDX-License-Identifier: MIT */
/*
 * The abstract state: what the verifier knows of registers and stacks at one point of one way
 * through the program. Private to this folder and to the soundness tests.
 */
#ifndef UB_VERIFIER_STATE_H
#define UB_VERIFIER_STATE_H

#include <program/program.h>
#include <verifier/tnum.h>

#define NR_REGS	  11
#define SLOT_SIZE 8
#define MAX_SLOTS (UB_STACK_SIZE / SLOT_SIZE)

enum {
	NOT_INIT = 0,
	SCALAR_VALUE,
	PTR_TO_CTX,
	CONST_PTR_TO_MAP,
	PTR_TO_MAP_VALUE,
	PTR_TO_MAP_KEY,
	PTR_TO_STACK,
	PTR_TO_PACKET_META,
	PTR_TO_PACKET,
	PTR_TO_PACKET_END,
	PTR_TO_MEM,
	PTR_TO_FUNC,
	PTR_TO_TASK, /* struct task_struct, by BTF in the kernel; opaque here */
	CONST_PTR_TO_DYNPTR,
	NR_REG_TYPES,

	TYPE_BASE = 0xff,
	PTR_MAYBE_NULL = 1 << 8,
	MEM_RDONLY = 1 << 9,
	MEM_RINGBUF = 1 << 10,
	PTR_TRUSTED = 1 << 11,
	MEM_RCU = 1 << 12, /* only in lists of what is expected */
};

enum slot_type {
	STACK_INVALID,
	STACK_SPILL,
	STACK_MISC,
	STACK_ZERO,
	STACK_DYNPTR,
};

enum dynptr_type {
	DYNPTR_NONE,
	DYNPTR_LOCAL,
	DYNPTR_RINGBUF,
};

/* Set in id of a scalar that is (another register with the same id) + off. */
#define ID_ADD_CONST (1u << 31)

/*
 * One register or spilled register. Of a pointer, off is the constant and var_off (with the ranges)
 * the variable part of its distance from the start of the object.
 */
struct reg {
	u32 type;
	s32 off;
	/* Packet: bytes known to exist from the pointer's start, or -1/-2 (beyond/at packet
	 * end). */
	s32 range;
	s16 map;    /* index into env->maps, or -1 */
	bool inner; /* the map is the inner template of maps[map] */
	bool precise;
	u32 map_uid; /* which lookup an inner map came from */
	u32 mem_size;
	u32 subprog; /* of PTR_TO_FUNC */
	u8 dynptr;   /* enum dynptr_type */
	bool first_slot;
	u32 id;
	u32 ref_obj_id;
	u32 dynptr_id;
	u32 frameno; /* of PTR_TO_STACK */
	struct tnum var_off;
	s64 smin, smax;
	u64 umin, umax;
	s32 smin32, smax32;
	u32 umin32, umax32;
};

#define LIVE_READ    1
#define LIVE_WRITTEN 2

struct slot {
	struct reg reg; /* what is spilled here, if type[7] says so */
	u8 type[SLOT_SIZE];
	u8 live;
};

enum ref_type {
	REF_PTR = 1,
	REF_LOCK,
};

struct ref {
	u32 type;
	u32 id;
	u32 insn;
	u32 map; /* REF_LOCK: index of the map whose value holds the lock + its id in id */
};

struct retval_range {
	s32 min, max;
};

struct frame {
	struct reg regs[NR_REGS];
	s32 callsite;
	u32 frameno;
	u32 subprog;
	bool in_callback;
	bool in_async_callback;
	struct retval_range callback_ret;
	u32 callback_depth;
	u32 nr_slots; /* allocated */
	struct slot *stack;
};

/* One instruction of the way that led here, where the way is not evident: a jump, or an access to
 * the stack through a register other than r10. For precision.c. */
struct history {
	u32 idx;
	u32 prev : 24;
	u32 stack_access : 1;
	u32 frame : 3;
	u32 spi : 6;
	u64 linked_regs;
};

struct state {
	struct frame *frame[UB_MAX_CALL_FRAMES];
	struct state *parent;
	/* Ways out of here still being walked; 0 = everything after this state is known to be
	 * safe. */
	u32 branches;
	u32 insn;
	u32 curframe;
	u32 first_insn, last_insn;
	struct ref *refs;
	u32 nr_refs;
	u32 active_locks;
	struct history *history;
	u32 nr_history, cap_history;
	u32 dfs_depth;
	u32 may_goto_depth;
	u32 callback_unroll_depth;
	bool in_sleepable;
	/* A way from here was cut because it came round to a state whose own marks were not
	 * complete. */
	bool incomplete;
};

#endif
