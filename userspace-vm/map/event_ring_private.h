/* SPDX-License-Identifier: MIT */
/* Layout of the event ring. See the essay in event_ring.c. Internal to map/. */
#ifndef UB_MAP_EVENT_RING_PRIVATE_H
#define UB_MAP_EVENT_RING_PRIVATE_H

#include <map/event_ring.h>

struct ub_event_ring {
	u64 producer;	/* bytes ever claimed; may lag behind, see the headers */
	u64 last_pad;	/* bytes of the PAD record that was claimed last */
	u64 last_large; /* behind the record of a large one that was claimed last; may lag, too */
	u64 pad0[5];
	u64 consumer; /* bytes ever given back */
	u64 seen; /* how far the reader has looked: nothing to read if that is the producer position */
	u64 balance; /* a map's ring: the client's position of a record, less its position here */
	u64 slack;   /* a map's ring: bytes that its client is taken to have read already */
	u64 pad1[4];
	/* Read by each producer for each record, hardly ever written. */
	u32 sleeping; /* futex word: 1 = the daemon sleeps; of the process's own ring only */
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

/* A record: the header word, the data, and behind them in multiples of 8 bytes what it is: not in a
 * map's ring, where each record is one for the map. */
struct ub_event_record {
	u64 header;
	u8 data[];
};

struct ub_event_what {
	u32 map_id;
	u32 kind;
	u32 cpu;
	u32 pad;
};

/* Instead in a map's ring: the record is a large one, whose data is in the ring's large area. */
struct ub_event_large {
	u32 unit; /* its first */
	u32 size; /* of data */
	u64 pad;
};

_Static_assert(sizeof(struct ub_event_large) == sizeof(struct ub_event_what), "in the same place");

/*
 * Behind the data of a map's ring, if the map takes larger records than half of that. Nothing here
 * is written before there is one, so until then it takes no memory.
 */
#define UB_LARGE_UNITS 257u
struct ub_large_area {
	u64 owner[UB_LARGE_UNITS]; /* 1 + position of the record whose data it holds; 0: free */
	u8 units[] __attribute__((aligned(64)));
};

/* In front of a large record's data, at the start of its first unit. */
struct ub_large_head {
	u64 size;
	u64 distance; /* from the record to here */
	u64 check;    /* where others have a header: what nobody else writes there */
	u8 data[];
};

/*
 *   63 .. 58  57    56       55   54    53     52       51 .. 30  29 .. 27  26 .. 0
 *   magic     busy  discard  pad  what  force  no wake  tid       hold      bytes of data
 * hold: which of the thread's (hold.h).
 */
#define UB_RECORD_MAGIC	       (0x2dull << 58)
#define UB_RECORD_MAGIC_MASK   (0x3full << 58)
#define UB_RECORD_BUSY	       (1ull << 57)
#define UB_RECORD_DISCARD      (1ull << 56)
#define UB_RECORD_PAD	       (1ull << 55)
#define UB_RECORD_WHAT	       (1ull << 54)
#define UB_RECORD_FORCE_WAKEUP (1ull << 53)
#define UB_RECORD_NO_WAKEUP    (1ull << 52)
#define UB_RECORD_TID_SHIFT    30
#define UB_RECORD_TID_MASK     0x3fffffull
#define UB_RECORD_HOLD_SHIFT   27
#define UB_RECORD_MAX_SIZE     0x7ffffffull
#define UB_RECORD_TID(header)  ((u32)((header) >> UB_RECORD_TID_SHIFT & UB_RECORD_TID_MASK))
#define UB_RECORD_SIZE(header) ((u32)((header)&UB_RECORD_MAX_SIZE))

/* Bytes that the record takes in the ring. */
static inline u64 ub_event_bytes(u64 header)
{
	return sizeof(struct ub_event_record) + ub_round_up((u64)UB_RECORD_SIZE(header), 8ull) +
	       (header & UB_RECORD_WHAT ? sizeof(struct ub_event_what) : 0);
}

/* What a free word at absolute position @at holds: never the same twice. */
static inline u64 ub_event_free_word(u64 at)
{
	return (at + 1) * 0x9e3779b97f4a7c15ull;
}

/* Bytes of a unit of the large area for a map of @max_entries bytes, or 0: it has none. */
static inline u64 ub_large_unit(u64 max_entries)
{
	return max_entries > UB_EVENT_RING_SIZE / 2 ? max_entries / (UB_LARGE_UNITS - 1) : 0;
}

/* Rings with a large area have data of full size. */
static inline struct ub_large_area *ub_large_area(struct ub_event_ring *ring)
{
	return (struct ub_large_area *)(ring->data + UB_EVENT_RING_SIZE);
}

/* What a map's large records that the reader has not given back yet take, or will, in the client's
 * ring, but for their places here. */
u64 ub_large_in_flight(const struct ub_map *map, struct ub_event_ring *ring);
/* Memory for the data of the large record @record, of @size bytes, at position @at: its data, or
 * NULL. */
void *ub_large_take(const struct ub_map *map, struct ub_event_ring *ring,
		    struct ub_event_record *record, u64 at, u32 size);
/* The record whose data is @data: a large one, or else @ordinary. */
struct ub_event_record *ub_large_record(void *data, struct ub_event_record *ordinary);

static inline u64 *ub_event_word(const struct ub_event_ring *ring, u64 at, u64 mask)
{
	return (u64 *)(ring->data + (at & mask));
}

#endif
