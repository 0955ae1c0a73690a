// SPDX-License-Identifier: MIT
/*
 * runner VICTIM IN OUT OBJECT...
 *	has the process that runs VICTIM between the pipes IN and OUT run each program of each object, and prints what came
 *	out, so that two backends can be compared line by line. Status 1: something is wrong whatever the backend
 *	BOTH_PARENT: of the process, which lives in another pid namespace and so does not know its number here
 *	BOTH_GROUPS: directories of control groups, for programs to ask for
 * runner --loads OBJECT
 *	whether that can be loaded: status 0 or 1
 * runner --refused OBJECT...
 *	loads each program alone: each must be refused, with a reason
 *
 * A tool like any other, on libbpf: on the kernel, or under `ubpf-run exec`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "both.h"

#define PATIENCE_MS 30000
#define COOKIE	    0x123456789abcdefull
#define TIME_SLACK  2000000000ll /* of jiffies, which are only as fine as they are */

struct victim {
	pid_t pid;
	FILE *to;
	FILE *from;
	const char *path;
	unsigned long long base;
};

struct times {
	long long at[16];
};

static int bad;
static unsigned int nr_records;
static char record_lines[64][64];

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static void take_times(struct times *times)
{
	static const int clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI };
	struct timespec ts;

	for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
		clock_gettime(clocks[i], &ts);
		times->at[clocks[i]] = ts.tv_sec * 1000000000ll + ts.tv_nsec;
	}
}

static const char *bytes_of(const void *from, size_t size)
{
	static char text[4 * BOTH_BYTES];
	const unsigned char *bytes = from;
	char *to = text;

	for (size_t i = 0; i < size && i < BOTH_BYTES; i++)
		to += sprintf(to, bytes[i] > ' ' && bytes[i] <= '~' ? "%c" : "\\%02x", bytes[i]);
	*to = '\0';
	return text;
}

/* --- the process ------------------------------------------------------------------------------ */

static pid_t child_of(const char *parent)
{
	char path[64], line[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/children", parent, parent);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		die(path);
	fclose(file);
	return atoi(line);
}

/* It is not a child: a tool's filter would be the child's too. */
static void meet_victim(struct victim *victim, const char *path, const char *in, const char *out)
{
	const char *parent = getenv("BOTH_PARENT");
	char line[64];

	victim->path = path;
	victim->to = fopen(in, "we");
	victim->from = fopen(out, "re");
	if (!victim->to || !victim->from)
		die("the process's pipes");
	if (!fgets(line, sizeof(line), victim->from) ||
	    sscanf(line, "ready %d %llx", &victim->pid, &victim->base) != 2)
		die(path);
	if (parent)
		victim->pid = child_of(parent);
}

static void ask(struct victim *victim, const char *what, char *answer, int size)
{
	fprintf(victim->to, "%s\n", what);
	fflush(victim->to);
	if (!fgets(answer, size, victim->from))
		die("the process is gone");
}

/* Mappings of ours, waited for while there are any: a thread may still be on its way out of one. */
static int mappings_left(const struct victim *victim)
{
	char path[64], line[512];
	int left = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", victim->pid);
	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		FILE *maps = fopen(path, "re");

		if (!maps)
			die(path);
		for (left = 0; fgets(line, sizeof(line), maps);)
			left += strstr(line, "ubpf-run:") != NULL;
		fclose(maps);
		if (!left)
			break;
		usleep(10000);
	}
	return left;
}

/* --- records ---------------------------------------------------------------------------------- */

static int on_record(void *ctx, void *data, size_t size)
{
	unsigned char both[12];

	memcpy(both, data, size < 12 ? size : 12);
	if (size > 4096)
		memcpy(both + 6, (const char *)data + size - 6, 6);
	if (nr_records < 64)
		snprintf(record_lines[nr_records++], 64, "%zu bytes %.40s", size,
			 bytes_of(both, size < 12 ? size : 12));
	return 0;
}

static void on_sample(void *ctx, int cpu, void *data, __u32 size)
{
	/* Padding is what happens to lie there. */
	on_record(ctx, data, size > 12 ? 12 : size);
}

struct readers {
	struct ring_buffer *ring;
	struct perf_buffer *perf;
};

static void open_readers(struct bpf_object *object, struct readers *readers)
{
	int ring = bpf_object__find_map_fd_by_name(object, "ring");
	int perf = bpf_object__find_map_fd_by_name(object, "perf");

	*readers = (struct readers) { 0 };
	if (ring >= 0)
		readers->ring = ring_buffer__new(ring, on_record, NULL, NULL);
	if (perf >= 0)
		readers->perf = perf_buffer__new(perf, 32, on_sample, NULL, NULL, NULL);
}

