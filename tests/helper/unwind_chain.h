/* SPDX-License-Identifier: MIT */
/* Chains of calls in code without frame pointers, with what backtrace(3) says of each. */
#ifndef UB_TESTS_HELPER_UNWIND_CHAIN_H
#define UB_TESTS_HELPER_UNWIND_CHAIN_H

#include <stdbool.h>

#include <common/types.h>

/* Called at the end of a chain with struct pt_regs as 21 words and the chain, innermost first. */
typedef void (*chain_fn)(const u64 *regs, void *const *expected, int nr);

void unwind_chain_plain(chain_fn fn);
void unwind_chain_large(chain_fn fn);
void unwind_chain_alloca(chain_fn fn, u32 size);
void unwind_chain_aligned(chain_fn fn, u32 size);
void unwind_chain_qsort(chain_fn fn);
void unwind_chain_signal(chain_fn fn, bool own_stack);

#endif
