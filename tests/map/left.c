// SPDX-License-Identifier: MIT
/*
 * Hits that are left for good: a signal handler interrupts a program in the middle of an operation
 * on a map and leaves by siglongjmp(). Each operation is left before each single instruction of it,
 * and nothing is lost: the thread's next hit knows what was left.
 *
 * And hits that are only interrupted, at each instruction, by a handler that goes on elsewhere, on
 * another stack, and comes back: nothing is taken from them.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include <map/event_ring.h>
#include <map/hold.h>
#include <map/pool.h>
#include <map/stack_trace.h>
#include <map/task_storage.h>
#include <map/user_ring.h>

#include "sides.h"

#define MAX	  8
#define RING_SIZE 65536
#define SAMPLE	  16

typedef void (*operation)(struct ub_map *map, struct ub_run *run);

static struct ub_holds holds __attribute__((aligned(UB_HOLDS_SIZE)));
static struct ub_process process;
static u32 counter;

/* --- interrupting ---------------------------------------------------------------------------- */

#define MAX_TEXT (1u << 24)

extern const u8 __executable_start[], etext[]; /* of the linker */

static sigjmp_buf env;
static u8 seen[MAX_TEXT / 8]; /* which of our instructions an operation was seen at */
static bool recording;
static u8 *planted, replaced; /* where an int3 stands for the first byte of an instruction */
static bool reached;
static void (*interrupted)(void); /* instead of leaving */

static void on_trap(int signal, siginfo_t *info, void *opaque)
{
	greg_t *ip = &((ucontext_t *)opaque)->uc_mcontext.gregs[REG_RIP];
	u64 offset = (u64)*ip - (u64)__executable_start;

	if (recording) {
		if (offset < MAX_TEXT && (u64)*ip < (u64)etext)
			seen[offset / 8] |= (u8)(1u << offset % 8);
		return;
	}
	if (!planted || (u64)*ip != (u64)planted + 1)
		abort();
	*planted = replaced;
	planted = NULL;
	--*ip;
	reached = true;
	if (interrupted)
		interrupted();
	else
		siglongjmp(env, 1);
}

static inline void flip_trap_flag(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; xorq $0x100, (%%rsp); popfq;"
			 "lea 128(%%rsp), %%rsp"
			 :
			 :
			 : "cc", "memory");
}

/* As a trampoline does: the run on the stack. */
static __attribute__((noinline)) void hit(struct ub_map *map, operation op)
{
	struct ub_run run = { .process = &process, .holds = &holds };

	op(map, &run);
	assert_int_equal(run.held, 0);
}

/* The same, deeper by @depth bytes. */
static __attribute__((noinline)) void deep_hit(struct ub_map *map, operation op, u32 depth)
{
	volatile char *room = __builtin_alloca(depth);

	room[0] = 1;
	hit(map, op);
	room[depth - 1] = 1;
}

static void record(struct ub_map *map, operation op)
{
	struct ub_run run = { .process = &process, .holds = &holds };

	recording = true;
	flip_trap_flag();
	op(map, &run);
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq;"
			 "lea 128(%%rsp), %%rsp"
			 :
			 :
			 : "cc", "memory");
	recording = false;
}

/* Under sanitizers an operation has many times as many instructions: some of them do. */
static bool sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#else
	return false;
#endif
}

/* The next instruction of an operation at or behind @at, or NULL. */
static u8 *next_instruction(u8 *at)
{
	u32 skip = sanitized() ? 11 : 1;

	for (; at < etext; at++) {
		u64 offset = (u64)(at - __executable_start);

		if (seen[offset / 8] >> offset % 8 & 1 && !--skip)
			return at;
	}
	return NULL;
}

/* Whether @op came to @at, before which it was left or interrupted. */
static bool hit_until(struct ub_map *map, operation op, u32 depth, u8 *at)
{
	planted = at;
	replaced = *at;
	reached = false;
	*at = 0xcc;
	if (!sigsetjmp(env, 1))
		deep_hit(map, op, depth);
	if (planted)
		*planted = replaced;
	planted = NULL;
	return reached;
}

/* --- operations ----------------------------------------------------------------------------- */

