// SPDX-License-Identifier: MIT
/*
 * Records larger than half of a map's event ring, which Linux takes as long as they fit in the
 * client's. Freestanding.
 *
 * All of a ring is formatted, and so in memory for each process that may write to it. What is as
 * large as the client's ring can't be there for that: so a large record's data has an area of its
 * own behind, of which nothing is touched before it is needed, and in the ring stands only which
 * units of the area are the data's. That record is claimed, held, published, skipped and given back
 * like any other.
 *
 * The units are its producer's from the moment that their owner words hold the record's position,
 * which no other record ever has. Nobody but the reader gives them back: those whose record's place
 * it has given back, whatever became of the record. So there is nothing that a producer who dies, or
 * leaves the hit, between any two instructions could keep.
 */
#include <map/event_ring_private.h>

#include <map/map.h>
#include <map/mem.h>

/* Takes @n units from @first on for the record at @at, or none. */
static bool take_units(struct ub_large_area *area, u32 first, u32 n, u64 at)
{
	for (u32 i = 0; i < n; i++) {
		u64 nobody = 0, me = at | 1;

		if (__atomic_compare_exchange_n(&area->owner[first + i], &nobody, me, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		while (i--) {
			me = at | 1;
			__atomic_compare_exchange_n(&area->owner[first + i], &me, 0, false,
						    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
		}
		return false;
	}
	return true;
}

/* No header; and nothing that stands by chance, or as some record's data, in front of the data of a
 * record that has been given up meanwhile. */
static u64 check_of(const struct ub_large_head *head)
{
	return ub_mix64((u64)head + head->distance * 0x9e3779b97f4a7c15ull) & ~UB_RECORD_MAGIC_MASK;
}

struct ub_event_record *ub_large_record(void *data, struct ub_event_record *ordinary)
{
	struct ub_large_head *head = (void *)((u8 *)data - offsetof(struct ub_large_head, data));

	return head->check == check_of(head) ? (void *)((u8 *)head - head->distance) : ordinary;
}

void *ub_large_take(const struct ub_map *map, struct ub_event_ring *ring,
		    struct ub_event_record *record, u64 at, u32 size)
{
	struct ub_large_area *area = ub_large_area(ring);
	u64 unit = ub_large_unit(map->attr.max_entries);
	u32 n = (u32)((sizeof(struct ub_large_head) + size + unit - 1) / unit), run = 0;

	for (u32 i = 0; i < UB_LARGE_UNITS; i++) {
		struct ub_large_head *head;
		u32 first = i + 1 - n;

		run = __atomic_load_n(&area->owner[i], __ATOMIC_ACQUIRE) ? 0 : run + 1;
		if (run < n)
			continue;
		if (!take_units(area, first, n, at)) {
			run = 0;
			continue;
		}
		head = (struct ub_large_head *)(area->units + first * unit);
		head->size = size;
		head->distance = (u64)((u8 *)head - (u8 *)record);
		head->check = check_of(head);
		*(struct ub_event_large *)record->data =
			(struct ub_event_large) { .unit = first, .size = size };
		return head->data;
	}
	return NULL;
}

u64 ub_large_in_flight(const struct ub_map *map, struct ub_event_ring *ring)
{
	struct ub_large_area *area = ub_large_area(ring);
	u64 unit = ub_large_unit(map->attr.max_entries), last = 0, bytes = 0;

	for (u32 i = 0; unit && i < UB_LARGE_UNITS; i++) {
		u64 owner = __atomic_load_n(&area->owner[i], __ATOMIC_ACQUIRE), size;

		/* What it says is not there yet, or scribbled on, is too much or too little. */
		if (owner && owner != last) {
			size = ub_load64(area->units + i * unit);
			if (size < map->attr.max_entries)
				bytes += ub_round_up(size, 8ull) - sizeof(struct ub_event_large);
		}
		last = owner;
	}
	return bytes;
}
