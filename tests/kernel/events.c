// SPDX-License-Identifier: MIT
/* Records on their way to a client: ring buffers, perf buffers, and waking it in its own epoll set.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <kernel/kinds.h>
#include <map/pool.h>

#include "harness.h"

#define PAGE 4096u

static struct harness h;
static int set;

static int setup(void **state)
{
	harness_init(&h);
	set = epoll_create1(EPOLL_CLOEXEC);
	return h.kernel && set >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	close(set);
	harness_exit(&h);
	return 0;
}

static s64 add(int fd, u64 data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

	return harness_call(&h, SYS_epoll_ctl, (u64)set, EPOLL_CTL_ADD, (u64)fd, (u64)&event, 0, 0);
}

/* The client's epoll_wait(): data of the file that is ready, or 0. */
static u64 ready(int timeout_ms)
{
	struct epoll_event event;

	return epoll_wait(set, &event, 1, timeout_ms) == 1 ? event.data.u64 : 0;
}

static u32 map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	union bpf_attr attr = {
		.info = { .bpf_fd = (u32)fd, .info_len = sizeof(info), .info = (u64)&info }
	};

	assert_int_equal(harness_bpf(&h, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)), 0);
	return info.id;
}

static void deliver(u32 kind, u32 map, u32 cpu, const void *data, u32 size)
{
	struct ub_event event = {
		.kind = kind, .map_id = map, .cpu = cpu, .size = size, .data = data
	};

	ub_kernel_deliver(h.kernel, &event);
	ub_kernel_delivered(h.kernel);
}

static void ring_buffer(void **state)
{
	int fd = harness_map(&h, BPF_MAP_TYPE_RINGBUF, 0, 0, PAGE, 0);
	u32 id = map_id(fd);
	u64 *consumer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u8 *rest = mmap(NULL, PAGE + 2 * PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
	volatile u64 *producer = (u64 *)(void *)rest;
	u64 at = 0;

	assert_ptr_not_equal(consumer, MAP_FAILED);
	assert_ptr_not_equal(rest, MAP_FAILED);
	assert_int_equal(add(fd, 77), 0);
	assert_int_equal(add(fd, 77), -EEXIST);
	assert_int_equal(ready(0), 0);
	/* Often enough to wrap around several times; records are whole wherever they start. */
	for (u32 i = 0; i < 500; i++) {
		u8 data[100];
		const u32 *header;

		memset(data, (int)i, sizeof(data));
		deliver(UB_EVENT_RINGBUF, id, 0, data, sizeof(data));
		assert_int_equal(ready(1000), 77);
		assert_int_equal(*producer, at + 112);
		header = (const u32 *)(const void *)(rest + PAGE + (at & (PAGE - 1)));
		assert_int_equal(header[0], sizeof(data));
		assert_memory_equal(header + 2, data, sizeof(data));
		at += 112;
		__atomic_store_n(consumer, at, __ATOMIC_RELEASE);
	}
	/* Full: later ones are lost, nothing is overwritten. */
	for (u32 i = 0; i < 100; i++)
		deliver(UB_EVENT_RINGBUF, id, 0, "x", 1);
	assert_true(*producer - at <= PAGE);
	/* Not read: woken again. */
	while (ready(0))
		;
	for (u32 i = 0; i < 3000 && !ready(0); i++)
		harness_pump(&h);
	/* A consumer that says nonsense stops nobody. */
	__atomic_store_n(consumer, at + (1ull << 40), __ATOMIC_RELEASE);
	deliver(UB_EVENT_RINGBUF, id, 0, "x", 1);
	__atomic_store_n(consumer, *producer, __ATOMIC_RELEASE);
	at = *producer;
	deliver(UB_EVENT_RINGBUF, id, 0, "x", 1);
	assert_int_equal(*producer, at + 16);
	/* Of other kinds, to other maps, too large: nothing happens. */
	deliver(UB_EVENT_PERF, id, 0, "x", 1);
	deliver(UB_EVENT_RINGBUF, 4711, 0, "x", 1);
	munmap(consumer, PAGE);
	munmap(rest, 3 * PAGE);
	close(fd);
	assert_true(harness_wait_objects(&h, 0));
}

static int open_output(int cpu)
{
	struct perf_event_attr attr = { .size = sizeof(attr),
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_BPF_OUTPUT,
					.sample_type = PERF_SAMPLE_RAW,
					.sample_period = 1,
					.wakeup_events = 1 };

	return (int)harness_call(&h, SYS_perf_event_open, (u64)&attr, (u64)-1, (u64)cpu, (u64)-1,
				 PERF_FLAG_FD_CLOEXEC, 0);
}

static void perf_buffer(void **state)
{
	int array = harness_map(&h, BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 2, 0);
	u32 id = map_id(array), key = 1;
	int event = open_output(1);
	size_t size = PAGE + 2 * PAGE;
	struct perf_event_mmap_page *page;
	struct {
		struct perf_event_header header;
		u32 size;
		char data[20];
	} * sample;
	struct perf_event_header *next;

	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	/* The transport shows us mmap(2) calls: the size is known before the client looks at it. */
	assert_int_equal(harness_call(&h, SYS_mmap, 0, size, 3, MAP_SHARED, (u64)event, 0),
			 HARNESS_PASSED);
	assert_int_equal(page->data_offset, PAGE);
	assert_int_equal(page->data_size, 2 * PAGE);
	assert_int_equal(harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_ENABLE, 0, 0, 0, 0),
			 0);
	assert_int_equal(harness_update(&h, array, &key, &event, BPF_ANY), 0);
	assert_int_equal(add(event, 5), 0);
	deliver(UB_EVENT_PERF, id, 1, "nineteen characters", 20);
	deliver(UB_EVENT_PERF, id, 0, "nobody", 7);
	deliver(UB_EVENT_PERF, id, 99, "nobody", 7);
	assert_int_equal(ready(1000), 5);
	sample = (void *)((u8 *)page + PAGE);
	assert_int_equal(sample->header.type, PERF_RECORD_SAMPLE);
	assert_int_equal(sample->header.size, page->data_head);
	assert_int_equal(sample->header.size % 8, 0);
	assert_int_equal(sample->size + 12, sample->header.size);
	assert_string_equal(sample->data, "nineteen characters");
	for (u32 i = 0; i < 1000; i++)
		deliver(UB_EVENT_PERF, id, 1, "fill", 5);
	assert_true(page->data_head <= 2 * PAGE);
	ub_kernel_lost(h.kernel, id, 3);
	__atomic_store_n(&page->data_tail, page->data_head, __ATOMIC_RELEASE);
	next = (void *)((u8 *)page + PAGE + page->data_head % (2 * PAGE));
	deliver(UB_EVENT_PERF, id, 1, "again", 6);
	if ((u8 *)(next + 1) <= (u8 *)page + size)
		assert_int_equal(next->type, PERF_RECORD_LOST);
	munmap(page, size);
	close(event);
	close(array);
	assert_true(harness_wait_objects(&h, 0));
}