static void change_hash(struct ub_map *map, struct ub_run *run)
{
	u64 key[2] = { 0x2000000001 }, value[2] = { 1, 1 };

	ub_map_update(map, key, value, BPF_ANY, run);
	ub_map_update(map, key, value, BPF_ANY, run);
	ub_map_delete(map, key, run);
}

static void change_lru(struct ub_map *map, struct ub_run *run)
{
	u64 key[2] = { 100 + counter++ % 4096 }, value[2] = { 1, 1 };

	ub_map_update(map, key, value, BPF_ANY, run);
}

static void change_task_storage(struct ub_map *map, struct ub_run *run)
{
	u64 value[2] = { 0 };

	ub_task_storage_get(map, 4711, value, BPF_LOCAL_STORAGE_GET_F_CREATE, run);
	ub_task_storage_delete(map, 4711, run);
}

static void change_queue(struct ub_map *map, struct ub_run *run)
{
	u64 value[2] = { 1, 1 };

	ub_map_push_run(map, value, 0, run);
	ub_map_push_run(map, value, BPF_EXIST, run);
	ub_map_pop_run(map, value, run);
	ub_map_pop_run(map, value, run);
	ub_map_push_run(map, value, BPF_EXIST, run);
}

static void change_stack_trace(struct ub_map *map, struct ub_run *run)
{
	u64 ips[2] = { 7, counter++ };
	u32 node;
	u64 *to = ub_stack_trace_take(map, run, &node);

	if (to)
		memcpy(to, ips, sizeof(ips));
	(void)ub_stack_trace_put(map, node, to ? to : ips, 2, BPF_F_REUSE_STACKID, run);
	(void)ub_stack_trace_put(map, UB_STACK_TRACE_NO_NODE, ips, 1, BPF_F_REUSE_STACKID, run);
}

static long each_sample(void *opaque, void *data, u32 size)
{
	return 0;
}

static void drain(struct ub_map *map, struct ub_run *run)
{
	(void)ub_user_ring_drain(map, 0, each_sample, NULL, run);
}

/* Two records, one of which is written while the other is not submitted. */
static void write_records(struct ub_map *map, struct ub_run *run)
{
	u64 *first = ub_event_reserve_in(map, SAMPLE, run);
	u64 *second = ub_event_reserve_in(map, SAMPLE, run);

	if (first)
		first[0] = 1;
	if (second)
		ub_event_commit(second, true, 0, run);
	if (first)
		ub_event_commit(first, false, 0, run);
}

/* --- what is left --------------------------------------------------------------------------- */

static bool always(void *opaque, u32 tgid)
{
	return true;
}

static u32 nr_used(const struct ub_map *map)
{
	u32 n = 0;

	for (u32 i = 0; i < map->type_words[UB_W_NR_NODES]; i++)
		n += ub_pool_node(map, i)->state & UB_NODE_USED;
	return n;
}

static bool is_of_nodes(const struct ub_map *map)
{
	return map->attr.type != BPF_MAP_TYPE_USER_RINGBUF &&
	       map->attr.type != BPF_MAP_TYPE_RINGBUF;
}

static void empty(struct ub_map *map)
{
	u64 key[2], value[2];

	if (map->attr.type == BPF_MAP_TYPE_QUEUE || map->attr.type == BPF_MAP_TYPE_STACK) {
		while (!ub_map_pop(map, value))
			;
		return;
	}
	if (map->attr.type == BPF_MAP_TYPE_STACK_TRACE) {
		for (u32 id = 0; id <= map->mask; id++)
			(void)ub_stack_trace_delete(map, id);
		return;
	}
	if (map->attr.type == BPF_MAP_TYPE_TASK_STORAGE) {
		key[0] = 4711;
		(void)ub_task_storage_delete(map, key[0], NULL);
		return;
	}
	while (!ub_map_sys_next_key(map, NULL, key))
		assert_int_equal(ub_map_sys_delete(map, key), 0);
}

/* Nothing is used in the emptied map, and all can be found. */
static void check_whole(struct ub_map *map)
{
	const bool extra = map->attr.type == BPF_MAP_TYPE_HASH;
	u32 n = 0, nr_extra = 0;

	empty(map);
	assert_int_equal(nr_used(map), map->attr.type == BPF_MAP_TYPE_QUEUE ? 1 : 0);
	while (ub_pool_take(map, NULL) != UB_NO_NODE)
		n++;
	while (ub_pool_take_extra(map, NULL) != UB_NO_NODE)
		nr_extra++;
	assert_int_equal(n + nr_extra, map->type_words[UB_W_NR_NODES] -
					       (map->attr.type == BPF_MAP_TYPE_QUEUE ? 1 : 0));
	if (map->attr.max_entries)
		assert_true(n >= map->attr.max_entries);
	if (extra)
		assert_true(nr_extra > 0);
}

