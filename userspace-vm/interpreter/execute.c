// SPDX-License-Identifier: MIT
/*
 * What each instruction means. One label per row of opcodes.def; the compiler names a missing one.
 *
 * Nothing is decoded beforehand, since most programs are short: the opcode byte is the index into a
 * table of labels. Where one byte stands for several rows, the first of them has the label, and
 * begins with UNLESS(), which sends the others on.
 */
#include <errno.h>
#include <string.h>

#include <interpreter/state.h>

/* Accesses of any alignment: RFC 9669 gives loads and stores none. */
#define LOAD(type, addr)                                                                           \
	({                                                                                         \
		type value_;                                                                       \
		memcpy(&value_, (const void *)(addr), sizeof(value_));                             \
		value_;                                                                            \
	})

#define STORE(type, addr, value)                                                                   \
	({                                                                                         \
		type value_ = (type)(value);                                                       \
		memcpy((void *)(addr), &value_, sizeof(value_));                                   \
	})

#define DST regs[insn->dst_reg]
#define SRC regs[insn->src_reg]
#define IMM ((u64)(s64)insn->imm)

#define NEXT                                                                                       \
	do {                                                                                       \
		insn++;                                                                            \
		DISPATCH;                                                                          \
	} while (0)

#define DISPATCH goto *next[insn->code]

/* In the first of the rows that share an opcode byte: @field has not the value of this row. */
#define UNLESS(field, value)                                                                       \
	do {                                                                                       \
		if (ub_unlikely(insn->field != (value)))                                           \
			goto another_row;                                                          \
	} while (0)

/* The four rows of one binary operation; A and B are its operands. UNSIGNED: there is a signed one
 * with the same opcode bytes. */
#define ALU(name, expr64, expr32)	   ALU_ROWS(name, (void)0, expr64, expr32)
#define ALU_UNSIGNED(name, expr64, expr32) ALU_ROWS(name, UNLESS(off, 0), expr64, expr32)

