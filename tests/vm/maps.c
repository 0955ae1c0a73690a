// SPDX-License-Identifier: MIT
/*
 * Programs with maps: lookups that the JIT emits in line, values addressed directly, per-CPU
 * read-modify-writes, helper calls, tail calls. Interpreter and JIT on the same kind of map.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <helper/helper.h>
#include <interpreter/interpreter.h>
#include <jit/jit.h>
#include <jit/x86_64/compile.h>

#include "assembler.h"

#define NR_CPUS	  4
#define MAX_MAPS  10
#define MAX_INSNS 256

/* A program, its maps and one process's view of them. */
struct world {
	struct ub_program *program;
	struct ub_map storage[MAX_MAPS];
	struct ub_map *maps[MAX_MAPS];
	u32 nr_maps;
	struct ub_process process;
	struct ub_run run;
};

static u32 helper_calls;

static u64 count_lookup(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run)
{
	helper_calls++;
	return (u64)ub_map_lookup((struct ub_map *)r1, (const void *)r2, run);
}

static u64 cpu_helper(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run)
{
	return ((struct ub_run *)run)->cpu = 2;
}

static ub_helper_fn helpers[UB_MAX_HELPER];

static void fill_helpers(void)
{
	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		helpers[id] = helper ? helper->fn : NULL;
	}
	helpers[BPF_FUNC_map_lookup_elem] = count_lookup;
	helpers[BPF_FUNC_get_smp_processor_id] = cpu_helper;
	helper_calls = 0;
}

static void add_map(struct world *w, u32 type, u32 value_size, u32 max_entries)
{
	struct ub_map_attr attr = {
		.type = type,
		.key_size = 4,
		.value_size = value_size,
		.max_entries = max_entries,
	};
	struct ub_map *map = &w->storage[w->nr_maps];
	u64 size = ub_map_shared_size(&attr, NR_CPUS);
	void *shared = aligned_alloc(4096, size);

	assert_non_null(shared);
	memset(shared, 0, size);
	ub_map_bind(map, &attr, NR_CPUS, shared);
	ub_map_format(map);
	w->maps[w->nr_maps++] = map;
}

static void add_program(struct world *w, const char *text)
{
	struct bpf_insn insns[MAX_INSNS];
	struct ub_reason why = { "" };
	int nr = assemble(text, insns, MAX_INSNS, &why);

	if (nr < 0)
		fail_msg("%s", why.text);
	if (ub_program_from_insns(insns, nr, &w->program, &why))
		fail_msg("%s", why.text);
	w->program->nr_maps = w->nr_maps;
	for (u32 i = 0; i < w->nr_maps; i++)
		w->program->maps[i] = w->storage[i].attr;
}

/* Flags an instruction as the verifier would. */
static void flag(struct world *w, u32 pc, u8 flags)
{
	if (!w->program->aux)
		w->program->aux = calloc(w->program->nr_insns, sizeof(*w->program->aux));
	w->program->aux[pc].flags |= flags;
}

/* All of its loads and stores are of a per-CPU value. */
static void flag_percpu(struct world *w)
{
	for (u32 pc = 0; pc < w->program->nr_insns; pc++) {
		u8 class = BPF_CLASS(w->program->insns[pc].code);

		if (class == BPF_LDX || class == BPF_STX)
			flag(w, pc, UB_INSN_PERCPU);
	}
}

static void reset_run(struct world *w, u32 cpu)
{
	w->process = (struct ub_process) { .size = sizeof(w->process), .nr_cpus = NR_CPUS };
	w->run = (struct ub_run) { .process = &w->process, .maps = w->maps, .cpu = cpu };
}

static u64 interpret(struct world *w, u32 cpu)
{
	struct ub_interpret_options options = { .check = true, .helpers = helpers };
	struct ub_reason why = { "" };
	u64 result;

	reset_run(w, cpu);
	if (ub_interpret(w->program, NULL, 0, &w->run, &options, &result, &why))
		fail_msg("%s", why.text);
	return result;
}

static u64 jit(struct world *w, u32 cpu)
{
	struct ub_reason why = { "" };
	struct ub_jitted *jitted;
	struct ub_code code;
	u64 result;

	reset_run(w, cpu);
	if (ub_jit_compile(w->program, &code, &why) ||
	    ub_jitted_create(&code, (const u64 *)helpers, w->maps, &jitted, &why))
		fail_msg("%s", why.text);
	ub_code_free(&code);
	result = ub_jitted_run(jitted, NULL, &w->run);
	ub_jitted_destroy(jitted);
	return result;
}

