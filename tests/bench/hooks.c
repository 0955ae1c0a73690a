// SPDX-License-Identifier: MIT
/*
 * What a hook costs: ns per hit over the bare call, medians of interleaved rounds. The hooks are
 * put into this very process. Prints one line per case: NAME BARE HOOKED DIFFERENCE.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../hook/apply.h"

#define ROUNDS	  15
#define CALLS	  200000
#define GLIBC_TID 0x2d0

long bench_push(long n);
long bench_endbr(long n);
long bench_nop5(long n);
long bench_bare(long n);

/* noinline functions with the wanted first instructions */
#define FUNCTION(name, first)                                                                      \
	__asm__(".text\n.p2align 6\n.globl " name "\n.type " name ",@function\n" name ":\n"        \
		".cfi_startproc\n" first                                                           \
		"mov %rsp,%rbp\nlea 1(%rdi),%rax\npop %rbp\nret\n.cfi_endproc\n"                   \
		".size " name ",.-" name "\n")

FUNCTION("bench_bare", "push %rbp\n");
FUNCTION("bench_push", "push %rbp\n");
FUNCTION("bench_endbr", "endbr64\npush %rbp\n");
FUNCTION("bench_nop5", "nopl 0(%rax,%rax,1)\npush %rbp\n");

typedef long (*bench_fn)(long);

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double measure(bench_fn fn)
{
	double start = now();
	long n = 0;

	for (int i = 0; i < CALLS; i++)
		n = fn(n);
	if (n != CALLS)
		abort();
	return (now() - start) / CALLS;
}

static int compare_doubles(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, u32 nr)
{
	qsort(values, nr, sizeof(*values), compare_doubles);
	return getenv("BENCH_MIN") ? values[0] : values[nr / 2];
}

#define INSN(c, d, s, o, i)                                                                        \
	{                                                                                          \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)                \
	}
#define CALL(id)   INSN(BPF_JMP | BPF_CALL, 0, 0, 0, id)
#define EXIT	   INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define MOV(d, s)  INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOVI(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define LDMAP(d)   INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, 0), INSN(0, 0, 0, 0, 0)

static struct ub_program *new_program(const struct bpf_insn *insns, u32 nr,
				      const struct ub_map_attr *attr)
{
	struct ub_program *program = ub_program_new(nr);

	if (!program)
		abort();
	memcpy(program->insns, insns, nr * sizeof(*insns));
	program->type = BPF_PROG_TYPE_KPROBE;
	program->subprogs[0].stack_depth = 16;
	if (attr) {
		program->nr_maps = 1;
		program->maps[0] = *attr;
	}
	return program;
}

/* hash[pid]++, inserting when it is not there. */
static struct ub_program *hash_program(const struct ub_map_attr *attr)
{
	static const struct bpf_insn insns[] = {
		CALL(BPF_FUNC_get_current_pid_tgid),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, 0, 0, 0, 32),
		INSN(BPF_STX | BPF_MEM | BPF_W, 10, 0, -4, 0),
		MOV(2, 10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
		LDMAP(1),
		CALL(BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3, 0),
		MOVI(1, 1),
		INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 0, 1, 0, BPF_ADD),
		INSN(BPF_JMP | BPF_JA, 0, 0, 9, 0),
		INSN(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 1),
		MOV(2, 10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
		MOV(3, 10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -16),
		MOVI(4, BPF_NOEXIST),
		LDMAP(1),
		CALL(BPF_FUNC_map_update_elem),
		MOVI(0, 0),
		EXIT,
	};

	struct ub_program *program = new_program(insns, ub_array_size(insns), attr);

	for (u32 i = 0; i < program->nr_insns; i++)
		if (insns[i].code == (BPF_JMP | BPF_CALL) &&
		    insns[i].imm != BPF_FUNC_get_current_pid_tgid)
			program->aux[i].const_map = 1;
	return program;
}

