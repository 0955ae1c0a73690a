// SPDX-License-Identifier: MIT
/*
 * What each type of map does, on Linux and on the userspace kernel: the same bpf(2) calls and the
 * same program (BPF_PROG_TEST_RUN) in the same order, good and bad, and after each the result,
 * errno and value are the same. Where which element goes is the implementation's business (LRU,
 * bloom filters), the map is kept from having to choose.
 *
 *   behaviour [-t TYPE]
 */
#include "behaviour.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINUX, OURS };

#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

#define BIT(op)	 (1u << (op))
#define ELEMENTS (BIT(OP_LOOKUP) | BIT(OP_UPDATE))
#define HASHLIKE (ELEMENTS | BIT(OP_DELETE) | BIT(OP_FOR_EACH))
#define PERCPU	 BIT(OP_LOOKUP_PERCPU)
#define QUEUES	 (BIT(OP_PUSH) | BIT(OP_POP) | BIT(OP_PEEK))
#define RINGS	 (BIT(OP_OUTPUT) | BIT(OP_QUERY))

struct shape {
	const char *name;
	struct ub_map_attr attr;
	u32 ops;
	u32 value_type; /* BTF, or 0 */
	u32 inner_type; /* of the template, or 0 */
};

static const struct shape shapes[] = {
	{ "hash", { BPF_MAP_TYPE_HASH, 4, 8, 4 }, HASHLIKE },
	{ "hash of odd sizes", { BPF_MAP_TYPE_HASH, 13, 19, 4, BPF_F_NO_PREALLOC }, HASHLIKE },
	{ "hash of one", { BPF_MAP_TYPE_HASH, 8, 8, 1 }, HASHLIKE },
	{ "hash with locks",
	  { BPF_MAP_TYPE_HASH, 4, BTF_VALUE_SIZE, 4, 0, 0, 0, BTF_LOCK_AT + 1 },
	  HASHLIKE | BIT(OP_LOCK),
	  BTF_LOCKED_VALUE },
	{ "array", { BPF_MAP_TYPE_ARRAY, 4, 8, 4 }, ELEMENTS | BIT(OP_DELETE) | BIT(OP_FOR_EACH) },
	{ "array of odd size", { BPF_MAP_TYPE_ARRAY, 4, 11, 3 }, ELEMENTS },
	{ "array with locks",
	  { BPF_MAP_TYPE_ARRAY, 4, BTF_VALUE_SIZE, 4, 0, 0, 0, BTF_LOCK_AT + 1 },
	  ELEMENTS | BIT(OP_LOCK),
	  BTF_LOCKED_VALUE },
	{ "per-CPU hash", { BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 4 }, HASHLIKE | PERCPU },
	{ "per-CPU array",
	  { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 12, 4 },
	  ELEMENTS | BIT(OP_FOR_EACH) | PERCPU },
	{ "LRU hash", { BPF_MAP_TYPE_LRU_HASH, 4, 8, 64 }, HASHLIKE },
	{ "LRU hash by CPU", { BPF_MAP_TYPE_LRU_HASH, 4, 8, 64, BPF_F_NO_COMMON_LRU }, HASHLIKE },
	{ "LRU per-CPU hash", { BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 8, 64 }, HASHLIKE | PERCPU },
	{ "LPM trie",
	  { BPF_MAP_TYPE_LPM_TRIE, 8, 8, 4, BPF_F_NO_PREALLOC },
	  ELEMENTS | BIT(OP_DELETE) },
	{ "queue", { BPF_MAP_TYPE_QUEUE, 0, 8, 3 }, QUEUES },
	{ "stack", { BPF_MAP_TYPE_STACK, 0, 24, 3 }, QUEUES },
	{ "bloom filter", { BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 100 }, BIT(OP_PUSH) | BIT(OP_PEEK) },
	{ "stack trace", { BPF_MAP_TYPE_STACK_TRACE, 4, 64, 4 }, 0 },
	{ "array of maps",
	  { BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4 },
	  BIT(OP_INNER),
	  0,
	  BPF_MAP_TYPE_ARRAY },
	{ "hash of maps",
	  { BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 4 },
	  BIT(OP_INNER),
	  0,
	  BPF_MAP_TYPE_ARRAY },
	{ "program array", { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4 }, 0 },
	{ "perf event array", { BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4 }, 0 },
	{ "cgroup array", { BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4 }, 0 },
	{ "ring buffer", { BPF_MAP_TYPE_RINGBUF, 0, 0, 4096 }, RINGS },
	{ "user ring buffer", { BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096 }, 0 },
	{ "task storage",
	  { BPF_MAP_TYPE_TASK_STORAGE, 4, BTF_VALUE_SIZE, 0, BPF_F_NO_PREALLOC },
	  0,
	  BTF_VALUE },
	{ "task storage with locks",
	  { BPF_MAP_TYPE_TASK_STORAGE, 4, BTF_VALUE_SIZE, 0, BPF_F_NO_PREALLOC, 0, 0,
	    BTF_LOCK_AT + 1 },
	  0,
	  BTF_LOCKED_VALUE },
	{ "read only", { BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_RDONLY }, 0 },
	{ "write only", { BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_WRONLY }, 0 },
	{ "read only for programs",
	  { BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_RDONLY_PROG },
	  BIT(OP_LOOKUP) },
	{ "write only for programs",
	  { BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_WRONLY_PROG },
	  BIT(OP_UPDATE) },
	{ "same seed", { BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_ZERO_SEED }, HASHLIKE },
};

