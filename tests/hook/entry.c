// SPDX-License-Identifier: MIT
/*
 * Hooks functions of this very program, of many shapes, runs them and takes the hooks out again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "apply.h"

typedef long (*shape_fn)(long);

#define SHAPES(x)                                                                                  \
	x(shape_lea) x(shape_nop5) x(shape_endbr) x(shape_frame) x(shape_pushes) x(shape_rip)      \
		x(shape_branch) x(shape_jrcxz) x(shape_call) x(shape_call_mem) x(shape_call_reg)   \
			x(shape_tail) x(shape_red_zone) x(shape_flags) x(shape_registers)          \
				x(shape_switch) x(shape_two_returns) x(shape_tail_conditional)
#define DECLARE(name) long name(long);
SHAPES(DECLARE)
long shape_loop_inside(long n);
long shape_loop_start(long n);
extern const u8 shape_red_zone_inside[], shape_flags_inside[], shape_flags_overflow[],
	shape_flags_overflowed[], shape_registers_inside[], shape_switch_case[];

static const struct {
	const char *name;
	shape_fn fn;
} shapes[] = {
#define ENTRY(name) { #name, name },
	SHAPES(ENTRY)
};

static const long inputs[] = { 1, 0, 5, 1000, -3 };

static u32 one_map[] = { 0 };

struct probe {
	struct ub_program *program;
	struct ub_code code;
};

static struct probe probe_new(struct ub_program *program)
{
	struct probe probe = { .program = program };
	struct ub_reason why = {};

	if (ub_jit_compile(program, &probe.code, &why))
		fail_msg("%s", why.text);
	return probe;
}

static void probe_free(struct probe *probe)
{
	ub_code_free(&probe->code);
	ub_program_free(probe->program);
}

static struct ub_image_link link_of(const struct probe *probe, struct ub_point point, u32 id)
{
	return (struct ub_image_link) {
		.point = point,
		.link_id = id,
		.prog_id = 1,
		.program = probe->program,
		.code = &probe->code,
		.nr_maps = probe->program->nr_maps,
		.maps = one_map,
	};
}

static struct ub_image *build(const struct ub_image_link *links, u32 nr, const struct test_map *map)
{
	const struct ub_image_request request = {
		.pid = getpid(),
		.nr_links = nr,
		.links = links,
		.nr_maps = 1,
		.maps = &map->image,
		.nr_cpus = 1,
		.tgid_in_client = (u64)getpid(),
	};
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	int err = ub_image_build(&request, &image, &why);

	if (err)
		fail_msg("%d: %s", err, why.text);
	return image;
}

static u64 hits_of(const struct ub_image *image, u32 id)
{
	u64 hits, misses;

	ub_image_counters(image, id, &hits, &misses);
	assert_int_equal(misses, 0);
	return hits;
}

static void test_entries(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		struct ub_image_link link =
			link_of(&probe, point_of(shapes[i].fn, UB_POINT_ENTRY), 7);
		struct ub_image *image = build(&link, 1, &map);

		test_map_values(&map)[0] = 0;
		assert_int_equal(apply_image(image), 0);
		for (u32 k = 0; k < ub_array_size(inputs); k++)
			assert_int_equal(shapes[i].fn(inputs[k]), inputs[k] * 3 + 7);
		assert_int_equal(test_map_values(&map)[0], ub_array_size(inputs));
		assert_int_equal(hits_of(image, 7), ub_array_size(inputs));
		ub_image_enable(image, false);
		assert_int_equal(shapes[i].fn(5), 22);
		assert_int_equal(test_map_values(&map)[0], ub_array_size(inputs));
		remove_image(image);
		ub_image_free(image);
		assert_int_equal(shapes[i].fn(5), 22);
	}
	test_map_destroy(&map);
	probe_free(&probe);
}

/* All of them at once, several times over: chains in one image. */
static void test_all_at_once(void **state)
{
	struct probe first = probe_new(counting_program(0));
	struct probe second = probe_new(counting_program(8));
	struct ub_image_link links[2 * ub_array_size(shapes)];
	struct ub_image *image;
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		struct ub_point point = point_of(shapes[i].fn, UB_POINT_ENTRY);

		links[2 * i] = link_of(&first, point, 2 * i);
		links[2 * i + 1] = link_of(&second, point, 2 * i + 1);
	}
	image = build(links, ub_array_size(links), &map);
	assert_int_equal(apply_image(image), 0);
	for (u32 i = 0; i < ub_array_size(shapes); i++)
		for (u32 k = 0; k < ub_array_size(inputs); k++)
			assert_int_equal(shapes[i].fn(inputs[k]), inputs[k] * 3 + 7);
	for (u32 i = 0; i < ub_array_size(links); i++)
		assert_int_equal(hits_of(image, i), ub_array_size(inputs));
	assert_int_equal(test_map_values(&map)[0],
			 ub_array_size(links) / 2 * ub_array_size(inputs));
	assert_int_equal(test_map_values(&map)[1],
			 ub_array_size(links) / 2 * ub_array_size(inputs));
	remove_image(image);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&first);
	probe_free(&second);
}

