/* SPDX-License-Identifier: MIT */
#ifndef UB_JIT_DUMP_H
#define UB_JIT_DUMP_H

#include <stdio.h>

#include <jit/jit.h>

/* For people: each BPF instruction of @program and below it the code that it became. */
void ub_jit_dump(const struct ub_program *program, const struct ub_code *code, FILE *out);

#endif
