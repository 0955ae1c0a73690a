// SPDX-License-Identifier: MIT
/* Stands in for the verifier where only the surface is tested: resolves maps, trusts the rest. */
#include <errno.h>
#include <string.h>
#include <verifier/verifier.h>

int ub_verify(const struct ub_verify_request *request, struct ub_program **out,
	      void *used[UB_MAX_USED_MAPS], struct ub_reason *why)
{
	struct ub_program *program = ub_program_new(request->nr_insns);

	if (!program)
		return -ENOMEM;
	memcpy(program->insns, request->insns, request->nr_insns * sizeof(*program->insns));
	program->type = request->type;
	program->subprogs[0].stack_depth = UB_STACK_SIZE;
	program->expected_attach_type = request->expected_attach_type;
	for (u32 i = 0; i + 1 < request->nr_insns; i++) {
		struct bpf_insn *insn = &program->insns[i];
		struct ub_verifier_map map;

		if (insn->code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if (insn->src_reg == BPF_PSEUDO_MAP_FD || insn->src_reg == BPF_PSEUDO_MAP_VALUE) {
			if (!request->map_by_fd(request->opaque, insn->imm, false, &map)) {
				ub_program_free(program);
				return -EBADF;
			}
			program->maps[program->nr_maps] = map.attr;
			used[program->nr_maps] = map.opaque;
			insn->imm = (s32)program->nr_maps++;
		}
		i++;
	}
	if (request->log)
		request->log(request->opaque, "verified\n", 9);
	*out = program;
	return 0;
}
