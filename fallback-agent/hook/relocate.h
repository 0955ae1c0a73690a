/* SPDX-License-Identifier: MIT */
/*
 * One instruction made to run at another address with the same effect.
 */
#ifndef UB_HOOK_RELOCATE_H
#define UB_HOOK_RELOCATE_H

#include <hook/decode.h>
#include <hook/x86_64/emit.h>

/* Whether ub_relocate() can move it, at all. */
bool ub_relocatable(const struct ub_decoded *insn);

/*
 * Emits the effect of @insn (whose @bytes come from the file) at emit's current address. A call
 * pushes the *original* return address and jumps, so that the callee, unwinders and the removal of
 * the copy see nothing of us. -EOPNOTSUPP: can't be moved; out of reach is emit->error -ERANGE.
 */
int __must_check ub_relocate(struct ub_emit *emit, const struct ub_decoded *insn, const u8 *bytes);

#endif