static struct ub_program *array_program(const struct ub_map_attr *attr)
{
	static const struct bpf_insn insns[] = {
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		MOV(2, 10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
		LDMAP(1),
		CALL(BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3, 0),
		INSN(BPF_LDX | BPF_MEM | BPF_DW, 1, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 1),
		INSN(BPF_STX | BPF_MEM | BPF_DW, 0, 1, 0, 0),
		MOVI(0, 0),
		EXIT,
	};

	struct ub_program *program = new_program(insns, ub_array_size(insns), attr);

	/* As the verifier marks it: the map is known, and the value is this CPU's. */
	program->aux[5].const_map = 1;
	for (u32 i = 7; i < 10; i++)
		program->aux[i].flags |= UB_INSN_PERCPU;
	return program;
}

struct bench {
	const char *name;
	bench_fn fn;
	bool entry;
	bool returns;
	struct ub_program *program;
	struct test_map *map;
};

static u32 one_map[] = { 0 };

static int run(const struct bench *bench, bool two_threads);

static void *other_thread(void *arg)
{
	double *result = arg;
	double rounds[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		rounds[i] = measure(bench_push);
	*result = median(rounds, ROUNDS);
	return NULL;
}

static int run(const struct bench *bench, bool two_threads)
{
	struct ub_image_link links[2];
	struct ub_image_request request = { .pid = getpid(), .links = links, .nr_cpus = 64 };
	double bare[ROUNDS], hooked[ROUNDS], other = 0, b, h;
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	struct ub_code code;
	pthread_t thread;
	u64 hits, misses;
	int err;

	if (ub_jit_compile(bench->program, &code, &why)) {
		fprintf(stderr, "%s: %s\n", bench->name, why.text);
		return 1;
	}
	for (int i = 0; i < 2; i++) {
		bool is_return = i == 1;

		if (!(is_return ? bench->returns : bench->entry))
			continue;
		links[request.nr_links] = (struct ub_image_link) {
			.point = point_of(bench->fn, is_return ? UB_POINT_RETURN : UB_POINT_ENTRY),
			.link_id = request.nr_links,
			.program = bench->program,
			.code = &code,
			.nr_maps = bench->map ? 1 : 0,
			.maps = one_map,
		};
		request.nr_links++;
	}
	if (bench->map) {
		request.nr_maps = 1;
		request.maps = &bench->map->image;
	}
	err = ub_image_build(&request, &image, &why);
	if (!err)
		err = apply_image(image);
	if (err) {
		fprintf(stderr, "%s: %d %s\n", bench->name, err, why.text);
		return 1;
	}
	/* glibc's place for the tid, which the surgeon finds out in other processes. */
	if (*(u32 *)((u8 *)__builtin_thread_pointer() + GLIBC_TID) == (u32)gettid())
		image->process->tid_offset = GLIBC_TID;
	measure(bench->fn);
	if (two_threads)
		pthread_create(&thread, NULL, other_thread, &other);
	for (int i = 0; i < ROUNDS; i++) {
		bare[i] = measure(bench_bare);
		hooked[i] = measure(bench->fn);
	}
	if (two_threads)
		pthread_join(thread, NULL);
	remove_image(image);
	ub_image_counters(image, 0, &hits, &misses);
	if (hits != CALLS * (u64)(ROUNDS + 1 + (two_threads ? ROUNDS : 0))) {
		fprintf(stderr, "%s: %lu hits, %lu misses\n", bench->name, (unsigned long)hits,
			(unsigned long)misses);
		return 1;
	}
	ub_image_free(image);
	ub_code_free(&code);
	b = median(bare, ROUNDS);
	h = median(hooked, ROUNDS);
	printf("%-32s %8.2f %8.2f %8.2f\n", bench->name, b, h, h - b);
	if (two_threads)
		printf("%-32s %8.2f %8.2f %8.2f\n", "  the other thread", b, other, other - b);
	return 0;
}

int main(void)
{
	const struct ub_map_attr hash = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 1024
	};
	const struct ub_map_attr percpu = {
		.type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1
	};
	struct test_map hash_map, percpu_map;
	struct ub_program *empty = empty_program();
	struct ub_program *hashes, *arrays;
	int failed = 0;

	if (test_map_create_as(&hash, 64, &hash_map) ||
	    test_map_create_as(&percpu, 64, &percpu_map))
		return 1;
	hashes = hash_program(&hash);
	arrays = array_program(&percpu);
	printf("%-32s %8s %8s %8s   ns per call\n", "hook", "bare", "hooked", "cost");
	const struct bench benches[] = {
		{ "empty, push %rbp", bench_push, true, false, empty, NULL },
		{ "empty, endbr64", bench_endbr, true, false, empty, NULL },
		{ "empty, nop5", bench_nop5, true, false, empty, NULL },
		{ "empty, return", bench_push, false, true, empty, NULL },
		{ "empty, entry and return", bench_push, true, true, empty, NULL },
		{ "per-CPU array, push %rbp", bench_push, true, false, arrays, &percpu_map },
		{ "hash[pid]++, push %rbp", bench_push, true, false, hashes, &hash_map },
	};
	const struct bench twice[] = {
		{ "2 threads: empty", bench_push, true, false, empty, NULL },
		{ "2 threads: per-CPU array", bench_push, true, false, arrays, &percpu_map },
	};

	for (u32 i = 0; i < ub_array_size(benches); i++)
		failed |= run(&benches[i], false);
	for (u32 i = 0; i < ub_array_size(twice); i++)
		failed |= run(&twice[i], true);
	ub_program_free(empty);
	ub_program_free(hashes);
	ub_program_free(arrays);
	test_map_destroy(&hash_map);
	test_map_destroy(&percpu_map);
	return failed;
}
