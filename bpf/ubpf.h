/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What a program for ubpf-run includes: the bpf(2) types, libbpf's macros and the registers of an
 * x86-64 thread. No vmlinux.h: a uprobe's context is struct pt_regs, which is a stable ABI.
 */
#ifndef UBPF_H
#define UBPF_H

#include <stdbool.h>

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

/* Counts by powers of two: slot n is for values from 2^n to 2^(n+1) - 1, slot 0 also for 0. */
#define UBPF_SLOTS 32

struct ubpf_histogram {
	u64 slots[UBPF_SLOTS];
};

static __always_inline u32 ubpf_log2(u64 value)
{
	u32 shift, log = 0;

	shift = (value > 0xffffffff) << 5;
	value >>= shift;
	log |= shift;
	shift = (value > 0xffff) << 4;
	value >>= shift;
	log |= shift;
	shift = (value > 0xff) << 3;
	value >>= shift;
	log |= shift;
	shift = (value > 0xf) << 2;
	value >>= shift;
	log |= shift;
	shift = (value > 0x3) << 1;
	value >>= shift;
	log |= shift;
	return log | (value >> 1);
}

static const struct ubpf_histogram ubpf_empty_histogram;

/* Counts @number in the histogram of @key in the hash map @map, exactly. */
#define ubpf_histogram_add(map, key, number)                                                       \
	({                                                                                         \
		u32 slot_ = ubpf_log2(number);                                                     \
		struct ubpf_histogram *histogram_ = bpf_map_lookup_elem(map, key);                 \
		if (!histogram_) {                                                                 \
			bpf_map_update_elem(map, key, &ubpf_empty_histogram, BPF_NOEXIST);         \
			histogram_ = bpf_map_lookup_elem(map, key);                                \
		}                                                                                  \
		if (slot_ >= UBPF_SLOTS)                                                           \
			slot_ = UBPF_SLOTS - 1;                                                    \
		if (histogram_)                                                                    \
			__sync_fetch_and_add(&histogram_->slots[slot_], 1);                        \
	})

#endif
