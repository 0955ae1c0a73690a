// SPDX-License-Identifier: MIT
/*
 * The producers' side of the event ring. Freestanding.
 *
 * Many threads write, any of them may be stopped or killed at any instruction, and none waits. So a
 * record's space can't be claimed by moving a position and writing the record's header later: who
 * died in between would leave a hole of unknown length. Instead the header itself is the claim:
 *
 *   1. read producer position p; the word there must be free
 *   2. CAS that word: free -> { length, thread id, BUSY }	claimed, and known by whom and how
 * long
 *   3. CAS producer: p -> p + length				anybody who comes by does it too
 *   4. fill the record, then header -> not BUSY			published
 *
 * A thread that was stopped before 2 for so long that the ring went round might find the word free
 * again, in the middle of somebody's space. Therefore a free word holds a value made of its
 * absolute position (ub_event_free_word), which changes with each round; the reader writes it into
 * every word that it gives back, and the CAS of a late thread fails. (A record's data may hold that
 * value by chance, one in 2^64; or by malice, and then a process has harmed its own events.)
 *
 * The reader needs no position from the producers: a word that is not free is a header. A record
 * that stays BUSY is skipped if its thread is dead, and read past if it is merely stopped.
 *
 * A record never wraps: what is left at the end is claimed as a PAD record.
 */
#include <map/event_ring_private.h>

#include <errno.h>
#include <linux/futex.h>

#include <map/mem.h>
#include <map/thread.h>
#include <run/syscall.h>

#define MAX_TRIES 1024

u64 ub_event_ring_size(u32 data_size)
{
	return ub_round_up(sizeof(struct ub_event_ring) + data_size, 4096ull);
}

void ub_event_ring_format(struct ub_event_ring *ring, u32 data_size)
{
	ub_mem_zero(ring, sizeof(*ring));
	ring->mask = data_size - 1;
	for (u64 at = 0; at < data_size; at += 8)
		*ub_event_word(ring, at, ring->mask) = ub_event_free_word(at);
}

static void count_lost(struct ub_event_ring *ring, u32 map_id)
{
	__atomic_fetch_add(&ring->lost, 1, __ATOMIC_RELAXED);
	for (u32 i = 0; i < UB_EVENT_LOST_MAPS; i++) {
		u32 id = __atomic_load_n(&ring->lost_maps[i].map_id, __ATOMIC_RELAXED);

		if (!id && __atomic_compare_exchange_n(&ring->lost_maps[i].map_id, &id, map_id,
						       false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			id = map_id;
		if (id == map_id) {
			__atomic_fetch_add(&ring->lost_maps[i].count, 1, __ATOMIC_RELAXED);
			return;
		}
	}
}

/* Claims @bytes at the producers' position, with @flags. NULL: full or scribbled on. */
static struct ub_event_record *claim(struct ub_event_ring *ring, u64 bytes, u64 tid)
{
	u64 mask = ring->mask, size = mask + 1;

	if (bytes > size / 2)
		return NULL;
	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 at = __atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE);
		u64 consumer = __atomic_load_n(&ring->consumer, __ATOMIC_ACQUIRE);
		u64 rest = size - (at & mask), free = ub_event_free_word(at);
		u64 *word = ub_event_word(ring, at, mask), header, taken = bytes, seen;

		/* Full: what stands there is of the last round. */
		if (at - consumer >= size) {
			if (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) != at)
				continue;
			return NULL;
		}
		seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		if (seen != free) {
			u64 length = UB_RECORD_BYTES(seen);

			if (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) != at)
				continue;
			if ((seen & UB_RECORD_MAGIC_MASK) != UB_RECORD_MAGIC || !length ||
			    length > rest)
				return NULL;
			__atomic_compare_exchange_n(&ring->producer, &at, at + length, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
			continue;
		}
		if (at + bytes + (bytes > rest ? rest : 0) - consumer > size)
			return NULL;
		header = UB_RECORD_MAGIC | tid << 27;
		if (bytes > rest) {
			taken = rest;
			header |= UB_RECORD_DISCARD | UB_RECORD_PAD;
		} else {
			header |= UB_RECORD_BUSY;
		}
		header |= taken / 8;
		if (!__atomic_compare_exchange_n(word, &free, header, false, __ATOMIC_ACQ_REL,
						 __ATOMIC_RELAXED))
			continue;
		__atomic_compare_exchange_n(&ring->producer, &at, at + taken, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		if (taken == bytes && !(header & UB_RECORD_PAD))
			return (struct ub_event_record *)word;
	}
	return NULL;
}

void *ub_event_reserve(struct ub_event_ring *ring, enum ub_event_kind kind, u32 map_id, u32 cpu,
		       u32 size, struct ub_run *run)
{
	u64 bytes = sizeof(struct ub_event_record) + ub_round_up((u64)size, 8);
	struct ub_event_record *record;

	if (!ring)
		return NULL;
	record = claim(ring, bytes, ub_thread_id(run) & 0x3fffff);
	if (!record) {
		count_lost(ring, map_id);
		return NULL;
	}
	record->map_id = map_id;
	record->kind = (u16)kind;
	record->wakeup = 0;
	record->size = size;
	record->cpu = cpu;
	return record->data;
}

void ub_event_commit(void *data, bool discard, u64 wakeup, struct ub_run *run)
{
	struct ub_event_record *record =
		(void *)((u8 *)data - offsetof(struct ub_event_record, data));
	struct ub_event_ring *ring = run && run->process ? run->process->events : NULL;
	u64 header = __atomic_load_n(&record->header, __ATOMIC_RELAXED);

	record->wakeup = (u16)wakeup;
	header &= ~UB_RECORD_BUSY;
	if (discard)
		header |= UB_RECORD_DISCARD;
	/* An exchange, because what follows must not be looked at before the record is published.
	 */
	__atomic_exchange_n(&record->header, header, __ATOMIC_SEQ_CST);
	if (!ring || !__atomic_load_n(&ring->sleeping, __ATOMIC_SEQ_CST))
		return;
	/* Where that is forbidden the daemon looks by itself, and soon. */
	if (__atomic_exchange_n(&ring->sleeping, 0, __ATOMIC_SEQ_CST))
		ub_syscall(run->process, SYS_futex, (u64)&ring->sleeping, FUTEX_WAKE, 1, 0, 0, 0);
}