#define ALU_ROWS(name, check, expr64, expr32)                                                      \
	do_##name##64_REG:                                                                         \
	{                                                                                          \
		check;                                                                             \
		u64 A = DST, B = SRC;                                                              \
		DST = (expr64);                                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##64_IMM:                                                                         \
	{                                                                                          \
		check;                                                                             \
		u64 A = DST, B = IMM;                                                              \
		DST = (expr64);                                                                    \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##32_REG:                                                                         \
	{                                                                                          \
		check;                                                                             \
		u32 A = (u32)DST, B = (u32)SRC;                                                    \
		DST = (u32)(expr32);                                                               \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##32_IMM:                                                                         \
	{                                                                                          \
		check;                                                                             \
		u32 A = (u32)DST, B = (u32)insn->imm;                                              \
		DST = (u32)(expr32);                                                               \
		NEXT;                                                                              \
	}

#define JUMP(name, expr64, expr32)                                                                 \
	do_##name##64_REG:                                                                         \
	{                                                                                          \
		u64 A = DST, B = SRC;                                                              \
		insn += (expr64) ? insn->off : 0;                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##64_IMM:                                                                         \
	{                                                                                          \
		u64 A = DST, B = IMM;                                                              \
		insn += (expr64) ? insn->off : 0;                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##32_REG:                                                                         \
	{                                                                                          \
		u32 A = (u32)DST, B = (u32)SRC;                                                    \
		insn += (expr32) ? insn->off : 0;                                                  \
		NEXT;                                                                              \
	}                                                                                          \
	do_##name##32_IMM:                                                                         \
	{                                                                                          \
		u32 A = (u32)DST, B = (u32)insn->imm;                                              \
		insn += (expr32) ? insn->off : 0;                                                  \
		NEXT;                                                                              \
	}

#define CHECK(addr, size, write)                                                                   \
	do {                                                                                       \
		if (ub_unlikely(s->check) && !interpreter_may_access(s, addr, size, write))        \
			return fault(s, insn - insns, addr, size, write);                          \
	} while (0)

#define LDX(name, type)                                                                            \
	do_##name:                                                                                 \
	{                                                                                          \
		u64 addr = SRC + insn->off;                                                        \
		CHECK(addr, sizeof(type), false);                                                  \
		DST = (u64)(s64)LOAD(type, addr);                                                  \
		NEXT;                                                                              \
	}

#define ST(name, type, value)                                                                      \
	do_##name:                                                                                 \
	{                                                                                          \
		u64 addr = DST + insn->off;                                                        \
		CHECK(addr, sizeof(type), true);                                                   \
		STORE(type, addr, value);                                                          \
		NEXT;                                                                              \
	}

/* An atomic operation; @effect uses ADDR (typed) and may set SRC or r0. */
#define ATOMIC(name, type, effect) ATOMIC_ROW(name, (void)0, type, effect)

#define ATOMIC_ROW(name, check, type, effect)                                                      \
	do_##name:                                                                                 \
	{                                                                                          \
		check;                                                                             \
		u64 addr = DST + insn->off;                                                        \
		type *ADDR = (type *)addr;                                                         \
		CHECK(addr, sizeof(type), true);                                                   \
		if (addr % sizeof(type))                                                           \
			return misaligned(s, insn - insns, addr);                                  \
		effect;                                                                            \
		NEXT;                                                                              \
	}

#define ATOMICS(bits)                                                                              \
	ATOMIC_ROW(ATOMIC_ADD##bits, UNLESS(imm, BPF_ADD), u##bits,                                \
		   __atomic_fetch_add(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                       \
	ATOMIC(ATOMIC_OR##bits, u##bits, __atomic_fetch_or(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))  \
	ATOMIC(ATOMIC_AND##bits, u##bits,                                                          \
	       __atomic_fetch_and(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                           \
	ATOMIC(ATOMIC_XOR##bits, u##bits,                                                          \
	       __atomic_fetch_xor(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                           \
	ATOMIC(FETCH_ADD##bits, u##bits,                                                           \
	       SRC = __atomic_fetch_add(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                     \
	ATOMIC(FETCH_OR##bits, u##bits,                                                            \
	       SRC = __atomic_fetch_or(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                      \
	ATOMIC(FETCH_AND##bits, u##bits,                                                           \
	       SRC = __atomic_fetch_and(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                     \
	ATOMIC(FETCH_XOR##bits, u##bits,                                                           \
	       SRC = __atomic_fetch_xor(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                     \
	ATOMIC(XCHG##bits, u##bits,                                                                \
	       SRC = __atomic_exchange_n(ADDR, (u##bits)SRC, __ATOMIC_SEQ_CST))                    \
	ATOMIC(CMPXCHG##bits, u##bits, {                                                           \
		u##bits expected = (u##bits)regs[0];                                               \
		__atomic_compare_exchange_n(ADDR, &expected, (u##bits)SRC, false,                  \
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
		regs[0] = expected;                                                                \
	})

#define ORDERED(name, type)                                                                        \
	do_LOAD_ACQ_##name:                                                                        \
	{                                                                                          \
		UNLESS(imm, BPF_LOAD_ACQ);                                                         \
		u64 addr = SRC + insn->off;                                                        \
		CHECK(addr, sizeof(type), false);                                                  \
		if (addr % sizeof(type))                                                           \
			return misaligned(s, insn - insns, addr);                                  \
		DST = __atomic_load_n((type *)addr, __ATOMIC_ACQUIRE);                             \
		NEXT;                                                                              \
	}                                                                                          \
	do_STORE_REL_##name:                                                                       \
	{                                                                                          \
		u64 addr = DST + insn->off;                                                        \
		CHECK(addr, sizeof(type), true);                                                   \
		if (addr % sizeof(type))                                                           \
			return misaligned(s, insn - insns, addr);                                  \
		__atomic_store_n((type *)addr, (type)SRC, __ATOMIC_RELEASE);                       \
		NEXT;                                                                              \
	}

static int fault(struct state *s, u32 pc, u64 addr, u32 size, bool write)
{
	return ub_reason_set(s->why, -EFAULT, "insn %u: %s of %u bytes at 0x%llx is out of bounds",
			     pc, write ? "write" : "read", size, (unsigned long long)addr);
}

static int misaligned(struct state *s, u32 pc, u64 addr)
{
	return ub_reason_set(s->why, -EFAULT, "insn %u: misaligned atomic access at 0x%llx", pc,
			     (unsigned long long)addr);
}

static int before(struct state *s, u32 pc, const u64 *regs)
{
	const struct ub_interpret_options *options = s->options;

	if (options->max_insns && !s->insns_left--)
		return ub_reason_set(s->why, -ETIMEDOUT, "insn %u: stopped after %llu instructions",
				     pc, (unsigned long long)options->max_insns);
	if (options->observe)
		options->observe(options->observe_opaque, pc, s->depth, regs, (const u8 *)regs[10]);
	return 0;
}

/* Division as RFC 9669 section 4.1 has it: by zero is 0, modulo zero leaves the dividend, and the
 * one quotient that does not fit wraps around. */
static u64 sdiv64(u64 a, u64 b)
{
	if (!b)
		return 0;
	return b == (u64)-1 ? -a : (u64)((s64)a / (s64)b);
}

static u64 smod64(u64 a, u64 b)
{
	if (!b)
		return a;
	return b == (u64)-1 ? 0 : (u64)((s64)a % (s64)b);
}

static u32 sdiv32(u32 a, u32 b)
{
	if (!b)
		return 0;
	return b == (u32)-1 ? -a : (u32)((s32)a / (s32)b);
}

static u32 smod32(u32 a, u32 b)
{
	if (!b)
		return a;
	return b == (u32)-1 ? 0 : (u32)((s32)a % (s32)b);
}

/* Whether @map is one of the running program's. */
static bool is_map(const struct state *s, const struct ub_map *map)
{
	struct ub_map **maps = s->run->maps;

	for (u32 i = 0; maps && i < s->run->program->nr_maps; i++) {
		if (maps[i] == map)
			return true;
	}
	return false;
}

/* The program that bpf_tail_call(ctx, map, index) leads to, or NULL: the call does nothing. */
static const struct ub_interpret_target *tail_target(const struct state *s,
						     const struct ub_map *map, u32 index)
{
	const struct ub_interpret_target *target;

	if (!map || (s->check && !is_map(s, map)) || !map->inner ||
	    index >= map->attr.max_entries || s->run->tail_calls >= UB_MAX_TAIL_CALLS)
		return NULL;
	target = (const void *)ub_read_once(map->inner[index]);
	if (target)
		s->run->tail_calls++;
	return target;
}

int interpreter_execute(struct state *s, u32 pc, u64 *regs, u64 *result)
{
	static const void *const labels[UB_NR_OPS] = {
		[UB_OP_INVALID] = (const void *)&&do_INVALID,
#define UB_OP(name, code, sub, form) [UB_OP_##name] = (const void *)&&do_##name,
#include <isa/opcodes.def>
	};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
	/* The first row of each opcode byte. */
	static const void *const by_code[256] = {
		[0 ... 255] = (const void *)&&do_INVALID,
#define UB_OP(name, opcode, sub, form) [(opcode)] = (const void *)&&do_##name,
#define UB_OP_SUB(name, opcode, sub, form)
#include <isa/opcodes.def>
	};
#pragma GCC diagnostic pop
	static const void *const observed[256] = {
		[0 ... 255] = (const void *)&&observe,
	};
	const void *const *next = s->tracing ? observed : by_code;
	const u32 base = s->depth;
	const struct bpf_insn *insns = s->run->program->insns;
	const struct bpf_insn *insn = insns + pc;
	struct frame *frame;
	int err;

	DISPATCH;

observe:
	err = before(s, insn - insns, regs);
	if (err)
		return err;
	goto *by_code[insn->code];

another_row:
	goto *labels[ub_isa_decode(insn)];

	ALU(ADD, A + B, A + B)
	ALU(SUB, A - B, A - B)
	ALU(MUL, A * B, A * B)
	ALU_UNSIGNED(DIV, B ? A / B : 0, B ? A / B : 0)
	ALU_UNSIGNED(MOD, B ? A % B : A, B ? A % B : A)
	ALU(SDIV, sdiv64(A, B), sdiv32(A, B))
	ALU(SMOD, smod64(A, B), smod32(A, B))
	ALU(OR, A | B, A | B)
	ALU(AND, A & B, A & B)
	ALU(XOR, A ^ B, A ^ B)
	ALU(LSH, A << (B & 63), A << (B & 31))
	ALU(RSH, A >> (B & 63), A >> (B & 31))
	ALU(ARSH, (u64)((s64)A >> (B & 63)), (u32)((s32)A >> (B & 31)))

do_NEG64:
	DST = -DST;
	NEXT;
do_NEG32:
	DST = (u32)-DST;
	NEXT;
do_MOV64_REG:
	UNLESS(off, 0);
	DST = SRC;
	NEXT;
do_MOV64_IMM:
	DST = IMM;
	NEXT;
do_MOV32_REG:
	UNLESS(off, 0);
	DST = (u32)SRC;
	NEXT;
do_MOV32_IMM:
	DST = (u32)insn->imm;
	NEXT;
do_MOVSX64_8:
	DST = (u64)(s64)(s8)SRC;
	NEXT;
do_MOVSX64_16:
	DST = (u64)(s64)(s16)SRC;
	NEXT;
do_MOVSX64_32:
	DST = (u64)(s64)(s32)SRC;
	NEXT;
do_MOVSX32_8:
	DST = (u32)(s32)(s8)SRC;
	NEXT;
do_MOVSX32_16:
	DST = (u32)(s32)(s16)SRC;
	NEXT;

do_LE16:
	UNLESS(imm, 16);
	DST = (u16)DST;
	NEXT;
do_LE32:
	DST = (u32)DST;
	NEXT;
do_LE64:
	NEXT;
do_BE16:
do_BSWAP16:
	UNLESS(imm, 16);
	DST = __builtin_bswap16((u16)DST);
	NEXT;
do_BE32:
do_BSWAP32:
	DST = __builtin_bswap32((u32)DST);
	NEXT;
do_BE64:
do_BSWAP64:
	DST = __builtin_bswap64(DST);
	NEXT;

	JUMP(JEQ, A == B, A == B)
	JUMP(JNE, A != B, A != B)
	JUMP(JGT, A > B, A > B)
	JUMP(JGE, A >= B, A >= B)
	JUMP(JLT, A < B, A < B)
	JUMP(JLE, A <= B, A <= B)
	JUMP(JSGT, (s64)A > (s64)B, (s32)A > (s32)B)
	JUMP(JSGE, (s64)A >= (s64)B, (s32)A >= (s32)B)
	JUMP(JSLT, (s64)A < (s64)B, (s32)A < (s32)B)
	JUMP(JSLE, (s64)A <= (s64)B, (s32)A <= (s32)B)
	JUMP(JSET, A & B, A & B)

do_JA:
	insn += insn->off;
	NEXT;
do_JA32:
	insn += insn->imm;
	NEXT;
do_MAY_GOTO:
	frame = &s->frames[s->depth];
	if (frame->loops_left)
		frame->loops_left--;
	else
		insn += insn->off;
	NEXT;

do_CALL:
	UNLESS(src_reg, 0);
	if (insn->imm == BPF_FUNC_tail_call) {
		const struct ub_interpret_target *target =
			tail_target(s, (const struct ub_map *)regs[2], (u32)regs[3]);

		if (!target)
			NEXT;
		s->frames[s->depth].loops_left = MAX_LOOPS;
		if (s->depth + UB_MAX_CALL_FRAMES > s->max_frames)
			s->max_frames = s->depth + UB_MAX_CALL_FRAMES;
		s->run->program = target->program;
		s->run->maps = target->maps;
		insn = insns = target->program->insns;
		DISPATCH;
	}
	if ((u32)insn->imm >= 256 || !s->options->helpers || !s->options->helpers[insn->imm])
		return ub_reason_set(s->why, -EINVAL, "insn %u: there is no helper #%d",
				     (u32)(insn - insns), insn->imm);
	regs[0] =
		s->options->helpers[insn->imm](regs[1], regs[2], regs[3], regs[4], regs[5], s->run);
	if (ub_unlikely(s->err))
		return s->err;
	NEXT;

do_CALL_LOCAL:
	if (s->depth + 1 >= s->max_frames || s->depth + 1 >= MAX_FRAMES)
		return ub_reason_set(s->why, -ELOOP, "insn %u: more than %d frames deep",
				     (u32)(insn - insns), UB_MAX_CALL_FRAMES);
	s->depth++;
	frame = &s->frames[s->depth];
	frame->caller = s->run->program;
	frame->caller_maps = s->run->maps;
	frame->return_to = insn + 1;
	frame->loops_left = MAX_LOOPS;
	memcpy(frame->saved, &regs[6], sizeof(frame->saved));
	regs[10] = (u64)s->stack[s->depth] + FRAME_STACK;
	insn += insn->imm;
	NEXT;

do_EXIT:
	if (s->depth == base) {
		*result = regs[0];
		return 0;
	}
	frame = &s->frames[s->depth];
	memcpy(&regs[6], frame->saved, sizeof(frame->saved));
	s->depth--;
	regs[10] = (u64)s->stack[s->depth] + FRAME_STACK;
	s->run->program = frame->caller;
	s->run->maps = frame->caller_maps;
	insns = frame->caller->insns;
	insn = frame->return_to;
	DISPATCH;

	LDX(LDXB, u8)
	LDX(LDXH, u16)
	LDX(LDXW, u32)
	LDX(LDXDW, u64)
	LDX(LDXSB, s8)
	LDX(LDXSH, s16)
	LDX(LDXSW, s32)
	ST(STB, u8, insn->imm)
	ST(STH, u16, insn->imm)
	ST(STW, u32, insn->imm)
	ST(STDW, u64, IMM)
	ST(STXB, u8, SRC)
	ST(STXH, u16, SRC)
	ST(STXW, u32, SRC)
	ST(STXDW, u64, SRC)

	ATOMICS(64)
	ATOMICS(32)
	ORDERED(B, u8)
	ORDERED(H, u16)
	ORDERED(W, u32)
	ORDERED(DW, u64)

do_LD_IMM64:
	UNLESS(src_reg, 0);
	DST = (u64)(u32)insn[1].imm << 32 | (u32)insn->imm;
	insn++;
	NEXT;
do_LD_MAP_FD:
do_LD_MAP_VALUE : {
	u32 index = (u32)insn->imm;
	struct ub_map **maps = s->run->maps, *map;

	if (index >= s->run->program->nr_maps || !maps || !maps[index])
		return ub_reason_set(s->why, -EINVAL, "insn %u: there is no map #%u",
				     (u32)(insn - insns), index);
	map = maps[index];
	DST = insn->src_reg == BPF_PSEUDO_MAP_FD
		      ? (u64)map
		      : (u64)map->shared + map->values_offset + (u32)insn[1].imm;
	insn++;
	NEXT;
}
do_LD_FUNC:
	DST = (u64)(insn + 1 + insn->imm);
	insn++;
	NEXT;

do_LD_BTF_ID:
do_LD_MAP_IDX:
do_LD_MAP_IDX_VALUE:
do_CALL_KFUNC:
do_LD_ABS_B:
do_LD_ABS_H:
do_LD_ABS_W:
do_LD_IND_B:
do_LD_IND_H:
do_LD_IND_W:
do_INVALID:
	return ub_reason_set(s->why, -EINVAL, "insn %u: opcode %02x can't be run",
			     (u32)(insn - insns), insn->code);
}
