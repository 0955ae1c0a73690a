/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What a program for ubpf-run includes: the bpf(2) types, libbpf's macros and the registers of an
 * x86-64 thread. No vmlinux.h: a uprobe's context is struct pt_regs, which is a stable ABI.
 */
#ifndef UBPF_H
#define UBPF_H

#include <linux/types.h>

#include <linux/bpf.h>
#include <linux/ptrace.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

/* The process id as people see it (the kernel calls it tgid), and the id of the thread. */
static __always_inline u32 ubpf_pid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline u32 ubpf_tid(void)
{
	return (u32)bpf_get_current_pid_tgid();
}

/*
 * Adds @by to the counter of @key in the hash map @map, exactly: the first comer inserts zero
 * unless somebody was faster, and everybody adds to what is there then. A plain lookup-or-insert of
 * 1 would lose every hit of the threads that come between.
 */
#define ubpf_count(map, key, by)                                                                   \
	({                                                                                         \
		u64 zero_ = 0;                                                                     \
		u64 *counter_ = bpf_map_lookup_elem(map, key);                                     \
		if (!counter_) {                                                                   \
			bpf_map_update_elem(map, key, &zero_, BPF_NOEXIST);                        \
			counter_ = bpf_map_lookup_elem(map, key);                                  \
		}                                                                                  \
		if (counter_)                                                                      \
			__sync_fetch_and_add(counter_, by);                                        \
	})

#endif
