// SPDX-License-Identifier: MIT
/*
 * bench_vm [-r ROUNDS] [-m MILLISECONDS] [-j]: the JIT and the interpreter against the kernel's
 * JIT, the same programs in the same run, in CPU time. Medians of interleaved rounds, an empty
 * program's time subtracted; ratios to the kernel and their geometric mean. -j: one JSON object a
 * line.
 *
 * The kernel puts a program at a random place, which is worth up to 40 % to a small loop, so it is
 * loaded anew for each round. Programs of a few nanoseconds overlap with what runs them, and calls
 * cost the kernel its mitigations of speculation: those rows are marked, and there is a mean
 * without them.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/membarrier.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <helper/helper.h>
#include <interpreter/interpreter.h>
#include <jit/jit.h>

#include "../vm/assembler.h"
#include "vm_programs.h"

#define NR_MAPS	    4
#define NR_PROGRAMS ub_array_size(bench_programs)
#define MAX_ROUNDS  31
#define MAX_INSNS   512

enum engine { INTERPRETER, JIT, KERNEL, NR_ENGINES };

struct subject {
	struct ub_program *program;
	struct ub_jitted *jitted;
	int fd; /* in the kernel, or -1 */
	double ns[NR_ENGINES][MAX_ROUNDS];
	double median[NR_ENGINES];
};

static const struct ub_map_attr map_attrs[NR_MAPS] = {
	{ .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 1024, .max_entries = 1 },
	{ .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 64 },
	{ .type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 64 },
	{ .type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 64 },
};

static struct ub_map storage[NR_MAPS], *maps[NR_MAPS];
static int map_fds[NR_MAPS];
static ub_helper_fn helpers[UB_MAX_HELPER];
static struct ub_process process;
static struct subject subjects[NR_PROGRAMS];
static double target_ns = 10e6;

static u64 helper_trivial(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run)
{
	return 0;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static void make_maps(void)
{
	u32 nr_cpus = (u32)sysconf(_SC_NPROCESSORS_CONF);

	process = (struct ub_process) { .size = sizeof(process), .nr_cpus = nr_cpus };
	for (u32 i = 0; i < NR_MAPS; i++) {
		u64 size = ub_map_shared_size(&map_attrs[i], nr_cpus);
		union bpf_attr attr = {
			.map_type = map_attrs[i].type,
			.key_size = map_attrs[i].key_size,
			.value_size = map_attrs[i].value_size,
			.max_entries = map_attrs[i].max_entries,
		};
		void *shared = aligned_alloc(4096, size);

		if (!shared)
			exit(1);
		memset(shared, 0, size);
		ub_map_bind(&storage[i], &map_attrs[i], nr_cpus, shared);
		ub_map_format(&storage[i]);
		maps[i] = &storage[i];
		map_fds[i] = geteuid() ? -1 : sys_bpf(BPF_MAP_CREATE, &attr);
	}
	for (u32 key = 0; key < 64; key++) {
		struct ub_run run = { .process = &process, .cpu = 0 };
		u64 value = 0;
		union bpf_attr attr = { .map_fd = (u32)map_fds[3],
					.key = (u64)&key,
					.value = (u64)&value };

		ub_map_update(maps[3], &key, &value, BPF_ANY, &run);
		if (map_fds[3] >= 0)
			sys_bpf(BPF_MAP_UPDATE_ELEM, &attr);
	}
}

/* Linux 6.18 does not survive the freeing of very many programs at once. */
static void let_kernel_breathe(void)
{
	static u32 loads;

	if (++loads % 32 == 0)
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

static int load_kernel(const struct ub_program *program)
{
	struct bpf_insn insns[MAX_INSNS];
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (u64)insns,
		.insn_cnt = program->nr_insns,
		.license = (u64) "GPL",
	};

	if (map_fds[0] < 0)
		return -1;
	memcpy(insns, program->insns, program->nr_insns * sizeof(*insns));
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		if (insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW)) {
			if (insns[pc].src_reg)
				insns[pc].imm = map_fds[insns[pc].imm];
			pc++;
		}
	}
	let_kernel_breathe();
	return sys_bpf(BPF_PROG_LOAD, &attr);
}

