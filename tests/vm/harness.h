/* SPDX-License-Identifier: MIT */
/*
 * Runs one program on the interpreter, the JIT (with and without BMI2) and the real kernel. A case
 * is a program in the internal form, called with r1 = memory, r2 = its length; what comes out is r0
 * and the memory. It may use a fixed set of maps, of which each engine has its own copy.
 */
#ifndef UB_TESTS_VM_HARNESS_H
#define UB_TESTS_VM_HARNESS_H

#include <linux/bpf.h>

#include <common/reason.h>
#include <program/program.h>
#include <run/run.h>

#define HARNESS_MAX_INSNS  4096
#define HARNESS_MAX_MEMORY 4096

struct vm_case {
	struct bpf_insn insns[HARNESS_MAX_INSNS];
	u32 nr;
	u8 flags[HARNESS_MAX_INSNS]; /* UB_INSN_x that the verifier would have found; mostly 0 */
	bool has_flags;
	bool has_maps; /* its maps are vm_map_attrs */
	/* Its first instruction stores r1, which is the context for tail calls. (The kernel's is
	 * another, and comes in r3.) */
	bool has_tail_calls;
	bool is_target;	 /* of tail calls: returns its result to whoever runs it */
	u32 stack_depth; /* of each subprogram; 0 = unknown */
	u8 memory[HARNESS_MAX_MEMORY] __attribute__((aligned(16)));
	u32 memory_size;
};

/* What a run gave; compare with outcome_differs(). */
struct vm_outcome {
	u64 r0;
	u8 memory[HARNESS_MAX_MEMORY] __attribute__((aligned(16)));
};

enum vm_engine {
	VM_INTERPRETER,
	VM_JIT,
	VM_JIT_PLAIN, /* as on a CPU without BMI2 */
	VM_KERNEL,
	VM_NR_ENGINES,
};

extern const char *const vm_engine_names[VM_NR_ENGINES];

/* 0, or -errno and @why: does not load, fails at run time, ... The kernel's log goes to @why. */
int vm_run(enum vm_engine engine, const struct vm_case *test, struct vm_outcome *out,
	   struct ub_reason *why);

/* The same in steps, to run one program on several memories. */
struct vm_loaded;
int vm_load(enum vm_engine engine, const struct vm_case *test, struct vm_loaded **out,
	    struct ub_reason *why);
/* On out->memory, which the caller has filled. */
int vm_execute(struct vm_loaded *loaded, const struct vm_case *test, struct vm_outcome *out,
	       struct ub_reason *why);
void vm_unload(struct vm_loaded *loaded);

/* Whether programs can be loaded into the kernel here. */
bool vm_kernel_available(void);

/* What programs with maps find: 16-byte values, and one of VM_MAP_DATA_SIZE bytes that they address
 * directly. */
enum {
	VM_MAP_ARRAY,
	VM_MAP_PERCPU,
	VM_MAP_HASH,
	VM_MAP_DATA,
	VM_MAP_PROGS,
	VM_NR_MAPS,
};

#define VM_MAP_VALUE	 16
#define VM_MAP_ENTRIES	 4
#define VM_MAP_KEYS	 8 /* programs use keys below */
#define VM_MAP_DATA_SIZE 128
#define VM_PROG_SLOTS	 4 /* of VM_MAP_PROGS */

extern const struct ub_map_attr vm_map_attrs[VM_NR_MAPS];

/* The copy of an engine other than the kernel. Keeps this thread on its CPU from then on. */
struct ub_map **vm_maps(enum vm_engine engine);
/* The kernel's, in -errno form. */
int vm_map_fd(u32 index);
/* Makes all copies what they were at first: zeroes, and an empty hash. */
void vm_maps_reset(void);

/* Puts @loaded, made of a case with is_target, into every other slot of its engine's VM_MAP_PROGS. It
 * stays there until the next, or NULL, which @engine's takes out. */
int vm_set_target(enum vm_engine engine, struct vm_loaded *loaded);

/* For that: a slot of the engine's, as its tail calls read it; the kernel's is a descriptor. 0: empty. */
int vm_set_slot(enum vm_engine engine, u32 slot, u64 target);

/* What programs find in run->process. */
struct ub_process *vm_process(void);

bool vm_outcome_differs(const struct vm_case *test, const struct vm_outcome *a,
			const struct vm_outcome *b);

/* Reads a file with sections "-- asm" or "-- raw" (instructions as numbers), "-- mem" (hex bytes),
 * "-- percpu" (which instructions access per-CPU values), and "-- result" or "-- error". */
struct vm_file {
	struct vm_case test;
	bool has_result;
	u64 result;
	bool has_error;
	char error[256];
	struct bpf_insn raw[HARNESS_MAX_INSNS];
	u32 nr_raw;
};

int vm_file_read(const char *path, struct vm_file *file, struct ub_reason *why);

#endif
