// SPDX-License-Identifier: MIT
/*
 * libFuzzer target: any bytes. What ub_isa_check() lets through must print, compile, and run in the
 * checking interpreter without touching anything that is not the program's.
 */
#include <interpreter/interpreter.h>
#include <isa/isa.h>
#include <jit/x86_64/compile.h>

#define MAX_INSNS 512

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* These programs have no maps. */
void ub_map_bind(struct ub_map *map, const struct ub_map_attr *attr, u32 nr_cpus, void *shared)
{
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct bpf_insn insns[MAX_INSNS];
	struct ub_interpret_options options = { .check = true, .max_insns = 2000 };
	u64 memory[8] = { 0 }, result;
	struct ub_run run = { .cpu = 0 };
	struct ub_program *program;
	struct ub_reason why;
	struct ub_code code;
	u32 nr = (u32)(size / sizeof(*insns));

	if (nr > MAX_INSNS)
		nr = MAX_INSNS;
	if (nr)
		__builtin_memcpy(insns, data, nr * sizeof(*insns));
	if (ub_program_from_insns(insns, nr, &program, &why))
		return 0;
	for (u32 pc = 0; pc < nr; pc++) {
		char text[128];

		ub_isa_print(&insns[pc], text, sizeof(text));
		pc += insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW);
	}
	for (int bmi2 = 0; bmi2 < 2; bmi2++) {
		if (!jit_compile_x86_64(program, bmi2, &code, &why))
			ub_code_free(&code);
	}
	if (ub_interpret(program, memory, sizeof(memory), &run, &options, &result, &why))
		result = 0;
	ub_program_free(program);
	return 0;
}
