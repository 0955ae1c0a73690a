// SPDX-License-Identifier: MIT
/*
 * Map operations, the same programs on the kernel (BPF_PROG_TEST_RUN) and here (JIT), interleaved:
 * nanoseconds per operation, 1000 of them per run, median of several. What a program does besides
 * (the loop, the call) is in both.
 *
 *   bench_maps [-r ROUNDS]
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <helper/helper.h>
#include <map/cpu.h>
#include <map/hold.h>
#include <program/program.h>

#include "maps.h"

#define OPS	   BENCH_MAP_OPS
#define MAX_ROUNDS 101
#define REPEAT	   20

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV_REG(d, s)  INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i)  INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i)  INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define STORE(d, s, o) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define CALL(f)	       INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT()	       INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static const char *const names[] = { "lookup", "update", "delete", "push", "pop", "output" };

static const struct row rows[] = {
	{ "hash", BPF_MAP_TYPE_HASH, UPDATE },
	{ "hash", BPF_MAP_TYPE_HASH, LOOKUP },
	{ "hash", BPF_MAP_TYPE_HASH, DELETE },
	{ "array", BPF_MAP_TYPE_ARRAY, UPDATE },
	{ "array", BPF_MAP_TYPE_ARRAY, LOOKUP },
	{ "percpu_hash", BPF_MAP_TYPE_PERCPU_HASH, UPDATE },
	{ "percpu_hash", BPF_MAP_TYPE_PERCPU_HASH, LOOKUP },
	{ "percpu_hash", BPF_MAP_TYPE_PERCPU_HASH, DELETE },
	{ "percpu_array", BPF_MAP_TYPE_PERCPU_ARRAY, UPDATE },
	{ "percpu_array", BPF_MAP_TYPE_PERCPU_ARRAY, LOOKUP },
	{ "lru_hash", BPF_MAP_TYPE_LRU_HASH, UPDATE },
	{ "lru_hash", BPF_MAP_TYPE_LRU_HASH, LOOKUP },
	{ "lru_percpu", BPF_MAP_TYPE_LRU_PERCPU_HASH, UPDATE },
	{ "lru_percpu", BPF_MAP_TYPE_LRU_PERCPU_HASH, LOOKUP },
	{ "queue", BPF_MAP_TYPE_QUEUE, PUSH },
	{ "queue", BPF_MAP_TYPE_QUEUE, POP },
	{ "stack", BPF_MAP_TYPE_STACK, PUSH },
	{ "stack", BPF_MAP_TYPE_STACK, POP },
	{ "ringbuf", BPF_MAP_TYPE_RINGBUF, RINGBUF },
};

/* r7 counts the keys; the map is loaded by whatever @map_insn says. */
static u32 make_program(const struct row *row, struct bpf_insn *insns, int map_imm)
{
	bool array = row->type == BPF_MAP_TYPE_ARRAY || row->type == BPF_MAP_TYPE_PERCPU_ARRAY;
	u32 n = 0, loop;

	insns[n++] = MOV_IMM(BPF_REG_7, 0);
	loop = n;
	if (array)
		insns[n++] = INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_7, -8, 0);
	else
		insns[n++] = STORE(BPF_REG_10, BPF_REG_7, -8);
	insns[n++] = STORE(BPF_REG_10, BPF_REG_7, -16);
	insns[n++] = INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map_imm);
	insns[n++] = INSN(0, 0, 0, 0, 0);
	insns[n++] = MOV_REG(BPF_REG_2, BPF_REG_10);
	insns[n++] = ADD_IMM(BPF_REG_2, -8);
	switch (row->operation) {
	case LOOKUP:
		insns[n++] = CALL(BPF_FUNC_map_lookup_elem);
		break;
	case UPDATE:
		insns[n++] = MOV_REG(BPF_REG_3, BPF_REG_10);
		insns[n++] = ADD_IMM(BPF_REG_3, -16);
		insns[n++] = MOV_IMM(BPF_REG_4, 0);
		insns[n++] = CALL(BPF_FUNC_map_update_elem);
		break;
	case DELETE:
		insns[n++] = CALL(BPF_FUNC_map_delete_elem);
		break;
	case PUSH:
		insns[n++] = MOV_IMM(BPF_REG_3, 0);
		insns[n++] = CALL(BPF_FUNC_map_push_elem);
		break;
	case POP:
		insns[n++] = CALL(BPF_FUNC_map_pop_elem);
		break;
	case RINGBUF:
		insns[n++] = MOV_IMM(BPF_REG_3, 8);
		insns[n++] = MOV_IMM(BPF_REG_4, 1); /* BPF_RB_NO_WAKEUP */
		insns[n++] = CALL(BPF_FUNC_ringbuf_output);
		break;
	}
	insns[n++] = ADD_IMM(BPF_REG_7, 1);
	insns[n] =
		INSN(BPF_JMP | BPF_JLT | BPF_K, BPF_REG_7, 0, (s16)((int)loop - (int)n - 1), OPS);
	n++;
	insns[n++] = MOV_IMM(BPF_REG_0, 0);
	insns[n++] = EXIT();
	return n;
}

