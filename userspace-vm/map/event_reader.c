// SPDX-License-Identifier: MIT
/*
 * The daemon's side of an event ring. The ring is the target's to scribble on, so nothing of it is
 * trusted: a header is read once, checked, and used from the private copy; positions are private. A
 * record's data is copied before anybody looks at it, but for a ring buffer's, which is only
 * copied.
 *
 * Records are delivered in the order in which they were claimed, unless a thread does not come to
 * fill one for longer than STALL_US (it lost its processor, or was stopped): then those behind it
 * are delivered meanwhile, and that one later. Even so a record comes after each that was committed
 * before it was claimed: what changes places was written at the same time. Space is given back in
 * order, up to the first record still pending.
 *
 * A thread may also live and never come back to a record: a signal interrupted it, and the handler
 * left by siglongjmp(). It goes on to write others meanwhile, as one does whose handler runs into
 * probes; but that one comes back. So a record is given up when its thread has written others for
 * ABANDONED_US since.
 */
#include <map/event_ring_private.h>

#include <errno.h>
#include <stdlib.h>

#include <common/clock.h>
#include <map/map.h>
#include <map/mem.h>

#define MAX_PENDING  256
#define RELEASE_AT   65536u /* bytes: their positions are told to the producers together */
#define MAX_ASKED    256 /* records by dead threads that one call skips: each costs a system call */
#define STALL_US     500
#define ALIVE_US     5000 /* between two looks whether the threads of pending records live */
#define MIN_DATA     65536u
#define ABANDONED_US 2000000

struct pending {
	u64 at;
	u32 tid;
	u64 passed_us; /* when its thread's first later record was read, 0: none yet */
};

/* What the last call returned; it counts as read when the next one comes. */
enum last { NOTHING, AHEAD, PENDING };

struct ub_event_reader {
	struct ub_event_ring *ring;
	u64 mask;
	u32 map_id;	 /* 0: each record says what it is */
	u64 large_unit;	 /* of the ring's large area; 0: it has none */
	bool seen_large; /* some unit may have to be given back */
	u64 release_at;	 /* bytes read before they are given back */
	u64 tail;	 /* before it, all was given back */
	u64 ahead;	 /* before it, all was delivered, or is pending */
	u64 stalled_at, stalled_since_us;
	u64 asked_us; /* when it was last asked who is alive */
	u32 nr_asked; /* in this call */
	enum last last;
	u64 last_bytes;	  /* AHEAD */
	u32 last_pending; /* PENDING: which */
	u32 nr_pending;
	struct pending pending[MAX_PENDING]; /* positions ascending */
	u8 *copy;
	u32 copy_size;
};

u32 ub_event_ring_data_size(const struct ub_map_attr *attr)
{
	/* Room for what comes while a thread that lost its processor is waited for. */
	u64 size = 4ull * attr->max_entries;

	if (size > UB_EVENT_RING_SIZE)
		return UB_EVENT_RING_SIZE;
	return size < MIN_DATA ? MIN_DATA : (u32)size;
}

u64 ub_event_ring_size_of(const struct ub_map_attr *attr)
{
	u64 size = ub_event_ring_size(ub_event_ring_data_size(attr));

	if (ub_large_unit(attr->max_entries))
		size += ub_round_up(sizeof(struct ub_large_area) +
					    UB_LARGE_UNITS * ub_large_unit(attr->max_entries),
				    4096ull);
	return size;
}

struct ub_event_reader *ub_event_reader_new(struct ub_event_ring *ring, u32 size, u32 map_id)
{
	const struct ub_map_attr attr = { .max_entries = size };
	u32 data_size = map_id ? ub_event_ring_data_size(&attr) : size;
	struct ub_event_reader *reader;

