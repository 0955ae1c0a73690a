// SPDX-License-Identifier: MIT
/*
 * What tests/helper/both tries: every helper that a uprobe's program may call is called by a
 * program there, every one that is refused by a program that must be refused, and there is a map of
 * every type. So that nobody adds one without a case.
 */
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include <common/types.h>
#include <helper/helper.h>
#include <map/map.h>

#define MAX_TYPES 64
#define NR_CPUS	  2

/* Linux lets no program have them that could be attached to a uprobe. */
static const struct {
	u32 id;
	const char *why;
} elsewhere[] = {
	{ BPF_FUNC_spin_lock, "tests/map/behaviour: tracing programs may have no lock" },
	{ BPF_FUNC_spin_unlock, "tests/map/behaviour: tracing programs may have no lock" },
	{ BPF_FUNC_timer_init, "tracing programs may have no timer" },
	{ BPF_FUNC_timer_set_callback, "tracing programs may have no timer" },
	{ BPF_FUNC_timer_start, "tracing programs may have no timer" },
	{ BPF_FUNC_timer_cancel, "tracing programs may have no timer" },
};

static bool called[UB_MAX_HELPER], refused[UB_MAX_HELPER], has_map[MAX_TYPES];

static void look_at(const char *path, bool *calls)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	struct bpf_map *map;

	if (!object) {
		fprintf(stderr, "can't open %s\n", path);
		exit(1);
	}
	bpf_object__for_each_program(program, object)
	{
		const struct bpf_insn *insn = bpf_program__insns(program);

		for (size_t i = 0; i < bpf_program__insn_cnt(program); i++, insn++) {
			if (insn->code == (BPF_JMP | BPF_CALL) && !insn->src_reg &&
			    (u32)insn->imm < UB_MAX_HELPER)
				calls[insn->imm] = true;
		}
	}
	bpf_object__for_each_map(map, object)
	{
		if (bpf_map__type(map) < MAX_TYPES)
			has_map[bpf_map__type(map)] = true;
	}
	bpf_object__close(object);
}

static int check_helpers(void)
{
	int bad = 0;

	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);
		bool covered;

		/* Of what the verifier does not know it does not know either who may call it. */
		if (!helper || (!(helper->flags & UB_HELPER_NO_PROTO) &&
				!ub_helper_allowed(helper, BPF_PROG_TYPE_KPROBE)))
			continue;
		covered = helper->why ? refused[id] : called[id];
		for (u32 i = 0; i < ub_array_size(elsewhere); i++)
			covered = covered || elsewhere[i].id == id;
		if (covered)
			continue;
		printf("bpf_%s (#%u) is %s no program of tests/helper/both\n", helper->name, id,
		       helper->why ? "refused to" : "called by");
		bad++;
	}
	return bad;
}

/* Whether there is such a type, which takes one of these shapes. */
static bool is_type(u32 type)
{
	static const struct ub_map_attr shapes[] = {
		{ .key_size = 4, .value_size = 8, .max_entries = 4 },
		{ .key_size = 4, .value_size = 4, .max_entries = 4 },
		{ .value_size = 8, .max_entries = 4 },
		{ .max_entries = 4096 },
		{ .key_size = 8, .value_size = 8, .max_entries = 4, .flags = BPF_F_NO_PREALLOC },
		{ .key_size = 4, .value_size = 8, .flags = BPF_F_NO_PREALLOC },
	};

	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		struct ub_map_attr attr = shapes[i];

		attr.type = type;
		if (!ub_map_check(&attr, NR_CPUS))
			return true;
	}
	return false;
}

static int check_maps(void)
{
	int bad = 0;

	for (u32 type = 1; type < MAX_TYPES; type++) {
		if (has_map[type] || !is_type(type))
			continue;
		printf("no program of tests/helper/both has a map of type %u\n", type);
		bad++;
	}
	return bad;
}

/* covered OBJECT... --refused OBJECT... */
int main(int argc, char **argv)
{
	bool *calls = called;
	int bad;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--refused"))
			calls = refused;
		else
			look_at(argv[i], calls);
	}
	bad = check_helpers();
	bad += check_maps();
	return bad ? 1 : 0;
}