static void end(struct world *w)
{
	for (u32 i = 0; i < w->nr_maps; i++)
		free(w->storage[i].shared);
	ub_program_free(w->program);
}

static u64 *value(struct world *w, u32 map, u32 index, u32 cpu)
{
	struct ub_run run = { .process = &w->process, .cpu = cpu };

	return ub_map_lookup(w->maps[map], &index, &run);
}

/* r0 = map[key] value's first word, or -1 */
#define LOOKUP(key)                                                                                \
	"stw [%r10-4], " key "\n"                                                                  \
	"lddw %r1, map 0\n"                                                                        \
	"mov %r2, %r10\n"                                                                          \
	"add %r2, -4\n"                                                                            \
	"call 1\n"                                                                                 \
	"jeq %r0, 0, miss\n"                                                                       \
	"ldxdw %r0, [%r0]\n"                                                                       \
	"exit\n"                                                                                   \
	"miss:\n"                                                                                  \
	"mov %r0, -1\n"                                                                            \
	"exit\n"

static void lookup_in_array(void **state)
{
	static const u32 value_sizes[] = { 8, 16, 24, 64, 1000 };

	for (u32 i = 0; i < ub_array_size(value_sizes); i++) {
		struct world w = { 0 }, miss = { 0 };

		fill_helpers();
		add_map(&w, BPF_MAP_TYPE_ARRAY, value_sizes[i], 10);
		add_program(&w, LOOKUP("9"));
		*value(&w, 0, 9, 0) = 0x1234567890ull;
		assert_int_equal(interpret(&w, 0), 0x1234567890ull);
		assert_int_equal(helper_calls, 1);
		assert_int_equal(jit(&w, 0), 0x1234567890ull);
		assert_int_equal(helper_calls, 1); /* in line */
		end(&w);

		add_map(&miss, BPF_MAP_TYPE_ARRAY, value_sizes[i], 10);
		add_program(&miss, LOOKUP("10"));
		assert_int_equal(interpret(&miss, 0), -1);
		assert_int_equal(jit(&miss, 0), -1);
		end(&miss);
	}
}

/* Again and again, in more maps than the frame keeps the addresses of, the CPU being known or not
 * at first. */
static void lookup_in_many_percpu_arrays(void **state)
{
	static const u32 cpus[] = { 0, 1, NR_CPUS - 1, UB_CPU_UNKNOWN };
	struct world w = { 0 };
	char text[4096] = "mov %r6, 0\nmov %r7, 0\nloop:\n";

	fill_helpers();
	for (u32 map = 0; map < MAX_MAPS; map++) {
		add_map(&w, BPF_MAP_TYPE_PERCPU_ARRAY, 8 + 8 * (map % 3), 3 + map);
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 "stxw [%%r10-4], %%r7\n"
			 "lddw %%r1, map %u\n"
			 "mov %%r2, %%r10\n"
			 "add %%r2, -4\n"
			 "call 1\n"
			 "jeq %%r0, 0, miss%u\n"
			 "ldxdw %%r1, [%%r0]\n"
			 "add %%r6, %%r1\n"
			 "miss%u:\n",
			 map, map, map);
	}
	snprintf(text + strlen(text), sizeof(text) - strlen(text),
		 "add %%r7, 1\njlt %%r7, 6, loop\nmov %%r0, %%r6\nexit\n");
	add_program(&w, text);
	for (u32 map = 0; map < MAX_MAPS; map++)
		for (u32 index = 0; index < 3 + map; index++)
			for (u32 cpu = 0; cpu < NR_CPUS; cpu++)
				*value(&w, map, index, cpu) = 1ull << (4 * map + cpu) | index;
	for (u32 i = 0; i < ub_array_size(cpus); i++) {
		u64 result = jit(&w, cpus[i]);

		assert_int_equal(result, interpret(&w, w.run.cpu));
		assert_int_not_equal(result, 0);
	}
	end(&w);
}

