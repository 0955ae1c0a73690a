// SPDX-License-Identifier: MIT
#include "instants.h"

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
#include <map/pool.h>
#include <map/stack_trace.h>
#include <map/task_storage.h>
#include <map/user_ring.h>

#include "sides.h"

struct ub_holds *holds;
struct ub_process process;
u32 nr_draining;
static u64 *fork_page;
static u32 counter;

/* --- traps ----------------------------------------------------------------------------------- */

#define MAX_TEXT (1u << 24)

extern const u8 __executable_start[], etext[]; /* of the linker */

static u8 seen[MAX_TEXT / 8]; /* which of our instructions an operation was seen at */
static u8 **all_seen;
static u32 nr_seen;
static bool recording;
static u8 *planted, replaced; /* where an int3 stands for the first byte of an instruction */
static void (*then_do)(void);
static sigjmp_buf *leave_to;

void plant(u8 *at, void (*then)(void), sigjmp_buf *leave)
{
	then_do = then;
	leave_to = leave;
	planted = at;
	replaced = *at;
	*at = 0xcc;
}

bool unplant(void)
{
	if (!planted)
		return false;
	*planted = replaced;
	planted = NULL;
	return true;
}

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
	unplant();
	--*ip;
	if (then_do)
		then_do();
	else
		siglongjmp(*leave_to, 1);
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
	struct ub_run run = { .process = &process, .holds = holds };

	op(map, &run);
	assert_int_equal(run.held, 0);
}

/* The same, deeper by @depth bytes. */
__attribute__((noinline)) void deep_hit(struct ub_map *map, operation op, u32 depth)
{
	volatile char *room = __builtin_alloca(depth);

	room[0] = 1;
	hit(map, op);
	room[depth - 1] = 1;
}

static void record(struct ub_map *map, operation op)
{
	struct ub_run run = { .process = &process, .holds = holds };

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

u8 *next_instruction(u8 *at)
{
	u32 skip = sanitized() ? 11 : 1;

	for (; at < etext; at++) {
		u64 offset = (u64)(at - __executable_start);

		if (seen[offset / 8] >> offset % 8 & 1 && !--skip)
			return at;
	}
	return NULL;
}

u8 *first_instruction(void)
{
	return next_instruction((u8 *)__executable_start);
}

u8 *some_instruction(void)
{
	return all_seen[(u32)rand() % nr_seen]; // NOLINT: by chance, but the same each time
}

bool hit_until(struct ub_map *map, operation op, u32 depth, u8 *at, void (*then)(void))
{
	const u32 draining = nr_draining;
	static sigjmp_buf env; /* not on the stack: others' frames are to overlap that hit's */

	plant(at, then, &env);
	if (!sigsetjmp(env, 1))
		deep_hit(map, op, depth);
	nr_draining = draining;
	return !unplant();
}

bool instants_start(bool on_altstack)
{
	static u8 stack[1 << 18];
	const stack_t altstack = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = on_trap,
				    .sa_flags = SA_SIGINFO | SA_NODEFER |
						(on_altstack ? SA_ONSTACK : 0) };
	u64 text = (u64)__executable_start & ~4095ull, size = (u64)etext - text;

	return size <= MAX_TEXT &&
	       !mprotect((void *)text, size, PROT_READ | PROT_WRITE | PROT_EXEC) &&
	       !sigaltstack(&altstack, NULL) && !sigaction(SIGTRAP, &action, NULL);
}

/* --- operations ----------------------------------------------------------------------------- */

void change_hash(struct ub_map *map, struct ub_run *run)
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
	nr_draining++;
	assert_int_equal(nr_draining, 1);
	nr_draining--;
	return 0;
}

void drain(struct ub_map *map, struct ub_run *run)
{
	u64 *producer = (u64 *)(map->shared + 4096);

	*(u32 *)(map->shared + map->values_offset + (*producer & map->mask)) = 8;
	*producer += 16;
	(void)ub_user_ring_drain(map, 0, each_sample, NULL, run);
}

void write_records(struct ub_map *map, struct ub_run *run)
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

u32 nr_used(const struct ub_map *map)
{
	u32 n = 0;

	for (u32 i = 0; i < map->type_words[UB_W_NR_NODES]; i++)
		n += ub_pool_node(map, i)->state & UB_NODE_USED;
	return n;
}

