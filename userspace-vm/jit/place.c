// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <helper/helper.h>
#include <jit/jit.h>

void ub_code_free(struct ub_code *code)
{
	free(code->bytes);
	free(code->relocs);
	free(code->insn_offsets);
	*code = (struct ub_code) { 0 };
}

static int place_helper(const struct ub_reloc *reloc, const struct ub_code_space *space, u8 *into,
			struct ub_reason *why)
{
	u64 helper = reloc->index < UB_MAX_HELPER ? space->helpers[reloc->index] : 0;
	s64 far = (s64)(helper - (space->base + reloc->offset + 4));
	s32 field = (s32)far;

	if (!helper)
		return ub_reason_set(why, -ENOENT, "helper #%u is not there", reloc->index);
	if (far != field)
		return ub_reason_set(why, -ERANGE, "helper #%u is out of reach of a call",
				     reloc->index);
	memcpy(into + reloc->offset, &field, sizeof(field));
	return 0;
}

int ub_code_place(const struct ub_code *code, const struct ub_code_space *space, u8 *into,
		  struct ub_reason *why)
{
	memcpy(into, code->bytes, code->size);
	for (u32 i = 0; i < code->nr_relocs; i++) {
		const struct ub_reloc *reloc = &code->relocs[i];
		u64 value = 0;
		int err;

		switch (reloc->kind) {
		case UB_RELOC_HELPER:
			err = place_helper(reloc, space, into, why);
			if (err)
				return err;
			continue;
		case UB_RELOC_MAP:
			value = space->map_addresses[reloc->index];
			break;
		case UB_RELOC_MAP_VALUE:
			value = (u64)space->maps[reloc->index].shared +
				space->maps[reloc->index].values_offset + reloc->addend;
			break;
		case UB_RELOC_CODE:
			value = space->base + reloc->addend;
			break;
		default:
			return ub_reason_set(why, -EINVAL, "unknown relocation %u", reloc->kind);
		}
		memcpy(into + reloc->offset, &value, sizeof(value));
	}
	return 0;
}
