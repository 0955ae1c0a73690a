// SPDX-License-Identifier: MIT
/*
 * Maps whose shared memory somebody scribbles on: every operation still ends, soon, and touches
 * nothing outside that memory (which has inaccessible pages on both sides).
 *
 *   fuzz_map_hostile [-n ROUNDS] [-s SEED]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map/client_ring.h>
#include <map/iterate.h>
#include <map/mem.h>
#include <map/stack_trace.h>
#include <map/task_storage.h>
#include <map/user_ring.h>

#include "../map/sides.h"

#define PAGE 4096ull
#define OPS  60

static u64 random_state;

static u32 pick(u32 n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(random_state >> 33) % n;
}

static bool is_alive(void *opaque, u32 tgid)
{
	return tgid % 2;
}

/* Between two pages that nobody may touch. */
static void create(struct ub_map *map, const struct ub_map_attr *attr)
{
	u64 size = ub_map_shared_size(attr, 2);
	u8 *base = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED || mprotect(base + PAGE, size, PROT_READ | PROT_WRITE)) {
		perror("mmap");
		exit(1);
	}
	ub_map_bind(map, attr, 2, base + PAGE);
	ub_map_format(map);
}

static void scribble(struct ub_map *map)
{
	u64 nr_words = map->shared_size / 8, *words = (u64 *)map->shared;

	for (u32 n = 1 + pick(pick(4) ? 4 : 200); n; n--) {
		u64 *at = &words[pick((u32)nr_words)];

		/* More often where the structure is than in the values. */
		if (pick(2))
			at = &words[pick((u32)(nr_words < 160 ? nr_words : 160))];
		switch (pick(5)) {
		case 0:
			*at = 0;
			break;
		case 1:
			*at = pick(64);
			break;
		case 2:
			*at ^= 1ull << pick(64);
			break;
		case 3:
			*at = words[pick((u32)nr_words)];
			break;
		default:
			*at = (u64)pick(UINT32_MAX) << 32 | pick(UINT32_MAX);
			break;
		}
	}
}

static long touch_all(void *opaque, void *data, u32 size)
{
	volatile u8 *bytes = data;
	u32 *calls = opaque;

	for (u32 i = 0; i < size; i += 64)
		bytes[i]++;
	return ++*calls > 100;
}

/* As programs, the daemon and the client do. */
static void operate_ring(struct ub_map *map, struct ub_run *run)
{
	static struct ub_client_ring ring;
	static u8 data[5000];
	u32 calls = 0;

	if (map->attr.type == BPF_MAP_TYPE_USER_RINGBUF) {
		ub_user_ring_drain(map, pick(4), touch_all, &calls, run);
		return;
	}
	if (ring.producer - ub_load64(map->shared + PAGE) > PAGE)
		ring = (struct ub_client_ring) { 0 };
	if (ub_client_ring_append(map, &ring, data, pick(5000), pick(4)))
		ring.consumer = ring.producer;
	ub_client_ring_publish(map, &ring);
	ub_client_ring_available(map, &ring);
}

