// SPDX-License-Identifier: MIT
#include <hook/decode.h>

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include <agent/layout.h>

static const ZydisDecoder *decoder(void)
{
	static __thread ZydisDecoder instance;
	static __thread bool ready;

	if (!ready) {
		ZydisDecoderInit(&instance, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		ready = true;
	}
	return &instance;
}

/* A direct jump, branch or call: 8 or 32 bits relative to its end. */
static bool is_relative(const ZydisDecodedInstruction *insn)
{
	return (insn->attributes & ZYDIS_ATTRIB_IS_RELATIVE) && insn->raw.imm[0].is_relative;
}

static void decode_flow(const ZydisDecodedInstruction *insn, struct ub_decoded *out)
{
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		if (insn->mnemonic == ZYDIS_MNEMONIC_XBEGIN || !is_relative(insn)) {
			out->flags |= UB_DECODED_UNMOVABLE;
			return;
		}
		out->flow = UB_FLOW_BRANCH;
		break;
	case ZYDIS_CATEGORY_UNCOND_BR:
		if (insn->mnemonic != ZYDIS_MNEMONIC_JMP) {
			out->flags |= UB_DECODED_UNMOVABLE; /* xabort and the like */
			return;
		}
		out->flow = is_relative(insn) ? UB_FLOW_JUMP : UB_FLOW_JUMP_MEM;
		break;
	case ZYDIS_CATEGORY_CALL:
		out->flow = is_relative(insn) ? UB_FLOW_CALL : UB_FLOW_CALL_MEM;
		break;
	case ZYDIS_CATEGORY_RET:
		out->flow = UB_FLOW_RET;
		if (insn->mnemonic != ZYDIS_MNEMONIC_RET)
			out->flags |= UB_DECODED_UNMOVABLE; /* iret, sysret */
		return;
	default:
		return;
	}
	if (is_relative(insn)) {
		out->target = out->address + out->len + (u64)insn->raw.imm[0].value.s;
		if (insn->operand_width == 16)
			out->flags |= UB_DECODED_UNMOVABLE;
	} else if (insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		out->flags |= UB_DECODED_UNMOVABLE;
	} else if (out->flow == UB_FLOW_CALL_MEM && (insn->attributes & ZYDIS_ATTRIB_HAS_SIB) &&
		   (insn->raw.sib.base == 4 || insn->raw.sib.index == 4) &&
		   insn->raw.modrm.mod != 3 && insn->raw.sib.base == 4 && !insn->raw.rex.B) {
		/* Its operand moves when the return address is pushed first. */
		out->flags |= UB_DECODED_UNMOVABLE;
	} else if (out->flow == UB_FLOW_CALL_MEM && insn->raw.modrm.mod == 3 &&
		   insn->raw.modrm.rm == 4 && !insn->raw.rex.B) {
		out->flags |= UB_DECODED_UNMOVABLE; /* call *%rsp */
	}
}

static void decode_memory(const ZydisDecodedInstruction *insn, struct ub_decoded *out)
{
	if (!(insn->attributes & ZYDIS_ATTRIB_HAS_MODRM) || insn->raw.modrm.mod == 3)
		return;
	if (insn->raw.modrm.mod == 0 && insn->raw.modrm.rm == 5) {
		out->flags |= UB_DECODED_RIP;
		out->disp_at = insn->raw.disp.offset;
		out->mem = out->address + out->len + (u64)insn->raw.disp.value;
		if (insn->mnemonic == ZYDIS_MNEMONIC_LEA)
			out->flags |= UB_DECODED_LEA_RIP;
		if (insn->address_width == 32)
			out->flags |= UB_DECODED_UNMOVABLE;
	} else if ((insn->attributes & ZYDIS_ATTRIB_HAS_SIB) && insn->raw.sib.scale >= 2 &&
		   (insn->raw.sib.index != 4 || insn->raw.rex.X) &&
		   (insn->mnemonic == ZYDIS_MNEMONIC_MOVSXD ||
		    insn->mnemonic == ZYDIS_MNEMONIC_MOV || insn->mnemonic == ZYDIS_MNEMONIC_ADD ||
		    out->flow == UB_FLOW_JUMP_MEM)) {
		out->flags |= UB_DECODED_TABLE_LOAD;
		out->index_scale = insn->raw.sib.scale == 3 ? 8 : 4;
	}
}

