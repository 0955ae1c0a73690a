// SPDX-License-Identifier: MIT
/*
 * Tail calls and maps of maps by an image's own tables: what shared memory says leads nowhere that
 * is not in them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <program/program.h>

#include "apply.h"

#define SLOTS 3
#define SLOT  1
#define INNER 77
#define INSN(c, d, s, o, i)                                                                        \
	{                                                                                          \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)                \
	}

enum { PROGRAMS, COUNTS, OUTER, IN, NR_MAPS };

static const struct ub_map_attr attrs[NR_MAPS] = {
	[PROGRAMS] = { .type = BPF_MAP_TYPE_PROG_ARRAY,
		       .key_size = 4,
		       .value_size = 4,
		       .max_entries = SLOTS,
		       .id = 5 },
	[COUNTS] = { .type = BPF_MAP_TYPE_ARRAY,
		     .key_size = 4,
		     .value_size = 64,
		     .max_entries = 1,
		     .id = 6 },
	[OUTER] = { .type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
		    .key_size = 4,
		    .value_size = 4,
		    .max_entries = 1,
		    .id = 7 },
	[IN] = { .type = BPF_MAP_TYPE_ARRAY,
		 .key_size = 4,
		 .value_size = 64,
		 .max_entries = 1,
		 .id = INNER },
};

/* Counts in the inner map, if there is one, then goes on in the program of SLOT, or counts at 0. */
static const struct bpf_insn caller_insns[] = {
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
	INSN(BPF_ST | BPF_W | BPF_MEM, 10, 0, -4, 0),
	INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, OUTER),
	INSN(0, 0, 0, 0, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
	INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
	INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
	INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 7, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 0, 0, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
	INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
	INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
	INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
	INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 0, 2, 0, BPF_ADD),
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0),
	INSN(BPF_LD | BPF_DW | BPF_IMM, 2, BPF_PSEUDO_MAP_FD, 0, PROGRAMS),
	INSN(0, 0, 0, 0, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, SLOT),
	INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_tail_call),
	INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, COUNTS),
	INSN(0, 0, 0, 0, 0),
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
	INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 1, 2, 0, BPF_ADD),
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
	INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
};

long __attribute__((noinline, noclone)) probed(long n)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop" : "+r"(n));
	return n + 1;
}

struct world {
	struct test_map maps[NR_MAPS];
	struct ub_program *caller, *callee;
	struct ub_code caller_code, callee_code;
	struct ub_image_map image_maps[NR_MAPS];
	struct ub_image_entry program_entry, inner_entry;
	struct ub_image_callee callees[1];
	struct ub_image_link link;
	struct ub_image_request request;
};

static const u32 caller_maps[] = { PROGRAMS, COUNTS, OUTER };
static const u32 callee_maps[] = { COUNTS };

static void begin(struct world *w)
{
	struct ub_reason why = {};

	memset(w, 0, sizeof(*w));
	for (u32 i = 0; i < NR_MAPS; i++) {
		assert_int_equal(test_map_create_as(&attrs[i], 1, &w->maps[i]), 0);
		w->image_maps[i] = w->maps[i].image;
	}
	if (ub_program_from_insns(caller_insns, ub_array_size(caller_insns), &w->caller, &why))
		fail_msg("%s", why.text);
	w->caller->type = BPF_PROG_TYPE_KPROBE;
	w->caller->nr_maps = ub_array_size(caller_maps);
	for (u32 i = 0; i < ub_array_size(caller_maps); i++)
		w->caller->maps[i] = attrs[caller_maps[i]];
	w->callee = counting_program(8);
	if (ub_jit_compile(w->caller, &w->caller_code, &why) ||
	    ub_jit_compile(w->callee, &w->callee_code, &why))
		fail_msg("%s", why.text);
	w->program_entry = (struct ub_image_entry) { SLOT, 0 };
	w->inner_entry = (struct ub_image_entry) { INNER, IN };
	w->image_maps[PROGRAMS].nr_entries = w->image_maps[OUTER].nr_entries = 1;
	w->image_maps[PROGRAMS].entries = &w->program_entry;
	w->image_maps[OUTER].entries = &w->inner_entry;
	w->callees[0] = (struct ub_image_callee) { 9, w->callee, &w->callee_code, 1, callee_maps };
	w->link = (struct ub_image_link) {
		.point = point_of(probed, UB_POINT_ENTRY),
		.link_id = 1,
		.prog_id = 8,
		.program = w->caller,
		.code = &w->caller_code,
		.nr_maps = ub_array_size(caller_maps),
		.maps = caller_maps,
	};
	w->request = (struct ub_image_request) {
		.pid = getpid(),
		.nr_links = 1,
		.links = &w->link,
		.nr_maps = NR_MAPS,
		.maps = w->image_maps,
		.nr_callees = 1,
		.callees = w->callees,
		.nr_cpus = 1,
	};
}