struct ub_map_attr bench_map_attr_of(const struct row *row)
{
	struct ub_map_attr attr = {
		.type = row->type, .key_size = 8, .value_size = 8, .max_entries = OPS, .id = 1
	};

	if (row->type == BPF_MAP_TYPE_ARRAY || row->type == BPF_MAP_TYPE_PERCPU_ARRAY)
		attr.key_size = 4;
	if (row->operation == PUSH || row->operation == POP)
		attr.key_size = 0;
	if (row->type == BPF_MAP_TYPE_LRU_HASH || row->type == BPF_MAP_TYPE_LRU_PERCPU_HASH)
		attr.max_entries = 4 * OPS;
	if (row->operation == RINGBUF) {
		attr.key_size = 0;
		attr.value_size = 0;
		attr.max_entries = 1u << 18; /* as libbpf-tools have it */
	}
	return attr;
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

int bench_map_load_kernel(const struct row *row, int map)
{
	struct bpf_insn insns[32];
	static char log[65536];
	union bpf_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (u64)insns;
	attr.insn_cnt = make_program(row, insns, map);
	attr.license = (u64) "GPL";
	fd = kernel_bpf(BPF_PROG_LOAD, &attr);
	if (fd >= 0)
		return (int)fd;
	attr.log_buf = (u64)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	if (kernel_bpf(BPF_PROG_LOAD, &attr) < 0)
		fprintf(stderr, "%.2000s\n", log);
	return (int)fd;
}

/* Nanoseconds for one run of the program. */
u64 bench_map_run_kernel(int program)
{
	union bpf_attr attr;
	u8 packet[64] = { 0 };

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (u32)program;
	attr.test.data_in = (u64)packet;
	attr.test.data_size_in = sizeof(packet);
	attr.test.repeat = 1;
	if (kernel_bpf(BPF_PROG_TEST_RUN, &attr) < 0)
		return 0;
	return attr.test.duration;
}

/* What the daemon finds out about a target: where a thread's own id stands in its TCB. */
static void find_tid(struct ub_process *process)
{
	u64 base;
	u32 tid = (u32)syscall(SYS_gettid);

	process->has_fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
	base = ub_fs_base(process);
	for (s64 offset = 0; base && offset < 1024; offset += 4) {
		if (*(const u32 *)(base + (u64)offset) == tid) {
			process->tid_offset = offset;
			return;
		}
	}
}

int bench_map_prepare_ours(const struct row *row, struct prepared *p)
{
	struct ub_map_attr attr = bench_map_attr_of(row);
	u64 helpers[UB_MAX_HELPER] = { 0 };
	struct ub_code code = { 0 };
	struct bpf_insn insns[32];
	struct ub_program *program;
	struct ub_reason why = { "" };
	int err;

	our_map_create(&p->map, &attr);
	p->maps[0] = &p->map;
	p->process = (struct ub_process) { .nr_cpus = p->map.nr_cpus, .tgid_pid = (u64)getpid() };
	find_tid(&p->process);
	if (row->operation == RINGBUF) {
		p->ring = aligned_alloc(4096, ub_event_ring_size(1u << 20));
		if (!p->ring)
			return -ENOMEM;
		ub_event_ring_format(p->ring, 1u << 20);
		p->reader = ub_event_reader_new(p->ring, 1u << 20, 0);
		p->process.events = p->ring;
	}
	for (u32 i = 0; i < UB_MAX_HELPER; i++) {
		const struct ub_helper *helper = ub_helper_by_id(i);

		if (helper)
			helpers[i] = (u64)helper->fn;
	}
	err = ub_program_from_insns(insns, make_program(row, insns, 0), &program, &why);
	if (err)
		goto failed;
	program->nr_maps = 1;
	program->maps[0] = attr;
	err = ub_jit_compile(program, &code, &why);
	if (!err)
		err = ub_jitted_create(&code, helpers, p->maps, &p->jitted, &why);
	ub_code_free(&code);
	ub_program_free(program);
failed:
	if (err)
		fprintf(stderr, "%s %s: %s\n", row->type_name, names[row->operation], why.text);
	return err;
}

static bool always(void *opaque, u64 tid)
{
	return true;
}

/* Before each run: what is deleted or taken must be there, what is pushed must have room. */
static void restore(const struct row *row, struct prepared *p)
{
	struct ub_event event;
	u64 value = 1;

	if (row->operation == RINGBUF) {
		while (ub_event_read(p->reader, &event, always, NULL) == 1)
			;
		return;
	}
	for (u64 key = 0; key < OPS; key++) {
		if (row->operation == PUSH) {
			u64 taken;

			if (p->kernel_map >= 0)
				kernel_take(p->kernel_map, NULL, &taken, 0);
			(void)ub_map_pop(&p->map, &taken);
		} else if (row->operation == POP) {
			if (p->kernel_map >= 0)
				kernel_update(p->kernel_map, NULL, &value, 0);
			(void)ub_map_push(&p->map, &value, 0);
		} else if (row->operation == DELETE || row->operation == LOOKUP) {
			u64 values[64] = { 0 };

			if (p->kernel_map >= 0)
				kernel_update(p->kernel_map, &key, values, 0);
			if (ub_map_sys_update(&p->map, &key, values, 0))
				return;
		}
	}
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int measure(const struct row *row, u32 rounds)
{
	u64 ours[MAX_ROUNDS], kernels[MAX_ROUNDS];
	struct ub_map_attr attr = bench_map_attr_of(row);
	struct prepared p = { .kernel_map = -1, .kernel_program = -1 };

	if (bench_map_prepare_ours(row, &p))
		return 1;
	p.kernel_map = kernel_map_create(&attr);
	if (p.kernel_map >= 0)
		p.kernel_program = bench_map_load_kernel(row, p.kernel_map);
	for (u32 round = 0; round < rounds; round++) {
		/* As in a target. */
		static struct ub_holds holds __attribute__((aligned(UB_HOLDS_SIZE)));
		struct ub_run run = { .process = &p.process,
				      .holds = &holds,
				      .maps = p.maps,
				      .cpu = UB_CPU_UNKNOWN };
		u64 best = UINT64_MAX, best_kernel = UINT64_MAX;

		for (u32 i = 0; i < REPEAT; i++) {
			u64 start, took;

			/* Only a few: filling them again takes longer than what is measured. */
			if (i && row->operation == LOOKUP)
				;
			else
				restore(row, &p);
			if (p.kernel_program >= 0 && row->operation != RINGBUF) {
				took = bench_map_run_kernel(p.kernel_program);
				best_kernel = took && took < best_kernel ? took : best_kernel;
			} else if (p.kernel_program >= 0) {
				/* A ring of its own each time: nobody reads this one. */
				int map = kernel_map_create(&attr), program = -1;

				if (i < 1 && map >= 0)
					program = bench_map_load_kernel(row, map);
				took = program >= 0 ? bench_map_run_kernel(program) : 0;
				best_kernel = took && took < best_kernel ? took : best_kernel;
				if (program >= 0)
					close(program);
				if (map >= 0)
					close(map);
			}
			start = now_ns();
			run.cpu = UB_CPU_UNKNOWN;
			ub_jitted_run(p.jitted, NULL, &run);
			took = now_ns() - start;
			best = took < best ? took : best;
		}
		ours[round] = best;
		kernels[round] = best_kernel == UINT64_MAX ? 0 : best_kernel;
	}
	qsort(ours, rounds, sizeof(*ours), by_value);
	qsort(kernels, rounds, sizeof(*kernels), by_value);
	if (kernels[rounds / 2])
		printf("%-13s %-7s %8.1f %8.1f %6.1fx\n", row->type_name, names[row->operation],
		       (double)kernels[rounds / 2] / OPS, (double)ours[rounds / 2] / OPS,
		       (double)kernels[rounds / 2] / (double)ours[rounds / 2]);
	else
		printf("%-13s %-7s %8s %8.1f\n", row->type_name, names[row->operation], "-",
		       (double)ours[rounds / 2] / OPS);
	ub_jitted_destroy(p.jitted);
	our_map_destroy(&p.map);
	ub_event_reader_free(p.reader);
	free(p.ring);
	if (p.kernel_program >= 0)
		close(p.kernel_program);
	if (p.kernel_map >= 0)
		close(p.kernel_map);
	return 0;
}

int main(int argc, char **argv)
{
	u32 rounds = 5;
	int option, bad = 0;

	while ((option = getopt(argc, argv, "r:")) != -1) {
		if (option != 'r')
			return 2;
		rounds = (u32)strtoul(optarg, NULL, 0);
		rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
	}
	printf("%-13s %-7s %8s %8s\n", "ns per", "op", "kernel", "ours");
	for (u32 i = 0; i < ub_array_size(rows); i++)
		bad |= measure(&rows[i], rounds);
	return bad;
}