static void lookup_in_percpu_array(void **state)
{
	for (u32 value_size = 8; value_size <= 40; value_size += 16) {
		struct world w = { 0 };

		fill_helpers();
		add_map(&w, BPF_MAP_TYPE_PERCPU_ARRAY, value_size, 5);
		add_program(&w, LOOKUP("3"));
		for (u32 cpu = 0; cpu < NR_CPUS; cpu++)
			*value(&w, 0, 3, cpu) = 100 + cpu;
		for (u32 cpu = 0; cpu < NR_CPUS; cpu++) {
			helper_calls = 0;
			assert_int_equal(interpret(&w, cpu), 100 + cpu);
			assert_int_equal(jit(&w, cpu), 100 + cpu);
			assert_int_equal(helper_calls, 1);
		}
		/* A run that does not know its CPU asks, in whichever way the map does. */
		helpers[BPF_FUNC_map_lookup_elem] = count_lookup;
		jit(&w, UB_CPU_UNKNOWN);
		assert_int_not_equal(w.run.cpu, UB_CPU_UNKNOWN);
		end(&w);
	}
}

static void lookup_in_hash(void **state)
{
	struct world w = { 0 };
	u32 key = 7;
	u64 stored = 77;

	fill_helpers();
	add_map(&w, BPF_MAP_TYPE_HASH, 8, 10);
	add_program(&w, LOOKUP("7"));
	reset_run(&w, 0);
	assert_int_equal(ub_map_update(w.maps[0], &key, &stored, BPF_ANY, &w.run), 0);
	assert_int_equal(interpret(&w, 0), 77);
	assert_int_equal(jit(&w, 0), 77);
	assert_int_equal(helper_calls, 2);
	end(&w);
}

/* The key's register must survive where r1 is known but not loaded right before the call. */
static void lookup_across_branches(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_map(&w, BPF_MAP_TYPE_ARRAY, 8, 4);
	add_program(&w, "lddw %r6, map 0\n"
			"stw [%r10-4], 2\n"
			"mov %r2, %r10\n"
			"add %r2, -4\n"
			"mov %r1, %r6\n"
			"call 1\n"
			"jeq %r0, 0, out\n"
			"stdw [%r0], 5\n"
			"mov %r7, %r0\n"
			"mov %r1, %r6\n"
			"mov %r2, %r10\n"
			"add %r2, -4\n"
			"jne %r7, %r0, out\n"
			"call 1\n"
			"jeq %r0, 0, out\n"
			"ldxdw %r0, [%r0]\n"
			"ldxdw %r7, [%r7]\n"
			"add %r0, %r7\n"
			"out: exit\n");
	assert_int_equal(interpret(&w, 0), 10);
	assert_int_equal(jit(&w, 0), 10);
	end(&w);
}

static void map_values(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_map(&w, BPF_MAP_TYPE_ARRAY, 64, 1);
	add_program(&w, "lddw %r1, map_value 0 24\n"
			"mov %r2, 5\n"
			"lock add [%r1], %r2\n"
			"ldxdw %r0, [%r1]\n"
			"exit\n");
	assert_int_equal(interpret(&w, 0), 5);
	assert_int_equal(jit(&w, 0), 10);
	assert_int_equal(value(&w, 0, 0, 0)[3], 10);
	end(&w);
}

/* Count the lock prefixes of the code. */
static u32 count_locks(struct world *w)
{
	struct ub_reason why = { "" };
	struct ub_code code;
	u32 nr = 0;

	if (ub_jit_compile(w->program, &code, &why))
		fail_msg("%s", why.text);
	for (u32 i = 0; i < code.size; i++)
		nr += code.bytes[i] == 0xf0;
	ub_code_free(&code);
	return nr;
}