static void test_loop_start(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link link = link_of(&probe, point_of(shape_loop_start, UB_POINT_ENTRY), 1);
	struct ub_image *image;
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(&link, 1, &map);
	assert_int_equal(apply_image(image), 0);
	assert_int_equal(shape_loop_start(9), 0);
	remove_image(image);
	assert_int_equal(hits_of(image, 1), 10);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

static void test_inside(void **state)
{
	static const struct {
		const u8 *at;
		shape_fn fn;
	} points[] = {
		{ shape_red_zone_inside, shape_red_zone },
		{ shape_flags_inside, shape_flags },
		{ shape_flags_overflow, shape_flags },
		{ shape_flags_overflowed, shape_flags },
		{ shape_registers_inside, shape_registers },
	};
	struct probe probe = probe_new(counting_program(0));
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(points); i++) {
		struct ub_image_link link =
			link_of(&probe, point_of(points[i].at, UB_POINT_ENTRY), 1);
		struct ub_image *image = build(&link, 1, &map);

		assert_int_equal(apply_image(image), 0);
		for (u32 k = 0; k < ub_array_size(inputs); k++)
			assert_int_equal(points[i].fn(inputs[k]), inputs[k] * 3 + 7);
		remove_image(image);
		assert_int_equal(hits_of(image, 1), ub_array_size(inputs));
		ub_image_free(image);
	}
	test_map_destroy(&map);
	probe_free(&probe);
}

static void test_context(void **state)
{
	/* pt_regs words: di 14, ip 16, sp 19, cs 17, orig_ax 15, ax 10. */
	static const struct {
		u32 word;
		u64 value;
	} words[] = { { 14, 5 }, { 15, ~0ull }, { 17, 0x33 }, { 20, 0x2b }, { 16, 1 } };
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(words); i++) {
		struct probe probe = probe_new(context_program(words[i].word));
		struct ub_image_link link =
			link_of(&probe, point_of(shape_frame, UB_POINT_ENTRY), 1);
		struct ub_image *image = build(&link, 1, &map);
		u64 value = words[i].word == 16 ? (u64)(uintptr_t)shape_frame : words[i].value;

		assert_int_equal(apply_image(image), 0);
		assert_int_equal(shape_frame(5), 22);
		remove_image(image);
		assert_int_equal(test_map_values(&map)[1], value);
		ub_image_free(image);
		probe_free(&probe);
	}
	test_map_destroy(&map);
}

