/* SPDX-License-Identifier: MIT */
#ifndef UB_INTERPRETER_STATE_H
#define UB_INTERPRETER_STATE_H

#include <interpreter/interpreter.h>
#include <isa/isa.h>

/* A function that runs: what to restore when it returns, and its own may_goto budget. A tail call
 * may have replaced the program meanwhile. */
struct frame {
	const struct ub_program *caller;
	struct ub_map **caller_maps;
	const struct bpf_insn *return_to;
	u64 saved[4]; /* caller's r6 .. r9 */
	u64 loops_left;
};

/* A tail call out of a subprogram leaves the frames of that one's callers where they are, and the
 * program that it leads to may call as deep again. */
#define MAX_FRAMES (UB_MAX_CALL_FRAMES + UB_MAX_TAIL_CALLS * (UB_MAX_CALL_FRAMES - 1))

#define FRAME_STACK (UB_STACK_SIZE + UB_STACK_EXTRA)

struct state {
	const struct ub_interpret_options *options;
	struct ub_run *run; /* its program and maps are those that run now */
	struct ub_reason *why;
	bool check;
	bool tracing; /* something to do before each instruction */
	int err;      /* of a callback, to be noticed by the instruction that called the helper */
	u64 insns_left;
	u64 ctx;
	u64 ctx_size;
	u32 depth;	/* index of the running frame */
	u32 max_frames; /* that the running program may use, and what its tail calls left */
	struct frame frames[MAX_FRAMES];
	u8 stack[MAX_FRAMES][FRAME_STACK] __attribute__((aligned(16)));
};

/* As the kernel's BPF_MAX_LOOPS: iterations after which a may_goto jumps. */
#define MAX_LOOPS (8u << 20)

/* Whether @size bytes at @addr may be accessed. */
bool interpreter_may_access(const struct state *s, u64 addr, u32 size, bool write);

/* Starts at @pc of the running frame; *result = r0 when that frame returns. */
int interpreter_execute(struct state *s, u32 pc, u64 *regs, u64 *result);

#endif
