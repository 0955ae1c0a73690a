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

#include <map/hold.h>
#include <map/map.h>
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

void ub_event_ring_start(struct ub_event_ring *ring, u64 client)
{
	ring->balance = client - ring->producer;
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

/*
 * Where the client's record stands that comes to @at here, as far as can be told: what is on its way
 * takes room there already, but for a PAD in it. Where it can't be told (others write to the same
 * client, and this ring's reader has not looked since) it is nonsense.
 */
static u64 client_position(struct ub_event_ring *ring, const struct ub_map *map, u64 at,
			   u64 consumer)
{
	u64 position = at + __atomic_load_n(&ring->balance, __ATOMIC_ACQUIRE);

	if ((at ^ consumer) & ~ring->mask)
		position -= __atomic_load_n(&ring->last_pad, __ATOMIC_RELAXED);
	if (ub_unlikely(__atomic_load_n(&ring->last_large, __ATOMIC_RELAXED) > consumer))
		position += ub_large_in_flight(map, ring);
	return position;
}

/*
 * Whether the ring, behind @at, and for a map's ring the client's too, have room for a record of
 * @bytes, of the client's @large more, and in front of it one of @pad that only fills up. The
 * client's as the kernel counts it; if that makes no sense what is here has room, and the reader
 * keeps it until the client has, too.
 */
static bool has_room(struct ub_event_ring *ring, const struct ub_map *map, u64 at, u64 bytes,
		     u64 large, u64 pad)
{
	u64 consumer = __atomic_load_n(&ring->consumer, __ATOMIC_ACQUIRE);
	u64 size = ring->mask + 1, used = at - consumer, client;

	if (used > size || bytes + pad > size - used)
		return false;
	if (!map)
		return true;
	client = __atomic_load_n((const u64 *)map->shared, __ATOMIC_ACQUIRE) +
		 __atomic_load_n(&ring->slack, __ATOMIC_RELAXED);
	used = client_position(ring, map, at, consumer) - client;
	/* Never full to the last byte: __bpf_ringbuf_reserve() compares with the mask. */
	return used > size + map->attr.max_entries || used + bytes + large <= map->mask;
}

/* Claims a record with @header, by @hold, at the producers' position *position; for a large one of
 * @large bytes more. NULL: full or scribbled on. */
static struct ub_event_record *claim_by(u32 hold, struct ub_event_ring *ring,
					const struct ub_map *map, u64 header, u64 large,
					u64 *position, struct ub_run *run)
{
	u64 mask = ring->mask, size = mask + 1, bytes = ub_event_bytes(header);

	for (u32 tries = 0; tries < MAX_TRIES; tries++) {
		u64 at = __atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE);
		u64 rest = size - (at & mask), free = ub_event_free_word(at);
		u64 *word = ub_event_word(ring, at, mask), taken = bytes, first = header, seen;

		/* Full: what stands there is of the last round. */
		if (!has_room(ring, map, at, bytes, large, bytes > rest ? rest : 0)) {
			if (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) != at)
				continue;
			return NULL;
		}
		seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		if (seen != free) {
			u64 length = ub_event_bytes(seen);

			if (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) != at)
				continue;
			if ((seen & UB_RECORD_MAGIC_MASK) != UB_RECORD_MAGIC || length > rest)
				return NULL;
			__atomic_compare_exchange_n(&ring->producer, &at, at + length, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
			continue;
		}
		if (bytes > rest) {
			taken = rest;
			first = UB_RECORD_MAGIC | UB_RECORD_DISCARD | UB_RECORD_PAD |
				(rest - sizeof(struct ub_event_record));
		}
		if (first == header)
			ub_hold_note(hold, NULL, UB_HOLD_RECORD(word), header, run);
		if (!__atomic_compare_exchange_n(word, &free, first, false, __ATOMIC_ACQ_REL,
						 __ATOMIC_RELAXED))
			continue;
		if (first != header)
			__atomic_store_n(&ring->last_pad, rest, __ATOMIC_RELAXED);
		__atomic_compare_exchange_n(&ring->producer, &at, at + taken, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		if (first == header) {
			*position = at;
			return (struct ub_event_record *)word;
		}
	}
	return NULL;
}