struct test {
	const struct shape *shape;
	struct side sides[2];
	u32 steps, bad;
	bool skip_programs;
	bool interrupted; /* a run was not given its time: nothing can be said */
};

s64 side_bpf(struct side *side, u32 cmd, union bpf_attr *attr)
{
	if (side->harness)
		return harness_bpf(side->harness, cmd, attr, sizeof(*attr));
	return kernel_bpf((int)cmd, attr);
}

/* Both said and gave the same? */
static void compare(struct test *t, const char *what, u64 flags, const s64 *results,
		    const u8 (*values)[MAX_VALUE * 16], u32 size)
{
	t->steps++;
	if (t->interrupted)
		return;
	if (results[LINUX] == results[OURS] &&
	    (!size || results[LINUX] < 0 || !memcmp(values[LINUX], values[OURS], size)))
		return;
	fprintf(stderr, "%s: step %u: %s (flags %#llx): Linux %lld, here %lld\n", t->shape->name,
		t->steps, what, (unsigned long long)flags, (long long)results[LINUX],
		(long long)results[OURS]);
	for (u32 at = 0; results[LINUX] == results[OURS] && at < size; at += 8)
		fprintf(stderr, "   value at %u: %016llx %016llx\n", at,
			(unsigned long long)ub_load64(values[LINUX] + at),
			(unsigned long long)ub_load64(values[OURS] + at));
	t->bad++;
}