static void make(struct ub_map *map, const struct ub_map_attr *attr)
{
	our_map_create(map, attr);
	memset(&holds, 0, sizeof(holds));
	process = (struct ub_process) { .size = sizeof(process),
					.nr_cpus = map->nr_cpus,
					.tgid_pid = (u64)getpid(),
					.own_tgid = (u32)getpid() };
	interrupted = NULL;
}

/* Single steps are slow: a virtual machine leaves its guest for each. */
static void learn(struct ub_map *map, operation op)
{
	static operation learnt;

	if (sanitized() && op == learnt)
		return;
	memset(seen, 0, sizeof(seen));
	for (u32 i = 0; i < (sanitized() ? 1 : 3); i++)
		record(map, op);
	learnt = op;
}

static void leave_everywhere(const struct ub_map_attr *attr, operation op)
{
	struct ub_map map;
	u32 left = 0;

	make(&map, attr);
	learn(&map, op);
	for (u8 *at = next_instruction((u8 *)__executable_start); at;
	     at = next_instruction(at + 1)) {
		left += hit_until(&map, op, 64, at);
		/* The thread's next hit, as deep as that one. */
		deep_hit(&map, op, 64);
		ub_map_sweep(&map, always, NULL);
		for (u32 i = 0; i < UB_HOLDS; i++)
			assert_int_equal(holds.hold[i].run, 0);
	}
	assert_true(left > 50);
	if (is_of_nodes(&map)) {
		check_whole(&map);
	} else {
		struct ub_run run = { .process = &process };

		assert_true(ub_user_ring_drain(&map, 0, each_sample, NULL, &run) >= 0);
	}
	our_map_destroy(&map);
}

static const struct {
	struct ub_map_attr attr;
	operation op;
} all[] = {
	{ { BPF_MAP_TYPE_HASH, 8, 16, MAX }, change_hash },
	{ { BPF_MAP_TYPE_HASH, 8, 16, 200, BPF_F_NO_PREALLOC }, change_hash },
	{ { BPF_MAP_TYPE_PERCPU_HASH, 8, 16, MAX }, change_hash },
	{ { BPF_MAP_TYPE_LRU_HASH, 8, 16, MAX }, change_hash },
	{ { BPF_MAP_TYPE_LRU_HASH, 8, 16, MAX }, change_lru },
	{ { BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 16, MAX }, change_lru },
	{ { BPF_MAP_TYPE_LPM_TRIE, 8, 16, MAX, BPF_F_NO_PREALLOC }, change_hash },
	{ { BPF_MAP_TYPE_TASK_STORAGE, 4, 16, 0, BPF_F_NO_PREALLOC }, change_task_storage },
	{ { BPF_MAP_TYPE_QUEUE, 0, 16, 1 }, change_queue },
	{ { BPF_MAP_TYPE_QUEUE, 0, 16, MAX }, change_queue },
	{ { BPF_MAP_TYPE_STACK, 0, 16, 1 }, change_queue },
	{ { BPF_MAP_TYPE_STACK, 0, 16, MAX }, change_queue },
	{ { BPF_MAP_TYPE_STACK_TRACE, 4, 64, 1 }, change_stack_trace },
	{ { BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096 }, drain },
};

static void test_left(void **state)
{
	for (u32 i = 0; i < ub_array_size(all); i++)
		leave_everywhere(&all[i].attr, all[i].op);
}

/* Left at many depths in turn, where at first nothing tells that the frames are gone. */
static void test_left_at_depths(void **state)
{
	struct ub_map map;
	u32 i = 0;

	make(&map, &all[0].attr);
	learn(&map, change_hash);
	for (u8 *at = next_instruction((u8 *)__executable_start); at;
	     at = next_instruction(at + 1)) {
		hit_until(&map, change_hash, 64 + i++ * 1117 % 32 * 1024, at);
		ub_map_sweep(&map, always, NULL);
		/* Whoever looks may find all places taken, but no more than those. */
		assert_true(nr_used(&map) <= 2 * UB_HOLDS + 2);
	}
	for (i = 0; i < 32; i++)
		deep_hit(&map, change_hash, 64 + i * 1024);
	ub_map_sweep(&map, always, NULL);
	check_whole(&map);
	our_map_destroy(&map);
}

