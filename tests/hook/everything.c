// SPDX-License-Identifier: MIT
/*
 * Hooks all of libc's functions at once, then a large sample of all its instructions, then every
 * return, each in a child of its own, which runs a workload of everyday calls: same results as
 * without hooks.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include <pthread.h>
#include <signal.h>

#include <cmocka.h>

#include <hook/elf_file.h>
#include <hook/flow.h>
#include <hook/grow.h>
#include <hook/image_build.h>

#include "apply.h"

enum what { ENTRIES, INSNS, RETURNS };

static int find_libc(struct dl_phdr_info *info, size_t size, void *opaque)
{
	if (strstr(info->dlpi_name, "libc.so"))
		*(const char **)opaque = info->dlpi_name;
	return 0;
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void *thread(void *arg)
{
	char *p = strdup(arg);
	void *result = (void *)(uintptr_t)strlen(p);

	free(p);
	return result;
}

static jmp_buf jump;
static void handler(int sig)
{
	longjmp(jump, 1);
}

#pragma GCC diagnostic ignored "-Wclobbered"

static u64 mix(u64 h, const void *bytes, size_t size)
{
	const u8 *b = bytes;

	while (size--)
		h = (h ^ *b++) * 0x100000001b3ull;
	return h;
}

/* Everyday calls; a number made of their results. */
static u64 workload(void)
{
	u64 h = 0xcbf29ce484222325ull;
	char text[512];
	int numbers[300];
	wchar_t wide[32];
	regmatch_t match[2];
	regex_t regex;
	struct tm tm = {};
	time_t when = 1000000000;
	pthread_t threads[4];
	FILE *file;
	int pipes[2], status;
	pid_t pid;

	for (int i = 0; i < 300; i++)
		numbers[i] = (i * 7919) % 1009;
	qsort(numbers, 300, sizeof(int), compare_ints);
	h = mix(h, numbers, sizeof(numbers));
	for (int i = 0; i < 200; i++) {
		size_t size = (size_t)(i * 37 % 3000 + 1);
		char *p = malloc(size), *q;

		memset(p, i, size);
		q = realloc(p, size * 2);
		memmove(q + 1, q, size);
		h = mix(h, q, size + 1);
		free(q);
	}
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "%d %s %08lx %g %.3e %c %5.2f|%-8s|", i, "abc",
			 (long)i << 33, i / 7.0, i * 1e100, 'a' + i % 26, i / 3.0, "x");
		h = mix(h, text, strlen(text));
		h += (u64)strtol(text, NULL, 10) + (u64)(strtod("3.25e2", NULL) * i);
		h += (u64)(strchr(text, '|') - text) + strspn(text, "0123456789");
		h += strcasecmp(text, "ABC") > 0;
		h += strstr(text, "abc") != NULL;
	}
	if (!regcomp(&regex, "([a-z]+)@([a-z]+\\.)+com", REG_EXTENDED)) {
		h += (u64)regexec(&regex, "mail to joe@mail.example.com!", 2, match, 0);
		h += (u64)match[0].rm_so * 31 + (u64)match[0].rm_eo;
		regfree(&regex);
	}
	gmtime_r(&when, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %A %j", &tm);
	h = mix(h, text, strlen(text));
	h += (u64)timegm(&tm);
	h += mbstowcs(wide, "wide", 32) + wcslen(wide);
	file = tmpfile();
	if (file) {
		for (int i = 0; i < 500; i++)
			fprintf(file, "line %d\n", i);
		rewind(file);
		while (fgets(text, sizeof(text), file))
			h = mix(h, text, strlen(text));
		fclose(file);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, thread, "some text");
	for (int i = 0; i < 4; i++) {
		void *result;

		pthread_join(threads[i], &result);
		h += (u64)(uintptr_t)result;
	}
	signal(SIGUSR1, handler);
	if (!sigsetjmp(jump, 1))
		raise(SIGUSR1);
	else
		h++;
	if (!pipe(pipes)) {
		pid = fork();
		if (!pid) {
			dprintf(pipes[1], "from the child\n");
			_exit(3);
		}
		waitpid(pid, &status, 0);
		h += (u64)WEXITSTATUS(status);
		h += (u64)read(pipes[0], text, sizeof(text));
		close(pipes[0]);
		close(pipes[1]);
	}
	file = popen("echo $((6 * 7))", "r");
	if (file) {
		if (fgets(text, sizeof(text), file))
			h = mix(h, text, strlen(text));
		h += (u64)pclose(file);
	}
	h += getenv("PATH") != NULL;
	h += (u64)isatty(0) * 0;
	return h;
}

struct points {
	u32 nr;
	u32 capacity;
	u64 *addresses;
};

static void add_point(struct points *points, u64 address)
{
	if (ub_grow((void **)&points->addresses, &points->capacity, points->nr + 1, sizeof(u64)))
		abort();
	points->addresses[points->nr++] = address;
}