static void end(struct world *w)
{
	ub_code_free(&w->caller_code);
	ub_code_free(&w->callee_code);
	ub_program_free(w->caller);
	ub_program_free(w->callee);
	for (u32 i = 0; i < NR_MAPS; i++)
		test_map_destroy(&w->maps[i]);
}

static struct ub_image *put_in(const struct world *w)
{
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	int err;

	do {
		ub_image_free(image);
		image = NULL;
		err = ub_image_build(&w->request, &image, &why);
		if (err)
			fail_msg("%d: %s", err, why.text);
	} while (apply_image(image) == -EAGAIN);
	return image;
}

/* What a call counts: in the inner map, in the program that was called, in the one that was not
 * left. */
static void expect(struct world *w, u64 inner, u64 called, u64 stayed)
{
	u64 *counts = test_map_values(&w->maps[COUNTS]);
	u64 *in = test_map_values(&w->maps[IN]);

	counts[0] = counts[1] = in[0] = 0;
	assert_int_equal(probed(4), 5);
	assert_int_equal(in[0], inner);
	assert_int_equal(counts[1], called);
	assert_int_equal(counts[0], stayed);
}

static void test_tables(void **state)
{
	static const u32 lies[] = { 0, 1, 7, INNER - 1, INNER + 1, 0x80000000u, 0xffffffffu };
	struct ub_image_table *programs, *outer;
	struct ub_image *image;
	struct world w;
	u32 *id;

	begin(&w);
	id = (u32 *)test_map_values(&w.maps[OUTER]);
	image = put_in(&w);
	*id = INNER;
	expect(&w, 1, 1, 0);
	for (u32 i = 0; i < ub_array_size(lies); i++) {
		*id = lies[i];
		memset(w.maps[PROGRAMS].map.shared, (int)lies[i], w.maps[PROGRAMS].map.shared_size);
		expect(&w, 0, 1, 0);
	}
	*id = INNER;

	programs = ub_image_table(image, attrs[PROGRAMS].id);
	outer = ub_image_table(image, attrs[OUTER].id);
	assert_non_null(programs);
	assert_non_null(outer);
	assert_null(ub_image_table(image, attrs[COUNTS].id));
	assert_true(ub_image_has_map(image, INNER));
	assert_false(ub_image_has_map(image, INNER + 1));
	assert_int_equal(ub_image_table_get(programs, SLOT), 9);
	assert_int_equal(ub_image_table_get(programs, SLOT + 1), 0);
	assert_int_equal(ub_image_table_get(outer, INNER), INNER);
	ub_image_table_clear(programs, SLOT - 1);
	ub_image_table_clear(programs, SLOTS);
	expect(&w, 1, 1, 0);
	ub_image_table_clear(programs, SLOT);
	assert_int_equal(ub_image_table_get(programs, SLOT), 0);
	expect(&w, 1, 0, 1);
	remove_image(image);
	ub_image_free(image);
	end(&w);
}

static void test_empty(void **state)
{
	struct ub_image *image;
	struct world w;

	begin(&w);
	*(u32 *)test_map_values(&w.maps[OUTER]) = INNER;
	w.image_maps[PROGRAMS].nr_entries = w.image_maps[OUTER].nr_entries = 0;
	image = put_in(&w);
	memset(w.maps[PROGRAMS].map.shared, 9, w.maps[PROGRAMS].map.shared_size);
	expect(&w, 0, 0, 1);
	remove_image(image);
	ub_image_free(image);
	end(&w);
}

static void test_refused(void **state)
{
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	struct world w;

	begin(&w);
	w.program_entry.slot = SLOTS;
	assert_int_equal(ub_image_build(&w.request, &image, &why), -EINVAL);
	w.program_entry = (struct ub_image_entry) { SLOT, 1 };
	assert_int_equal(ub_image_build(&w.request, &image, &why), -EINVAL);
	w.program_entry.index = 0;
	w.inner_entry.index = NR_MAPS;
	assert_int_equal(ub_image_build(&w.request, &image, &why), -EINVAL);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
