// SPDX-License-Identifier: MIT
/*
 * The daemon's side of an event ring. The ring is the target's to scribble on, so nothing of it is
 * trusted: a header is read once, checked, and used from the private copy; the data is copied
 * before anybody looks at it; positions are private.
 *
 * Records are delivered in the order in which they were claimed, unless a thread is stopped for
 * longer than STALL_MS while it fills one: then those behind it are delivered meanwhile, and that
 * one later. Space is given back in order, up to the first record still pending.
 */
#include <map/event_ring_private.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <map/mem.h>

#define MAX_PENDING 64
#define RELEASE_AT  16384u /* bytes: their positions are told to the producers together */
#define STALL_MS    20

struct ub_event_reader {
	struct ub_event_ring *ring;
	u64 mask;
	u64 release_at; /* bytes read before they are given back */
	u64 tail;	/* before it, all was given back */
	u64 ahead;	/* before it, all was delivered, or is pending */
	u64 stalled_at, stalled_since_ms;
	u32 nr_pending;
	u64 pending[MAX_PENDING]; /* positions, ascending */
	u8 *copy;
	u32 copy_size;
};

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

struct ub_event_reader *ub_event_reader_new(struct ub_event_ring *ring, u32 data_size)
{
	struct ub_event_reader *reader;

	if (data_size < 64 || data_size & (data_size - 1))
		return NULL;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return NULL;
	reader->ring = ring;
	reader->mask = data_size - 1;
	reader->release_at = data_size / 8 < RELEASE_AT ? data_size / 8 : RELEASE_AT;
	reader->tail = __atomic_load_n(&ring->consumer, __ATOMIC_ACQUIRE) & ~7ull;
	reader->ahead = reader->tail;
	reader->stalled_at = UINT64_MAX;
	return reader;
}

void ub_event_reader_free(struct ub_event_reader *reader)
{
	if (!reader)
		return;
	free(reader->copy);
	free(reader);
}

/* Gives space back: producers find every word of it free, for the next round. */
static void release(struct ub_event_reader *reader)
{
	u64 to = reader->nr_pending ? reader->pending[0] : reader->ahead;
	u64 size = reader->mask + 1;

	if (to == reader->tail)
		return;
	for (u64 at = reader->tail; at != to; at += 8)
		__atomic_store_n(ub_event_word(reader->ring, at, reader->mask),
				 ub_event_free_word(at + size), __ATOMIC_RELAXED);
	reader->tail = to;
	__atomic_store_n(&reader->ring->consumer, to, __ATOMIC_RELEASE);
}

/* The ring makes no sense: starts anew at the producers' position with a ring that is all free. */
static int resynchronise(struct ub_event_reader *reader)
{
	struct ub_event_ring *ring = reader->ring;
	u64 at = (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) + 7) & ~7ull;

	reader->nr_pending = 0;
	reader->tail = at;
	reader->ahead = at;
	reader->stalled_at = UINT64_MAX;
	for (u64 i = 0; i <= reader->mask; i += 8)
		__atomic_store_n(ub_event_word(ring, at + i, reader->mask),
				 ub_event_free_word(at + i), __ATOMIC_RELAXED);
	ring->mask = reader->mask;
	__atomic_store_n(&ring->consumer, at, __ATOMIC_RELEASE);
	__atomic_store_n(&ring->seen, at, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->producer, at, __ATOMIC_RELEASE);
	return -EBADMSG;
}

static bool is_sound(const struct ub_event_reader *reader, u64 at, u64 header)
{
	u64 bytes = UB_RECORD_BYTES(header);

	return (header & UB_RECORD_MAGIC_MASK) == UB_RECORD_MAGIC && bytes &&
	       bytes <= reader->mask + 1 - (at & reader->mask) &&
	       (header & UB_RECORD_PAD || bytes >= sizeof(struct ub_event_record));
}

/* Copies a published record out. 1, or -EBADMSG, or -ENOMEM. */
static int take(struct ub_event_reader *reader, u64 at, u64 header, struct ub_event *event)
{
	const struct ub_event_record *shared =
		(void *)ub_event_word(reader->ring, at, reader->mask);
	struct ub_event_record record;
	u64 room = UB_RECORD_BYTES(header) - sizeof(record);

	ub_mem_copy(&record, shared, sizeof(record));
	if (record.size > room)
		return -EBADMSG;
	if (record.size > reader->copy_size) {
		u8 *copy = realloc(reader->copy, room);

		if (!copy)
			return -ENOMEM;
		reader->copy = copy;
		reader->copy_size = (u32)room;
	}
	ub_mem_copy(reader->copy, shared->data, record.size);
	*event = (struct ub_event) { .kind = record.kind,
				     .map_id = record.map_id,
				     .size = record.size,
				     .cpu = record.cpu,
				     .tid = UB_RECORD_TID(header),
				     .data = reader->copy,
				     .wakeup = record.wakeup };
	return 1;
}

