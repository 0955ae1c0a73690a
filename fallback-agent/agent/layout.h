/* SPDX-License-Identifier: MIT */
/*
 * Layout of an image's data part in numbers, for C and assembly. It is mapped shared in the target
 * and in the daemon; the page before it is the target's private fork page.
 *
 *   -4096  fork page: word 0 is 1, and 0 in a forked child (MADV_WIPEONFORK)
 *	0  struct ub_process
 *   0x200  struct ub_site_state
 *   0x300  struct ub_data_header
 *   0x400  struct ub_thread_slot[nr_slots], one per thread that ever hit, keyed by fs base
 *     ...  struct ub_link_info, struct ub_map, tables of them
 *     ...  struct ub_holds of each slot
 *     ...  struct ub_thread_tails of each slot, if any link needs them
 *     ...  a stack for each slot, if needed
 *     ...  counters: for each slot, struct ub_hit_counters[nr_links], padded to whole cache lines
 */
#ifndef UB_AGENT_LAYOUT_H
#define UB_AGENT_LAYOUT_H

#define UB_DATA_FORK		(-4096)
#define UB_DATA_STATE		0x200
#define UB_DATA_HEADER		0x300
#define UB_DATA_SLOTS_END	0x300 /* u64: address after the last slot */
#define UB_DATA_COUNTERS	0x308 /* u64: address of the first slot's counters */
#define UB_DATA_COUNTERS_STRIDE 0x310 /* u64: bytes from one slot's counters to the next's */
#define UB_DATA_HOLDS		0x318 /* u64: address of the first slot's struct ub_holds */
#define UB_DATA_TAILS		0x320 /* u64: address of the first slot's struct ub_thread_tails */
#define UB_DATA_STACKS		0x328 /* u64: address of the first slot's stack, or 0 */
#define UB_DATA_SLOTS		0x400
#define UB_SLOT_SHIFT		6
#define UB_SLOT_SIZE		64
#define UB_SLOT_GUARD		8
#define UB_SLOT_COUNTERS	16
#define UB_SLOT_TAILS		24
#define UB_SLOT_STACK		32
#define UB_SLOT_HOLDS		40
#define UB_STACK_SHIFT		15 /* 32 KiB a thread, where the target's own stacks are small */
#define UB_TAILS_SIZE		512
#define UB_TAILS_SHIFT		9
#define UB_HOLDS_SHIFT		8
#define UB_SLOT_PROBES		256 /* slots that a thread looks at before its hits become misses */

/* Addresses below are taken for null pointers and members of what they point to:
 * vm.mmap_min_addr. */
#define UB_NULL_REACH 65536

#endif