bool is_of_nodes(const struct ub_map *map)
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

static void check_link(const struct ub_map *map, u64 link, u8 *linked)
{
	while (!ub_link_is_end(link)) {
		u32 index = ub_link_target(link) - 1;

		assert_true(index < map->type_words[UB_W_NR_NODES]);
		assert_true(ub_pool_node(map, index)->state & UB_NODE_USED);
		assert_int_equal(linked[index]++, 0);
		if (map->attr.type == BPF_MAP_TYPE_STACK_TRACE)
			return;
		link = ub_pool_node(map, index)->next;
	}
}

void check_linked(const struct ub_map *map)
{
	u8 *linked = calloc(1, map->type_words[UB_W_NR_NODES]);

	assert_non_null(linked);
	if (map->attr.type == BPF_MAP_TYPE_QUEUE || map->attr.type == BPF_MAP_TYPE_STACK)
		check_link(map, ub_pool_header(map)->front, linked);
	else
		for (u64 i = 0; i <= map->mask; i++)
			check_link(map, ub_pool_heads(map)[i], linked);
	free(linked);
}

void sweep(struct ub_map *map)
{
	ub_map_sweep(map, always, NULL);
}

void check_no_holds(void)
{
	for (u32 i = 0; i < UB_HOLDS; i++)
		assert_false(ub_hold_in_use(holds->hold[i].run));
}

void check_whole(struct ub_map *map)
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

void make(struct ub_map *map, const struct ub_map_attr *attr)
{
	our_map_create(map, attr);
	if (!holds) {
		holds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		fork_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);
		assert_ptr_not_equal(holds, MAP_FAILED);
		assert_ptr_not_equal(fork_page, MAP_FAILED);
		assert_int_equal(madvise(fork_page, 4096, MADV_WIPEONFORK), 0);
		*fork_page = 1;
	}
	memset(holds, 0, sizeof(*holds));
	process = (struct ub_process) { .size = sizeof(process),
					.nr_cpus = map->nr_cpus,
					.tgid_pid = (u64)getpid(),
					.own_tgid = (u32)getpid(),
					.fork_page = (u64)fork_page };
	nr_draining = 0;
}

/* Single steps are slow: a virtual machine leaves its guest for each. */
void learn(struct ub_map *map, operation op)
{
	static operation learnt;

	if (sanitized() && op == learnt)
		return;
	memset(seen, 0, sizeof(seen));
	for (u32 i = 0; i < (sanitized() ? 1 : 3); i++)
		record(map, op);
	learnt = op;
	nr_seen = 0;
	for (u32 pass = 0; pass < 2; pass++) {
		u32 n = 0;

		for (u8 *at = first_instruction(); at; at = next_instruction(at + 1)) {
			if (pass)
				all_seen[n] = at;
			n++;
		}
		if (!pass)
			all_seen = realloc(all_seen, n * sizeof(all_seen[0]));
		nr_seen = n;
	}
	assert_non_null(all_seen);
}

const struct kind kinds[] = {
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
const u32 nr_kinds = ub_array_size(kinds);

/* --- records --------------------------------------------------------------------------------- */

static struct ub_event_reader *reader;

static bool is_thread_alive(void *opaque, u64 tid)
{
	return true;
}

u32 read_records(void)
{
	struct ub_event event;
	u32 read = 0;

	while (ub_event_read(reader, &event, is_thread_alive, NULL) == 1)
		read += event.kind == UB_EVENT_RINGBUF;
	return read;
}

void make_ring(struct ub_map *map)
{
	const struct ub_map_attr attr = { BPF_MAP_TYPE_RINGBUF, 0, 0, 4096 };
	struct ub_event_ring *ring =
		mmap(NULL, ub_event_ring_size(RING_SIZE), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(ring, MAP_FAILED);
	ub_event_ring_format(ring, RING_SIZE);
	reader = ub_event_reader_new(ring, RING_SIZE, 0);
	make(map, &attr);
	map->attr.id = 1;
	process.events = ring;
	learn(map, write_records);
	(void)read_records();
}

void destroy_ring(struct ub_map *map)
{
	ub_event_reader_free(reader);
	our_map_destroy(map);
	munmap(process.events, ub_event_ring_size(RING_SIZE));
}