	if (data_size < 64 || data_size & (data_size - 1))
		return NULL;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return NULL;
	reader->ring = ring;
	reader->mask = data_size - 1;
	reader->map_id = map_id;
	reader->large_unit = map_id ? ub_large_unit(size) : 0;
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

/* Gives the units back whose records' places have been given back before @to. */
static void release_large(struct ub_event_reader *reader, u64 to)
{
	struct ub_large_area *area = ub_large_area(reader->ring);
	bool some = false;

	for (u32 i = 0; i < UB_LARGE_UNITS; i++) {
		u64 owner = __atomic_load_n(&area->owner[i], __ATOMIC_ACQUIRE);

		if (!owner)
			continue;
		if ((s64)(to - owner) > 0)
			__atomic_store_n(&area->owner[i], 0, __ATOMIC_RELEASE);
		else
			some = true;
	}
	reader->seen_large = some;
}

/* Gives space back: producers find every word of it free, for the next round. */
static void release(struct ub_event_reader *reader)
{
	u64 to = reader->nr_pending ? reader->pending[0].at : reader->ahead;
	u64 producer = __atomic_load_n(&reader->ring->producer, __ATOMIC_ACQUIRE);
	u64 size = reader->mask + 1;

	if (to == reader->tail)
		return;
	/* Who claimed the last record died before it said so: else nobody would find room any
	 * more. */
	if ((s64)(producer - to) < 0)
		__atomic_compare_exchange_n(&reader->ring->producer, &producer, to, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	for (u64 at = reader->tail; at != to; at += 8)
		__atomic_store_n(ub_event_word(reader->ring, at, reader->mask),
				 ub_event_free_word(at + size), __ATOMIC_RELAXED);
	reader->tail = to;
	if (reader->seen_large)
		release_large(reader, to);
	__atomic_store_n(&reader->ring->consumer, to, __ATOMIC_RELEASE);
}

/* The ring makes no sense: starts anew at the producers' position with a ring that is all free. */
static int resynchronise(struct ub_event_reader *reader)
{
	struct ub_event_ring *ring = reader->ring;
	u64 at = (__atomic_load_n(&ring->producer, __ATOMIC_ACQUIRE) + 7) & ~7ull;

	reader->nr_pending = 0;
	reader->last = NOTHING;
	reader->tail = at;
	reader->ahead = at;
	reader->stalled_at = UINT64_MAX;
	for (u64 i = 0; i <= reader->mask; i += 8)
		__atomic_store_n(ub_event_word(ring, at + i, reader->mask),
				 ub_event_free_word(at + i), __ATOMIC_RELAXED);
	ring->mask = reader->mask;
	for (u32 i = 0; reader->large_unit && i < UB_LARGE_UNITS; i++)
		__atomic_store_n(&ub_large_area(ring)->owner[i], 0, __ATOMIC_RELEASE);
	__atomic_store_n(&ring->consumer, at, __ATOMIC_RELEASE);
	__atomic_store_n(&ring->seen, at, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->producer, at, __ATOMIC_RELEASE);
	return -EBADMSG;
}

static bool is_sound(const struct ub_event_reader *reader, u64 at, u64 header)
{
	if ((header & UB_RECORD_MAGIC_MASK) != UB_RECORD_MAGIC ||
	    ub_event_bytes(header) > reader->mask + 1 - (at & reader->mask))
		return false;
	/* Padding is for nobody; what take() looks for behind a record is in its bytes. */
	if (header & UB_RECORD_PAD)
		return header & UB_RECORD_DISCARD;
	return header & UB_RECORD_WHAT ? !reader->map_id || reader->large_unit : reader->map_id;
}

static u64 header_at(const struct ub_event_reader *reader, u64 at)
{
	return __atomic_load_n(ub_event_word(reader->ring, at, reader->mask), __ATOMIC_ACQUIRE);
}

/* A published record's data that is in the large area. 1, or -EBADMSG. */
static int take_large(struct ub_event_reader *reader, const u8 *what, struct ub_event *event)
{
	u64 unit = reader->large_unit, at;
	struct ub_event_large large;

	ub_mem_copy(&large, what, sizeof(large));
	at = large.unit * unit + sizeof(struct ub_large_head);
	if (large.unit >= UB_LARGE_UNITS || large.size > unit * UB_LARGE_UNITS - at)
		return -EBADMSG;
	event->size = large.size;
	event->data = ub_large_area(reader->ring)->units + at;
	return 1;
}

/* A published record. 1, -ENOMEM, -EBADMSG. */
static int take(struct ub_event_reader *reader, u64 at, u64 header, struct ub_event *event)
{
	const struct ub_event_record *shared =
		(void *)ub_event_word(reader->ring, at, reader->mask);
	u32 size = UB_RECORD_SIZE(header);
	struct ub_event_what what;

	*event = (struct ub_event) { .kind = UB_EVENT_RINGBUF,
				     .map_id = reader->map_id,
				     .size = size,
				     .tid = UB_RECORD_TID(header),
				     .data = shared->data };
	if (header & UB_RECORD_NO_WAKEUP)
		event->wakeup |= BPF_RB_NO_WAKEUP;
	if (header & UB_RECORD_FORCE_WAKEUP)
		event->wakeup |= BPF_RB_FORCE_WAKEUP;
	if (reader->map_id)
		return header & UB_RECORD_WHAT
			       ? take_large(reader, shared->data + ub_round_up((u64)size, 8ull),
					    event)
			       : 1;
	ub_mem_copy(&what, shared->data + ub_round_up((u64)size, 8ull), sizeof(what));
	event->kind = what.kind;
	event->map_id = what.map_id;
	event->cpu = what.cpu;
	if (size > reader->copy_size) {
		u8 *copy = realloc(reader->copy, size);

		if (!copy)
			return -ENOMEM;
		reader->copy = copy;
		reader->copy_size = size;
	}
	ub_mem_copy(reader->copy, shared->data, size);
	event->data = reader->copy;
	return 1;
}

static void forget_pending(struct ub_event_reader *reader, u32 i)
{
	reader->nr_pending--;
	for (; i < reader->nr_pending; i++)
		reader->pending[i] = reader->pending[i + 1];
}

static bool is_abandoned(const struct pending *pending)
{
	return pending->passed_us && ub_now_ns() / 1000 - pending->passed_us >= ABANDONED_US;
}

/*
 * What became of pending records: of all (@tid 0), or of one thread's, who has another record to be
 * read.
 * 1: *event is one; 0: nothing; or -errno.
 */
static int read_pending(struct ub_event_reader *reader, u32 tid, struct ub_event *event,
			bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	bool ask = false;

	if (!tid && ub_now_ns() / 1000 - reader->asked_us >= ALIVE_US) {
		reader->asked_us = ub_now_ns() / 1000;
		ask = true;
	}
	for (u32 i = 0; i < reader->nr_pending;) {
		u64 at = reader->pending[i].at, header;

		if (tid && reader->pending[i].tid != tid) {
			i++;
			continue;
		}
		header = header_at(reader, at);
		if (!is_sound(reader, at, header))
			return -EBADMSG;
		if (header & UB_RECORD_BUSY) {
			if (tid && !reader->pending[i].passed_us)
				reader->pending[i].passed_us = ub_now_ns() / 1000;
			if (ask && (is_abandoned(&reader->pending[i]) ||
				    !is_alive(opaque, UB_RECORD_TID(header))))
				forget_pending(reader, i);
			else
				i++;
		} else if (header & UB_RECORD_DISCARD) {
			forget_pending(reader, i);
		} else {
			reader->last = PENDING;
			reader->last_pending = i;
			return take(reader, at, header, event);
		}
	}
	return 0;
}

/* Whether the thread that fills the record at @at has been given time enough. */
static bool is_stalled(struct ub_event_reader *reader, u64 at, bool *first)
{
	u64 now = ub_now_ns() / 1000;

	*first = reader->stalled_at != at;
	if (*first) {
		reader->stalled_at = at;
		reader->stalled_since_us = now;
	}
	return now - reader->stalled_since_us >= STALL_US;
}

static void finish_last(struct ub_event_reader *reader)
{
	if (reader->last == AHEAD)
		reader->ahead += reader->last_bytes;
	else if (reader->last == PENDING)
		forget_pending(reader, reader->last_pending);
	reader->last = NOTHING;
}

/* The record at the reader's position. 1, -errno, or 0: not there yet, or *skip says that it is
 * none to be read. */
static int read_ahead(struct ub_event_reader *reader, struct ub_event *event, u64 *seen, bool *skip,
		      bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	u64 at = reader->ahead, header = header_at(reader, at);
	bool first, stalled;
	int ret;

	*skip = false;
	*seen = at;
	__builtin_prefetch(ub_event_word(reader->ring, at + 256, reader->mask));
	if (header == ub_event_free_word(at))
		return 0;
	if (!is_sound(reader, at, header))
		return -EBADMSG;
	*seen = at + ub_event_bytes(header);
	reader->seen_large |= reader->map_id && header & UB_RECORD_WHAT;
	if (header & UB_RECORD_BUSY) {
		if (reader->nr_asked == MAX_ASKED)
			return 0;
		stalled = is_stalled(reader, at, &first) && reader->nr_pending < MAX_PENDING;
		if (!stalled && !first)
			return 0;
		reader->nr_asked++;
		if (is_alive(opaque, UB_RECORD_TID(header))) {
			if (!stalled)
				return 0;
			reader->pending[reader->nr_pending++] =
				(struct pending) { .at = at, .tid = UB_RECORD_TID(header) };
		}
	} else if (!(header & UB_RECORD_DISCARD)) {
		/* Its thread has written what it had begun before. */
		ret = reader->nr_pending
			      ? read_pending(reader, UB_RECORD_TID(header), event, is_alive, opaque)
			      : 0;
		if (ret)
			return ret;
		reader->last = AHEAD;
		reader->last_bytes = ub_event_bytes(header);
		return take(reader, at, header, event);
	}
	*skip = true;
	reader->ahead = *seen;
	return 0;
}

int ub_event_read(struct ub_event_reader *reader, struct ub_event *event,
		  bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	bool skip = true;
	u64 seen;
	int ret;

	finish_last(reader);
	reader->nr_asked = 0;
	if (reader->ahead - reader->tail >= reader->release_at)
		release(reader);
	seen = reader->ahead;
	ret = reader->nr_pending ? read_pending(reader, 0, event, is_alive, opaque) : 0;
	while (!ret && skip && reader->ahead - reader->tail <= reader->mask)
		ret = read_ahead(reader, event, &seen, &skip, is_alive, opaque);
	if (ret == -EBADMSG)
		return resynchronise(reader);
	if (!ret) {
		release(reader);
		__atomic_store_n(&reader->ring->seen, seen, __ATOMIC_RELAXED);
	}
	return ret;
}

void ub_event_unread(struct ub_event_reader *reader)
{
	reader->last = NOTHING;
	__atomic_store_n(&reader->ring->seen, reader->ahead, __ATOMIC_RELAXED);
}

void ub_event_release(struct ub_event_reader *reader, u64 client, u64 slack)
{
	u64 balance;

	finish_last(reader);
	release(reader);
	balance = client - reader->ahead;
	if (reader->map_id && __atomic_load_n(&reader->ring->balance, __ATOMIC_RELAXED) != balance)
		__atomic_store_n(&reader->ring->balance, balance, __ATOMIC_RELEASE);
	if (reader->map_id && __atomic_load_n(&reader->ring->slack, __ATOMIC_RELAXED) != slack)
		__atomic_store_n(&reader->ring->slack, slack, __ATOMIC_RELEASE);
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

void ub_event_prepare_sleep(struct ub_event_ring *ring)
{
	__atomic_store_n(&ring->sleeping, 1, __ATOMIC_SEQ_CST);
	ub_fence();
}

/*
 * Published means that the producers' position is behind it. Only counters are compared: the ring's
 * size as written in the ring is nothing to follow.
 */
bool ub_event_ready(const struct ub_event_ring *ring)
{
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
