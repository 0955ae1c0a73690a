// SPDX-License-Identifier: MIT
/*
 * Eight threads write to a ring buffer as fast as they can, one reads it as libbpf does. On Linux the
 * buffer is theirs; here records take the way through the process's event ring and the daemon's loop,
 * played by a thread. Each record arrives or was counted as lost.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map/client_ring.h>

#include "maps.h"

#define PRODUCERS  8
#define RUN_MS	   150
#define IDLE_US	   200 /* between two looks that find nothing */
#define MAX_ROUNDS 101
#define PAGE	   4096u
#define PUBLISH_AT 4096u /* bytes, as kernel/events.c */

static const struct row row = { "ringbuf", BPF_MAP_TYPE_RINGBUF, RINGBUF };

struct scene {
	struct prepared *ours; /* NULL: the kernel */
	int program;
	bool stop, drained;
	struct ub_client_ring ring;
	u64 attempts, lost;
	/* What the reader sees. */
	u64 *consumer;
	const u64 *producer;
	const u8 *data;
	u64 mask, received;
};

static void nap_us(u32 us)
{
	struct timespec nap = { .tv_nsec = us * 1000L };

	nanosleep(&nap, NULL);
}

static void *produce(void *opaque)
{
	struct scene *s = opaque;
	u64 attempts = 0;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		if (s->ours) {
			struct ub_run run = { .process = &s->ours->process,
					      .maps = s->ours->maps,
					      .cpu = UB_CPU_UNKNOWN };

			ub_jitted_run(s->ours->jitted, NULL, &run);
		} else if (!bench_map_run_kernel(s->program)) {
			break;
		}
		attempts += BENCH_MAP_OPS;
	}
	__atomic_fetch_add(&s->attempts, attempts, __ATOMIC_RELAXED);
	return NULL;
}

/* Takes all that is there; false: nothing was. */
static bool consume(struct scene *s)
{
	u64 at = *s->consumer, before = at;

	for (;;) {
		u64 end = __atomic_load_n(s->producer, __ATOMIC_ACQUIRE);

		if (at >= end)
			break;
		while (at < end) {
			u32 length = __atomic_load_n((const u32 *)(s->data + (at & s->mask)),
						     __ATOMIC_ACQUIRE);

			if (length & BPF_RINGBUF_BUSY_BIT)
				goto out;
			if (!(length & BPF_RINGBUF_DISCARD_BIT))
				s->received++;
			at += ub_round_up((length << 2 >> 2) + 8u, 8u);
			__atomic_store_n(s->consumer, at, __ATOMIC_RELEASE);
		}
	}
out:
	return at != before;
}

static void *read_all(void *opaque)
{
	struct scene *s = opaque;

	for (;;) {
		bool drained = __atomic_load_n(&s->drained, __ATOMIC_ACQUIRE);

		if (!consume(s)) {
			if (drained)
				return NULL;
			nap_us(IDLE_US);
		}
	}
}

static bool alive(void *opaque, u64 tid)
{
	return true;
}

/* As daemon/events.c and kernel/events.c do it. */
static void *deliver(void *opaque)
{
	struct scene *s = opaque;
	struct ub_event event;

	for (;;) {
		bool stop = __atomic_load_n(&s->stop, __ATOMIC_ACQUIRE);
		bool any = false;

		while (ub_event_read(s->ours->reader, &event, alive, NULL) == 1) {
			any = true;
			s->lost += ub_client_ring_append(&s->ours->map, &s->ring, event.data,
							 event.size, event.wakeup) != 0;
			if (s->ring.producer - s->ring.published >= PUBLISH_AT)
				ub_client_ring_publish(&s->ours->map, &s->ring);
		}
		ub_client_ring_publish(&s->ours->map, &s->ring);
		if (any)
			continue;
		if (stop)
			return NULL;
		nap_us(IDLE_US);
	}
}

