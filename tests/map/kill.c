// SPDX-License-Identifier: MIT
/*
 * Processes hammer one map and are stopped and killed at random moments. The one that stays is
 * never held up, and when all is over the map works as if new: it takes exactly what it should, and
 * counts what it holds.
 *
 *   kill [-n KILLS] [-t TYPE]
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/clock.h>
#include <map/hold.h>
#include <map/stack_trace.h>
#include <map/task_storage.h>
#include <map/user_ring.h>

#include "sides.h"

#define WORKERS	      3
#define DEFAULT_KILLS 60
#define MIN_KILLS     10
#define MAX_NS	      8000000000ull /* for each type, if not asked for more kills */
#define KEYS	      64
#define LOCK_AT	      16 /* of a value's bpf_spin_lock */

static u64 random_state;

static u32 pick(u32 n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(random_state >> 33) % n;
}

static bool is_array(const struct ub_map *map)
{
	return map->attr.type == BPF_MAP_TYPE_ARRAY || map->attr.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static void make_key(const struct ub_map *map, u64 *key)
{
	key[0] = pick(KEYS);
	key[1] = 0;
	if (map->attr.type == BPF_MAP_TYPE_LPM_TRIE)
		key[0] = (u64)pick(256) << 32 | pick(33);
}

/* A sample of a user ring buffer, as libbpf writes it; its two words are equal. */
static void write_sample(struct ub_map *map)
{
	u64 *consumer = (u64 *)map->shared, *producer = (u64 *)(map->shared + 4096), at = *producer;
	u8 *data = map->shared + map->values_offset;
	u64 sample[2] = { at, at };

	if (at + 24 - __atomic_load_n(consumer, __ATOMIC_ACQUIRE) > map->attr.max_entries)
		return;
	*(u32 *)(data + (at & map->mask)) = sizeof(sample);
	memcpy(data + ((at + 8) & map->mask), sample, sizeof(sample));
	__atomic_store_n(producer, at + 24, __ATOMIC_RELEASE);
}

static long check_sample(void *opaque, void *data, u32 size)
{
	const u64 *words = data;

	if (size != 16 || words[0] != words[1])
		*(bool *)opaque = false;
	return 0;
}

static bool operate_user_ring(struct ub_map *map, struct ub_run *run)
{
	bool good = true;
	long ret = ub_user_ring_drain(map, 0, check_sample, &good, run);

	return good && (ret >= 0 || ret == -EBUSY);
}

static bool operate_task_storage(struct ub_map *map, struct ub_run *run)
{
	u64 value[2] = { 7, 7 }, task = pick(KEYS), *found;
	long err;

	if (pick(4)) {
		found = ub_task_storage_get(map, task, value, pick(2), run);
		return !found || found[0];
	}
	err = ub_task_storage_delete(map, task, run);
	return !err || err == -ENOENT || err == -EBUSY;
}

/* Half of a trace says what the other half is. */
static bool operate_stack_trace(struct ub_map *map, struct ub_run *run)
{
	u64 ips[8], copy[8];
	u32 node;
	u64 *to = ub_stack_trace_take(map, run, &node);
	long id;

	for (u32 i = 0, kind = pick(4 * KEYS); i < 8; i++)
		ips[i] = i < 4 ? kind + 1 : ~(u64)(kind + 1);
	if (to)
		memcpy(to, ips, sizeof(ips));
	id = ub_stack_trace_put(map, node, to ? to : ips, 8, pick(2) ? BPF_F_REUSE_STACKID : 0,
				run);
	if (id >= 0 && !ub_stack_trace_copy(map, (u32)id, copy) && copy[7] != ~copy[0])
		return false;
	return id >= 0 || id == -EEXIST || id == -EBUSY || id == -ENOMEM;
}

/* What somebody has pushed to the end is in it for good. */
static bool operate_bloom(struct ub_map *map, struct ub_run *run)
{
	u64 value[2] = { pick(KEYS), 1 };

	return !ub_map_push_run(map, value, BPF_ANY, run) && !ub_map_peek(map, value);
}

/* One operation as a program makes it. False: a result that no state of the map explains. */
static bool operate(struct ub_map *map, struct ub_run *run)
{
	u64 key[2], value[3] = { 0x1111111111111111ull * (1 + pick(8)) }, *found;
	long err;

	value[1] = value[0];
	make_key(map, key);
	run->cpu = pick(map->nr_cpus);
	switch (map->attr.type) {
	case BPF_MAP_TYPE_USER_RINGBUF:
		return operate_user_ring(map, run);
	case BPF_MAP_TYPE_TASK_STORAGE:
		return operate_task_storage(map, run);
	case BPF_MAP_TYPE_STACK_TRACE:
		return operate_stack_trace(map, run);
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return operate_bloom(map, run);
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		if (pick(2)) {
			err = ub_map_push_run(map, value, pick(2) ? BPF_EXIST : 0, run);
			return !err || err == -E2BIG || err == -EBUSY;
		}
		err = pick(4) ? ub_map_pop_run(map, value, run) : ub_map_peek(map, value);
		if (!err && value[0] != value[1])
			return false;
		return !err || err == -ENOENT || err == -EBUSY;
	default:
		break;
	}
	switch (pick(4)) {
	case 0:
	case 1:
		err = ub_map_update(map, key, value,
				    pick(3) | (map->attr.lock && pick(4) ? BPF_F_LOCK : 0), run);
		return !err || err == -EEXIST || err == -ENOENT || err == -E2BIG || err == -EBUSY ||
		       err == -ENOSPC || err == -ENOMEM;
	case 2:
		err = ub_map_delete(map, key, run);
		return !err || err == -ENOENT || err == -EBUSY || (err == -EINVAL && is_array(map));
	default:
		found = ub_map_lookup(map, key, run);
		return !found || (found[0] | 1);
	}
}

static pid_t start_worker(struct ub_map *map)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* Whatever becomes of the test, this ends. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(120);
	struct ub_process process = { .size = sizeof(process),
				      .nr_cpus = map->nr_cpus,
				      .tgid_pid = (u64)getpid(),
				      .own_tgid = (u32)getpid() };
	/* As in a target. */
	static struct ub_holds holds __attribute__((aligned(UB_HOLDS_SIZE)));
	struct ub_run run = { .process = &process, .cpu = 0, .holds = &holds };

	random_state = (u64)getpid() * 77 + (u64)time(NULL);
	for (;;) {
		if (!operate(map, &run)) {
			fprintf(stderr, "a result that can't be\n");
			_exit(1);
		}
	}
}