/* --- only interrupted ----------------------------------------------------------------------- */

static ucontext_t back, elsewhere;
static struct ub_map *map_elsewhere;
static operation op_elsewhere;

static void go_on_elsewhere(void)
{
	for (u32 i = 0; i < 3; i++) {
		deep_hit(map_elsewhere, op_elsewhere, 64 + i * 128);
		ub_map_sweep(map_elsewhere, always, NULL);
	}
}

static void on_this_stack(void)
{
	go_on_elsewhere();
}

static void on_another_stack(void)
{
	swapcontext(&back, &elsewhere);
}

static void interrupt_everywhere(const struct ub_map_attr *attr, operation op, bool other_stack)
{
	u8 *volatile at;
	static char stack[65536];
	struct ub_map map;
	u32 times = 0;

	make(&map, attr);
	map_elsewhere = &map;
	op_elsewhere = op;
	learn(&map, op);
	interrupted = other_stack ? on_another_stack : on_this_stack;
	for (at = next_instruction((u8 *)__executable_start); at; at = next_instruction(at + 1)) {
		getcontext(&elsewhere);
		elsewhere.uc_stack.ss_sp = stack;
		elsewhere.uc_stack.ss_size = sizeof(stack);
		elsewhere.uc_link = &back;
		makecontext(&elsewhere, go_on_elsewhere, 0);
		times += hit_until(&map, op, 64, at);
		for (u32 i = 0; i < UB_HOLDS; i++)
			assert_int_equal(holds.hold[i].run, 0);
	}
	assert_true(times > 50);
	ub_map_sweep(&map, always, NULL);
	if (is_of_nodes(&map))
		check_whole(&map);
	our_map_destroy(&map);
}

static void test_interrupted(void **state)
{
	for (u32 i = 0; i < ub_array_size(all); i++) {
		interrupt_everywhere(&all[i].attr, all[i].op, false);
		interrupt_everywhere(&all[i].attr, all[i].op, true);
	}
}

/* --- records -------------------------------------------------------------------------------- */

static bool is_thread_alive(void *opaque, u64 tid)
{
	return true;
}

static void test_left_records(void **state)
{
	const struct ub_map_attr attr = { BPF_MAP_TYPE_RINGBUF, 0, 0, 4096 };
	struct ub_event_ring *ring =
		mmap(NULL, ub_event_ring_size(RING_SIZE), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ub_event_reader *reader;
	struct ub_event event;
	struct ub_map map;
	u32 left = 0, read = 0;

	assert_ptr_not_equal(ring, MAP_FAILED);
	ub_event_ring_format(ring, RING_SIZE);
	reader = ub_event_reader_new(ring, RING_SIZE, 0);
	make(&map, &attr);
	map.attr.id = 1;
	process.events = ring;
	learn(&map, write_records);
	while (ub_event_read(reader, &event, is_thread_alive, NULL) == 1)
		;
	for (u8 *at = next_instruction((u8 *)__executable_start); at;
	     at = next_instruction(at + 1)) {
		left += hit_until(&map, write_records, 64, at);
		deep_hit(&map, write_records, 64);
		/* That one's at least, and nothing is in its way. */
		read = 0;
		while (ub_event_read(reader, &event, is_thread_alive, NULL) == 1)
			read += event.kind == UB_EVENT_RINGBUF;
		assert_in_range(read, 1, 2);
		for (u32 i = 0; i < UB_HOLDS; i++)
			assert_int_equal(holds.hold[i].run, 0);
	}
	assert_true(left > 50);
	ub_event_reader_free(reader);
	our_map_destroy(&map);
	munmap(ring, ub_event_ring_size(RING_SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_left_at_depths),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_left_records),
	};
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	u64 text = (u64)__executable_start & ~4095ull, size = (u64)etext - text;

	if (size > MAX_TEXT || mprotect((void *)text, size, PROT_READ | PROT_WRITE | PROT_EXEC))
		return 1;
	sigaction(SIGTRAP, &action, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
