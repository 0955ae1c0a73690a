// SPDX-License-Identifier: MIT
/*
 * Jumps, calls, tail calls, and the helpers that are emitted in line.
 */
#include <errno.h>

#include <jit/x86_64/compile.h>
#include <run/run.h>

#define RUN_OFFSET(field) ((s32)offsetof(struct ub_run, field))
#define MAP_OFFSET(field) ((s32)offsetof(struct ub_map, field))

#define CALLER_SAVED                                                                               \
	(1u << RAX | 1u << RCX | 1u << RDX | 1u << RSI | 1u << RDI | 1u << R8 | 1u << R9 |         \
	 1u << R10 | 1u << R11)

static enum cond condition(const struct bpf_insn *insn)
{
	switch (BPF_OP(insn->code)) {
	case BPF_JEQ:
		return CC_E;
	case BPF_JGT:
		return CC_A;
	case BPF_JGE:
		return CC_AE;
	case BPF_JLT:
		return CC_B;
	case BPF_JLE:
		return CC_BE;
	case BPF_JSGT:
		return CC_G;
	case BPF_JSGE:
		return CC_GE;
	case BPF_JSLT:
		return CC_L;
	case BPF_JSLE:
		return CC_LE;
	default: /* BPF_JNE, BPF_JSET */
		return CC_NE;
	}
}

static void emit_test_imm(struct bytes *b, bool wide, u8 dst, s32 imm)
{
	if (imm >= 0 && imm <= 0x7f) {
		put_rex(b, false, 0, 0, dst, dst >= RSP);
		put8(b, 0xf6);
		put_modrm_reg(b, 0, dst);
		put8(b, imm);
		return;
	}
	put_rex(b, wide && imm < 0, 0, 0, dst, false);
	put8(b, 0xf7);
	put_modrm_reg(b, 0, dst);
	put32(b, imm);
}

static int emit_jump(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	struct bytes *b = &c->out;
	bool wide = BPF_CLASS(insn->code) == BPF_JMP;
	bool by_reg = BPF_SRC(insn->code) == BPF_X;
	u8 dst = hw_reg(insn->dst_reg), src = hw_reg(insn->src_reg);
	u32 target = ub_isa_target(insn, pc);
	int err;

	if (target == pc + 1)
		return 1;
	if (BPF_OP(insn->code) == BPF_JSET) {
		if (by_reg)
			x_rr(b, wide, 0x85, src, dst);
		else
			emit_test_imm(b, wide, dst, insn->imm);
	} else if (by_reg) {
		x_alu_rr(b, wide, X_CMP, dst, src);
	} else if (!insn->imm) {
		/* leaves the flags as a comparison with zero does */
		x_rr(b, wide, 0x85, dst, dst);
	} else {
		x_alu_ri(b, wide, X_CMP, dst, insn->imm);
	}
	err = add_piece(c, PIECE_JCC | condition(insn), target);
	return err ? err : 1;
}

static int emit_may_goto(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	const struct frame_shape *frame = &c->frames[c->facts[pc].subprog];
	int err;

	/* Negative once it is used up, and from then on. */
	x_alu_mi(&c->out, true, X_SUB, RBP, -(s32)frame->depth - 8, 1);
	err = add_piece(c, PIECE_JCC | 0x8 /* js */, ub_isa_target(insn, pc));
	return err ? err : 1;
}

static int emit_helper_call(struct compiler *c, u32 id)
{
	struct bytes *b = &c->out;

	x_mov_rr(b, true, R9, RUN_REG);
	put8(b, 0xe8);
	put32(b, 0);
	return add_reloc(c, UB_RELOC_HELPER, id, 0, code_len(c) - 4);
}

/* dst *= a constant stride, 64-bit */
static void emit_scale(struct bytes *b, u8 dst, u64 stride)
{
	if (!(stride & (stride - 1))) {
		if (stride > 1)
			x_shift_ri(b, true, X_SHL, dst, __builtin_ctzll(stride));
	} else if (fits8((s64)stride)) {
		x_rr(b, true, 0x6b, dst, dst);
		put8(b, stride);
	} else {
		x_rr(b, true, 0x69, dst, dst);
		put32(b, stride);
	}
}

/* rax += SCRATCH * @stride */
static void emit_element(struct bytes *b, u64 stride)
{
	if (stride == 8) {
		x_rmx(b, true, 0x8d, RAX, RAX, SCRATCH, 3);
		return;
	}
	emit_scale(b, SCRATCH, stride);
	x_alu_rr(b, true, X_ADD, RAX, SCRATCH);
}

/*
 * bpf_map_lookup_elem() of an array: r0 = index < max_entries ? values + index * stride : NULL.
 * The values' address is a constant of the process; how far apart they are is one of the map's
 * shape.
 */
