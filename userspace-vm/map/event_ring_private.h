/* SPDX-License-Identifier: MIT */
/* Layout of the event ring. See the essay in event_ring.c. Internal to map/. */
#ifndef UB_MAP_EVENT_RING_PRIVATE_H
#define UB_MAP_EVENT_RING_PRIVATE_H

#include <map/event_ring.h>

struct ub_event_ring {
	u64 producer; /* bytes ever claimed; may lag behind, see the headers */
	u64 pad0[7];
	u64 consumer; /* bytes ever given back */
	u64 seen; /* how far the reader has looked: nothing to read if that is the producer position
		   */
	u64 pad1[6];
	/* Read by each producer for each record, hardly ever written. */
	u32 sleeping; /* futex word: 1 = the daemon sleeps */
	u32 pad2;
	u64 mask; /* size of data - 1 */
	u64 pad3[6];
	u64 lost;
	struct {
		u32 map_id;
		u32 count;
	} lost_maps[UB_EVENT_LOST_MAPS];
	u8 data[] __attribute__((aligned(64)));
};

/* A record: the header word, what it is, the data. Multiples of 8 bytes. */
struct ub_event_record {
	u64 header;
	u32 map_id;
	u16 kind;
	u16 wakeup;
	u32 size;
	u32 cpu;
	u8 data[];
};

/*
 *   63 .. 53  52    51       50   49  48 .. 27  26 .. 0
 *   magic     busy  discard  pad  0   tid       bytes / 8
 */
#define UB_RECORD_MAGIC		(0x5a5ull << 53)
#define UB_RECORD_MAGIC_MASK	(0x7ffull << 53)
#define UB_RECORD_BUSY		(1ull << 52)
#define UB_RECORD_DISCARD	(1ull << 51)
#define UB_RECORD_PAD		(1ull << 50)
#define UB_RECORD_TID(header)	((u32)((header) >> 27 & 0x3fffff))
#define UB_RECORD_BYTES(header) (((header)&0x7ffffff) * 8)

/* What a free word at absolute position @at holds: never the same twice. */
static inline u64 ub_event_free_word(u64 at)
{
	return (at + 1) * 0x9e3779b97f4a7c15ull;
}

static inline u64 *ub_event_word(const struct ub_event_ring *ring, u64 at, u64 mask)
{
	return (u64 *)(ring->data + (at & mask));
}

#endif