static int compare_addresses(const void *a, const void *b)
{
	const u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* Points that the planner can hook together, so that the image as a whole is not refused. */
static void choose(struct ub_elf *elf, enum what what, u32 part, u32 parts, struct points *chosen)
{
	const struct ub_plan_options options = {};
	struct points wanted = {};
	struct ub_flow_insns insns = {};
	struct ub_plan plan;

	for (u32 i = 0; i < elf->nr_functions; i++) {
		const struct ub_elf_function *function = &elf->functions[i];
		struct ub_exit *exits;
		u32 nr;

		if (function->gap || i % parts != part)
			continue;
		if (what == ENTRIES) {
			add_point(&wanted, function->start);
		} else if (what == INSNS) {
			if (ub_flow_decode(elf, function, &insns))
				abort();
			for (u32 k = 0; k < insns.nr; k++)
				add_point(&wanted, insns.insns[k].address);
		} else if (!ub_exits_find(elf, function->start, NULL, &exits, &nr, NULL)) {
			for (u32 k = 0; k < nr; k++)
				add_point(&wanted, exits[k].address);
			free(exits);
		}
	}
	ub_flow_insns_free(&insns);
	/* Sorted, unique: functions share their ways out. */
	qsort(wanted.addresses, wanted.nr, sizeof(u64), compare_addresses);
	u32 kept = 0;

	for (u32 i = 0; i < wanted.nr; i++)
		if (!kept || wanted.addresses[kept - 1] != wanted.addresses[i])
			wanted.addresses[kept++] = wanted.addresses[i];
	/* Leaving some out changes the windows of others: until nothing changes. */
	for (bool changed = true; changed;) {
		u32 left = 0;

		if (ub_plan_make(elf, wanted.addresses, kept, &options, &plan))
			abort();
		for (u32 i = 0; i < kept; i++)
			/* Whether an overlapping jump finds room depends on the process. */
			if (plan.results[i].tactic &&
			    (what == ENTRIES ||
			     plan.windows[plan.results[i].window].tactic < UB_TACTIC_PUN))
				wanted.addresses[left++] = wanted.addresses[i];
		ub_plan_free(&plan);
		changed = left != kept;
		kept = left;
	}
	for (u32 i = 0; i < kept; i++)
		add_point(chosen, wanted.addresses[i]);
	free(wanted.addresses);
}

struct run {
	enum what what;
	const struct points *points;
	const struct ub_image_link *links;
	u64 expected; /* of workload() */
};

static int hook_and_work(void *opaque)
{
	const struct run *run = opaque;
	const struct points *points = run->points;
	const struct ub_image_request request = {
		.pid = getpid(), .nr_links = points->nr, .links = run->links, .nr_cpus = 1
	};
	struct timespec before, after;
	struct ub_image *image = NULL;
	u64 result, total = 0;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &before);
	err = build_and_apply(&request, &image);
	clock_gettime(CLOCK_MONOTONIC, &after);
	if (err)
		return err == -EBUSY ? CHILD_BUSY : 2;
	dprintf(1, "%u points, %u sites, applied in %ld us\n", points->nr, image->nr_sites,
		(after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000);
	result = workload();
	ub_image_enable(image, false);
	remove_image(image);
	if (result != run->expected)
		return 4;
	for (u32 i = 0; i < points->nr; i++) {
		u64 hits, misses;

		if (i % 97)
			continue;
		ub_image_counters(image, i, &hits, &misses);
		total += hits;
	}
	return total || run->what != ENTRIES ? 0 : 5;
}

static void check(enum what what, u32 part, u32 parts)
{
	struct ub_program *program = empty_program();
	struct ub_image_link *links;
	struct points points = {};
	struct ub_reason why = {};
	struct ub_code code;
	struct ub_elf *elf;
	struct stat stat_;
	const char *path = NULL;
	u64 expected;
	int fd, status;

	dl_iterate_phdr(find_libc, &path);
	assert_non_null(path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &stat_), 0);
	assert_int_equal(ub_elf_open(fd, &elf, &why), 0);
	close(fd);
	choose(elf, what, part, parts, &points);
	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	links = calloc(points.nr, sizeof(*links));
	assert_non_null(links);
	for (u32 i = 0; i < points.nr; i++) {
		const struct ub_elf_segment *segment = ub_elf_segment_at(elf, points.addresses[i]);

		links[i] = (struct ub_image_link) {
			.point = { .kind = UB_POINT_ENTRY,
				   .dev = stat_.st_dev,
				   .ino = stat_.st_ino,
				   .offset = points.addresses[i] - segment->address +
					     segment->offset },
			.link_id = i,
			.program = program,
			.code = &code,
		};
	}
	expected = workload();
	fflush(NULL);
	status = run_in_child(hook_and_work, &(struct run) { what, &points, links, expected });
	if (status)
		fail_msg("the child ended with status 0x%x", status);
	ub_code_free(&code);
	ub_program_free(program);
	ub_elf_put(elf);
	free(points.addresses);
	free(links);
}

static void test_entries(void **state)
{
	check(ENTRIES, 0, 1);
}

static void test_instructions(void **state)
{
	for (u32 part = 0; part < 8; part++)
		check(INSNS, part, 8);
}

static void test_returns(void **state)
{
	check(RETURNS, 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_instructions),
	};

	return end_of_tests(cmocka_run_group_tests(tests, NULL, NULL));
}
