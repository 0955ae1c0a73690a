// SPDX-License-Identifier: MIT
/*
 * A Go program with growing stacks, garbage collection and preemption runs on under entry and
 * return probes on its functions, attached and detached over and over: right results, and as many
 * returns as entries. Nil pointers that a hooked instruction follows, at a function's entry or
 * inside, are recovered from.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <hook/elf_file.h>
#include <hook/flow.h>
#include <hook/plan.h>
#include <surgeon/surgeon.h>

#include "apply.h"

#define NR_CYCLES 20

static const char *victim;

static struct ub_point symbol_point(const char *name, enum ub_point_kind kind)
{
	struct ub_point point = { .kind = kind };
	struct ub_elf *elf;
	struct stat stat_;
	u64 address;
	int fd = open(victim, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &stat_), 0);
	assert_int_equal(ub_elf_open(fd, &elf, NULL), 0);
	assert_int_equal(ub_elf_symbol(elf, name, &address), 0);
	point.dev = stat_.st_dev;
	point.ino = stat_.st_ino;
	point.offset = address - ub_elf_segment_at(elf, address)->address +
		       ub_elf_segment_at(elf, address)->offset;
	ub_elf_put(elf);
	close(fd);
	return point;
}

enum { ENTRY, RETURN, NIL, NR_NAMED, MAX_LINKS = 64 };

static const struct {
	const char *name;
	enum ub_point_kind kind;
} points[NR_NAMED] = {
	[ENTRY] = { "main.Grow", UB_POINT_ENTRY },
	[RETURN] = { "main.Grow", UB_POINT_RETURN },
	/* Its first instruction follows a nil pointer, and Go looks up what to do by its
	 * address. */
	[NIL] = { "main.(*Pair).B", UB_POINT_ENTRY },
};

/* All instructions of a method that follows a nil pointer well inside, so far as they can be hooked
 * alone. */
static u32 inside_points(struct ub_point *inside)
{
	struct ub_point point = symbol_point("main.(*Pair).Sum", UB_POINT_ENTRY);
	int fd = open(victim, O_RDONLY | O_CLOEXEC);
	struct ub_plan_options options = { .single_instruction = true };
	struct ub_flow_insns insns = {};
	struct ub_planner *planner;
	struct ub_elf *elf;
	u32 nr = 0;
	u64 address;

	assert_true(fd >= 0);
	assert_int_equal(ub_elf_open(fd, &elf, NULL), 0);
	assert_int_equal(ub_elf_symbol(elf, "main.(*Pair).Sum", &address), 0);
	assert_int_equal(ub_flow_decode(elf, ub_elf_function_at(elf, address), &insns), 0);
	planner = ub_planner_new(elf, &options);
	assert_non_null(planner);
	for (u32 i = 0; i < insns.nr && nr < MAX_LINKS - NR_NAMED; i++) {
		struct ub_plan_result result;

		assert_int_equal(ub_planner_try(planner, insns.insns[i].address, &result), 0);
		if (!result.tactic)
			continue;
		inside[nr] = point;
		inside[nr++].offset += insns.insns[i].address - address;
	}
	ub_planner_free(planner);
	ub_flow_insns_free(&insns);
	ub_elf_put(elf);
	close(fd);
	return nr;
}

/* Surgery again where the machine was too busy for it. */
static void replace(pid_t pid, int pidfd, struct ub_image *old, struct ub_image *new)
{
	struct ub_surgery surgery;
	struct ub_reason why = {};
	int err = -EAGAIN;

	for (u32 i = 0; i < 50 && (err == -EAGAIN || err == -ETIMEDOUT || err == -EBUSY); i++) {
		err = ub_surgeon_replace(pid, pidfd, old, new, &surgery, &why);
		if (err)
			usleep(100000);
	}
	if (err)
		fail_msg("%d: %s", err, why.text);
	for (u32 i = 0; old && i < 300 && surgery.removal == UB_REMOVED_LATER; i++) {
		usleep(20000);
		err = ub_surgeon_collect(pid, pidfd, old, &surgery, &why);
		if (err && err != -ETIMEDOUT && err != -EAGAIN)
			fail_msg("%d: %s", err, why.text);
	}
	if (old)
		assert_int_equal(surgery.removal, UB_REMOVED_CLEAN);
}

