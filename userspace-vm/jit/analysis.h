/* SPDX-License-Identifier: MIT */
/*
 * What the JIT finds out about a program before it emits code, whatever the machine.
 */
#ifndef UB_JIT_ANALYSIS_H
#define UB_JIT_ANALYSIS_H

#include <common/reason.h>
#include <isa/isa.h>
#include <program/program.h>

/* Facts about one instruction. */
enum {
	FACT_TARGET = 1 << 0, /* control may come here otherwise than from the instruction before */
	FACT_SECOND = 1 << 1, /* second half of a ld_imm64 */
	FACT_DEAD = 1 << 2,   /* not emitted: its result is never used */
	FACT_LOOP = 1 << 3,   /* a jump from further down leads here */
};

struct facts {
	u8 flags;
	u8 op;		/* enum ub_op */
	u8 const_map;	/* calls: 1 + index of the map that r1 always is, else 0 */
	u8 subprog;	/* that it belongs to */
	u16 live_after; /* bit n: register n may be read after this instruction */
	u8 fused; /* stores: how far back the load is that this completes, see find_fused(); 0 =
		     none */
};

/* Fills @facts (zeroed, one per instruction). -EINVAL and @why for what no JIT can compile, -ENOMEM. */
int __must_check jit_analyse(const struct ub_program *program, struct facts *facts,
			     struct ub_reason *why);

/* Registers that an instruction reads and writes, as masks. */
u16 jit_reads(const struct bpf_insn *insn, const struct facts *fact,
	      const struct ub_program *program);
u16 jit_writes(const struct bpf_insn *insn, const struct facts *fact);

/* Whether a call is an array lookup that is emitted in line: reads r2 only. */
bool jit_inlines_lookup(const struct bpf_insn *insn, const struct facts *fact,
			const struct ub_program *program);

/* Whether @insn at @pc changes register @reg as part of the read-modify-write that a fused store
 * ends. */
bool jit_is_change(const struct bpf_insn *insn, const struct facts *fact, u8 reg);

#define REG_BIT(r) (u16)(1u << (r))
#define CALL_ARGS  (u16)(REG_BIT(1) | REG_BIT(2) | REG_BIT(3) | REG_BIT(4) | REG_BIT(5))

#endif