/* @large: bytes that the client's record is larger; @run: who notes it, or NULL. */
static struct ub_event_record *claim(struct ub_event_ring *ring, const struct ub_map *map,
				     u64 header, u64 large, u64 *position, struct ub_run *run)
{
	struct ub_event_record *record;
	u32 hold = UB_NO_HOLD;

	if (ub_event_bytes(header) > (ring->mask + 1) / 2)
		return NULL;
	/* Where no thread can tell its number, a header says nothing of whose it is. */
	if (run && !ub_syscalls_forbidden(run->process))
		hold = ub_hold_take(run);
	record = claim_by(hold, ring, map, header | (u64)hold << UB_RECORD_HOLD_SHIFT, large,
			  position, run);
	if (!record) {
		ub_hold_return(hold, run);
		ub_hold_look(run);
	}
	return record;
}

static u64 header_of(u32 size, const struct ub_run *run)
{
	return UB_RECORD_MAGIC | UB_RECORD_BUSY |
	       (ub_thread_id(run) & UB_RECORD_TID_MASK) << UB_RECORD_TID_SHIFT | size;
}

/* A record in a process's ring, which says what it is. @holder: who notes it, or NULL. */
static void *reserve(struct ub_event_ring *ring, const struct ub_event_what *what, u32 size,
		     struct ub_run *run, struct ub_run *holder)
{
	struct ub_event_record *record;
	u64 position;

	if (!ring || size > UB_RECORD_MAX_SIZE)
		return NULL;
	record = claim(ring, NULL, header_of(size, run) | UB_RECORD_WHAT, 0, &position, holder);
	if (!record)
		return NULL;
	*(struct ub_event_what *)(record->data + ub_round_up((u64)size, 8ull)) = *what;
	return record->data;
}

void *ub_event_reserve(struct ub_event_ring *ring, enum ub_event_kind kind, u32 map_id, u32 cpu,
		       u32 size, struct ub_run *run)
{
	struct ub_event_what what = { .map_id = map_id, .kind = kind, .cpu = cpu };
	void *data = reserve(ring, &what, size, run, run);

	if (!data && ring && size <= UB_RECORD_MAX_SIZE)
		count_lost(ring, map_id);
	return data;
}

/* A record larger than the ring has room for: here is only where its data is. */
static void *reserve_large(struct ub_event_ring *ring, const struct ub_map *map, u32 size,
			   struct ub_run *run)
{
	u64 header = header_of(0, run) | UB_RECORD_WHAT, at;
	u64 large = ub_round_up((u64)size, 8ull) + sizeof(struct ub_event_record) -
		    ub_event_bytes(header);
	struct ub_event_record *record = claim(ring, map, header, large, &at, run);
	void *data;

	if (!record)
		return NULL;
	__atomic_store_n(&ring->last_large, at + ub_event_bytes(header), __ATOMIC_RELAXED);
	data = ub_large_take(map, ring, record, at, size);
	if (!data)
		ub_event_commit(record->data, true, 0, run);
	return data;
}

void *ub_event_reserve_in(const struct ub_map *map, u32 size, struct ub_run *run)
{
	struct ub_event_ring *ring = (struct ub_event_ring *)map->type_words[UB_W_EVENTS];
	struct ub_event_record *record;
	u64 position;
	void *data;

	if (!ring)
		return ub_event_reserve(run->process ? run->process->events : NULL,
					UB_EVENT_RINGBUF, map->attr.id, 0, size, run);
	if (ub_unlikely(size > (ring->mask + 1) / 2 - sizeof(*record) &&
			ub_large_unit(map->attr.max_entries))) {
		data = reserve_large(ring, map, size, run);
	} else if (size > UB_RECORD_MAX_SIZE) {
		return NULL;
	} else {
		record = claim(ring, map, header_of(size, run), 0, &position, run);
		data = record ? record->data : NULL;
	}
	if (!data)
		__atomic_fetch_add(&ring->lost, 1, __ATOMIC_RELAXED);
	return data;
}