static void percpu_increment_is_one_instruction(void **state)
{
	static const char *const steps[] = {
		"ldxdw %r1, [%r0+8]\nadd %r1, 1\nstxdw [%r0+8], %r1\n",
		"ldxdw %r1, [%r0+8]\nadd %r1, %r6\nstxdw [%r0+8], %r1\n",
		"ldxw %r1, [%r0+8]\nadd32 %r1, 1\nstxw [%r0+8], %r1\n",
		"ldxw %r1, [%r0+8]\nadd %r1, 1\nstxw [%r0+8], %r1\n",
		"ldxb %r1, [%r0+8]\nxor %r1, 1\nstxb [%r0+8], %r1\n",
	};

	for (u32 i = 0; i < ub_array_size(steps); i++) {
		struct world w = { 0 };
		char text[512];
		u32 pc;

		fill_helpers();
		add_map(&w, BPF_MAP_TYPE_PERCPU_ARRAY, 16, 1);
		snprintf(text, sizeof(text),
			 "mov %%r6, 1\n"
			 "stw [%%r10-4], 0\n"
			 "lddw %%r1, map 0\n"
			 "mov %%r2, %%r10\n"
			 "add %%r2, -4\n"
			 "call 1\n"
			 "jeq %%r0, 0, exit\n"
			 "%s"
			 "mov %%r0, 0\n"
			 "exit\n",
			 steps[i]);
		add_program(&w, text);
		pc = w.program->nr_insns - 5;
		flag(&w, pc, UB_INSN_PERCPU);
		flag(&w, pc + 2, UB_INSN_PERCPU);
		assert_int_equal(count_locks(&w), 1);
		interpret(&w, 3);
		assert_int_equal(value(&w, 0, 0, 3)[1], 1);
		jit(&w, 3);
		assert_int_equal(value(&w, 0, 0, 3)[1], steps[i][3] == 'b' ? 0 : 2);
		assert_int_equal(value(&w, 0, 0, 2)[1], 0);
		end(&w);
	}
}

/* As compilers write two counters: loads, changes, stores of both mixed, and a value changed twice.
 */
static void interleaved_percpu_increments(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_map(&w, BPF_MAP_TYPE_PERCPU_ARRAY, 32, 1);
	add_program(&w, "mov %r7, 5\n"
			"stw [%r10-4], 0\n"
			"lddw %r1, map 0\n"
			"mov %r2, %r10\n"
			"add %r2, -4\n"
			"call 1\n"
			"jeq %r0, 0, exit\n"
			"mov32 %r1, %r7\n"
			"ldxw %r2, [%r0+20]\n"
			"sub32 %r2, %r1\n"
			"ldxw %r3, [%r0+16]\n"
			"add32 %r3, 1\n"
			"stxw [%r0+16], %r3\n"
			"stxw [%r0+20], %r2\n"
			"ldxdw %r3, [%r0]\n"
			"add %r3, %r7\n"
			"add %r3, 1\n"
			"stxdw [%r0], %r3\n"
			"mov %r0, 0\n"
			"exit\n");
	flag_percpu(&w);
	assert_int_equal(count_locks(&w), 4);
	interpret(&w, 1);
	jit(&w, 1);
	assert_int_equal(value(&w, 0, 0, 1)[0], 12);
	assert_int_equal(value(&w, 0, 0, 1)[2], (u64)(u32)-10 << 32 | 2);
	end(&w);
}

/* All loads first, then all changes, then all stores; the last but one reads what another changes. */
static void parallel_percpu_increments(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_map(&w, BPF_MAP_TYPE_PERCPU_ARRAY, 32, 1);
	add_program(&w, "mov %r7, 5\n"
			"stw [%r10-4], 0\n"
			"lddw %r1, map 0\n"
			"mov %r2, %r10\n"
			"add %r2, -4\n"
			"call 1\n"
			"jeq %r0, 0, exit\n"
			"ldxdw %r1, [%r0]\n"
			"ldxdw %r2, [%r0+8]\n"
			"ldxdw %r3, [%r0+16]\n"
			"add %r1, 1\n"
			"add %r2, %r7\n"
			"add %r3, %r2\n"
			"stxdw [%r0], %r1\n"
			"stxdw [%r0+16], %r3\n"
			"stxdw [%r0+8], %r2\n"
			"mov %r0, 0\n"
			"exit\n");
	flag_percpu(&w);
	/* r2 is needed as it is before its store: that one stays a load and a store. */
	assert_int_equal(count_locks(&w), 2);
	for (u64 round = 1; round <= 4; round++) {
		if (round & 1)
			interpret(&w, 1);
		else
			jit(&w, 1);
		assert_int_equal(value(&w, 0, 0, 1)[0], round);
		assert_int_equal(value(&w, 0, 0, 1)[1], 5 * round);
		assert_int_equal(value(&w, 0, 0, 1)[2], 5 * round * (round + 1) / 2);
	}
	end(&w);
}

static void cpu_number(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_program(&w, "call 8\nmov %r6, %r0\ncall 8\nlsh %r0, 8\nor %r0, %r6\nexit\n");
	assert_int_equal(jit(&w, 1), 0x101);
	assert_int_equal(jit(&w, UB_CPU_UNKNOWN), 0x202);
	end(&w);
}

