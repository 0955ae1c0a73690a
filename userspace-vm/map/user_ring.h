/* SPDX-License-Identifier: MIT */
/*
 * USER_RINGBUF maps: the client writes samples, programs read them. Freestanding. As Linux's
 * bpf_user_ringbuf_drain() (kernel/bpf/ringbuf.c).
 *
 * The shared memory is what the client maps: the consumer's page, the producer's page, the data
 * twice. The client writes what lies behind the end of the data into the second copy and continues
 * from the first after it, so a sample is read where it stands, in one piece.
 */
#ifndef UB_MAP_USER_RING_H
#define UB_MAP_USER_RING_H

#include <map/map.h>

/* Called for each sample; nonzero: enough. */
typedef long (*ub_user_sample_fn)(void *opaque, void *data, u32 size);

/*
 * Hands the samples that are there to @each, at most 128 Ki of them. Their number without the
 * discarded ones; -EINVAL: @flags or positions that make no sense; -EBUSY: somebody else drains it;
 * -E2BIG: a sample larger than the ring. The client is woken as Linux does, by BPF_RB_NO_WAKEUP and
 * BPF_RB_FORCE_WAKEUP in @flags.
 */
long ub_user_ring_drain(struct ub_map *map, u64 flags, ub_user_sample_fn each, void *opaque,
			struct ub_run *run);
/* Whether the client could write something. */
bool ub_user_ring_has_room(const struct ub_map *map);
/* Gives the ring back that a dead process was draining. [daemon] */
bool ub_user_ring_sweep(struct ub_map *map, bool (*is_alive)(void *opaque, u32 tgid), void *opaque);

#endif