/* Where mmap(2) is not shown, /proc/PID/maps tells the size. */
static void perf_size_from_maps(void **state)
{
	int event = open_output(0);
	struct perf_event_mmap_page *page =
		mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);

	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(page->data_size, 0);
	assert_int_equal(harness_call(&h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_ENABLE, 0, 0, 0, 0),
			 0);
	assert_int_equal(page->data_size, 4 * PAGE);
	munmap(page, 5 * PAGE);
	close(event);
	assert_true(harness_wait_objects(&h, 0));
}

/* --- what hits leave --------------------------------------------------------------------------- */

/* As many hits do that are left before they link what they took. */
static u32 leave_all(const struct ub_map *map)
{
	u32 nr = 0;

	while (ub_pool_take(map, NULL) != UB_NO_NODE)
		nr++;
	return nr;
}

static bool takes_an_element(void *opaque)
{
	const int *fd = opaque;
	const u64 key = 1, value = 2;

	return !harness_update(&h, *fd, &key, &value, BPF_ANY);
}

/* Each is told once, however little time has passed since the map was last swept. */
static void left(void **state)
{
	int fd = harness_map(&h, BPF_MAP_TYPE_HASH, 8, 8, 1 << 16, 0);
	u32 id = map_id(fd);
	const struct ub_map *map = &ub_to_map(ub_object_by_id(h.kernel, UB_KIND_MAP, id))->map;

	for (u32 round = 0; round < 5; round++) {
		assert_true(leave_all(map) > 0);
		deliver(UB_EVENT_LEFT, id, 0, NULL, 0);
		leave_all(map);
		assert_false(takes_an_element(&fd));
		deliver(UB_EVENT_LEFT, id, 0, NULL, 0);
		assert_true(harness_wait(&h, takes_an_element, &fd));
		assert_int_equal(harness_delete(&h, fd, &(u64) { 1 }), 0);
	}
	/* And it may go with a sweep ahead of it. */
	deliver(UB_EVENT_LEFT, id, 0, NULL, 0);
	close(fd);
	assert_true(harness_wait_objects(&h, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ring_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(perf_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(perf_size_from_maps, setup, teardown),
		cmocka_unit_test_setup_teardown(left, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