/* What the verifier would say: read-modify-writes of per-CPU values. */
static void flag_percpu(struct ub_program *program, const char *name)
{
	if (strcmp(name, "per-CPU counters"))
		return;
	program->aux = calloc(program->nr_insns, sizeof(*program->aux));
	for (u32 pc = 0; program->aux && pc < program->nr_insns; pc++) {
		if (program->insns[pc].code == (BPF_LDX | BPF_MEM | BPF_DW) ||
		    program->insns[pc].code == (BPF_STX | BPF_MEM | BPF_DW))
			program->aux[pc].flags = UB_INSN_PERCPU;
	}
}

static int prepare(struct subject *subject, const struct bench_program *bench,
		   struct ub_reason *why)
{
	struct bpf_insn insns[MAX_INSNS];
	struct ub_code code;
	int nr, err;

	nr = assemble(bench->text, insns, MAX_INSNS, why);
	if (nr < 0)
		return nr;
	err = ub_program_from_insns(insns, nr, &subject->program, why);
	if (err)
		return err;
	subject->program->subprogs[0].stack_depth = 16;
	subject->program->nr_maps = NR_MAPS;
	memcpy(subject->program->maps, map_attrs, sizeof(map_attrs));
	flag_percpu(subject->program, bench->name);
	err = ub_jit_compile(subject->program, &code, why);
	if (err)
		return err;
	err = ub_jitted_create(&code, (const u64 *)helpers, maps, &subject->jitted, why);
	ub_code_free(&code);
	if (err)
		return err;
	subject->fd = load_kernel(subject->program);
	if (subject->fd < 0 && map_fds[0] >= 0)
		fprintf(stderr, "note: the kernel refuses '%s': %s\n", bench->name,
			strerror(errno));
	return 0;
}

static void run_times(struct subject *subject, enum engine engine, u64 times)
{
	struct ub_interpret_options options = { .helpers = helpers };
	struct ub_run run = { .process = &process, .maps = maps };
	u8 packet[64] = { 0 };
	union bpf_attr attr = { 0 };
	u64 result;

	switch (engine) {
	case INTERPRETER:
		for (u64 i = 0; i < times; i++) {
			run.cpu = 0;
			if (ub_interpret(subject->program, NULL, 0, &run, &options, &result, NULL))
				exit(1);
		}
		break;
	case JIT:
		for (u64 i = 0; i < times; i++) {
			run.cpu = 0;
			ub_jitted_run(subject->jitted, NULL, &run);
		}
		break;
	default:
		attr.test.prog_fd = (u32)subject->fd;
		attr.test.data_in = (u64)packet;
		attr.test.data_size_in = sizeof(packet);
		attr.test.repeat = (u32)times;
		sys_bpf(BPF_PROG_TEST_RUN, &attr);
		break;
	}
}

