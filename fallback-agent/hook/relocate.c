// SPDX-License-Identifier: MIT
#include <hook/relocate.h>

#include <errno.h>
#include <string.h>

bool ub_relocatable(const struct ub_decoded *insn)
{
	return !(insn->flags & UB_DECODED_UNMOVABLE);
}

/* Copies the instruction, its rip-relative operand kept. */
static void copy(struct ub_emit *emit, const struct ub_decoded *insn, const u8 *bytes)
{
	u32 at = emit->size;

	ub_emit_bytes(emit, bytes, insn->len);
	if (insn->flags & UB_DECODED_RIP)
		ub_emit_fix_rel32(emit, at + insn->disp_at, insn->len - insn->disp_at - 4u,
				  insn->mem);
}

/* loop, loopz, loopnz, jrcxz exist only with 8 bits of distance. */
static void relocate_loop(struct ub_emit *emit, const struct ub_decoded *insn, const u8 *bytes)
{
	/* An address-size prefix (jecxz, loop on ecx) is part of the meaning. */
	ub_emit_bytes(emit, bytes, insn->len - 1u);
	ub_emit_u8(emit, 2);	/* taken: over the next jump */
	ub_emit_u8(emit, 0xeb); /* not taken: over the far jump */
	ub_emit_u8(emit, 5);
	ub_emit_jmp(emit, insn->target);
}

/* push of a 64-bit constant that stands in the code, jumped over by nobody: it lies behind the
 * jump. */
static void push_return(struct ub_emit *emit, u32 *fix)
{
	ub_emit_u8(emit, 0xff); /* push disp32(%rip) */
	ub_emit_u8(emit, 0x35);
	*fix = emit->size;
	ub_emit_u32(emit, 0);
}

static void constant(struct ub_emit *emit, u32 fix, u64 value)
{
	while (!emit->error && ub_emit_here(emit) % 8)
		ub_emit_u8(emit, 0xcc);
	ub_emit_fix_rel32(emit, fix, 0, ub_emit_here(emit));
	ub_emit_u64(emit, value);
}

/* call *X becomes push return; jmp *X: the opcode is the same, only modrm.reg differs (2 and 4). */
static void relocate_call_mem(struct ub_emit *emit, const struct ub_decoded *insn, const u8 *bytes)
{
	u8 jump[UB_INSN_MAX];
	u32 fix;

	memcpy(jump, bytes, insn->len);
	jump[insn->modrm_at] = (u8)((jump[insn->modrm_at] & ~0x38) | 4 << 3);
	push_return(emit, &fix);
	copy(emit, insn, jump);
	constant(emit, fix, insn->address + insn->len);
}

int ub_relocate(struct ub_emit *emit, const struct ub_decoded *insn, const u8 *bytes)
{
	u32 fix;

	if (!ub_relocatable(insn))
		return -EOPNOTSUPP;
	if (insn->flags & UB_DECODED_NOP)
		return 0;
	switch (insn->flow) {
	case UB_FLOW_JUMP:
		ub_emit_jmp(emit, insn->target);
		return 0;
	case UB_FLOW_BRANCH:
		if (insn->opcode >= 0xe0 && insn->opcode <= 0xe3)
			relocate_loop(emit, insn, bytes);
		else
			ub_emit_jcc(emit, insn->opcode & 0xf, insn->target);
		return 0;
	case UB_FLOW_CALL:
		push_return(emit, &fix);
		ub_emit_jmp(emit, insn->target);
		constant(emit, fix, insn->address + insn->len);
		return 0;
	case UB_FLOW_CALL_MEM:
		relocate_call_mem(emit, insn, bytes);
		return 0;
	default:
		copy(emit, insn, bytes);
		return 0;
	}
}
