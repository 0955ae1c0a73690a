/* SPDX-License-Identifier: MIT */
/*
 * Compares verdicts of this verifier and of the kernel on programs of .bpf.o files:
 *   verdicts [-v] [-t] [-l LEVEL] [-p PROGRAM] FILE...
 * -v: also those that agree; -t: how long each took. One line for each that differs, a table by
 * program type, and exit status 1 if any unsafe-looking program (rejected by the kernel) was
 * accepted here. Files may carry the tags of the kernel's self-tests (flags of the load); a program
 * is judged by what the running kernel says of it.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"

#define MAX_PROGS 1024

static char kernel_log[1 << 22];
static bool verbose, timing;
static const char *only;
static u32 level = 1;

static struct {
	u32 total, same, unsafe, strict, expected, expected_same;
} by_type[64], all;

static int quiet(enum libbpf_print_level l, const char *fmt, va_list ap)
{
	return 0;
}

struct tags {
	int expect; /* 1 success, 0 failure, -1 none */
	bool auxiliary;
	u32 flags;
	const char *arch;
};

static u32 flag_of(const char *name)
{
	static const struct {
		const char *name;
		u32 flag;
	} flags[] = { { "BPF_F_STRICT_ALIGNMENT", 1 },	   { "BPF_F_ANY_ALIGNMENT", 2 },
		      { "BPF_F_TEST_RND_HI32", 4 },	   { "BPF_F_TEST_STATE_FREQ", 8 },
		      { "BPF_F_SLEEPABLE", 16 },	   { "BPF_F_XDP_HAS_FRAGS", 32 },
		      { "BPF_F_TEST_REG_INVARIANTS", 128 } };

	for (u32 i = 0; i < ub_array_size(flags); i++) {
		if (!strcmp(flags[i].name, name))
			return flags[i].flag;
	}
	return strtoul(name, NULL, 0);
}

static struct tags read_tags(const struct btf *btf, const char *prog)
{
	struct tags tags = { .expect = -1 };
	int id = btf ? btf__find_by_name_kind(btf, prog, BTF_KIND_FUNC) : -1;

	for (u32 t = 1; id >= 0 && t < btf__type_cnt(btf); t++) {
		const struct btf_type *type = btf__type_by_id(btf, t);
		const char *s;

		if (!btf_is_decl_tag(type) || type->type != (u32)id ||
		    btf_decl_tag(type)->component_idx != -1)
			continue;
		s = btf__str_by_offset(btf, type->name_off);
		if (!strcmp(s, "comment:test_expect_failure"))
			tags.expect = 0;
		else if (!strcmp(s, "comment:test_expect_success"))
			tags.expect = 1;
		else if (!strcmp(s, "comment:test_auxiliary"))
			tags.auxiliary = true;
		else if (!strncmp(s, "comment:test_arch=", 18))
			tags.arch = s + 18;
		else if (!strncmp(s, "comment:test_prog_flags=", 24))
			tags.flags |= flag_of(s + 24);
	}
	return tags;
}

static void judge(const char *file, const char *prog, const char *sec, int type,
		  const struct tags *tags)
{
	bool kernel_ok = !capture.kernel, ours_ok = !capture.ours;
	bool expected = tags->expect >= 0 && tags->expect == kernel_ok;
	u32 t = type < 64 ? type : 0;

	all.total++;
	by_type[t].total++;
	if (timing)
		printf("time\t%s\t%s\t%u insns\tours %.3f ms\tkernel %.3f ms\n", file, prog,
		       capture.insns, capture.our_ns / 1e6, capture.kernel_ns / 1e6);
	if (expected) {
		all.expected++;
		by_type[t].expected++;
	}
	if (kernel_ok == ours_ok) {
		all.same++;
		by_type[t].same++;
		if (expected) {
			all.expected_same++;
			by_type[t].expected_same++;
		}
		if (!verbose)
			return;
	} else if (ours_ok) {
		all.unsafe++;
		by_type[t].unsafe++;
	} else {
		all.strict++;
		by_type[t].strict++;
	}
	printf("%s\t%s\t%s\t%s\n",
	       kernel_ok == ours_ok ? "same"
	       : ours_ok	    ? "UNSAFE"
				    : "strict",
	       file, prog, sec);
	if (!kernel_ok)
		printf("\tkernel %4d: %s\n", capture.kernel, capture_last_line(capture.kernel_log));
	if (!ours_ok)
		printf("\tours   %4d: %s\n", capture.ours, capture_last_line(capture.our_log));
	if (only && capture.our_log)
		printf("%s\n--- kernel:\n%s\n", capture.our_log, capture.kernel_log ?: "");
}

