/* SPDX-License-Identifier: MIT */
/*
 * Runs one program on the interpreter, the JIT (with and without BMI2) and the real kernel. A case
 * is a program in the internal form without maps or helpers of its own, called with r1 = memory, r2
 * = its length; what comes out is r0 and the memory.
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

/* The same helpers for all: bpf_ktime_get_ns (5), get_smp_processor_id (8), bpf_loop (181). */
extern const ub_helper_fn vm_helpers[256];

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