static void test_returns(void **state)
{
	struct probe probe = probe_new(context_program(10));
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		struct ub_image_link link =
			link_of(&probe, point_of(shapes[i].fn, UB_POINT_RETURN), 7);
		struct ub_image *image = build(&link, 1, &map);

		test_map_values(&map)[0] = 0;
		assert_int_equal(apply_image(image), 0);
		for (u32 k = 0; k < ub_array_size(inputs); k++) {
			assert_int_equal(shapes[i].fn(inputs[k]), inputs[k] * 3 + 7);
			assert_int_equal(test_map_values(&map)[1], inputs[k] * 3 + 7);
		}
		/* Whoever else calls what it jumps to has nothing to do with it. */
		shape_call(1);
		remove_image(image);
		assert_int_equal(hits_of(image, 7),
				 ub_array_size(inputs) + !strcmp(shapes[i].name, "shape_call"));
		ub_image_free(image);
	}
	test_map_destroy(&map);
	probe_free(&probe);
}

static void test_fork(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link link = link_of(&probe, point_of(shape_frame, UB_POINT_ENTRY), 1);
	struct ub_image *image;
	struct test_map map;
	int status;
	pid_t pid;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(&link, 1, &map);
	assert_int_equal(apply_image(image), 0);
	shape_frame(1);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(shape_frame(1) == 10 ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	shape_frame(1);
	remove_image(image);
	assert_int_equal(hits_of(image, 1), 2);
	assert_int_equal(test_map_values(&map)[0], 2);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

static void *other_thread(void *arg)
{
	shape_frame(1);
	*(pid_t *)arg = gettid();
	return NULL;
}

/* Who runs the program: threads, and children that share the memory. */
static void test_identity(void **state)
{
	struct probe probe = probe_new(identity_program());
	struct ub_image_link link = link_of(&probe, point_of(shape_frame, UB_POINT_ENTRY), 1);
	struct ub_thread_identity self;
	char *const argv[] = { "true", NULL };
	struct ub_image *image;
	struct test_map map;
	pthread_t thread;
	u64 own = (u64)getpid() << 32;
	pid_t tid, pid, spawned;
	int status, fd;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(&link, 1, &map);
	self.fs_base = (u64)(uintptr_t)__builtin_thread_pointer();
	self.tid = gettid();
	fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	ub_image_identify(image, fd, &self, 1, 0);
	close(fd);
	assert_int_equal(apply_image(image), 0);
	if (image->trust_tid)
		assert_int_not_equal(image->process->tid_offset, 0);
	shape_frame(1);
	assert_int_equal(test_map_values(&map)[1], own | (u64)gettid());
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &tid), 0);
	pthread_join(thread, NULL);
	assert_int_equal(test_map_values(&map)[1], own | (u64)tid);
	pid = vfork();
	if (!pid) {
		shape_frame(1);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(test_map_values(&map)[1], (u64)pid << 32 | (u64)pid);
	assert_int_equal(posix_spawn(&spawned, "/bin/true", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(spawned, &status, 0), spawned);
	assert_int_equal(image->process->vm_sharers, 0);
	shape_frame(1);
	assert_int_equal(test_map_values(&map)[1], own | (u64)gettid());
	remove_image(image);
	assert_int_equal(hits_of(image, 1), 4);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

#define NR_THREADS 8
#define NR_CALLS   50000

static void *many_calls(void *arg)
{
	for (long i = 0; i < NR_CALLS; i++)
		if (shape_pushes(i) != i * 3 + 7)
			abort();
	return NULL;
}

/* Exactly as many hits as calls. */
static void test_threads(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link links[2] = {
		link_of(&probe, point_of(shape_pushes, UB_POINT_ENTRY), 1),
		link_of(&probe, point_of(shape_pushes, UB_POINT_RETURN), 2),
	};
	pthread_t threads[NR_THREADS];
	struct ub_image *image;
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(links, 2, &map);
	assert_int_equal(apply_image(image), 0);
	for (u32 i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_calls, NULL), 0);
	for (u32 i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	remove_image(image);
	assert_int_equal(hits_of(image, 1), NR_THREADS * NR_CALLS);
	assert_int_equal(hits_of(image, 2), NR_THREADS * NR_CALLS);
	assert_int_equal(test_map_values(&map)[0], 2 * NR_THREADS * NR_CALLS);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

static volatile u64 nr_handled;

static void on_signal(int sig)
{
	if (shape_pushes(5) != 22)
		abort();
	nr_handled++;
}

/* Handlers that hit the same probe wherever they come: they count, too. */
static void test_signals(void **state)
{
	const struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = {};
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link link = link_of(&probe, point_of(shape_pushes, UB_POINT_ENTRY), 1);
	struct ub_image *image;
	struct test_map map;
	u64 calls = 0;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(&link, 1, &map);
	assert_int_equal(apply_image(image), 0);
	signal(SIGALRM, on_signal);
	nr_handled = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	for (time_t end = time(NULL) + 30; nr_handled < 300 && time(NULL) < end;)
		for (u32 i = 0; i < 10000; i++, calls++)
			if (shape_pushes(7) != 28)
				abort();
	setitimer(ITIMER_REAL, &never, NULL);
	remove_image(image);
	assert_true(nr_handled > 0);
	assert_int_equal(hits_of(image, 1), calls + nr_handled);
	assert_int_equal(test_map_values(&map)[0], calls + nr_handled);
	assert_false(ub_image_thread_inside(image, (u64)(uintptr_t)__builtin_thread_pointer(),
					    (u64)(uintptr_t)__builtin_frame_address(0), false));
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

static u16 semaphore __attribute__((section(".probes"))) = 0;

static void test_semaphore(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link links[2];
	struct ub_image *image;
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < 2; i++) {
		links[i] = link_of(&probe, point_of(shape_nop5, UB_POINT_ENTRY), i);
		links[i].point.ref_ctr_offset = point_of(&semaphore, UB_POINT_ENTRY).offset;
	}
	image = build(links, 2, &map);
	assert_int_equal(apply_image(image), 0);
	assert_int_equal(ub_read_once(semaphore), 2);
	remove_image(image);
	assert_int_equal(ub_read_once(semaphore), 0);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

/* The site table is enough to know everything, and nothing but a whole one is believed. */
static void test_site_table(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link link = link_of(&probe, point_of(shape_frame, UB_POINT_ENTRY), 1);
	struct ub_site_table_view view;
	struct ub_image *image;
	struct test_map map;
	u64 size;
	u8 *bytes;

	assert_int_equal(test_map_create(64, &map), 0);
	image = build(&link, 1, &map);
	assert_int_equal(image->parts[0].kind, UB_PART_SITES);
	size = image->parts[0].size;
	bytes = malloc(size);
	assert_non_null(bytes);
	assert_int_equal(pread(image->parts[0].fd, bytes, size, 0), size);
	assert_int_equal(ub_site_table_check(bytes, size, &view, NULL), 0);
	assert_int_equal(view.header->nr_sites, image->nr_sites);
	assert_int_equal(view.header->nr_parts, image->nr_parts);
	assert_int_equal(view.header->owner_pid, getpid());
	assert_int_equal(view.sites[0].address, image->sites[0].address);
	assert_memory_equal(view.sites[0].new, image->sites[0].new, image->sites[0].len);
	/* Sealed: nobody writes it any more. */
	assert_int_equal(pwrite(image->parts[0].fd, bytes, 1, 0), -1);
	for (u64 i = 0; i < view.header->size; i++) {
		bytes[i] ^= 0x41;
		assert_int_not_equal(ub_site_table_check(bytes, size, &view, NULL), 0);
		bytes[i] ^= 0x41;
	}
	/* Sizes that lie, with a right checksum. */
	for (u32 i = 0; i < 4; i++) {
		struct ub_site_table *header = (struct ub_site_table *)bytes;
		u32 *const fields[] = { &header->nr_parts, &header->nr_sites, &header->nr_moves_out,
					&header->nr_semaphores };
		u32 old = *fields[i];

		*fields[i] = 0x7fffffff;
		header->checksum = ub_site_table_sum(header);
		assert_int_not_equal(ub_site_table_check(bytes, size, &view, NULL), 0);
		*fields[i] = old;
		header->checksum = ub_site_table_sum(header);
	}
	assert_int_equal(ub_site_table_check(bytes, size, &view, NULL), 0);
	for (u64 cut = 0; cut < view.header->size; cut += 7)
		assert_int_not_equal(ub_site_table_check(bytes, cut, &view, NULL), 0);
	free(bytes);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

/* Bytes that differ from the file's are somebody else's. */
static void test_busy(void **state)
{
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link link = link_of(&probe, point_of(shape_frame, UB_POINT_ENTRY), 1);
	struct ub_image_request request = {
		.pid = getpid(), .nr_links = 1, .links = &link, .nr_maps = 1, .nr_cpus = 1
	};
	struct ub_image *image, *other = NULL;
	struct ub_reason why = {};
	struct test_map map;

	assert_int_equal(test_map_create(64, &map), 0);
	request.maps = &map.image;
	image = build(&link, 1, &map);
	assert_int_equal(apply_image(image), 0);
	assert_int_equal(ub_image_build(&request, &other, &why), -EBUSY);
	assert_non_null(strstr(why.text, "differs from its file"));
	/* Our own are known, and the new image's sites have the file's bytes as old ones. */
	request.current = image;
	assert_int_equal(ub_image_build(&request, &other, &why), 0);
	assert_memory_equal(other->sites[0].old, image->sites[0].old, image->sites[0].len);
	ub_image_free(other);
	remove_image(image);
	ub_image_free(image);
	test_map_destroy(&map);
	probe_free(&probe);
}

/* Runtimes map a part of their file once more, to have it near the code that they make: a place is
 * hooked wherever it is mapped, and nothing around it is taken for the file's. */
static void test_parts(void **state)
{
	const shape_fn fns[] = { shape_nop5, shape_frame };
	const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const u64 offset = point_of(shape_nop5, UB_POINT_ENTRY).offset, page = 4096;
	const u64 far = point_of(test_entries, UB_POINT_ENTRY).offset & ~(page - 1);
	struct probe probe = probe_new(counting_program(0));
	struct ub_image_link links[ub_array_size(fns)];
	struct ub_image *image;
	struct test_map map;
	u8 *other, *part;
	shape_fn again;

	assert_true(fd >= 0);
	part = mmap(NULL, 2 * page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd,
		    (off_t)(offset & ~(page - 1)));
	other = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)far);
	close(fd);
	assert_true(part != MAP_FAILED && other != MAP_FAILED);
	again = (shape_fn)(uintptr_t)(part + offset % page);
	assert_int_equal(test_map_create(64, &map), 0);
	for (u32 i = 0; i < ub_array_size(fns); i++) {
		links[i] = link_of(&probe, point_of(fns[i], UB_POINT_ENTRY), i);
		links[i].point.ref_ctr_offset = point_of(&semaphore, UB_POINT_ENTRY).offset;
	}
	image = build(links, ub_array_size(links), &map);
	assert_int_equal(apply_image(image), 0);
	assert_int_equal(ub_read_once(semaphore), ub_array_size(links));
	for (u32 i = 0; i < ub_array_size(fns); i++)
		assert_int_equal(fns[i](5), 22);
	assert_int_equal(again(5), 22);
	assert_int_equal(hits_of(image, 0), 2);
	assert_int_equal(hits_of(image, 1), 1);
	remove_image(image);
	ub_image_free(image);
	munmap(part, 2 * page);
	munmap(other, page);
	test_map_destroy(&map);
	probe_free(&probe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),	   cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_loop_start), cmocka_unit_test(test_inside),
		cmocka_unit_test(test_context),	   cmocka_unit_test(test_returns),
		cmocka_unit_test(test_fork),	   cmocka_unit_test(test_identity),
		cmocka_unit_test(test_threads),	   cmocka_unit_test(test_signals),
		cmocka_unit_test(test_semaphore),  cmocka_unit_test(test_site_table),
		cmocka_unit_test(test_busy),	   cmocka_unit_test(test_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