/* A program calls itself through slot 1 of a PROG_ARRAY, another one through slot 2. */
#define TAIL_CALLS                                                                                 \
	"mov %r6, %r1\n"                                                                           \
	"lddw %r7, map_value 1 0\n"                                                                \
	"ldxdw %r8, [%r7]\n"                                                                       \
	"add %r8, 1\n"                                                                             \
	"stxdw [%r7], %r8\n"                                                                       \
	"lddw %r2, map 0\n"                                                                        \
	"mov %r3, 1\n"                                                                             \
	"call 12\n"                                                                                \
	"mov %r1, %r6\n"                                                                           \
	"lddw %r2, map 0\n"                                                                        \
	"mov %r3, 0\n" /* an empty slot */                                                         \
	"call 12\n"                                                                                \
	"mov %r1, %r6\n"                                                                           \
	"lddw %r2, map 0\n"                                                                        \
	"mov %r3, 99\n" /* out of range */                                                         \
	"call 12\n"                                                                                \
	"ldxdw %r0, [%r7]\n"                                                                       \
	"exit\n"

static void make_tail_world(struct world *w, struct ub_map **table)
{
	*w = (struct world) { 0 };
	fill_helpers();
	add_map(w, BPF_MAP_TYPE_PROG_ARRAY, 4, 3);
	add_map(w, BPF_MAP_TYPE_ARRAY, 8, 1);
	w->storage[0].inner = table;
}

static void tail_calls_interpreted(void **state)
{
	struct ub_map *table[3] = { NULL };
	struct ub_interpret_target target;
	struct world w;

	make_tail_world(&w, table);
	add_program(&w, TAIL_CALLS);
	target = (struct ub_interpret_target) { w.program, w.maps };
	table[1] = (struct ub_map *)&target;
	/* The first run and 33 more. */
	assert_int_equal(interpret(&w, 0), 34);
	end(&w);
}

static void tail_calls_compiled(void **state)
{
	struct ub_map *table[3] = { NULL };
	struct ub_reason why = { "" };
	struct ub_jitted *jitted;
	struct ub_code code;
	struct world w;

	make_tail_world(&w, table);
	add_program(&w, TAIL_CALLS);
	reset_run(&w, 0);
	assert_true(w.program->uses_tail_call);
	if (ub_jit_compile(w.program, &code, &why) ||
	    ub_jitted_create(&code, (const u64 *)helpers, w.maps, &jitted, &why))
		fail_msg("%s", why.text);
	table[1] = (struct ub_map *)ub_jitted_entry(jitted);
	assert_int_equal(ub_jitted_run(jitted, NULL, &w.run), 34);
	assert_int_equal(w.run.tail_calls, UB_MAX_TAIL_CALLS);
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	end(&w);
}

/* Those of subprograms leave a frame behind each, more than a program alone may have. */
static void tail_calls_nest(void **state)
{
	struct ub_map *table[3] = { NULL };
	struct ub_interpret_target target;
	struct ub_reason why = { "" };
	struct ub_jitted *jitted;
	struct ub_code code;
	struct world w;

	make_tail_world(&w, table);
	add_program(&w, "call local sub\n"
			"add %r0, 1\n"
			"exit\n"
			"sub:\n"
			"lddw %r2, map 0\n"
			"mov %r3, 1\n"
			"call 12\n"
			"mov %r0, 0\n"
			"exit\n");
	target = (struct ub_interpret_target) { w.program, w.maps };
	table[1] = (struct ub_map *)&target;
	assert_int_equal(interpret(&w, 0), 1 + UB_MAX_TAIL_CALLS);

	if (ub_jit_compile(w.program, &code, &why) ||
	    ub_jitted_create(&code, (const u64 *)helpers, w.maps, &jitted, &why))
		fail_msg("%s", why.text);
	table[1] = (struct ub_map *)ub_jitted_entry(jitted);
	reset_run(&w, 0);
	assert_int_equal(ub_jitted_run(jitted, NULL, &w.run), 1 + UB_MAX_TAIL_CALLS);
	ub_jitted_destroy(jitted);
	ub_code_free(&code);
	end(&w);
}