/* Nanoseconds per run, over about target_ns. */
static double measure(struct subject *subject, enum engine engine)
{
	u64 times = 64;

	for (;;) {
		double start = now(), took;

		run_times(subject, engine, times);
		took = now() - start;
		if (took >= target_ns / 2 || times > 1u << 30)
			return took / (double)times;
		times = took < target_ns / 64 ? times * 16
					      : (u64)((double)times * target_ns / took) + 1;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, u32 nr)
{
	qsort(values, nr, sizeof(*values), by_value);
	return values[nr / 2];
}

/* Microseconds to compile a program of 100 instructions. */
static double compile_time(void)
{
	struct bpf_insn insns[101];
	struct ub_program *program;
	double times[15];

	for (u32 i = 0; i < 100; i++)
		insns[i] = i % 10 == 9 ? (struct bpf_insn) { BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1,
							     (s32)i }
				       : (struct bpf_insn) { BPF_ALU64 | BPF_ADD | BPF_K, i % 10, 0,
							     0, (s32)i };
	insns[100] = (struct bpf_insn) { BPF_JMP | BPF_EXIT };
	insns[99] = (struct bpf_insn) { BPF_ALU64 | BPF_MOV | BPF_K };
	if (ub_program_from_insns(insns, 101, &program, NULL))
		return -1;
	for (u32 i = 0; i < ub_array_size(times); i++) {
		struct ub_code code;
		double start = now();

		for (u32 j = 0; j < 100; j++) {
			if (ub_jit_compile(program, &code, NULL))
				return -1;
			ub_code_free(&code);
		}
		times[i] = (now() - start) / 100 / 1000;
	}
	ub_program_free(program);
	return median(times, ub_array_size(times));
}

static double geometric_mean(double log_sum, u32 nr)
{
	return nr ? exp(log_sum / nr) : 0;
}

static void report(bool json, bool kernel)
{
	double all = 0, telling = 0, interpreted = 0;
	u32 nr_all = 0, nr_telling = 0;

	if (!json)
		printf("%-20s %12s %10s %10s %11s %16s\n", "ns per run", "interpreter", "jit",
		       "kernel", "jit/kernel", "interpreter/jit");
	for (u32 i = 0; i < NR_PROGRAMS; i++) {
		const struct bench_program *bench = &bench_programs[i];
		const struct subject *s = &subjects[i];
		double t[NR_ENGINES], ratio = 0;

		for (int e = 0; e < NR_ENGINES; e++) {
			t[e] = s->median[e] - (i ? subjects[0].median[e] : 0);
			/* What is not told from the empty program's noise. */
			if (t[e] < 0.2)
				t[e] = 0.2;
		}
		if (i && kernel && s->fd >= 0) {
			ratio = t[JIT] / t[KERNEL];
			all += log(ratio);
			nr_all++;
			if (bench->telling) {
				telling += log(ratio);
				nr_telling++;
			}
		}
		if (i)
			interpreted += log(t[INTERPRETER] / t[JIT]);
		if (json)
			printf("{\"program\":\"%s\",\"interpreter_ns\":%.2f,\"jit_ns\":%.2f,"
			       "\"kernel_ns\":%.2f,\"jit_to_kernel\":%.3f,\"telling\":%s}\n",
			       bench->name, t[INTERPRETER], t[JIT], kernel ? t[KERNEL] : 0, ratio,
			       bench->telling ? "true" : "false");
		else
			printf("%-18s%2s %12.1f %10.2f %10.2f %11.2f %16.1f\n", bench->name,
			       bench->telling || !i ? "" : "*", t[INTERPRETER], t[JIT],
			       kernel ? t[KERNEL] : 0, ratio, t[INTERPRETER] / t[JIT]);
	}
	if (json)
		printf("{\"geometric_mean\":%.3f,\"geometric_mean_telling\":%.3f,"
		       "\"interpreter_to_jit\":%.1f,\"compile_us\":%.2f}\n",
		       geometric_mean(all, nr_all), geometric_mean(telling, nr_telling),
		       geometric_mean(interpreted, NR_PROGRAMS - 1), compile_time());
	else
		printf("geometric mean jit/kernel %.2f; %.2f without the rows marked *, which are "
		       "too short or mostly calls\n"
		       "interpreter/jit %.1f; compiling 100 instructions takes %.1f us\n",
		       geometric_mean(all, nr_all), geometric_mean(telling, nr_telling),
		       geometric_mean(interpreted, NR_PROGRAMS - 1), compile_time());
}

int main(int argc, char **argv)
{
	u32 rounds = 7;
	bool json = false, kernel;
	int option;

	while ((option = getopt(argc, argv, "r:m:j")) != -1) {
		switch (option) {
		case 'r':
			rounds = (u32)atoi(optarg);
			break;
		case 'm':
			target_ns = atof(optarg) * 1e6;
			break;
		case 'j':
			json = true;
			break;
		default:
			fprintf(stderr, "usage: %s [-r ROUNDS] [-m MILLISECONDS] [-j]\n", argv[0]);
			return 2;
		}
	}
	if (rounds < 1 || rounds > MAX_ROUNDS)
		rounds = MAX_ROUNDS;
	make_maps();
	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		helpers[id] = helper ? helper->fn : NULL;
	}
	helpers[BPF_FUNC_get_numa_node_id] = helper_trivial;
	kernel = map_fds[0] >= 0;
	for (u32 i = 0; i < NR_PROGRAMS; i++) {
		struct ub_reason why = { "" };

		if (prepare(&subjects[i], &bench_programs[i], &why)) {
			fprintf(stderr, "%s: %s\n", bench_programs[i].name, why.text);
			return 1;
		}
	}
	for (u32 round = 0; round < rounds; round++) {
		for (u32 i = 0; i < NR_PROGRAMS; i++) {
			if (round && subjects[i].fd >= 0) {
				close(subjects[i].fd);
				subjects[i].fd = load_kernel(subjects[i].program);
			}
			for (int e = 0; e < NR_ENGINES; e++) {
				if (e != KERNEL || subjects[i].fd >= 0)
					subjects[i].ns[e][round] = measure(&subjects[i], e);
			}
		}
	}
	for (u32 i = 0; i < NR_PROGRAMS; i++) {
		for (int e = 0; e < NR_ENGINES; e++)
			subjects[i].median[e] = median(subjects[i].ns[e], rounds);
	}
	report(json, kernel);
	return 0;
}
