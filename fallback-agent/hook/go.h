/* SPDX-License-Identifier: MIT */
/*
 * What a trampoline finds in Go code: which registers and flags are in use there, and whether the
 * stack has room for a few words.
 */
#ifndef UB_HOOK_GO_H
#define UB_HOOK_GO_H

#include <hook/elf_file.h>
#include <hook/flow.h>

struct ub_go_point {
	bool refused;	     /* nothing can be saved: no trampoline there */
	bool keep_registers; /* r12 and r13 are in use, and so may be: */
	bool keep_flags;
	bool look;     /* whether there is room: no stack check has gone before */
	bool g_in_r14; /* the current goroutine, whose stack it is */
};

/* Notes what the symbol @name, or NULL, says of @function, if it is one of Go. */
void ub_go_name(struct ub_elf_function *function, const char *name);

/* Whether @address is code that runs on goroutines' stacks. C code in the same file is described by
 * .eh_frame. */
bool ub_go_is_code(struct ub_elf *elf, u64 address);

/* The state before the instruction at @address of Go code. @insns: the caller's, kept for the next
 * look into the same function. 0, -ENOMEM. */
int __must_check ub_go_look(struct ub_elf *elf, u64 address, struct ub_flow_insns *insns,
			    struct ub_go_point *point);

#endif
