// SPDX-License-Identifier: MIT
#include <jit/dump.h>

#include <Zydis/Zydis.h>

#include <isa/isa.h>

static const struct ub_reloc *reloc_within(const struct ub_code *code, u32 start, u32 end)
{
	for (u32 i = 0; i < code->nr_relocs; i++) {
		if (code->relocs[i].offset >= start && code->relocs[i].offset < end)
			return &code->relocs[i];
	}
	return NULL;
}

static void print_reloc(const struct ub_reloc *reloc, FILE *out)
{
	struct bpf_insn call = { .code = BPF_JMP | BPF_CALL, .imm = reloc->index };
	char text[64];

	switch (reloc->kind) {
	case UB_RELOC_HELPER:
		ub_isa_print(&call, text, sizeof(text));
		fprintf(out, "\t; %s", text + 5); /* behind "(85) " */
		break;
	case UB_RELOC_MAP:
		fprintf(out, "\t; map %u", reloc->index);
		break;
	case UB_RELOC_MAP_VALUE:
		fprintf(out, "\t; values of map %u + %lld", reloc->index, (long long)reloc->addend);
		break;
	default:
		fprintf(out, "\t; code + 0x%llx", (unsigned long long)reloc->addend);
		break;
	}
}

static void print_bytes(const struct ub_code *code, u32 start, u32 end, FILE *out)
{
	ZydisDecoder decoder;
	ZydisFormatter formatter;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	while (start < end) {
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		const struct ub_reloc *reloc;
		char text[128];

		if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code->bytes + start, end - start,
						       &insn, operands))) {
			fprintf(out, "%8x:\t.byte 0x%02x\n", start, code->bytes[start]);
			start++;
			continue;
		}
		ZydisFormatterFormatInstruction(&formatter, &insn, operands,
						insn.operand_count_visible, text, sizeof(text),
						start, ZYAN_NULL);
		fprintf(out, "%8x:\t%s", start, text);
		reloc = reloc_within(code, start, start + insn.length);
		if (reloc)
			print_reloc(reloc, out);
		fputc('\n', out);
		start += insn.length;
	}
}

void ub_jit_dump(const struct ub_program *program, const struct ub_code *code, FILE *out)
{
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		char text[128];

		ub_isa_print(&program->insns[pc], text, sizeof(text));
		fprintf(out, "%u: %s\n", pc, text);
		print_bytes(code, code->insn_offsets[pc], code->insn_offsets[pc + 1], out);
		if (program->insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW))
			pc++;
	}
	fprintf(out, "%u bytes for %u instructions\n", code->size, program->nr_insns);
}