static bool is_alive(void *opaque, u32 tgid)
{
	const pid_t *workers = opaque;

	for (u32 i = 0; i < WORKERS; i++) {
		if ((u32)workers[i] == tgid)
			return true;
	}
	return false;
}

static void nap(u32 us)
{
	struct timespec ts = { .tv_nsec = us * 1000L };

	nanosleep(&ts, NULL);
}

/* With everybody dead, the next to come drains the ring. */
static int check_user_ring(struct ub_map *map)
{
	struct ub_process process = { .nr_cpus = map->nr_cpus };
	struct ub_run run = { .process = &process };
	bool good = true;
	long n;

	write_sample(map);
	n = ub_user_ring_drain(map, 0, check_sample, &good, &run);
	if (n < 1 || !good)
		fprintf(stderr, "draining the user ring buffer: %ld, samples %s\n", n,
			good ? "good" : "torn");
	return n < 1 || !good;
}

/* With everybody dead, values are whole again once somebody has written them under their locks. */
static int check_locks(struct ub_map *map)
{
	u64 key[2] = { 0 }, value[3] = { 5, 5, 0 }, got[3];

	for (u32 n = 0; n < KEYS; n++) {
		int err;

		key[0] = n;
		err = ub_map_sys_update(map, key, value, BPF_F_LOCK);
		if (err == -E2BIG)
			continue;
		if (!err)
			err = ub_map_sys_lookup(map, key, got, BPF_F_LOCK);
		if (err || got[0] != 5 || got[1] != 5 || got[2]) {
			fprintf(stderr, "a locked value can't be written: %d\n", err);
			return 1;
		}
	}
	return 0;
}

