// SPDX-License-Identifier: MIT
/*
 * differential [-n PROGRAMS] [-t SECONDS] [-s SEED] [-m MEMORIES] [-K]: random programs on the
 * interpreter, the JIT (with and without BMI2) and, as root, the kernel; all must agree on the
 * memory, the result and every register. A difference is printed as a program with its seed; with
 * UBPF_SHOW_REFUSED set, so is what the kernel refuses.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <isa/isa.h>

#include "generate.h"

static struct vm_case test, target;
static struct vm_loaded *targets[VM_NR_ENGINES];
static struct vm_outcome out[VM_NR_ENGINES];
static u64 nr_refused;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void print_case(const struct vm_case *program)
{
	for (u32 pc = 0; pc < program->nr; pc++) {
		char text[128];

		ub_isa_print(&program->insns[pc], text, sizeof(text));
		printf("%4u: %s%s\n", pc, text, program->flags[pc] ? " [percpu]" : "");
		pc += program->insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW);
	}
}

static void print_program(void)
{
	print_case(&test);
	if (test.has_tail_calls) {
		printf("which may tail-call:\n");
		print_case(&target);
	}
}

static void drop_targets(void)
{
	for (int engine = 0; engine < VM_NR_ENGINES; engine++) {
		if (!targets[engine])
			continue;
		if (vm_set_target(engine, NULL))
			abort();
		vm_unload(targets[engine]);
		targets[engine] = NULL;
	}
}

/* What the tail calls of @seed's program lead to. False if an engine refuses it: @why. */
static bool load_target(u64 seed, enum vm_engine engine, struct ub_reason *why)
{
	if (!test.has_tail_calls)
		return true;
	if (!engine)
		generate_target(seed, &target);
	return !vm_load(engine, &target, &targets[engine], why) &&
	       !vm_set_target(engine, targets[engine]);
}

static void report(u64 seed, enum vm_engine engine)
{
	printf("seed %llu: %s differs from the interpreter\n", (unsigned long long)seed,
	       vm_engine_names[engine]);
	print_program();
	printf("r0: 0x%llx, interpreter 0x%llx\n", (unsigned long long)out[engine].r0,
	       (unsigned long long)out[VM_INTERPRETER].r0);
	for (u32 i = 0; i + 8 <= test.memory_size; i += 8) {
		u64 a, b;

		memcpy(&a, out[engine].memory + i, 8);
		memcpy(&b, out[VM_INTERPRETER].memory + i, 8);
		if (a != b)
			printf("memory %u: 0x%llx, interpreter 0x%llx\n", i, (unsigned long long)a,
			       (unsigned long long)b);
	}
}

/* Whether all engines agree about the program of @seed. */
static bool try_program(u64 seed, u32 nr_memories, bool kernel)
{
	struct random_state r = { seed };
	struct vm_loaded *loaded[VM_NR_ENGINES] = { NULL };
	struct ub_reason why = { "" };
	bool fine = true;

	generate_program(seed, &test);
	for (int engine = 0; engine < VM_NR_ENGINES && fine; engine++) {
		if (engine == VM_KERNEL && !kernel)
			continue;
		if (load_target(seed, engine, &why) &&
		    !vm_load(engine, &test, &loaded[engine], &why))
			continue;
		if (engine == VM_KERNEL) {
			if (!nr_refused++ || getenv("UBPF_SHOW_REFUSED")) {
				printf("note: seed %llu: the kernel refuses it: %s\n",
				       (unsigned long long)seed, why.text);
				if (getenv("UBPF_SHOW_REFUSED"))
					print_program();
			}
			continue;
		}
		printf("seed %llu: %s: %s\n", (unsigned long long)seed, vm_engine_names[engine],
		       why.text);
		print_program();
		fine = false;
	}
	if (test.has_maps || test.has_tail_calls)
		vm_maps_reset();
	for (u32 i = 0; i < nr_memories && fine; i++) {
		generate_memory(&r, &test, test.memory);
		for (int engine = 0; engine < VM_NR_ENGINES && fine; engine++) {
			if (!loaded[engine])
				continue;
			memcpy(out[engine].memory, test.memory, test.memory_size);
			if (vm_execute(loaded[engine], &test, &out[engine], &why)) {
				printf("seed %llu: %s: %s\n", (unsigned long long)seed,
				       vm_engine_names[engine], why.text);
				print_program();
				fine = false;
			} else if (vm_outcome_differs(&test, &out[engine], &out[VM_INTERPRETER])) {
				report(seed, engine);
				fine = false;
			}
		}
	}
	for (int engine = 0; engine < VM_NR_ENGINES; engine++)
		vm_unload(loaded[engine]);
	drop_targets();
	return fine;
}

int main(int argc, char **argv)
{
	u64 nr = UINT64_MAX, seed = 1, done = 0, nr_different = 0;
	double seconds = 1e18, start = now();
	u32 nr_memories = 3;
	bool kernel = true;
	int option;

	while ((option = getopt(argc, argv, "n:t:s:m:K")) != -1) {
		switch (option) {
		case 'n':
			nr = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atof(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			nr_memories = (u32)atoi(optarg);
			break;
		case 'K':
			kernel = false;
			break;
		default:
			fprintf(stderr,
				"usage: %s [-n PROGRAMS] [-t SECONDS] [-s SEED] "
				"[-m MEMORIES] [-K]\n",
				argv[0]);
			return 2;
		}
	}
	kernel = kernel && vm_kernel_available();
	for (; done < nr && now() - start < seconds; done++) {
		if (!try_program(seed + done, nr_memories, kernel) && ++nr_different >= 5)
			break;
	}
	printf("%llu programs from seed %llu, %u memories each: %llu differences; %s\n",
	       (unsigned long long)done, (unsigned long long)seed, nr_memories,
	       (unsigned long long)nr_different,
	       kernel ? "interpreter, jit, kernel" : "interpreter and jit (no kernel here)");
	if (nr_refused)
		printf("%llu of them refused by the kernel\n", (unsigned long long)nr_refused);
	return nr_different != 0;
}