static void wait_records(struct readers *readers, const struct both_result *result)
{
	for (int i = 0; i < PATIENCE_MS / 10 && nr_records < (unsigned int)result->value; i++) {
		if (result->size)
			perf_buffer__poll(readers->perf, 10);
		else
			ring_buffer__poll(readers->ring, 10);
	}
	for (unsigned int i = 0; i < nr_records; i++)
		printf("  record: %s\n", record_lines[i]);
	printf("%s = %u\n", result->name, nr_records);
	nr_records = 0;
}

/* Words for programs to drain: 1 to 6 without 4, which was thought better of, and a sample of four
 * bytes. */
static void fill_user_ring(const struct bpf_object *object)
{
	int map = bpf_object__find_map_fd_by_name(object, "user_ring");
	struct user_ring_buffer *ring = user_ring_buffer__new(map, NULL);

	if (!ring)
		die("a user ring buffer");
	for (unsigned long long word = 1; word <= 7; word++) {
		unsigned int size = word < 7 ? 8 : 4;
		void *sample = user_ring_buffer__reserve(ring, size);

		if (!sample)
			die("a place in the user ring buffer");
		memcpy(sample, &word, size);
		if (word == 4)
			user_ring_buffer__discard(ring, sample);
		else
			user_ring_buffer__submit(ring, sample);
	}
	user_ring_buffer__free(ring);
}

static void put_group(int map, unsigned int index, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	printf("group %u: %d\n", index, bpf_map_update_elem(map, &index, &fd, 0));
	if (fd >= 0)
		close(fd);
}

/* Control groups, by their directories. */
static void fill_groups(const struct bpf_object *object)
{
	int map = bpf_object__find_map_fd_by_name(object, "groups"), none = -1;
	char *paths = getenv("BOTH_GROUPS") ? strdup(getenv("BOTH_GROUPS")) : NULL;
	unsigned int index = 0, last = 5, behind = 6;

	if (map < 0)
		return;
	for (char *path; (path = strsep(&paths, " "));)
		put_group(map, index++, path);
	put_group(map, behind, "/");
	put_group(map, last, "/tmp");
	printf("no descriptor: %d\n", bpf_map_update_elem(map, &last, &none, 0));
	printf("flags: %d\n", bpf_map_update_elem(map, &last, &none, BPF_NOEXIST));
	printf("lookup: %d\n", bpf_map_lookup_elem(map, &last, &none));
	printf("delete none: %d\n", bpf_map_delete_elem(map, &last));
	printf("delete behind: %d\n", bpf_map_delete_elem(map, &behind));
	/* Of the first, if there is one, and back. */
	last = 0;
	printf("delete: %d\n", bpf_map_delete_elem(map, &last));
	if (getenv("BOTH_GROUPS")) {
		paths = strdup(getenv("BOTH_GROUPS"));
		put_group(map, 0, strsep(&paths, " "));
	}
}

/* --- results ---------------------------------------------------------------------------------- */

static void print_stack(const struct victim *victim, const struct both_result *result, int map)
{
	unsigned long long ips[BOTH_DEPTH], all[64];
	unsigned int id = (unsigned int)result->value;

	memcpy(ips, result->bytes, sizeof(ips));
	if (result->kind == BOTH_STACK_ID) {
		if (bpf_map_lookup_elem(map, &id, all))
			die("a stack");
		memcpy(ips, all, sizeof(ips));
	}
	/* libc's frames have no frame pointers: how far is seen there is chance. */
	printf("%s = %lld:", result->name, result->kind == BOTH_STACK ? result->value : 0);
	for (int i = 0; i < BOTH_DEPTH; i++) {
		if (ips[i] - victim->base > 1 << 20)
			break;
		printf(" %llx", ips[i] - victim->base);
	}
	printf("\n");
}

/* Jiffies begin five minutes before their lower half overflows, and there are some hundreds a
 * second. */
static long long from_jiffies(unsigned long long jiffies)
{
	struct timespec tick;
	long long hz;

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	hz = (1000000000 + tick.tv_nsec / 2) / tick.tv_nsec;
	return (long long)(jiffies - ((1ull << 32) - 300ull * (unsigned long long)hz)) *
	       (1000000000 / hz);
}