static bool is_percpu(const struct ub_map_attr *attr)
{
	return attr->type == BPF_MAP_TYPE_PERCPU_HASH || attr->type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       attr->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static u32 user_value_size(const struct ub_map_attr *attr)
{
	return is_percpu(attr) ? ub_round_up(attr->value_size, 8) * possible_cpus()
			       : attr->value_size;
}

/* An element command on both sides; where @fds, the value or key is another number on each. */
static void element(struct test *t, const char *what, u32 cmd, const void *key, const void *value,
		    u64 flags)
{
	u8 values[2][MAX_VALUE * 16] = { 0 };
	const struct ub_map_attr *shape = &t->shape->attr;
	u32 size = user_value_size(shape);
	s64 results[2];

	for (u32 i = 0; i < 2; i++) {
		union bpf_attr attr = { .map_fd = (u32)t->sides[i].map,
					.key = (u64)key,
					.value = (u64)values[i],
					.flags = flags };

		if (value)
			memcpy(values[i], value, size);
		if (t->shape->inner_type && cmd == BPF_MAP_UPDATE_ELEM)
			memcpy(values[i], &t->sides[i].inner, sizeof(int));
		if (cmd == BPF_MAP_DELETE_ELEM)
			attr.value = attr.flags = 0;
		if (cmd == BPF_MAP_GET_NEXT_KEY)
			attr.flags = 0;
		results[i] = side_bpf(&t->sides[i], cmd, &attr);
	}
	/* Padding between the values of CPUs is nobody's, ids of maps are each side's own. */
	if (t->shape->inner_type || (is_percpu(shape) && shape->value_size % 8))
		size = t->shape->inner_type ? 0 : shape->value_size;
	if (cmd == BPF_MAP_UPDATE_ELEM || cmd == BPF_MAP_DELETE_ELEM)
		size = 0;
	if (cmd == BPF_MAP_GET_NEXT_KEY) /* which key it is hash maps may decide */
		size = strstr(t->shape->name, "array") ? 4 : 0;
	compare(t, what, flags, results, values, size);
}

/* The program on both sides. */
static void run(struct test *t, const char *what, enum op op, const void *key, const void *value,
		u64 flags)
{
	u8 values[2][MAX_VALUE * 16] = { 0 };
	u32 zero = 0, size = t->shape->attr.value_size;
	s64 results[2];

	if (!(t->shape->ops >> op & 1) || t->skip_programs)
		return;
	for (u32 i = 0; i < 2; i++) {
		struct side *side = &t->sides[i];
		struct io io = { .op = op, .flags = flags, .ret = -1000 };
		u8 packet[64] = { 0 };
		union bpf_attr attr = { .map_fd = (u32)side->io,
					.key = (u64)&zero,
					.value = (u64)&io };
		union bpf_attr test = { .test = { .prog_fd = (u32)side->program,
						  .data_in = (u64)packet,
						  .data_size_in = sizeof(packet) } };

		memcpy(io.key, key, t->shape->attr.key_size);
		if (value)
			memcpy(io.value, value, op == OP_OUTPUT ? 16 : size);
		results[i] = side_bpf(side, BPF_MAP_UPDATE_ELEM, &attr);
		if (!results[i])
			results[i] = side_bpf(side, BPF_PROG_TEST_RUN, &test);
		t->interrupted |= results[i] == -EINTR;
		if (!results[i])
			results[i] = side_bpf(side, BPF_MAP_LOOKUP_ELEM, &attr);
		if (!results[i])
			results[i] = io.ret;
		memcpy(values[i], io.value, MAX_VALUE);
	}
	compare(t, what, flags, results, values, size);
}

static void make_key(const struct shape *shape, u32 n, u8 *key)
{
	memset(key, 0, MAX_KEY);
	if (shape->attr.type == BPF_MAP_TYPE_LPM_TRIE) {
		/* Of 0, 8, 16 ... bits, each within the one before. */
		u32 bits = n * 8;

		memcpy(key, &bits, 4);
		memset(key + 4, 0x5a, 4);
		return;
	}
	memcpy(key, &n, 4);
	if (shape->attr.key_size > 8)
		key[shape->attr.key_size - 1] = (u8)n;
}

static void make_value(u32 n, u8 *value)
{
	for (u32 i = 0; i < MAX_VALUE * 16; i++)
		value[i] = (u8)(n * 37 + i);
}

/* Each operation on keys that are there, that are not, and that can't be. */
static void elements(struct test *t)
{
	static const u64 flags[] = { BPF_ANY,
				     BPF_NOEXIST,
				     BPF_EXIST,
				     BPF_F_LOCK,
				     BPF_F_LOCK | BPF_NOEXIST,
				     BPF_F_LOCK | BPF_EXIST,
				     3,
				     8,
				     1ull << 32 };
	bool keyed = t->shape->attr.key_size;
	u8 key[MAX_KEY], value[MAX_VALUE * 16];

	for (u32 n = 0; n < 6; n++) {
		make_key(t->shape, n, key);
		for (u32 f = 0; f < ub_array_size(flags); f++) {
			const void *k = keyed ? key : NULL;

			/* Running programs is what takes time here: each is a fork. */
			t->skip_programs =
				n > 0 && (IS_SANITIZED || (n != 1 && n != 4) || (f + n) % 4);

			make_value(n * 16 + f, value);
			run(t, "program's update", OP_UPDATE, key, value, flags[f]);
			run(t, "program's lookup", OP_LOOKUP, key, NULL, 0);
			element(t, "lookup", BPF_MAP_LOOKUP_ELEM, k, value, flags[f]);
			make_value(n * 16 + f + 8, value);
			element(t, "update", BPF_MAP_UPDATE_ELEM, k, value, flags[f]);
			run(t, "program's lookup", OP_LOOKUP, key, NULL, 0);
			run(t, "lookup in the inner map", OP_INNER, key, NULL, 0);
			run(t, "lock", OP_LOCK, key, NULL, 0);
			element(t, "lookup", BPF_MAP_LOOKUP_ELEM, k, value, 0);
			element(t, "next key", BPF_MAP_GET_NEXT_KEY, k, value, 0);
			for (u32 cpu = 0; f % 4 == 0 && cpu <= possible_cpus(); cpu++)
				run(t, "lookup of a CPU's", OP_LOOKUP_PERCPU, key, NULL, cpu);
			if (f % 4 == 1)
				run(t, "program's delete", OP_DELETE, key, NULL, 0);
			if (f % 4 == 2)
				element(t, "delete", BPF_MAP_DELETE_ELEM, k, NULL, 0);
			if (f % 4 == 3)
				element(t, "lookup and delete", BPF_MAP_LOOKUP_AND_DELETE_ELEM, k,
					value, f == 7 ? BPF_F_LOCK : 0);
			make_value(n * 16 + f, value);
			run(t, "push", OP_PUSH, key, value, flags[f]);
			run(t, "peek", OP_PEEK, key, value, 0);
			if (f % 3 == 2)
				run(t, "pop", OP_POP, key, NULL, 0);
			run(t, "output", OP_OUTPUT, key, value, flags[f]);
			if (t->shape->ops & BIT(OP_OUTPUT))
				harness_pump(t->sides[OURS].harness);
			run(t, "query", OP_QUERY, key, NULL, f);
		}
		t->skip_programs = false;
		run(t, "for each", OP_FOR_EACH, key, NULL, n == 3);
	}
	element(t, "first key", BPF_MAP_GET_NEXT_KEY, NULL, value, 0);
	element(t, "lookup without key", BPF_MAP_LOOKUP_ELEM, NULL, value, 0);
	element(t, "update without key", BPF_MAP_UPDATE_ELEM, NULL, value, 0);
	element(t, "delete without key", BPF_MAP_DELETE_ELEM, NULL, value, 0);
}

static void batch(struct test *t, const char *what, u32 cmd, u64 elem_flags, bool from_start)
{
	u8 values[2][MAX_VALUE * 16];
	s64 results[2], counts[2];

	for (u32 i = 0; i < 2; i++) {
		static u8 keys[8 * MAX_KEY], vals[8 * MAX_VALUE * 16];
		u64 in[32] = { 0 }, out[32] = { 0 };
		union bpf_attr attr = { .batch = { .in_batch = from_start ? 0 : (u64)in,
						   .out_batch = (u64)out,
						   .keys = (u64)keys,
						   .values = (u64)vals,
						   .count = 3,
						   .map_fd = (u32)t->sides[i].map,
						   .elem_flags = elem_flags } };

		for (u32 n = 0; n < 8; n++) {
			make_key(t->shape, n, keys + (size_t)n * t->shape->attr.key_size);
			memset(vals + (size_t)n * user_value_size(&t->shape->attr), (int)n + 1,
			       user_value_size(&t->shape->attr));
			if (t->shape->inner_type)
				memcpy(vals + n * sizeof(int), &t->sides[i].inner, sizeof(int));
		}
		results[i] = side_bpf(&t->sides[i], cmd, &attr);
		counts[i] = attr.batch.count;
	}
	memset(values, 0, sizeof(values));
	compare(t, what, elem_flags, results, values, 0);
	if (results[LINUX] != -ENOSPC)
		compare(t, "count of the batch", elem_flags, counts, values, 0);
}

static void batches(struct test *t)
{
	static const u64 flags[] = { 0, BPF_F_LOCK, BPF_NOEXIST, 8 };

	for (u32 f = 0; f < ub_array_size(flags); f++) {
		batch(t, "update batch", BPF_MAP_UPDATE_BATCH, flags[f], true);
		batch(t, "lookup batch", BPF_MAP_LOOKUP_BATCH, flags[f], true);
		batch(t, "lookup and delete batch", BPF_MAP_LOOKUP_AND_DELETE_BATCH, flags[f],
		      true);
		batch(t, "update batch", BPF_MAP_UPDATE_BATCH, flags[f], true);
		batch(t, "delete batch", BPF_MAP_DELETE_BATCH, flags[f], true);
	}
}

static void frozen(struct test *t)
{
	/* Here the kernel's own mapping is the client's, which keeps it from freezing a map. */
	bool ring = t->shape->attr.type == BPF_MAP_TYPE_RINGBUF ||
		    t->shape->attr.type == BPF_MAP_TYPE_USER_RINGBUF;
	u8 values[2][MAX_VALUE * 16] = { 0 }, key[MAX_KEY], value[MAX_VALUE * 16];
	s64 results[2];

	if (ring)
		return;
	make_key(t->shape, 1, key);
	make_value(1, value);
	for (u32 i = 0; i < 2; i++) {
		union bpf_attr attr = { .map_fd = (u32)t->sides[i].map };

		results[i] = side_bpf(&t->sides[i], BPF_MAP_FREEZE, &attr);
	}
	compare(t, "freeze", 0, results, values, 0);
	element(t, "update when frozen", BPF_MAP_UPDATE_ELEM, key, value, 0);
	element(t, "delete when frozen", BPF_MAP_DELETE_ELEM, key, NULL, 0);
	element(t, "lookup when frozen", BPF_MAP_LOOKUP_ELEM, key, value, 0);
	run(t, "program's update when frozen", OP_UPDATE, key, value, 0);
	run(t, "push when frozen", OP_PUSH, key, value, 0);
}

/* Elements named by pidfds: a living thread's, a dead one's, and what is none. */
static void tasks(struct test *t)
{
	pid_t child = fork();
	u8 value[MAX_VALUE * 16];
	int fds[6];

	if (!child) {
		pause();
		_exit(0);
	}
	fds[0] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	fds[1] = (int)syscall(SYS_pidfd_open, child, 0);
	fds[2] = t->sides[LINUX].map;
	fds[3] = -1;
	fds[4] = 100000;
	fds[5] = STDERR_FILENO;
	for (u32 round = 0; round < 2; round++) {
		for (u32 i = 0; i < ub_array_size(fds); i++) {
			static const u64 flags[] = { BPF_EXIST, BPF_NOEXIST, BPF_NOEXIST,
						     BPF_ANY,	BPF_F_LOCK,  BPF_F_LOCK | BPF_EXIST,
						     3 };

			for (u32 f = 0; f < ub_array_size(flags); f++) {
				make_value(round * 64 + i * 8 + f, value);
				element(t, "update of a task's", BPF_MAP_UPDATE_ELEM, &fds[i],
					value, flags[f]);
				element(t, "lookup of a task's", BPF_MAP_LOOKUP_ELEM, &fds[i],
					value, f % 2 ? BPF_F_LOCK : 0);
			}
			if (!round && i == 1)
				continue;
			element(t, "delete of a task's", BPF_MAP_DELETE_ELEM, &fds[i], NULL, 0);
			element(t, "delete of a task's", BPF_MAP_DELETE_ELEM, &fds[i], NULL, 0);
			element(t, "lookup and delete of a task's", BPF_MAP_LOOKUP_AND_DELETE_ELEM,
				&fds[i], value, 0);
			element(t, "next key", BPF_MAP_GET_NEXT_KEY, &fds[i], value, 0);
		}
		if (!round) {
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
		}
	}
	close(fds[0]);
	close(fds[1]);
}

static int create(struct side *side, const struct shape *shape, const struct ub_map_attr *attr)
{
	union bpf_attr create = { .map_type = attr->type,
				  .key_size = attr->key_size,
				  .value_size = attr->value_size,
				  .max_entries = attr->max_entries,
				  .map_flags = attr->flags,
				  .map_extra = attr->extra };

	if (shape && shape->value_type) {
		create.btf_fd = (u32)side->btf;
		create.btf_key_type_id = BTF_INT;
		create.btf_value_type_id = shape->value_type;
	}
	if (shape && shape->inner_type)
		create.inner_map_fd = (u32)side->inner;
	return (int)side_bpf(side, BPF_MAP_CREATE, &create);
}

static int load(struct side *side, const struct shape *shape)
{
	struct bpf_insn insns[MAX_INSNS];
	static char log[65536];
	struct bpf_func_info functions[2] = { { 0, BTF_MAIN } };
	u32 callback,
		nr = make_program(&shape->attr, shape->ops, side->map, side->io, insns, &callback);
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SCHED_CLS,
				.insns = (u64)insns,
				.insn_cnt = nr,
				.license = (u64) "GPL",
				.log_buf = (u64)log,
				.log_size = sizeof(log),
				.log_level = 1,
				.prog_btf_fd = (u32)side->btf,
				.func_info_rec_size = sizeof(*functions),
				.func_info = (u64)functions,
				.func_info_cnt = callback ? 2 : 1 };
	int fd;

	functions[1] = (struct bpf_func_info) { callback, BTF_CALLBACK };
	fd = (int)side_bpf(side, BPF_PROG_LOAD, &attr);

	if (fd < 0)
		fprintf(stderr, "%s, %s: %s\n...%s\n", shape->name, side->name, strerror(-fd),
			log + (strlen(log) > 300 ? strlen(log) - 300 : 0));
	return fd;
}