/* With everybody dead, each bucket takes a trace, and as many as ever may be on their way. */
static int check_traces(struct ub_map *map)
{
	u32 filled = 0, spare = 0, node;
	u64 ips[8] = { 0 };

	for (u64 n = 0; n < 64 * (map->mask + 1); n++) {
		ips[0] = n + 1;
		if (ub_stack_trace_put(map, UB_STACK_TRACE_NO_NODE, ips, 8, BPF_F_REUSE_STACKID,
				       NULL) < 0) {
			fprintf(stderr, "a stack trace is refused\n");
			return 1;
		}
	}
	for (u32 id = 0; !ub_stack_trace_next(map, id, &node); id = node + 1)
		filled++;
	while (ub_stack_trace_take(map, NULL, &node))
		spare++;
	if (filled != map->mask + 1 || spare != 4 * map->nr_cpus)
		fprintf(stderr, "%u stack traces and %u spare nodes\n", filled, spare);
	return filled != map->mask + 1 || spare != 4 * map->nr_cpus;
}

static int check_lru(struct ub_map *map)
{
	u64 key[2] = { 0 }, value[8] = { 0 };
	u32 held = 0;

	for (u32 n = 0; n < map->attr.max_entries * 2; n++) {
		int err;

		key[0] = n;
		err = ub_map_sys_update(map, key, value, BPF_NOEXIST);
		if (err) {
			fprintf(stderr, "LRU: error %d\n", err);
			return 1;
		}
	}
	while (held <= map->attr.max_entries && !ub_map_sys_next_key(map, NULL, key) &&
	       !ub_map_sys_delete(map, key))
		held++;
	if (held > map->attr.max_entries || held < map->attr.max_entries / 2) {
		fprintf(stderr, "LRU: holds %u of %u\n", held, map->attr.max_entries);
		return 1;
	}
	return 0;
}

/* Empties the map and sees how much it takes. */
static int check_capacity(struct ub_map *map)
{
	const u32 max = map->attr.type == BPF_MAP_TYPE_TASK_STORAGE ? UB_TASK_STORAGE_MAX
								    : map->attr.max_entries;
	u64 key[2] = { 0 }, value[8] = { 0 };
	u32 n = 0;
	int err = 0;

	if (map->attr.type == BPF_MAP_TYPE_USER_RINGBUF)
		return check_user_ring(map);
	if (map->attr.lock && check_locks(map))
		return 1;
	if (is_array(map) || map->attr.type == BPF_MAP_TYPE_BLOOM_FILTER)
		return 0;
	if (map->attr.type == BPF_MAP_TYPE_STACK_TRACE)
		return check_traces(map);
	if (map->attr.type == BPF_MAP_TYPE_QUEUE || map->attr.type == BPF_MAP_TYPE_STACK) {
		while (n <= max && !ub_map_pop(map, value))
			n++;
		if (n > max) {
			fprintf(stderr, "%u elements in a map of %u\n", n, max);
			return 1;
		}
		for (n = 0; n < max * 2 && !err; n++)
			err = (int)ub_map_push(map, value, 0);
		n -= !!err;
	} else {
		while (!ub_map_sys_next_key(map, NULL, key)) {
			if (++n > max || ub_map_sys_delete(map, key)) {
				fprintf(stderr, "can't be emptied\n");
				return 1;
			}
		}
		if (map->attr.type == BPF_MAP_TYPE_LRU_HASH ||
		    map->attr.type == BPF_MAP_TYPE_LRU_PERCPU_HASH)
			return check_lru(map);
		for (n = 0; n < max * 2 && !err; n++) {
			key[0] = map->attr.type == BPF_MAP_TYPE_LPM_TRIE ? (u64)n << 32 | 32 : n;
			err = ub_map_sys_update(map, key, value, BPF_NOEXIST);
		}
		n -= !!err;
	}
	if (n != max) {
		fprintf(stderr, "type %u takes %u of %u elements\n", map->attr.type, n, max);
		return 1;
	}
	return 0;
}