static void operate(struct ub_map *map)
{
	u64 key[4] = { 0 }, value[64] = { 0 }, next[4];
	struct ub_process process = { .tgid_pid = pick(10), .nr_cpus = 2 };
	struct ub_run run = { .process = &process, .cpu = pick(2) };
	const void *met;
	void *found;
	int err = 0;

	key[0] = pick(40);
	if (map->attr.type == BPF_MAP_TYPE_RINGBUF || map->attr.type == BPF_MAP_TYPE_USER_RINGBUF) {
		operate_ring(map, &run);
		return;
	}
	if (map->attr.type == BPF_MAP_TYPE_TASK_STORAGE && pick(2)) {
		found = ub_task_storage_get(map, key[0], pick(2) ? value : NULL, pick(3), &run);
		if (found)
			memset(found, 0x5a, map->attr.value_size);
		return;
	}
	if (map->attr.type == BPF_MAP_TYPE_LPM_TRIE)
		key[0] = (u64)pick(8) << 32 | pick(33);
	switch (pick(11)) {
	case 0:
	case 1:
		ub_map_update(map, key, value, pick(3) | (pick(3) ? 0 : BPF_F_LOCK), &run);
		break;
	case 2:
		ub_map_delete(map, key, &run);
		break;
	case 3:
		found = ub_map_lookup(map, key, &run);
		if (found)
			memset(found, 0x5a, map->attr.value_size);
		break;
	case 4:
		ub_map_push_run(map, value, pick(3), &run);
		break;
	case 5:
		ub_map_pop(map, value);
		ub_map_peek(map, value);
		break;
	case 6:
		err = ub_map_sys_lookup(map, key, value, pick(3) ? 0 : BPF_F_LOCK);
		break;
	case 7:
		for (u32 n = 0; n < 200 && !err; n++) {
			err = ub_map_sys_next_key(map, n ? key : NULL, next);
			memcpy(key, next, map->attr.key_size);
		}
		break;
	case 8:
		err = ub_map_sys_lookup_and_delete(map, key, value, 0);
		break;
	case 9:
		if (map->attr.type == BPF_MAP_TYPE_STACK_TRACE) {
			u32 node = UB_STACK_TRACE_NO_NODE;
			u64 *ips = pick(2) ? ub_stack_trace_take(map, &run, &node) : NULL;

			ips = ips ? ips : value;
			ips[0] = pick(100);
			ub_stack_trace_put(map, node, ips, pick(8),
					   pick(2) ? BPF_F_REUSE_STACKID : 0, &run);
		} else if (ub_map_iterable(map)) {
			struct ub_map_iter iter = { 0 };

			for (u32 n = 0; n < 200; n++) {
				if (!ub_map_iterate(map, &iter, &met, &found, &run))
					break;
			}
		}
		break;
	default:
		if (!pick(10))
			ub_map_sweep(map, is_alive, NULL);
		break;
	}
	(void)err;
}

int main(int argc, char **argv)
{
	static const struct ub_map_attr shapes[] = {
		{ BPF_MAP_TYPE_HASH, 4, 8, 20 },
		{ BPF_MAP_TYPE_HASH, 20, 40, 300 },
		{ BPF_MAP_TYPE_PERCPU_HASH, 8, 8, 20 },
		{ BPF_MAP_TYPE_LRU_HASH, 8, 8, 20 },
		{ BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 8, 20 },
		{ BPF_MAP_TYPE_ARRAY, 4, 8, 20 },
		{ BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 20 },
		{ BPF_MAP_TYPE_LPM_TRIE, 8, 8, 20, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_QUEUE, 0, 8, 20 },
		{ BPF_MAP_TYPE_STACK, 0, 8, 20 },
		{ BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 20 },
		{ BPF_MAP_TYPE_STACK_TRACE, 4, 64, 16 },
		{ BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 20 },
		{ BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 20 },
		{ BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 20 },
		{ BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 20 },
		{ BPF_MAP_TYPE_HASH, 4, 24, 20, 0, 0, 0, 9 },
		{ BPF_MAP_TYPE_ARRAY, 4, 24, 20, 0, 0, 0, 9 },
		{ BPF_MAP_TYPE_TASK_STORAGE, 4, 64, 0, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_RINGBUF, 0, 0, 4096 },
		{ BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096 },
	};
	u64 rounds = 400, seed = (u64)time(NULL);
	int option;

	while ((option = getopt(argc, argv, "n:s:")) != -1) {
		if (option == 'n')
			rounds = strtoull(optarg, NULL, 0);
		else if (option == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	random_state = seed;
	for (u64 round = 0; round < rounds; round++) {
		const struct ub_map_attr *attr = &shapes[round % ub_array_size(shapes)];
		struct ub_map map;

		create(&map, attr);
		for (u32 i = 0; i < OPS; i++)
			operate(&map);
		for (u32 n = 0; n < 10; n++) {
			scribble(&map);
			for (u32 i = 0; i < OPS; i++)
				operate(&map);
		}
		munmap(map.shared - PAGE, map.shared_size + 2 * PAGE);
	}
	return 0;
}