static int emit_array_lookup(struct compiler *c, u32 index)
{
	const struct ub_map_attr *attr = &c->program->maps[index];
	struct bytes *b = &c->out;
	struct ub_map shape = { 0 };
	u8 *miss;
	int err;

	ub_map_bind(&shape, attr, 1, NULL);
	if (!shape.elem_stride || shape.elem_stride > INT32_MAX)
		return -E2BIG;
	c->clobbers |= 1u << RAX | 1u << SCRATCH;
	x_rm(b, false, 0x8b, SCRATCH, RSI, 0);
	x_alu_rr(b, false, X_XOR, RAX, RAX);
	x_alu_ri(b, false, X_CMP, SCRATCH, attr->max_entries);
	miss = x_jcc_short(b, CC_AE);
	x_mov_ri64(b, RAX, 0);
	err = add_reloc(c, UB_RELOC_MAP_VALUE, index, 0, code_len(c) - 8);
	if (err)
		return err;
	emit_element(b, shape.elem_stride);
	x_land(b, miss);
	return 1;
}

/* Leaves the run's CPU in eax, asking the helper the first time. Clobbers what a call does. */
static int emit_cpu(struct compiler *c)
{
	struct bytes *b = &c->out;
	u8 *known;
	int err;

	c->clobbers |= CALLER_SAVED;
	c->calls_helpers = true;
	x_rm(b, false, 0x8b, RAX, RUN_REG, RUN_OFFSET(cpu));
	x_alu_ri(b, false, X_CMP, RAX, (s32)UB_CPU_UNKNOWN);
	known = x_jcc_short(b, CC_NE);
	err = emit_helper_call(c, BPF_FUNC_get_smp_processor_id);
	if (err)
		return err;
	x_land(b, known);
	return 1;
}

/*
 * The same for a per-CPU array: the values of one CPU are an array, and how far those of two CPUs
 * are apart is one of the map's shape too, however many CPUs there are. Where this CPU's begin
 * stands in the frame once it was asked for; a detour does that.
 */
static int emit_percpu_lookup(struct compiler *c, u32 index, u32 subprog)
{
	const struct ub_map_attr *attr = &c->program->maps[index];
	s32 base = frame_base_of(&c->frames[subprog], index);
	struct ub_map one = { 0 }, many = { 0 };
	struct bytes *b = &c->out;
	u32 first = c->program->nr_insns + 1 + DETOUR_PLACES * c->nr_detours;
	int err;

	c->clobbers |= CALLER_SAVED;
	c->calls_helpers = true;
	ub_map_bind(&one, attr, 1, NULL);
	ub_map_bind(&many, attr, 64, NULL);
	if (!base || one.elem_stride != many.elem_stride || one.value_stride != many.value_stride ||
	    one.elem_stride > INT32_MAX || one.value_stride > INT32_MAX) {
		x_mov_ri64(b, RDI, 0);
		err = add_reloc(c, UB_RELOC_MAP, index, 0, code_len(c) - 8);
		if (!err)
			err = emit_helper_call(c, BPF_FUNC_map_lookup_elem);
		return err ? err : 1;
	}
	c->detours[c->nr_detours] = (struct detour) { index, subprog };
	x_rm(b, false, 0x8b, SCRATCH, RSI, 0);
	x_alu_rr(b, false, X_XOR, RAX, RAX);
	x_alu_ri(b, false, X_CMP, SCRATCH, attr->max_entries);
	err = add_piece(c, PIECE_JCC | CC_AE, first + DETOUR_END);
	if (err)
		return err;
	x_rm(b, true, 0x8b, RAX, RBP, base);
	x_rr(b, true, 0x85, RAX, RAX);
	err = add_piece(c, PIECE_JCC | CC_E, first + DETOUR_START);
	if (err)
		return err;
	*detour_place(c, c->nr_detours, DETOUR_BACK) = here(c);
	emit_element(b, one.elem_stride);
	*detour_place(c, c->nr_detours, DETOUR_END) = here(c);
	c->nr_detours++;
	return 1;
}

/* A CPU that the run does not know yet, or that the map has no values for, is the helper's to see
 * to. */
static int emit_detour(struct compiler *c, u32 i)
{
	const struct detour *detour = &c->detours[i];
	u32 first = c->program->nr_insns + 1 + DETOUR_PLACES * i;
	struct bytes *b = &c->out;
	struct ub_map shape = { 0 };
	int err;

	*detour_place(c, i, DETOUR_START) = here(c);
	ub_map_bind(&shape, &c->program->maps[detour->map], 1, NULL);
	x_mov_ri64(b, RDI, 0);
	err = add_reloc(c, UB_RELOC_MAP, detour->map, 0, code_len(c) - 8);
	if (err)
		return err;
	x_rm(b, false, 0x8b, RDX, RUN_REG, RUN_OFFSET(cpu));
	x_rm(b, false, 0x3b, RDX, RDI, MAP_OFFSET(nr_cpus));
	err = add_piece(c, PIECE_JCC | CC_B, first + DETOUR_KNOWN);
	if (!err)
		err = emit_helper_call(c, BPF_FUNC_map_lookup_elem);
	if (!err)
		err = add_piece(c, PIECE_JMP, first + DETOUR_END);
	if (err)
		return err;
	*detour_place(c, i, DETOUR_KNOWN) = here(c);
	x_mov_ri64(b, RAX, 0);
	err = add_reloc(c, UB_RELOC_MAP_VALUE, detour->map, 0, code_len(c) - 8);
	if (err)
		return err;
	emit_scale(b, RDX, shape.value_stride);
	x_alu_rr(b, true, X_ADD, RAX, RDX);
	x_rm(b, true, 0x89, RAX, RBP, frame_base_of(&c->frames[detour->subprog], detour->map));
	return add_piece(c, PIECE_JMP, first + DETOUR_BACK);
}