/* Records per second that arrived. */
static double play(struct scene *s)
{
	pthread_t producers[PRODUCERS], reader, daemon;
	bool has_daemon = s->ours && !pthread_create(&daemon, NULL, deliver, s);

	if (pthread_create(&reader, NULL, read_all, s))
		exit(1);
	for (u32 i = 0; i < PRODUCERS; i++)
		if (pthread_create(&producers[i], NULL, produce, s))
			exit(1);
	nap_us(RUN_MS * 1000);
	__atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
	for (u32 i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	if (has_daemon) {
		pthread_join(daemon, NULL);
		/* What came between its last look and the end. */
		s->stop = true;
		deliver(s);
	}
	__atomic_store_n(&s->drained, true, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	return (double)s->received * 1e3 / RUN_MS;
}

static double play_kernel(double *lost)
{
	struct ub_map_attr attr = bench_map_attr_of(&row);
	struct scene s = { .program = -1, .mask = attr.max_entries - 1 };
	int map = kernel_map_create(&attr);
	double rate = 0;
	u8 *producer;

	if (map < 0)
		return 0;
	s.program = bench_map_load_kernel(&row, map);
	s.consumer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	producer = mmap(NULL, PAGE + 2ul * attr.max_entries, PROT_READ, MAP_SHARED, map, PAGE);
	if (s.program >= 0 && s.consumer != MAP_FAILED && producer != MAP_FAILED) {
		s.producer = (u64 *)producer;
		s.data = producer + PAGE;
		rate = play(&s);
		*lost = (double)(s.attempts - s.received) / (double)(s.attempts ? s.attempts : 1);
	}
	if (s.consumer != MAP_FAILED)
		munmap(s.consumer, PAGE);
	if (producer != MAP_FAILED)
		munmap(producer, PAGE + 2ul * attr.max_entries);
	if (s.program >= 0)
		close(s.program);
	close(map);
	return rate;
}

static double play_ours(double *lost, u64 *uncounted)
{
	struct prepared p = { .kernel_map = -1, .kernel_program = -1 };
	struct scene s = { .ours = &p };
	double rate;

	if (bench_map_prepare_ours(&row, &p))
		return 0;
	s.consumer = (u64 *)p.map.shared;
	s.producer = (u64 *)(p.map.shared + PAGE);
	s.data = p.map.shared + p.map.values_offset;
	s.mask = p.map.mask;
	rate = play(&s);
	s.lost += ub_event_lost(p.ring);
	*lost = (double)s.lost / (double)(s.attempts ? s.attempts : 1);
	*uncounted = s.attempts - s.received - s.lost;
	ub_jitted_destroy(p.jitted);
	ub_event_reader_free(p.reader);
	free(p.ring);
	our_map_destroy(&p.map);
	return rate;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int bench_map_producers(u32 rounds)
{
	double kernels[MAX_ROUNDS], ours[MAX_ROUNDS], kernel_lost = 0, our_lost = 0, kernel, our;
	u64 uncounted = 0, all_uncounted = 0;

	for (u32 i = 0; i < rounds; i++) {
		kernels[i] = play_kernel(&kernel_lost);
		ours[i] = play_ours(&our_lost, &uncounted);
		all_uncounted |= uncounted;
	}
	qsort(kernels, rounds, sizeof(*kernels), by_value);
	qsort(ours, rounds, sizeof(*ours), by_value);
	kernel = kernels[rounds / 2];
	our = ours[rounds / 2];
	printf("\nrecords/s, %u producers, one reader (lost of what was written)\n", PRODUCERS);
	printf("%-21s %7.1fM (%2.0f%%) %7.1fM (%2.0f%%) %6.1fx\n", "ringbuf output", kernel / 1e6,
	       kernel_lost * 100, our / 1e6, our_lost * 100, kernel > 0 ? our / kernel : 0);
	if (all_uncounted)
		printf("%lld records were lost and not counted\n", (long long)uncounted);
	return all_uncounted || our <= 0;
}