static void test_go(void **state)
{
	static u32 one_map[] = { 0 };
	struct ub_program *program = counting_program(0);
	struct ub_point all[MAX_LINKS];
	struct ub_image_link links[MAX_LINKS];
	bool refused[MAX_LINKS];
	u32 nr_links = NR_NAMED;
	struct ub_reason why = {};
	struct ub_code code;
	struct test_map map;
	int out[2], in[2], status, pidfd;
	char text[64] = "";
	u64 total = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(test_map_create(64, &map), 0);
	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	for (u32 i = 0; i < NR_NAMED; i++)
		all[i] = symbol_point(points[i].name, points[i].kind);
	nr_links += inside_points(all + NR_NAMED);
	assert_true(nr_links > NR_NAMED + 5);
	for (u32 i = 0; i < nr_links; i++)
		links[i] = (struct ub_image_link) {
			.point = all[i],
			.link_id = i,
			.program = program,
			.code = &code,
			.nr_maps = 1,
			.maps = one_map,
		};
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(victim, victim, "ends-with-its-input", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	close(in[0]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	n = read(out[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	assert_non_null(strstr(text, "ready"));
	for (u32 cycle = 0; cycle < NR_CYCLES; cycle++) {
		const struct ub_image_request request = { .pid = pid,
							  .nr_links = nr_links,
							  .refused = refused,
							  .links = links,
							  .nr_maps = 1,
							  .maps = &map.image,
							  .nr_cpus = 1 };
		struct ub_image *image = NULL;
		u64 hits[NR_NAMED], misses, inside = 0;
		u32 left = 0;
		int err;

		/* Not all can be at once; those that can't are left out. */
		err = ub_image_build(&request, &image, &why);
		if (err)
			fail_msg("%d: %s", err, why.text);
		for (u32 i = 0; i < nr_links; i++)
			left += !refused[i];
		assert_true(!refused[ENTRY] && !refused[RETURN] && !refused[NIL]);
		assert_true(left > NR_NAMED + 5);
		replace(pid, pidfd, NULL, image);
		for (u32 i = 0; i < 1000; i++) {
			ub_image_counters(image, RETURN, &hits[RETURN], &misses);
			ub_image_counters(image, NIL, &hits[NIL], &misses);
			if (hits[RETURN] > 100 && hits[NIL] > 10)
				break;
			usleep(20000);
		}
		replace(pid, pidfd, image, NULL);
		for (u32 i = 0; i < NR_NAMED; i++)
			ub_image_counters(image, i, &hits[i], &misses);
		for (u32 i = NR_NAMED; i < nr_links; i++) {
			u64 more;

			ub_image_counters(image, i, &more, &misses);
			assert_true(!refused[i] || !more);
			inside += more;
		}
		assert_true(inside > 0);
		assert_true(hits[RETURN] > 0);
		assert_true(hits[NIL] > 0);
		/* Attach and detach fall between entries and returns, of 8 goroutines and 201
		 * levels. */
		assert_true(hits[ENTRY] + 2048 >= hits[RETURN] &&
			    hits[RETURN] + 2048 >= hits[ENTRY]);
		total += hits[ENTRY];
		ub_image_free(image);
	}
	close(in[1]);
	n = read(out[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	assert_string_equal(text, "bad 0\n");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	print_message("%lu hits\n", (unsigned long)total);
	close(out[0]);
	close(pidfd);
	ub_code_free(&code);
	ub_program_free(program);
	test_map_destroy(&map);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_go),
	};

	victim = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
