/* SPDX-License-Identifier: MIT */
/*
 * Event rings: how ring buffer and perf buffer records leave a target. A process's threads are the
 * only writers, the daemon the only reader; it validates and copies each record into the client's
 * buffer, so a stopped, killed or scribbling target wedges nobody.
 *
 * Freestanding on the producer's side. No producer waits for another: a record that a dead thread
 * reserved and never committed is skipped by the daemon once its owner is known to be dead.
 */
#ifndef UB_MAP_EVENT_RING_H
#define UB_MAP_EVENT_RING_H

#include <common/types.h>

#define UB_EVENT_RING_SIZE (1u << 20) /* bytes of data, default; a power of two */

enum ub_event_kind {
	UB_EVENT_RINGBUF = 1, /* to map_id's ring buffer */
	UB_EVENT_PERF = 2,    /* to map_id's perf event array, entry cpu */
	UB_EVENT_PRINTK = 3,  /* a line of trace_pipe, with its newline, without NUL */
	UB_EVENT_DRAINED = 4, /* map_id's user ring buffer has room again; no data */
	UB_EVENT_LEFT = 5,    /* a hit that never ends has left something in map_id: to be swept */
};

struct ub_event {
	u32 kind;
	u32 map_id;
	u32 size; /* of data */
	u32 cpu;  /* perf: index into the array */
	u64 tid;  /* of the producer, as the process itself sees it */
	const void
		*data; /* valid until the next call. RINGBUF: the ring itself, which may change any
			   * moment; else the reader's own copy */
	u32 wakeup; /* BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP or 0, for whoever wakes the client */
};

struct ub_event_ring;
struct ub_run;
struct ub_map;
struct ub_map_attr;

/*
 * A RINGBUF map has an event ring of its own in each process (struct ub_map.type_words[UB_W_EVENTS]
 * is its address there; 0: its records go through the process's ring). So nobody's records wait
 * behind those of a client that does not read, and what a program was told to be taken is never
 * lost for want of room.
 */
#define UB_W_EVENTS 0
/* Bytes of a RINGBUF map's. A record takes at most half of it, and a larger one has its data behind
 * it (event_large.c). */
u32 ub_event_ring_data_size(const struct ub_map_attr *attr);

/* Bytes of shared memory: of a process's own ring, of a RINGBUF map's. */
u64 ub_event_ring_size(u32 data_size);
u64 ub_event_ring_size_of(const struct ub_map_attr *attr);
void ub_event_ring_format(struct ub_event_ring *ring, u32 data_size);
/* Then, of a RINGBUF map's, which has no other in that process: where the client's next record will
 * stand. */
void ub_event_ring_start(struct ub_event_ring *ring, u64 client);

/* [producer] Space for @size bytes in @ring, or NULL: full (counted as lost for @map) or too large.
 * If the hit is left by siglongjmp() before it commits, the record is given up by the thread's next
 * one that can tell (hold.h), or else by the reader. */
void *ub_event_reserve(struct ub_event_ring *ring, enum ub_event_kind kind, u32 map_id, u32 cpu,
		       u32 size, struct ub_run *run);
/* [producer] The same for a RINGBUF map; NULL too if the client's ring has no room for what is on
 * its way. Without a ring of the map's own not more than UB_EVENT_RING_SIZE / 2. */
void *ub_event_reserve_in(const struct ub_map *map, u32 size, struct ub_run *run);
/* [producer] Where the next record for a RINGBUF map would stand in the client's ring: behind those
 * that this process has on their way. */
u64 ub_event_position(const struct ub_map *map);
/* [producer] Publishes or takes back what reserve gave; wakes the daemon when it sleeps (the only
 * case that makes a system call). @wakeup: BPF_RB_NO_WAKEUP / FORCE_WAKEUP. */
void ub_event_commit(void *data, bool discard, u64 wakeup, struct ub_run *run);

/* [producer] Events without data. False: there is no room. */
bool ub_event_tell(struct ub_event_ring *ring, enum ub_event_kind kind, u32 map_id,
		   struct ub_run *run);
/* [producer] The record at @word, if it is still in the state of @header, will not be committed. */
void ub_event_give_up(u64 *word, u64 header, struct ub_run *run);

/* [daemon] A private reader with its own position: never trusts the ring. @map_id: whose ring it
 * is, and @size that map's max_entries; or 0: the process's, and @size its data's. */
struct ub_event_reader;
struct ub_event_reader *ub_event_reader_new(struct ub_event_ring *ring, u32 size, u32 map_id);
void ub_event_reader_free(struct ub_event_reader *reader);
/* 1 and *event, 0: nothing now, -EBADMSG: the ring was scribbled on; the reader has resynchronised
 * at the producer's position. @is_alive(opaque, tid) decides about records that are not committed
 * for long. */
int ub_event_read(struct ub_event_reader *reader, struct ub_event *event,
		  bool (*is_alive)(void *opaque, u64 tid), void *opaque);
/* What was read last is read again by the next call. */
void ub_event_unread(struct ub_event_reader *reader);
/* After some reads: gives all space back. Of a map's ring: @client: where the client's next record
 * will stand; @slack: as many bytes more than it has read its buffer has room for. */
void ub_event_release(struct ub_event_reader *reader, u64 client, u64 slack);
/* Records lost for want of space so far. */
u64 ub_event_lost(const struct ub_event_ring *ring);
/* The same by map, of the process's ring: up to UB_EVENT_LOST_MAPS of them. False behind the last;
 * *count may be scribbled on. */
#define UB_EVENT_LOST_MAPS 32
bool ub_event_lost_of(const struct ub_event_ring *ring, u32 slot, u32 *map_id, u64 *count);
/* [daemon] About to sleep: producers wake us through the futex word of the process's ring: it holds
 * 1 until one did, then 0, with a FUTEX_WAKE (not private). */
void ub_event_prepare_sleep(struct ub_event_ring *ring);
/* Then, for each ring of the process: whether there is something to read already. */
bool ub_event_ready(const struct ub_event_ring *ring);
u32 *ub_event_futex(struct ub_event_ring *ring);
void ub_event_awake(struct ub_event_ring *ring);

#endif