static void print_clock(const struct both_result *result, const struct times *before,
			const struct times *after)
{
	long long value = result->value, low, high;

	if (result->size == -1u) {
		value = from_jiffies((unsigned long long)value);
		low = before->at[CLOCK_MONOTONIC] - TIME_SLACK;
		high = after->at[CLOCK_MONOTONIC] + TIME_SLACK;
	} else {
		low = before->at[result->size % 16];
		high = after->at[result->size % 16];
	}
	if (value >= low && value <= high) {
		printf("%s is in range\n", result->name);
		return;
	}
	printf("%s is NOT in range: %lld, %lld, %lld\n", result->name, low, value, high);
	bad = 1;
}

static void print_results(const struct victim *victim, const struct bpf_object *object,
			  const struct both_result *results, const struct times *before,
			  const struct times *after, struct readers *readers)
{
	int stacks = bpf_object__find_map_fd_by_name(object, "stacks");

	for (int i = 0; i < BOTH_RESULTS; i++) {
		const struct both_result *r = &results[i];

		switch (r->kind) {
		case BOTH_VALUE:
			printf("%s = %lld\n", r->name, r->value);
			break;
		case BOTH_BYTES_TOO:
			printf("%s = %lld %s\n", r->name, r->value, bytes_of(r->bytes, r->size));
			break;
		case BOTH_CLOCK:
			print_clock(r, before, after);
			break;
		case BOTH_STACK:
		case BOTH_STACK_ID:
			print_stack(victim, r, stacks);
			break;
		case BOTH_RECORDS:
			wait_records(readers, r);
			break;
		}
	}
}

/* --- programs --------------------------------------------------------------------------------- */

/* --- changes while programs are attached ------------------------------------------------------ */

static int fd_of(const struct bpf_object *object, const char *name)
{
	const struct bpf_program *program = bpf_object__find_program_by_name(object, name);

	return program ? bpf_program__fd(program) : bpf_object__find_map_fd_by_name(object, name);
}

/* @key of @map becomes @value, or nothing. */
static void put(const struct bpf_object *object, const char *map, unsigned int key,
		const char *value)
{
	int fd = value ? fd_of(object, value) : -1;

	if (value ? bpf_map_update_elem(fd_of(object, map), &key, &fd, 0)
		  : bpf_map_delete_elem(fd_of(object, map), &key))
		die(map);
}

/* A map that was not there when programs were attached, and that nobody but the outer ones hold. */
static void put_new(const struct bpf_object *object)
{
	unsigned int first = 0, second = 1;
	unsigned long long value = 1000;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "inner_new", 4, 8, 1, NULL);

	if (fd < 0 || bpf_map_update_elem(fd, &first, &value, 0) ||
	    bpf_map_update_elem(fd_of(object, "outer_array"), &second, &fd, 0) ||
	    bpf_map_update_elem(fd_of(object, "outer_hash"), &first, &fd, 0))
		die("a new inner map");
	close(fd);
}

static int change(const struct bpf_object *object, int step)
{
	switch (step) {
	case 1:
		put(object, "outer_array", 0, "inner_two");
		put(object, "outer_hash", 1, "inner_two");
		put(object, "jumps", 0, "tail_two");
		return 1;
	case 2:
		put(object, "outer_array", 0, NULL);
		put(object, "outer_hash", 1, NULL);
		put(object, "jumps", 0, NULL);
		return 1;
	case 3:
		put_new(object);
		put(object, "jumps", 0, "tail_one");
		put(object, "jumps", 1, "tail_two");
		return 1;
	case 4:
		put(object, "outer_array", 0, "inner_one");
		put(object, "outer_hash", 1, "inner_one");
		put(object, "back", 0, NULL);
		put(object, "jumps", 0, "tail_two");
		return 1;
	case 5: /* as at first */
		put(object, "back", 0, "tail_one");
		put(object, "jumps", 0, "tail_one");
		put(object, "jumps", 1, NULL);
		return 1;
	}
	return 0;
}

static int busy_done;

