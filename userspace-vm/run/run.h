/* SPDX-License-Identifier: MIT */
/*
 * What a running program sees of the world: one struct ub_run per execution, one struct ub_process
 * per address space. Freestanding: the same layouts serve the agent in a target, the daemon's
 * worker and the tests.
 *
 * Calling convention of compiled programs (jit/):
 *   u64 program(void *ctx, struct ub_run *run)      SysV, ctx in rdi, run in rsi
 * and of every helper:
 *   u64 helper(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, struct ub_run *run)
 * so the run travels in r9, and inside compiled code in r12. Callbacks (of bpf_loop,
 * for_each_map_elem) are called like helpers; only through ub_run_callback(), because under the
 * interpreter a callback is no code.
 *
 * Offsets of struct ub_run are compiled into programs: append to it, move nothing.
 */
#ifndef UB_RUN_RUN_H
#define UB_RUN_RUN_H

#include <common/types.h>

struct ub_map;
struct ub_holds;
struct ub_event_ring;
struct ub_program;

typedef u64 (*ub_helper_fn)(u64, u64, u64, u64, u64, void *run);
typedef u64 (*ub_program_fn)(void *ctx, void *run);

#define UB_MAX_CGROUPS 16

/* One address space that runs programs. Filled by whoever builds the space (the image builder
 * writes it into a target's data part); helpers read it, and write only the fields marked [w]. */
struct ub_process {
	u32 size;	/* of this struct, so that a newer reader can tell an older writer */
	u32 nr_cpus;	/* possible CPUs: per-CPU values exist for 0 .. nr_cpus - 1 */
	u64 tgid_pid;	/* tgid in the client's pid namespace (<< 32 not applied) */
	u64 uid_gid;	/* gid << 32 | uid, as bpf_get_current_uid_gid() */
	s64 tid_offset; /* where the thread's TCB (fs base + this) holds its tid, or 0: unknown */
	u32 own_tgid;	/* tgid as the process itself sees it, to notice a fork */
	s32 tid_shift;	/* unused unless pid namespaces differ: see tid_map */
	u64 vdso_clock_gettime; /* address of __vdso_clock_gettime, or 0: use the system call */
	u64 vdso_getcpu;	/* address of __vdso_getcpu, or 0 */
	u32 no_syscalls;	/* [daemon w] nonzero: a filter may kill for them: run/syscall.h */
	u32 enabled;	/* [daemon w] zero: count and run nothing any more (detach has begun) */
	u32 generation; /* [daemon w] counts images, for diagnosis */
	u32 has_rseq;	/* fs base + rseq_offset holds struct rseq */
	s64 rseq_offset;
	struct ub_event_ring *events; /* this process's ring to the daemon, or NULL */
	u64 safe_ranges; /* address of struct ub_safe_ranges: memory that can't go away, or 0 */
	u64 fork_page; /* [w] address of a private anonymous MADV_WIPEONFORK page, or 0. Word 0 is 1
			* in the process it was made for, 0 in a forked child until a helper
			* noticed, then 2 with the child's own tgid in word 1. Behind,
			* helper/identity.c keeps known threads */
	u32 has_fsgsbase; /* AT_HWCAP2 bit 1: rdfsbase may be used; without it tid_offset and rseq
			     are not */
	u32 vm_sharers; /* nonzero: processes made by vfork or clone(CLONE_VM) run this memory too,
			 * so tgid_pid and tid_offset are not to be trusted: ask the kernel */
	u32 own_pidns_same; /* nonzero: pids that the process sees are those of the client's
			       namespace */
	u32 numa_node;	    /* unused: the node comes from the CPU number's segment */
	u64 cgroup_id;	    /* bpf_get_current_cgroup_id(), 0 = unknown */
	u64 boot_offset_ns; /* CLOCK_BOOTTIME - CLOCK_MONOTONIC when the image was built */
	u64 pidns_dev; /* st_dev and st_ino of /proc/PID/ns/pid, or 0: not known, helpers look */
	u64 pidns_ino;
	u64 nr_cgroups; /* entries used in: */
	u64 cgroups
		[UB_MAX_CGROUPS]; /* ids of the cgroup's ancestors from the root on, then its own */
	u64 unwind;		  /* address of struct ub_unwind (run/unwind.h), or 0 */
	u64 nr_lineage; /* entries of cgroups that are of its group and its ancestors, at whatever
			   level: nr_cgroups, or more where the levels are not known */
	u64 reserved[6];
};

/* Memory of the process that is never unmapped nor protected while the image is there: may be read
 * by plain loads. Sorted or not; few. */
struct ub_safe_ranges {
	u32 nr;
	u32 pad;
	struct {
		u64 start;
		u64 end;
	} range[];
};

/* One attachment of one program to one probe point: constants of the link. */
struct ub_link_info {
	u64 cookie;
	u64 func_ip; /* bpf_get_func_ip() */
	u32 link_id;
	u32 prog_id;
	u64 hits; /* address of this link's counters: struct ub_link_counters[nr_cpus] */
};

/* Counters of one link on one CPU (or stripe); shared with the daemon, which adds them up. */
struct ub_link_counters {
	u64 hits;   /* times the program ran */
	u64 misses; /* times it should have run and could not (recursion, no stack) */
} __attribute__((aligned(64)));

struct ub_run {
	void *ctx; /* r1 of the main program */
	struct ub_process *process;
	const struct ub_link_info *link; /* NULL in tests and TEST_RUN */
	struct ub_map **maps;		 /* program's maps[] as addresses in this process */
	u64 tail_calls;			 /* so far; MAX_TAIL_CALL_CNT = 33 */
	const void *tail_target;
	u32 cpu; /* fixed for the whole run; UB_CPU_UNKNOWN until asked */
	u32 flags;
	u64 stack_low; /* lowest address a probe handler may use, 0 = unknown */
	u64 user_sp;   /* the probed code's stack pointer; 0 outside a target */
	/* Interpreter: base of this program, so that helpers can run its callbacks. */
	u64 (*call_callback)(u64 callback, u64 a1, u64 a2, u64 a3, u64 a4, struct ub_run *run);
	const struct ub_program *program;
	u64 scratch[8];		/* of the helper that is running */
	void *interpreter;	/* its state, while it runs this; call_callback is then set */
	u64 fs_base;		/* the thread's, or 0: ask the processor (ub_run_fs_base()) */
	struct ub_holds *holds; /* the thread's (map/hold.h), or NULL */
	u64 held; /* which of them are this run's: 0 at first, and never what it was once the run is left */
};

#define UB_HOLDS_SIZE 256 /* bytes of struct ub_holds, and what it is aligned to */

#define UB_CPU_UNKNOWN	  0xffffffffu
#define UB_MAX_TAIL_CALLS 33

/* For helpers: calls @callback, a PTR_TO_FUNC argument, with up to four arguments; its r0. */
static inline u64 ub_run_callback(struct ub_run *run, u64 callback, u64 a1, u64 a2, u64 a3, u64 a4)
{
	if (run->call_callback)
		return run->call_callback(callback, a1, a2, a3, a4, run);
	return ((ub_helper_fn)callback)(a1, a2, a3, a4, 0, run);
}

#endif
