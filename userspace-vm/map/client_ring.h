/* SPDX-License-Identifier: MIT */
/*
 * What the daemon writes for clients: records into the shared memory of a RINGBUF map, and into the
 * pages of a perf event's buffer, both as libbpf reads them. The client may scribble on either:
 * positions that the writer relies on are its own.
 */
#ifndef UB_MAP_CLIENT_RING_H
#define UB_MAP_CLIENT_RING_H

#include <map/map.h>

/* RINGBUF. Zeroed at first. */
struct ub_client_ring {
	u64 producer;	/* behind the last record */
	u64 published;	/* what the client knows of */
	u64 consumer;	/* the client's position when last looked at */
	bool may_wake;	/* the first record that is not published would wake it */
	bool must_wake; /* one of them does */
};

/*
 * Appends one record of @size bytes, which the client sees after ub_client_ring_publish(). 0, or
 * -EAGAIN: full (or the consumer position makes no sense), -E2BIG: larger than the ring. @flags:
 * BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP.
 */
int __must_check ub_client_ring_append(struct ub_map *map, struct ub_client_ring *ring,
				       const void *data, u32 size, u64 flags);
/* Shows the client what was appended. True: it should be woken, as in the kernel if it had read all
 * that was there before, or by the records' flags. */
bool ub_client_ring_publish(struct ub_map *map, struct ub_client_ring *ring);
/* Bytes that the client has not read. */
u64 ub_client_ring_available(const struct ub_map *map, const struct ub_client_ring *ring);

/* Perf buffer: one struct perf_event_mmap_page and 2^n data pages, as mmapped by the client. */
struct ub_perf_page {
	void *base;
	u32 page_size;
	u64 data_size; /* a power of two */
	u64 head;
	u64 lost;     /* not yet told to the client */
	u64 event_id; /* of PERF_RECORD_LOST */
};

/* Fills the header page of a zeroed buffer of @size bytes (1 + 2^n pages). -EINVAL. */
int __must_check ub_perf_page_init(struct ub_perf_page *perf, void *base, u64 size, u64 event_id);
/*
 * Appends a PERF_RECORD_SAMPLE of PERF_SAMPLE_RAW, with PERF_RECORD_LOST before it if records were
 * lost. 0, -ENOSPC: full, counted as lost; -E2BIG.
 */
int __must_check ub_perf_page_sample(struct ub_perf_page *perf, const void *data, u32 size);
/* Records lost before they reached us. */
void ub_perf_page_lost(struct ub_perf_page *perf, u64 count);
u64 ub_perf_page_available(const struct ub_perf_page *perf);

#endif