static void one(const char *path, const char *file, const char *name, const struct tags *tags)
{
	struct bpf_object *obj = bpf_object__open_file(path, NULL);
	struct bpf_program *prog, *target = NULL;
	const char *sec = "";
	struct bpf_map *map;
	int type = 0;

	if (!obj)
		return;
	bpf_object__for_each_program(prog, obj)
	{
		bool on = !strcmp(bpf_program__name(prog), name);

		bpf_program__set_autoload(prog, on);
		if (!on)
			continue;
		target = prog;
		kernel_log[0] = '\0';
		bpf_program__set_log_buf(prog, kernel_log, sizeof(kernel_log));
		bpf_program__set_log_level(prog, level);
		bpf_program__set_flags(prog, bpf_program__flags(prog) | tags->flags);
		sec = bpf_program__section_name(prog);
		type = bpf_program__type(prog);
	}
	bpf_object__for_each_map(map, obj)
	{
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS)
			bpf_map__set_autocreate(map, false);
	}
	capture_reset();
	capture_log_level = level;
	if (target)
		(void)!bpf_object__load(obj);
	if (capture.seen)
		judge(file, name, sec, type, tags);
	bpf_object__close(obj);
}

static void one_file(const char *path)
{
	struct bpf_object *obj = bpf_object__open_file(path, NULL);
	const char *file = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	static char *names[MAX_PROGS];
	static struct tags tags[MAX_PROGS];
	struct bpf_program *prog;
	u32 n = 0;

	if (!obj) {
		fprintf(stderr, "%s: can't be opened: %s\n", path, strerror(errno));
		return;
	}
	bpf_object__for_each_program(prog, obj)
	{
		if (n >= MAX_PROGS)
			break;
		tags[n] = read_tags(bpf_object__btf(obj), bpf_program__name(prog));
		names[n++] = strdup(bpf_program__name(prog));
	}
	for (u32 i = 0; i < n; i++) {
		if (!tags[i].auxiliary && (!only || !strcmp(only, names[i])) &&
		    (!tags[i].arch || !strcmp(tags[i].arch, "X86_64")))
			one(path, file, names[i], &tags[i]);
		free(names[i]);
	}
	bpf_object__close(obj);
}

int main(int argc, char **argv)
{
	int opt;

	libbpf_set_print(quiet);
	while ((opt = getopt(argc, argv, "vtl:p:")) != -1) {
		if (opt == 'v')
			verbose = true;
		else if (opt == 't')
			timing = true;
		else if (opt == 'p')
			only = optarg;
		else if (opt == 'l')
			level = strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		one_file(argv[i]);
	for (u32 t = 0; t < 64; t++) {
		if (by_type[t].total)
			printf("%-28s %5u programs, %5.1f %% same (of %u judged as expected %.1f %%), %u unsafe, %u stricter\n",
			       libbpf_bpf_prog_type_str(t) ?: "?", by_type[t].total,
			       100.0 * by_type[t].same / by_type[t].total, by_type[t].expected,
			       by_type[t].expected
				       ? 100.0 * by_type[t].expected_same / by_type[t].expected
				       : 100.0,
			       by_type[t].unsafe, by_type[t].strict);
	}
	if (all.total)
		printf("%-28s %5u programs, %5.1f %% same (of %u judged as expected %.1f %%), %u unsafe, %u stricter\n",
		       "all", all.total, 100.0 * all.same / all.total, all.expected,
		       all.expected ? 100.0 * all.expected_same / all.expected : 100.0, all.unsafe,
		       all.strict);
	return all.unsafe ? 1 : 0;
}
