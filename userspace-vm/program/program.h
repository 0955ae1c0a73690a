/* SPDX-License-Identifier: MIT */
/*
 * A verified program: what the verifier hands to the JIT, the interpreter and the image builder.
 *
 * Its instructions are struct bpf_insn in this internal form:
 *   ld_imm64, src_reg BPF_PSEUDO_MAP_FD      imm = index into maps[]; the value is the address of
 *                                            the process's struct ub_map for it
 *   ld_imm64, src_reg BPF_PSEUDO_MAP_VALUE   imm = index into maps[], second imm = byte offset; the
 *                                            value is the address of the map's values + offset
 *   ld_imm64, src_reg BPF_PSEUDO_FUNC        imm = distance to the callback's first instruction
 *                                            from the next instruction (as in the kernel: imm + pc + 1)
 *   call, src_reg 0                          imm = helper id (enum bpf_func_id)
 *   call, src_reg BPF_PSEUDO_CALL            imm = distance to the subprogram (pc + imm + 1)
 * Everything else is RFC 9669 as it is. There are no map fds and no BTF ids left.
 */
#ifndef UB_PROGRAM_PROGRAM_H
#define UB_PROGRAM_PROGRAM_H

#include <linux/bpf.h>

#include <common/reason.h>
#include <common/types.h>
#include <map/map.h>

#define UB_MAX_INSNS	   1000000
#define UB_MAX_USED_MAPS   64
#define UB_MAX_SUBPROGS	   256
#define UB_STACK_SIZE	   512 /* bytes of BPF stack of a frame, MAX_BPF_STACK */
#define UB_STACK_EXTRA	   16  /* below them, for what the verifier adds: may_goto's counter */
#define UB_MAX_CALL_FRAMES 8

struct ub_subprog {
	u32 start;	  /* first instruction */
	u32 stack_depth;  /* bytes below its frame pointer, a multiple of 8, at most
			   * UB_STACK_SIZE + UB_STACK_EXTRA */
	bool is_callback; /* called by a helper: (a1..a5), not by a call instruction */
	bool has_tail_call;
};

/* What the verifier found out about one instruction; zero = nothing. */
enum {
	UB_INSN_PERCPU = 1 << 0, /* memory access to a per-CPU map value of this CPU */
};

struct ub_insn_aux {
	u8 flags;
	/* For a call of a map helper whose r1 is always the same map: 1 + index into maps[], else
	 * 0. */
	u8 const_map;
};

/* How the program uses its context (struct pt_regs for kprobe-type programs): what a trampoline
 * must provide. Bit n of ctx_words = the 8-byte word at ctx + 8 * n is read. ctx_escapes: the
 * pointer goes to a helper or somewhere the verifier does not follow, so all of it must be
 * there. */
struct ub_ctx_use {
	u64 words;
	bool escapes;
	bool written;
};

/* Owned by whoever created it; freed with ub_program_free(). Immutable once verified. */
struct ub_program {
	enum bpf_prog_type type;
	enum bpf_attach_type expected_attach_type;
	char name[BPF_OBJ_NAME_LEN];
	u32 nr_insns;
	struct bpf_insn *insns;
	struct ub_insn_aux
		*aux;	 /* one per instruction; NULL = program was not verified (vm command) */
	u32 nr_subprogs; /* at least 1: subprogs[0].start == 0 */
	struct ub_subprog *subprogs;
	u32 nr_maps;
	struct ub_map_attr maps[UB_MAX_USED_MAPS]; /* shapes only; addresses come per process */
	struct ub_ctx_use ctx;
	bool sleepable;
	bool uses_tail_call;
	bool uses_current_task; /* reads pid, comm, ... */
	u32 max_call_depth;
	u32 verified_insns; /* instructions the verifier walked, for statistics */
};

struct ub_program *ub_program_new(u32 nr_insns);
void ub_program_free(struct ub_program *program);

/* Fills subprogs[], nr_subprogs and the tail call flags from the instructions, which ub_isa_check()
 * has passed. Nothing is known of stack depths: each gets all UB_STACK_SIZE. -E2BIG, or -EINVAL
 * when a jump leaves its subprogram. */
int __must_check ub_program_find_subprogs(struct ub_program *program, struct ub_reason *why);

/* A program of @nr instructions in the internal form that nobody verified (vm command, tests):
 * checked for form only, without aux. Whoever runs it trusts it. */
int __must_check ub_program_from_insns(const struct bpf_insn *insns, u32 nr,
				       struct ub_program **out, struct ub_reason *why);

#endif