/* A tail call in a subprogram returns to the subprogram's caller. */
static void tail_call_from_subprogram(void **state)
{
	struct ub_map *table[3] = { NULL };
	struct ub_interpret_target target;
	struct ub_reason why = { "" };
	struct ub_jitted *outer, *inner;
	struct ub_code code;
	struct world w, other = { 0 };

	make_tail_world(&w, table);
	add_program(&w, "mov %r6, 1000\n"
			"call local sub\n"
			"add %r0, %r6\n"
			"exit\n"
			"sub:\n"
			"mov %r6, 5\n"
			"stdw [%r10-8], 1\n"
			"lddw %r2, map 0\n"
			"mov %r3, 2\n"
			"call 12\n"
			"mov %r0, 7\n"
			"exit\n");
	add_program(&other, "mov %r6, 3\nmov %r7, 4\nmov %r0, 50\nexit\n");
	assert_int_equal(interpret(&w, 0), 1007); /* nothing in the slot yet */
	assert_int_equal(jit(&w, 0), 1007);

	target = (struct ub_interpret_target) { other.program, NULL };
	table[2] = (struct ub_map *)&target;
	assert_int_equal(interpret(&w, 0), 1050);

	if (ub_jit_compile(other.program, &code, &why) ||
	    ub_jitted_create(&code, (const u64 *)helpers, NULL, &inner, &why))
		fail_msg("%s", why.text);
	ub_code_free(&code);
	if (ub_jit_compile(w.program, &code, &why) ||
	    ub_jitted_create(&code, (const u64 *)helpers, w.maps, &outer, &why))
		fail_msg("%s", why.text);
	ub_code_free(&code);
	table[2] = (struct ub_map *)ub_jitted_entry(inner);
	reset_run(&w, 0);
	assert_int_equal(ub_jitted_run(outer, NULL, &w.run), 1050);
	ub_jitted_destroy(outer);
	ub_jitted_destroy(inner);
	end(&w);
	end(&other);
}

static void callback_in_helper(void **state)
{
	struct world w = { 0 };

	fill_helpers();
	add_program(&w, "stdw [%r10-8], 0\n"
			"mov %r1, 10\n"
			"lddw %r2, func each\n"
			"mov %r3, %r10\n"
			"add %r3, -8\n"
			"mov %r4, 0\n"
			"call 181\n"
			"ldxdw %r0, [%r10-8]\n"
			"exit\n"
			"each:\n"
			"mov %r6, %r2\n"
			"ldxdw %r7, [%r6]\n"
			"add %r7, %r1\n"
			"stxdw [%r6], %r7\n"
			"call 8\n"
			"mov %r0, 0\n"
			"exit\n");
	assert_int_equal(interpret(&w, 0), 45);
	assert_int_equal(jit(&w, 0), 45);
	assert_int_equal(jit(&w, UB_CPU_UNKNOWN), 45);
	assert_int_equal(w.run.cpu, 2);
	end(&w);
}

static void missing_helper(void **state)
{
	struct world w = { 0 };
	struct ub_interpret_options options = { .helpers = helpers };
	struct ub_reason why = { "" };
	struct ub_jitted *jitted;
	struct ub_code code;
	u64 result;

	fill_helpers();
	add_program(&w, "call 250\nexit\n");
	reset_run(&w, 0);
	assert_int_equal(ub_interpret(w.program, NULL, 0, &w.run, &options, &result, &why),
			 -EINVAL);
	assert_non_null(strstr(why.text, "250"));
	assert_int_equal(ub_jit_compile(w.program, &code, &why), 0);
	assert_int_equal(ub_jitted_create(&code, (const u64 *)helpers, NULL, &jitted, &why),
			 -ENOENT);
	assert_non_null(strstr(why.text, "250"));
	ub_code_free(&code);
	end(&w);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup_in_array),
		cmocka_unit_test(lookup_in_percpu_array),
		cmocka_unit_test(lookup_in_many_percpu_arrays),
		cmocka_unit_test(lookup_in_hash),
		cmocka_unit_test(lookup_across_branches),
		cmocka_unit_test(map_values),
		cmocka_unit_test(percpu_increment_is_one_instruction),
		cmocka_unit_test(interleaved_percpu_increments),
		cmocka_unit_test(parallel_percpu_increments),
		cmocka_unit_test(cpu_number),
		cmocka_unit_test(tail_calls_interpreted),
		cmocka_unit_test(tail_calls_compiled),
		cmocka_unit_test(tail_calls_nest),
		cmocka_unit_test(tail_call_from_subprogram),
		cmocka_unit_test(callback_in_helper),
		cmocka_unit_test(missing_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