u64 ub_event_position(const struct ub_map *map)
{
	struct ub_event_ring *ring = (struct ub_event_ring *)map->type_words[UB_W_EVENTS];
	u64 producer = __atomic_load_n((const u64 *)(map->shared + 4096), __ATOMIC_ACQUIRE), here;

	if (!ring)
		return producer;
	here = client_position(ring, map, __atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE),
			       __atomic_load_n(&ring->consumer, __ATOMIC_ACQUIRE));
	/* Or nonsense. */
	return here - producer <= ring->mask + 1 + map->attr.max_entries ? here : producer;
}

static void wake_reader(struct ub_run *run)
{
	struct ub_event_ring *ring = run && run->process ? run->process->events : NULL;

	if (!ring || !__atomic_load_n(&ring->sleeping, __ATOMIC_SEQ_CST))
		return;
	/* Where that is forbidden the daemon looks by itself, and soon. */
	if (__atomic_exchange_n(&ring->sleeping, 0, __ATOMIC_SEQ_CST))
		ub_syscall(run->process, SYS_futex, (u64)&ring->sleeping, FUTEX_WAKE, 1, 0, 0, 0);
}

void ub_event_commit(void *data, bool discard, u64 wakeup, struct ub_run *run)
{
	struct ub_event_record *record =
		(void *)((u8 *)data - offsetof(struct ub_event_record, data));
	u64 header = __atomic_load_n(&record->header, __ATOMIC_RELAXED);

	if (ub_unlikely(ub_hold_inherited(run)))
		return;
	if (ub_unlikely((header & UB_RECORD_MAGIC_MASK) != UB_RECORD_MAGIC)) {
		record = ub_large_record(data, record);
		header = __atomic_load_n(&record->header, __ATOMIC_RELAXED);
	}
	/* The reader has given it up meanwhile, and here is somebody else's. */
	if ((header & UB_RECORD_MAGIC_MASK) != UB_RECORD_MAGIC || !(header & UB_RECORD_BUSY)) {
		ub_hold_drop(NULL, UB_HOLD_RECORD(&record->header), run);
		return;
	}
	header &= ~UB_RECORD_BUSY;
	if (discard)
		header |= UB_RECORD_DISCARD;
	if (wakeup & BPF_RB_NO_WAKEUP)
		header |= UB_RECORD_NO_WAKEUP;
	if (wakeup & BPF_RB_FORCE_WAKEUP)
		header |= UB_RECORD_FORCE_WAKEUP;
	/* An exchange, because what follows must not be looked at before the record is published.
	 */
	__atomic_exchange_n(&record->header, header, __ATOMIC_SEQ_CST);
	ub_hold_drop(NULL, UB_HOLD_RECORD(&record->header), run);
	wake_reader(run);
}

bool ub_event_tell(struct ub_event_ring *ring, enum ub_event_kind kind, u32 map_id,
		   struct ub_run *run)
{
	struct ub_event_what what = { .map_id = map_id, .kind = kind };
	/* Not noted: whoever notes something may be about to tell. */
	void *event = reserve(ring, &what, 0, run, NULL);

	if (event)
		ub_event_commit(event, false, 0, run);
	return event;
}

void ub_event_give_up(u64 *word, u64 header, struct ub_run *run)
{
	u64 discarded = (header & ~UB_RECORD_BUSY) | UB_RECORD_DISCARD;

	if (__atomic_compare_exchange_n(word, &header, discarded, false, __ATOMIC_SEQ_CST,
					__ATOMIC_RELAXED))
		wake_reader(run);
}