static int run_type(const struct ub_map_attr *attr, u32 kills)
{
	pid_t workers[WORKERS] = { 0 };
	/* On a busy machine fewer are enough. */
	const u64 until_ns = ub_now_ns() + (kills > DEFAULT_KILLS ? ~0ull >> 1 : MAX_NS);
	struct ub_map map;
	int bad = 0;

	our_map_create(&map, attr);
	for (u32 i = 0; i < WORKERS; i++)
		workers[i] = start_worker(&map);
	for (u32 k = 0; k < kills && !bad && (k < MIN_KILLS || ub_now_ns() < until_ns); k++) {
		u32 victim = pick(WORKERS), stopped = pick(WORKERS);
		struct ub_process process = { .nr_cpus = map.nr_cpus, .tgid_pid = (u64)getpid() };
		struct ub_run run = { .process = &process };
		int status;

		nap(100 + pick(1500));
		/* With one stopped at any point, the others go on. */
		kill(workers[stopped], SIGSTOP);
		for (u32 i = 0; attr->type == BPF_MAP_TYPE_USER_RINGBUF && i < 50; i++)
			write_sample(&map);
		for (u32 i = 0; i < 50 && !bad; i++)
			bad = !operate(&map, &run);
		kill(workers[victim], SIGKILL);
		waitpid(workers[victim], &status, 0);
		if (WIFEXITED(status))
			bad = 1;
		workers[victim] = 0;
		if (stopped != victim)
			kill(workers[stopped], SIGCONT);
		if (k % 8 == 7)
			ub_map_sweep(&map, is_alive, workers);
		workers[victim] = start_worker(&map);
	}
	for (u32 i = 0; i < WORKERS; i++) {
		kill(workers[i], SIGKILL);
		waitpid(workers[i], NULL, 0);
		workers[i] = 0;
	}
	ub_map_sweep(&map, is_alive, workers);
	if (!bad)
		bad = check_capacity(&map);
	our_map_destroy(&map);
	return bad;
}

int main(int argc, char **argv)
{
	static const struct ub_map_attr shapes[] = {
		{ BPF_MAP_TYPE_HASH, 8, 16, 40 },
		{ BPF_MAP_TYPE_HASH, 8, 16, 128 },
		{ BPF_MAP_TYPE_PERCPU_HASH, 8, 16, 40 },
		{ BPF_MAP_TYPE_LRU_HASH, 8, 16, 40 },
		{ BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 16, 40 },
		{ BPF_MAP_TYPE_LPM_TRIE, 8, 16, 40, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_QUEUE, 0, 16, 40 },
		{ BPF_MAP_TYPE_STACK, 0, 16, 40 },
		{ BPF_MAP_TYPE_HASH, 8, 24, 40, 0, 0, 0, LOCK_AT + 1 },
		{ BPF_MAP_TYPE_ARRAY, 4, 24, KEYS, 0, 0, 0, LOCK_AT + 1 },
		{ BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, KEYS },
		{ BPF_MAP_TYPE_STACK_TRACE, 4, 64, 64 },
		{ BPF_MAP_TYPE_BLOOM_FILTER, 0, 16, KEYS },
		{ BPF_MAP_TYPE_TASK_STORAGE, 4, 16, 0, BPF_F_NO_PREALLOC },
		{ BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 65536 },
	};
	u32 kills = DEFAULT_KILLS, type = 0;
	int bad = 0, option;

	while ((option = getopt(argc, argv, "n:t:")) != -1) {
		if (option == 'n')
			kills = (u32)strtoul(optarg, NULL, 0);
		else if (option == 't')
			type = (u32)strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	random_state = (u64)time(NULL) ^ (u64)getpid() << 20;
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		if (!type || type == shapes[i].type)
			bad |= run_type(&shapes[i], kills);
	}
	return bad;
}