static bool prepare(struct side *side, const struct shape *shape)
{
	struct ub_map_attr io = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct io), 1 };
	struct ub_map_attr inner = { BPF_MAP_TYPE_ARRAY, 4, 8, 1 };

	side->btf = load_btf(side);
	side->inner = shape->inner_type ? create(side, NULL, &inner) : -1;
	side->map = create(side, shape, &shape->attr);
	side->io = create(side, NULL, &io);
	side->program = shape->ops && side->map >= 0 ? load(side, shape) : -1;
	if (side->map < 0)
		fprintf(stderr, "%s, %s: %s\n", shape->name, side->name, strerror(-side->map));
	return side->map >= 0 && side->io >= 0 && (!shape->ops || side->program >= 0);
}

static void finish(struct side *side)
{
	const int fds[] = { side->btf, side->inner, side->map, side->io, side->program };

	for (u32 i = 0; i < ub_array_size(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

/* 0: the same, 1: not, -EINTR: the machine is too busy to tell. */
static int test_shape(const struct shape *shape, struct harness *harness)
{
	struct test t = { .shape = shape,
			  .sides = { { .name = "Linux" },
				     { .name = "here", .harness = harness } } };
	bool ok = prepare(&t.sides[LINUX], shape) & prepare(&t.sides[OURS], shape);

	if (ok && shape->attr.type == BPF_MAP_TYPE_TASK_STORAGE)
		tasks(&t);
	else if (ok)
		elements(&t);
	if (ok)
		batches(&t);
	if (ok)
		frozen(&t);
	finish(&t.sides[LINUX]);
	finish(&t.sides[OURS]);
	harness_pump(harness);
	if (t.interrupted)
		return -EINTR;
	printf("%-24s %4u steps%s\n", shape->name, t.steps, !ok || t.bad ? ", FAILED" : "");
	return !ok || t.bad;
}

int main(int argc, char **argv)
{
	struct harness harness;
	cpu_set_t one;
	u32 type = 0;
	int bad = 0, option;

	while ((option = getopt(argc, argv, "t:")) != -1) {
		if (option != 't')
			return 2;
		type = (u32)strtoul(optarg, NULL, 0);
	}
	if (!kernel_comparable())
		return 77;
	if (possible_cpus() > 16) {
		printf("skip: more than 16 CPUs\n");
		return 77;
	}
	/* Per-CPU values are this CPU's on both sides. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	harness_init_cpus(&harness, possible_cpus());
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		int ret = -EINTR;

		if (type && type != shapes[i].attr.type)
			continue;
		for (u32 tries = 0; tries < 10 && ret == -EINTR; tries++)
			ret = test_shape(&shapes[i], &harness);
		if (ret == -EINTR)
			fprintf(stderr, "%s: programs are interrupted all the time\n",
				shapes[i].name);
		bad |= ret != 0;
	}
	harness_exit(&harness);
	return bad;
}
