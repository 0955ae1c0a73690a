/* SPDX-License-Identifier: MIT */
/*
 * BPF helpers. One table, helpers.def, is the truth about all of them: id, name, prototype for the
 * verifier, implementation. Implementations are freestanding: compiled once for the daemon and the
 * tests, once into the agent that runs in targets.
 */
#ifndef UB_HELPER_HELPER_H
#define UB_HELPER_HELPER_H

#include <linux/bpf.h>

#include <common/types.h>
#include <run/run.h>

#define UB_MAX_HELPER 256

/* Argument and return types as in the kernel's include/linux/bpf.h (enum bpf_arg_type and
 * bpf_return_type), in the same terms. */
enum ub_arg_type {
	UB_ARG_NONE = 0,
	UB_ARG_CONST_MAP_PTR,
	UB_ARG_PTR_TO_MAP_KEY,
	UB_ARG_PTR_TO_MAP_VALUE,
	UB_ARG_PTR_TO_UNINIT_MAP_VALUE,
	UB_ARG_PTR_TO_MEM, /* readable, size in the next argument */
	UB_ARG_PTR_TO_MEM_OR_NULL,
	UB_ARG_PTR_TO_UNINIT_MEM, /* writable, size in the next argument */
	UB_ARG_CONST_SIZE,	  /* > 0 */
	UB_ARG_CONST_SIZE_OR_ZERO,
	UB_ARG_CONST_ALLOC_SIZE_OR_ZERO, /* known constant: bpf_ringbuf_reserve */
	UB_ARG_PTR_TO_CTX,
	UB_ARG_ANYTHING,
	UB_ARG_PTR_TO_ALLOC_MEM, /* bpf_ringbuf_submit: releases the reference */
	UB_ARG_PTR_TO_SPIN_LOCK,
	UB_ARG_PTR_TO_TIMER,
	UB_ARG_PTR_TO_FUNC,
	UB_ARG_PTR_TO_STACK_OR_NULL,
	UB_ARG_PTR_TO_CONST_STR,
	UB_ARG_PTR_TO_LONG, /* aligned, writable 8 bytes */
	UB_ARG_PTR_TO_INT,
	UB_ARG_PTR_TO_DYNPTR,
	UB_ARG_PTR_TO_UNINIT_DYNPTR,
	UB_ARG_PTR_TO_FIXED_MEM, /* writable or readable memory of mem_size bytes, see flags */
	UB_ARG_PTR_TO_MAP_VALUE_OR_NULL,
	UB_ARG_PTR_TO_TASK, /* from bpf_get_current_task_btf(): opaque, only helpers use it */
	UB_ARG_PTR_TO_TASK_OR_NULL,
};

enum ub_ret_type {
	UB_RET_INTEGER = 0,
	UB_RET_VOID,
	UB_RET_PTR_TO_MAP_VALUE,
	UB_RET_PTR_TO_MAP_VALUE_OR_NULL,
	UB_RET_PTR_TO_ALLOC_MEM_OR_NULL, /* acquires a reference; size from the ALLOC_SIZE argument */
	UB_RET_PTR_TO_DYNPTR_MEM_OR_NULL,
	UB_RET_PTR_TO_TASK,
};

enum {
	UB_HELPER_GPL_ONLY = 1 << 0,
	UB_HELPER_ACQUIRES = 1 << 1,
	UB_HELPER_RELEASES = 1 << 2,
	UB_HELPER_MIGHT_SLEEP = 1 << 3,
	UB_HELPER_TRACING = 1 << 4, /* only kprobe, tracepoint, raw_tracepoint, perf_event types */
	UB_HELPER_PKT = 1 << 5,	    /* only networking types */
	UB_HELPER_KPROBE = 1 << 6,  /* only kprobe type: uprobes and kprobes */
	UB_HELPER_WRITES_MEM =
		1 << 7,		     /* the FIXED_MEM argument is written (uninitialised before) */
	UB_HELPER_FENTRY = 1 << 8,   /* only BPF_PROG_TYPE_TRACING */
	UB_HELPER_NO_PROTO = 1 << 9, /* arguments and result are not known: refuse every call */
};

struct ub_helper {
	u32 id;		  /* enum bpf_func_id */
	const char *name; /* "map_lookup_elem": the kernel's name without bpf_ */
	enum ub_ret_type ret;
	enum ub_arg_type args[5];
	u32 mem_size; /* of UB_ARG_PTR_TO_FIXED_MEM */
	u32 flags;
	ub_helper_fn fn; /* NULL: it is made in line, or there is no such thing here */
	const char *why; /* there is not, or NULL */
};

/*
 * Implementations, for whoever makes a table of them in another address space: one extern per
 * UB_HELPER() line of helpers.def. The other lines have none.
 */
#define UB_HELPER(id, name, ret, a1, a2, a3, a4, a5, mem, flags)                                   \
	u64 ub_helper_##name(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run);
#define UB_HELPER_PROTO(id, name, ret, a1, a2, a3, a4, a5, mem, flags, why)
#define UB_HELPER_ABSENT(id, name, why)
#include <helper/helpers.def>
#undef UB_HELPER
#undef UB_HELPER_PROTO
#undef UB_HELPER_ABSENT

/* The helper with this id, or NULL: the verifier then says "unknown func". */
const struct ub_helper *ub_helper_by_id(u32 id);
/* Whether programs of @type may call it, as the kernel's get_func_proto() of that type. */
bool ub_helper_allowed(const struct ub_helper *helper, enum bpf_prog_type type);

#endif