int emit_detours(struct compiler *c)
{
	for (u32 i = 0; i < c->nr_detours; i++) {
		int err = reserve(c, MAX_INSN_BYTES);

		if (!err)
			err = emit_detour(c, i);
		if (err)
			return err;
	}
	return 0;
}

/*
 * bpf_tail_call(ctx, map, index): out of this frame and into the other program, as if our caller
 * had called it. Whatever is wrong, it does nothing.
 */
static int emit_tail_call(struct compiler *c, u32 pc)
{
	const struct frame_shape *frame = &c->frames[c->facts[pc].subprog];
	struct bytes *b = &c->out;
	u8 *out[4];

	c->clobbers |= CALLER_SAVED;
	x_rm(b, false, 0x3b, RDX, RSI, MAP_OFFSET(attr.max_entries));
	out[0] = x_jcc_short(b, CC_AE);
	x_alu_mi(b, true, X_CMP, RUN_REG, RUN_OFFSET(tail_calls), UB_MAX_TAIL_CALLS);
	out[1] = x_jcc_short(b, CC_AE);
	x_rm(b, true, 0x8b, RAX, RSI, MAP_OFFSET(inner));
	x_rr(b, true, 0x85, RAX, RAX);
	out[2] = x_jcc_short(b, CC_E);
	x_mov_rr(b, false, RDX, RDX);
	x_rmx(b, true, 0x8b, RAX, RAX, RDX, 3);
	x_rr(b, true, 0x85, RAX, RAX);
	out[3] = x_jcc_short(b, CC_E);
	x_alu_mi(b, true, X_ADD, RUN_REG, RUN_OFFSET(tail_calls), 1);
	x_mov_rr(b, true, RSI, RUN_REG);
	emit_unwind(c, frame);
	put8(b, 0xff); /* jmp *%rax */
	put8(b, 0xe0);
	for (u32 i = 0; i < ub_array_size(out); i++)
		x_land(b, out[i]);
	return 1;
}

static int emit_call(struct compiler *c, u32 pc, const struct bpf_insn *insn)
{
	const struct facts *fact = &c->facts[pc];
	int err;

	if (fact->op == UB_OP_CALL_LOCAL) {
		u32 target = ub_isa_target(insn, pc);

		c->clobbers |= CALLER_SAVED;
		if (c->frames[c->facts[target].subprog].saves_run)
			x_mov_rr(&c->out, true, R9, RUN_REG);
		err = add_piece(c, PIECE_CALL, target);
		return err ? err : 1;
	}
	if (insn->imm == BPF_FUNC_tail_call)
		return emit_tail_call(c, pc);
	if (insn->imm == BPF_FUNC_get_smp_processor_id)
		return emit_cpu(c);
	if (jit_inlines_lookup(insn, fact, c->program)) {
		u32 map = fact->const_map - 1;

		if (c->program->maps[map].type == BPF_MAP_TYPE_ARRAY)
			return emit_array_lookup(c, map);
		return emit_percpu_lookup(c, map, fact->subprog);
	}
	c->clobbers |= CALLER_SAVED;
	c->calls_helpers = true;
	err = emit_helper_call(c, insn->imm);
	return err ? err : 1;
}

int emit_control(struct compiler *c, u32 pc)
{
	const struct bpf_insn *insn = &c->program->insns[pc];
	u32 target;
	int err;

	switch (ub_isa_ops[c->facts[pc].op].form) {
	case UB_FORM_JA:
	case UB_FORM_JA32:
		target = ub_isa_target(insn, pc);
		if (target == pc + 1)
			return 1;
		err = add_piece(c, PIECE_JMP, target);
		return err ? err : 1;
	case UB_FORM_MAY_GOTO:
		return emit_may_goto(c, pc, insn);
	case UB_FORM_CALL:
		return emit_call(c, pc, insn);
	case UB_FORM_EXIT:
		emit_unwind(c, &c->frames[c->facts[pc].subprog]);
		put8(&c->out, 0xc3);
		return 1;
	default:
		return emit_jump(c, pc, insn);
	}
}
