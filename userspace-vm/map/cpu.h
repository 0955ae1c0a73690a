/* SPDX-License-Identifier: MIT */
/*
 * Which CPU this is, and what the thread pointer is, without a system call. Freestanding.
 */
#ifndef UB_MAP_CPU_H
#define UB_MAP_CPU_H

#include <run/run.h>

/* The thread's fs base, or 0: none or not to be had without a trap. */
static inline u64 ub_fs_base(const struct ub_process *process)
{
	u64 base;

	if (!process || !process->has_fsgsbase)
		return 0;
	__asm__ volatile("rdfsbase %0" : "=r"(base));
	return base;
}

/* The same within a run: trampolines have it at hand, and rdfsbase takes as long as all the rest of
 * a hit. */
static inline u64 ub_run_fs_base(const struct ub_run *run)
{
	return run->fs_base ? run->fs_base : ub_fs_base(run->process);
}

/*
 * The limit of segment 0x7b holds cpu | node << 12 on every x86-64 Linux: it is what the vDSO's
 * getcpu falls back on, and needs no CPU feature bit.
 */
static inline u32 ub_cpu_number(const struct ub_run *run)
{
	const struct ub_process *process = run->process;
	u32 limit;

	if (process && process->has_rseq) {
		u64 base = ub_run_fs_base(run);

		if (base) {
			const volatile s32 *cpu_id =
				(const volatile s32 *)(base + (u64)process->rseq_offset + 4);
			s32 cpu = *cpu_id;

			if (cpu >= 0)
				return (u32)cpu;
		}
	}
	__asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7bu) : "cc");
	return limit & 0xfff;
}

/* The CPU of this run: asked once, then fixed, so that a program that migrates stays consistent.
 * Always one that has per-CPU values: compiled programs rely on it. */
static inline u32 ub_run_cpu(struct ub_run *run)
{
	if (!run)
		return 0;
	if (ub_unlikely(run->cpu == UB_CPU_UNKNOWN)) {
		u32 cpu = ub_cpu_number(run), nr_cpus = run->process ? run->process->nr_cpus : 0;

		run->cpu = nr_cpus && cpu >= nr_cpus ? cpu % nr_cpus : cpu;
	}
	return run->cpu;
}

/* The per-CPU slot for CPU @cpu of @nr_cpus; a division would take longer than the rest of a
 * lookup. */
static inline u32 ub_cpu_slot(u32 cpu, u32 nr_cpus)
{
	return ub_likely(cpu < nr_cpus) ? cpu : cpu % nr_cpus;
}

#endif
