// SPDX-License-Identifier: MIT
#include <map/client_ring.h>

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>

#include <map/mem.h>

#define PAGE	    4096u
#define RING_HEADER 8u /* BPF_RINGBUF_HDR_SZ: u32 length, u32 page offset */

static u64 *consumer_position(const struct ub_map *map)
{
	return (u64 *)map->shared;
}

static u64 *producer_position(const struct ub_map *map)
{
	return (u64 *)(map->shared + PAGE);
}

u64 ub_client_ring_available(const struct ub_map *map, const struct ub_client_ring *ring)
{
	return ring->producer - __atomic_load_n(consumer_position(map), __ATOMIC_ACQUIRE);
}

/* As a mapping of the same pages twice would have it for who reads a record in one piece, and for
 * who reads it byte by byte modulo the size. */
static void write_record(const struct ub_map *map, u64 at, const u32 *header, const void *data,
			 u32 size)
{
	u64 ring = map->attr.max_entries, offset = at & map->mask;
	u8 *base = map->shared + map->values_offset;

	/* A header never wraps: positions are multiples of its size. */
	memcpy(base + offset, header, RING_HEADER);
	offset += RING_HEADER;
	__builtin_prefetch(base + ((offset + 512) & map->mask), 1);
	ub_mem_copy(base + offset, data, size);
	if (ub_unlikely(size > ring - offset))
		ub_mem_copy(base, (const u8 *)data + (ring - offset), size - (ring - offset));
}

int ub_client_ring_append(struct ub_map *map, struct ub_client_ring *ring, const void *data,
			  u32 size, u64 flags)
{
	u64 bytes = ub_round_up((u64)size + RING_HEADER, 8), used = ring->producer - ring->consumer;
	u32 header[2] = { size, (u32)(map->values_offset + (ring->producer & map->mask)) / PAGE };

	if (size > UINT32_MAX / 4 || bytes > map->attr.max_entries)
		return -E2BIG;
	if (bytes > map->attr.max_entries - used) {
		u64 consumer = __atomic_load_n(consumer_position(map), __ATOMIC_ACQUIRE);

		used = ring->producer - consumer;
		if (used > map->attr.max_entries || bytes > map->attr.max_entries - used)
			return -EAGAIN;
		ring->consumer = consumer;
	}
	write_record(map, ring->producer, header, data, size);
	if (ring->producer == ring->published)
		ring->may_wake = !(flags & BPF_RB_NO_WAKEUP);
	ring->must_wake |= flags & BPF_RB_FORCE_WAKEUP;
	ring->producer += bytes;
	return 0;
}

bool ub_client_ring_publish(struct ub_map *map, struct ub_client_ring *ring)
{
	u64 before = ring->published, consumer;
	bool wake = ring->must_wake;

	if (ring->producer == before)
		return false;
	/* The records are whole before the position says that they are there; and it says so before
	 * this looks whether the client sleeps. */
	__atomic_store_n(producer_position(map), ring->producer, __ATOMIC_SEQ_CST);
	consumer = __atomic_load_n(consumer_position(map), __ATOMIC_SEQ_CST);
	wake |= ring->may_wake && consumer == before;
	ring->published = ring->producer;
	ring->must_wake = false;
	return wake;
}

int ub_perf_page_init(struct ub_perf_page *perf, void *base, u64 size, u64 event_id)
{
	struct perf_event_mmap_page *page = base;
	u64 data = size - PAGE;

	if (size < 2ull * PAGE || size % PAGE || data & (data - 1))
		return -EINVAL;
	*perf = (struct ub_perf_page) {
		.base = base, .page_size = PAGE, .data_size = data, .event_id = event_id
	};
	page->version = 0;
	page->compat_version = 0;
	page->size = offsetof(struct perf_event_mmap_page, __reserved);
	page->data_offset = PAGE;
	page->data_size = data;
	return 0;
}

u64 ub_perf_page_available(const struct ub_perf_page *perf)
{
	const struct perf_event_mmap_page *page = perf->base;

	return perf->head - __atomic_load_n(&page->data_tail, __ATOMIC_ACQUIRE);
}

static void perf_write(struct ub_perf_page *perf, const void *data, u64 size)
{
	u8 *base = (u8 *)perf->base + perf->page_size;
	u64 offset = perf->head & (perf->data_size - 1);
	u64 first = size < perf->data_size - offset ? size : perf->data_size - offset;

	memcpy(base + offset, data, first);
	memcpy(base, (const u8 *)data + first, size - first);
	perf->head += size;
}

/* As perf_output_begin(): a buffer is never filled to the last byte. */
static bool has_room(const struct ub_perf_page *perf, u64 bytes)
{
	u64 used = ub_perf_page_available(perf);

	return used <= perf->data_size && bytes < perf->data_size - used;
}

int ub_perf_page_sample(struct ub_perf_page *perf, const void *data, u32 size)
{
	static const u8 zeroes[8];
	struct perf_event_mmap_page *page = perf->base;
	struct {
		struct perf_event_header header;
		u64 id;
		u64 lost;
	} lost = { .header = { .type = PERF_RECORD_LOST, .size = sizeof(lost) },
		   .id = perf->event_id,
		   .lost = perf->lost };
	/* The raw data with its size in front is padded to 8 bytes; the size says so too. */
	u32 raw = (u32)(ub_round_up((u64)size + sizeof(u32), 8) - sizeof(u32));
	u64 bytes = sizeof(struct perf_event_header) + sizeof(u32) + raw;
	struct perf_event_header header = { .type = PERF_RECORD_SAMPLE, .size = (u16)bytes };

	if (bytes > UINT16_MAX) {
		perf->lost++;
		return -E2BIG;
	}
	if (!has_room(perf, bytes + (perf->lost ? sizeof(lost) : 0))) {
		perf->lost++;
		return -ENOSPC;
	}
	if (perf->lost) {
		perf_write(perf, &lost, sizeof(lost));
		perf->lost = 0;
	}
	perf_write(perf, &header, sizeof(header));
	perf_write(perf, &raw, sizeof(raw));
	perf_write(perf, data, size);
	perf_write(perf, zeroes, raw - size);
	__atomic_store_n(&page->data_head, perf->head, __ATOMIC_RELEASE);
	return 0;
}

void ub_perf_page_lost(struct ub_perf_page *perf, u64 count)
{
	perf->lost += count;
}
