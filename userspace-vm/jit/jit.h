/* SPDX-License-Identifier: MIT */
/*
 * The x86-64 compiler for verified programs. Its output is position-independent code plus a list of
 * relocations; whoever places it in an address space (image builder, worker, tests) resolves them
 * there. So one compilation serves every process, and code holds the final addresses.
 */
#ifndef UB_JIT_JIT_H
#define UB_JIT_JIT_H

#include <common/reason.h>
#include <program/program.h>
#include <run/run.h>

enum ub_reloc_kind {
	UB_RELOC_HELPER, /* s32 at offset: address of helper index (id), relative to offset + 4 */
	UB_RELOC_MAP,	 /* u64 at offset: address of the process's struct ub_map for maps[index] */
	UB_RELOC_MAP_VALUE, /* u64 at offset: maps[index].shared + values_offset + addend */
	UB_RELOC_CODE,	    /* u64 at offset: base of this code + addend (callbacks) */
};

struct ub_reloc {
	u32 offset;
	u16 kind;  /* enum ub_reloc_kind */
	u16 index; /* helper id or index into maps[] */
	s64 addend;
};

/* What bytes[0] is to be aligned to where code is placed, so that its loops lie well: a cache
 * line. */
#define UB_CODE_ALIGN 64

/* Owned by the caller; freed with ub_code_free(). bytes[0] is the entry, see run/run.h for the
 * calling convention. */
struct ub_code {
	u8 *bytes;
	u32 size;
	u32 nr_relocs;
	struct ub_reloc *relocs;
	u32 *insn_offsets; /* of each BPF instruction (a subprogram's first: with its prologue) in
			      bytes, nr_insns + 1 of them; for dumps */
	u32 nr_insns;
	/* What the code does to its caller's state, so that a trampoline saves no more: bit n =
	 * register n in hardware numbering (rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7,
	 * r8 ...), callee-saved ones that it restores itself left out. */
	u16 clobbers;
	bool calls_helpers;
	u32 stack_bytes; /* at most, of the code itself without helpers */
};

/* Compiles @program. -ENOMEM, -EINVAL with @why (malformed program), -E2BIG. */
int __must_check ub_jit_compile(const struct ub_program *program, struct ub_code *code,
				struct ub_reason *why);
void ub_code_free(struct ub_code *code);

/* Where the relocations point in one address space. */
struct ub_code_space {
	u64 base;		   /* address at which bytes[0] will run */
	const u64 *helpers;	   /* address of each helper id, 0 = none; UB_MAX_HELPER entries */
	const struct ub_map *maps; /* bound for that space, nr_maps of them */
	const u64 *map_addresses;  /* address of each struct ub_map in that space */
};

/* Writes code->bytes into @into (code->size bytes), resolved for @space. -ERANGE if a helper is
 * further than 2 GiB away, -ENOENT if it has no address. */
int __must_check ub_code_place(const struct ub_code *code, const struct ub_code_space *space,
			       u8 *into, struct ub_reason *why);

/* A program made runnable in this very process (worker, tests, vm command): own mapping. */
struct ub_jitted;
int __must_check ub_jitted_create(const struct ub_code *code, const u64 *helpers,
				  struct ub_map *const *maps, struct ub_jitted **out,
				  struct ub_reason *why);
u64 ub_jitted_run(const struct ub_jitted *jitted, void *ctx, struct ub_run *run);
/* Address of the code: what a PROG_ARRAY's table (struct ub_map.inner) holds for tail calls, one
 * per slot, 0 = empty; in other address spaces it is ub_code_space.base. */
u64 ub_jitted_entry(const struct ub_jitted *jitted);
void ub_jitted_destroy(struct ub_jitted *jitted);

#endif