/* What touches no memory, or memory that the operand alone does not tell. */
static bool is_exempt(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_PREFETCHWT1:
	case ZYDIS_CATEGORY_MPX:
		return true;
	default:
		break;
	}
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
		return true;
	default:
		return false;
	}
}

/* Compilers and runtimes dereference null pointers on purpose: see x86_64/null.c. */
static void decode_nullable(const ZydisDecodedInstruction *insn, struct ub_decoded *out)
{
	const bool sib = insn->attributes & ZYDIS_ATTRIB_HAS_SIB;
	const u8 base =
		(u8)((sib ? insn->raw.sib.base : insn->raw.modrm.rm) | insn->raw.rex.B << 3);

	if (!(insn->attributes & ZYDIS_ATTRIB_HAS_MODRM) || insn->raw.modrm.mod == 3 ||
	    insn->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || insn->address_width != 64 ||
	    insn->attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS) ||
	    is_exempt(insn))
		return;
	/* Relative to rip, no base at all, or the stack. */
	if (insn->raw.modrm.mod == 0 && (sib ? insn->raw.sib.base : insn->raw.modrm.rm) == 5)
		return;
	if (base == 4 || insn->raw.disp.value < 0 || insn->raw.disp.value >= UB_NULL_REACH)
		return;
	out->flags |= UB_DECODED_NULLABLE;
	out->base = base;
	out->index = -1;
	out->disp = (s32)insn->raw.disp.value;
	if (sib && (insn->raw.sib.index != 4 || insn->raw.rex.X)) {
		out->index = (s8)(insn->raw.sib.index | insn->raw.rex.X << 3);
		out->scale = insn->raw.sib.scale;
	}
}

static void decode_flags(const ZydisDecodedInstruction *insn, struct ub_decoded *out)
{
	const u32 all = ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF |
			ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;
	u32 written;

	if (!insn->cpu_flags)
		return;
	if (insn->cpu_flags->tested & all)
		out->flags |= UB_DECODED_FLAGS_READ;
	/* Shifts leave them as they are where the count is zero. */
	if (insn->meta.category == ZYDIS_CATEGORY_SHIFT)
		return;
	written = insn->cpu_flags->modified | insn->cpu_flags->set_0 | insn->cpu_flags->set_1 |
		  insn->cpu_flags->undefined;
	if ((written & all) == all && !(insn->cpu_flags->tested & all))
		out->flags |= UB_DECODED_FLAGS_WRITE;
}

int ub_decode(const u8 *bytes, u64 size, u64 address, struct ub_decoded *out)
{
	ZydisDecodedInstruction insn;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder(), NULL, bytes, size, &insn)))
		return -EINVAL;
	*out = (struct ub_decoded) {
		.address = address,
		.len = insn.length,
		.opcode = insn.opcode,
		.modrm_at = insn.raw.modrm.offset,
		.prefix_rex = insn.raw.rex.W || insn.raw.rex.R || insn.raw.rex.X || insn.raw.rex.B,
	};
	decode_flow(&insn, out);
	decode_memory(&insn, out);
	decode_nullable(&insn, out);
	decode_flags(&insn, out);
	switch (insn.mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
		out->flags |= UB_DECODED_NOP;
		out->flags &= ~(u32)UB_DECODED_RIP;
		if (insn.mnemonic == ZYDIS_MNEMONIC_ENDBR64)
			out->flags |= UB_DECODED_ENDBR;
		break;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
		out->flow = UB_FLOW_STOP;
		out->flags |= UB_DECODED_UNMOVABLE;
		break;
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INT1:
		out->flags |= UB_DECODED_UNMOVABLE;
		break;
	case ZYDIS_MNEMONIC_SYSCALL:
		out->flags |= UB_DECODED_SYSCALL;
		break;
	default:
		break;
	}
	return 0;
}