static void *swap(void *opaque)
{
	static const char *const inner[] = { "inner_two", "inner_one" };
	static const char *const tail[] = { "tail_loop", "tail_quiet" };
	const struct bpf_object *object = opaque;

	for (int i = 0; i < 40; i++) {
		put(object, "outer_array", 0, inner[i % 2]);
		put(object, "outer_hash", 1, inner[i % 2]);
		if (i % 4 == 0)
			put(object, "jumps", 0, tail[i / 4 % 2]);
	}
	__atomic_store_n(&busy_done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void run_busy(struct victim *victim, struct bpf_object *object)
{
	char answer[128];
	pthread_t thread;

	busy_done = 0;
	put(object, "jumps", 0, "tail_quiet");
	if (pthread_create(&thread, NULL, swap, object))
		die("a thread");
	while (!__atomic_load_n(&busy_done, __ATOMIC_ACQUIRE))
		ask(victim, "main", answer, sizeof(answer));
	pthread_join(thread, NULL);
}

static void clear(int map, const struct both_result *results)
{
	int zero = 0;

	if (map < 0 || bpf_map_update_elem(map, &zero, results, 0))
		die("results");
}

static void run(struct victim *victim, struct bpf_object *object, struct bpf_program *program)
{
	static const char *const rounds[] = { "main", "thread", "vfork", "rename" };
	static struct both_result results[BOTH_RESULTS];
	int many = !strcmp(bpf_program__name(program), "identity");
	int map = bpf_object__find_map_fd_by_name(object, ".data.results");
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = "both_probe", .bpf_cookie = COOKIE);
	struct times before, after;
	struct readers readers;
	struct bpf_link *link;
	char answer[128];
	int zero = 0;

	memset(results, 0, sizeof(results));
	clear(map, results);
	open_readers(object, &readers);
	if (!strcmp(bpf_program__name(program), "drains"))
		fill_user_ring(object);
	if (!strcmp(bpf_program__name(program), "groups_of_task"))
		fill_groups(object);
	/* Links of one process don't count in its children. */
	link = bpf_program__attach_uprobe_opts(program, many ? -1 : victim->pid, victim->path, 0,
					       &opts);
	printf("== %s\n", bpf_program__name(program));
	if (!link && !strncmp(bpf_program__name(program), "unattachable", 12)) {
		printf("attach = %d\n", errno);
		return;
	}
	if (!link)
		die("attach");
	take_times(&before);
	for (int i = 0; i < (many ? 4 : 1); i++) {
		ask(victim, rounds[i], answer, sizeof(answer));
		printf("%s: %s", rounds[i], answer);
	}
	take_times(&after);
	if (!strcmp(bpf_program__name(program), "changing_busy")) {
		run_busy(victim, object);
		clear(map, results);
		ask(victim, rounds[0], answer, sizeof(answer));
	}
	for (int step = 0;;) {
		if (bpf_map_lookup_elem(map, &zero, results))
			die("results");
		print_results(victim, object, results, &before, &after, &readers);
		if (strcmp(bpf_program__name(program), "changing") || !change(object, ++step))
			break;
		memset(results, 0, sizeof(results));
		clear(map, results);
		ask(victim, rounds[0], answer, sizeof(answer));
		printf("-- change %d\n", step);
	}
	bpf_link__destroy(link);
	printf("mappings left: %d\n", mappings_left(victim));
	ring_buffer__free(readers.ring);
	perf_buffer__free(readers.perf);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

static int print_nothing(enum libbpf_print_level level, const char *format, va_list args)
{
	return 0;
}

static void run_object(struct victim *victim, const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object || bpf_object__load(object))
		die(path);
	bpf_object__for_each_program(program, object)
	{
		if (strncmp(bpf_program__name(program), "tail_", 5))
			run(victim, object, program);
	}
	bpf_object__close(object);
}

static int loads(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	int err = object ? bpf_object__load(object) : -1;

	bpf_object__close(object);
	return !err;
}

/* Each program bears the name of the helper that it calls. */
static void expect_refusal(const char *path, const char *name)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	char log[8192] = "", expected[128], *line;
	struct bpf_program *program;

	if (!object)
		die(path);
	bpf_object__for_each_program(program, object)
	{
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), name));
		bpf_program__set_log_buf(program, log, sizeof(log));
	}
	snprintf(expected, sizeof(expected), "unknown func bpf_%s#", name);
	if (!bpf_object__load(object)) {
		printf("%s was NOT refused\n", name);
		bad = 1;
	} else if (!(line = strstr(log, expected)) || !strstr(line, ": ")) {
		printf("%s was refused without a reason: %s\n", name, log);
		bad = 1;
	} else {
		printf("%.*s\n", (int)strcspn(line, "\n"), line);
	}
	bpf_object__close(object);
}

static void refuse_object(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object)
		die(path);
	libbpf_set_print(print_nothing);
	bpf_object__for_each_program(program, object)
		expect_refusal(path, bpf_program__name(program));
	bpf_object__close(object);
}

int main(int argc, char **argv)
{
	struct victim victim;

	libbpf_set_print(print_libbpf);
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "--loads")) {
		libbpf_set_print(print_nothing);
		return !loads(argv[2]);
	}
	if (!strcmp(argv[1], "--refused")) {
		for (int i = 2; i < argc; i++)
			refuse_object(argv[i]);
		return bad;
	}
	if (argc < 5)
		return 2;
	meet_victim(&victim, argv[1], argv[2], argv[3]);
	for (int i = 4; i < argc; i++)
		run_object(&victim, argv[i]);
	return bad;
}