/* What became of pending records. 1: *event is one; 0: nothing; or -errno. */
static int read_pending(struct ub_event_reader *reader, struct ub_event *event,
			bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	for (u32 i = 0; i < reader->nr_pending; i++) {
		u64 at = reader->pending[i];
		u64 header = __atomic_load_n(ub_event_word(reader->ring, at, reader->mask),
					     __ATOMIC_ACQUIRE);
		int ret = 0;

		if (!is_sound(reader, at, header))
			return -EBADMSG;
		if (header & UB_RECORD_BUSY && is_alive(opaque, UB_RECORD_TID(header)))
			continue;
		if (!(header & (UB_RECORD_BUSY | UB_RECORD_DISCARD)))
			ret = take(reader, at, header, event);
		if (ret < 0)
			return ret;
		for (u32 k = i + 1; k < reader->nr_pending; k++)
			reader->pending[k - 1] = reader->pending[k];
		reader->nr_pending--;
		i--;
		if (ret)
			return ret;
	}
	return 0;
}

/* Whether the thread that fills the record at @at has been given time enough. */
static bool is_stalled(struct ub_event_reader *reader, u64 at)
{
	u64 now = now_ms();

	if (reader->stalled_at != at) {
		reader->stalled_at = at;
		reader->stalled_since_ms = now;
	}
	return now - reader->stalled_since_ms >= STALL_MS;
}

int ub_event_read(struct ub_event_reader *reader, struct ub_event *event,
		  bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	int ret = reader->nr_pending ? read_pending(reader, event, is_alive, opaque) : 0;
	u64 seen = reader->ahead;

	while (!ret && reader->ahead - reader->tail <= reader->mask) {
		u64 at = reader->ahead;
		u64 header = __atomic_load_n(ub_event_word(reader->ring, at, reader->mask),
					     __ATOMIC_ACQUIRE);

		seen = at;
		__builtin_prefetch(ub_event_word(reader->ring, at + 256, reader->mask));
		if (header == ub_event_free_word(at))
			break;
		if (!is_sound(reader, at, header)) {
			ret = -EBADMSG;
			break;
		}
		seen = at + UB_RECORD_BYTES(header);
		if (header & UB_RECORD_BUSY) {
			if (is_alive(opaque, UB_RECORD_TID(header))) {
				if (!is_stalled(reader, at) || reader->nr_pending == MAX_PENDING)
					break;
				reader->pending[reader->nr_pending++] = at;
			}
		} else if (!(header & UB_RECORD_DISCARD)) {
			ret = take(reader, at, header, event);
			if (ret < 0)
				break;
		}
		reader->ahead = at + UB_RECORD_BYTES(header);
	}
	if (ret < 0)
		return ret == -EBADMSG ? resynchronise(reader) : ret;
	/* While there is more to read, the producers' cache lines are left alone for a while. */
	if (ret && reader->ahead - reader->tail < reader->release_at)
		return ret;
	release(reader);
	__atomic_store_n(&reader->ring->seen, seen, __ATOMIC_RELAXED);
	return ret;
}

u64 ub_event_lost(const struct ub_event_ring *ring)
{
	return __atomic_load_n(&ring->lost, __ATOMIC_RELAXED);
}

bool ub_event_lost_of(const struct ub_event_ring *ring, u32 slot, u32 *map_id, u64 *count)
{
	if (slot >= UB_EVENT_LOST_MAPS)
		return false;
	*map_id = __atomic_load_n(&ring->lost_maps[slot].map_id, __ATOMIC_RELAXED);
	*count = __atomic_load_n(&ring->lost_maps[slot].count, __ATOMIC_RELAXED);
	return *count != 0;
}

/*
 * Published means that the producers' position is behind it. Only counters are compared: the ring's
 * size as written in the ring is nothing to follow.
 */
bool ub_event_prepare_sleep(struct ub_event_ring *ring)
{
	__atomic_store_n(&ring->sleeping, 1, __ATOMIC_SEQ_CST);
	ub_fence();
	return __atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) !=
	       __atomic_load_n(&ring->seen, __ATOMIC_RELAXED);
}

u32 *ub_event_futex(struct ub_event_ring *ring)
{
	return &ring->sleeping;
}

void ub_event_awake(struct ub_event_ring *ring)
{
	__atomic_store_n(&ring->sleeping, 0, __ATOMIC_SEQ_CST);
}
