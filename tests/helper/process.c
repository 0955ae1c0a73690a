// SPDX-License-Identifier: MIT
/* Helpers about the process, its memory, its stack and time: in this very process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <helper/helper.h>
#include <map/cpu.h>
#include <map/event_ring.h>

#include "../map/sides.h"

static struct ub_process process;
static struct ub_run run;

#define CALL(name, ...) CALL_(name, __VA_ARGS__, 0, 0, 0, 0, 0)
#define CALL_(name, a, b, c, d, e, ...)                                                            \
	((s64)ub_helper_##name((u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (void *)&run))

static int setup(void **state)
{
	u64 base;

	process = (struct ub_process) { .size = sizeof(process),
					.nr_cpus = possible_cpus(),
					.tgid_pid = (u64)getpid(),
					.own_tgid = (u32)getpid(),
					.uid_gid = (u64)getgid() << 32 | getuid(),
					.has_fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1 };
	run = (struct ub_run) { .process = &process, .cpu = UB_CPU_UNKNOWN };
	base = ub_fs_base(&process);
	for (s64 offset = 0; base && offset < 1024; offset += 4) {
		if (*(const u32 *)(base + (u64)offset) == (u32)syscall(SYS_gettid)) {
			process.tid_offset = offset;
			break;
		}
	}
	process.fork_page =
		(u64)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (process.fork_page == (u64)MAP_FAILED ||
	    madvise((void *)process.fork_page, 4096, MADV_WIPEONFORK))
		return -1;
	*(u64 *)process.fork_page = 1;
	return 0;
}

static int teardown(void **state)
{
	munmap((void *)process.fork_page, 4096);
	return 0;
}

static void *thread_identity(void *opaque)
{
	struct ub_run mine = { .process = &process, .cpu = UB_CPU_UNKNOWN };
	u64 id = ub_helper_get_current_pid_tgid(0, 0, 0, 0, 0, &mine);

	return (void *)(id == ((u64)getpid() << 32 | (u32)syscall(SYS_gettid)) ? 1ul : 0ul);
}

static void test_identity(void **state)
{
	pthread_t thread;
	void *good;
	s64 tid_offset;
	int status;
	pid_t pid;

	assert_int_equal(CALL(get_current_pid_tgid, 0), (u64)getpid() << 32 | (u32)getpid());
	assert_int_equal(pthread_create(&thread, NULL, thread_identity, NULL), 0);
	pthread_join(thread, &good);
	assert_true(good);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		u64 id = (u64)getpid() << 32 | (u32)getpid();

		_exit(CALL(get_current_pid_tgid, 0) == (s64)id &&
				      CALL(get_current_pid_tgid, 0) == (s64)id
			      ? 0
			      : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	/* Shares the memory, is another process: known by asking the kernel for the thread's
	 * number. */
	tid_offset = process.tid_offset;
	process.tid_offset = 0;
	assert_int_equal(CALL(get_current_pid_tgid, 0), (u64)getpid() << 32 | (u32)getpid());
	assert_int_equal(pthread_create(&thread, NULL, thread_identity, NULL), 0);
	pthread_join(thread, &good);
	assert_true(good);
	pid = vfork();
	if (!pid)
		_exit(CALL(get_current_pid_tgid, 0) == (s64)((u64)getpid() << 32 | (u32)getpid())
			      ? 0
			      : 1);
	waitpid(pid, &status, 0);
	process.tid_offset = tid_offset;
	assert_int_equal(status, 0);
	assert_int_equal(CALL(get_current_pid_tgid, 0), (u64)getpid() << 32 | (u32)getpid());
	assert_int_equal(CALL(get_current_uid_gid, 0), (u64)getgid() << 32 | getuid());
}

static void test_namespace(void **state)
{
	struct stat st;
	u32 info[2] = { 1, 1 };

	assert_int_equal(stat("/proc/self/ns/pid", &st), 0);
	assert_int_equal(CALL(get_ns_current_pid_tgid, st.st_dev, st.st_ino, info, 8), 0);
	assert_int_equal(info[0], syscall(SYS_gettid));
	assert_int_equal(info[1], getpid());
	assert_int_equal(CALL(get_ns_current_pid_tgid, st.st_dev, st.st_ino + 1, info, 8), -EINVAL);
	assert_int_equal(info[0], 0);
	assert_int_equal(CALL(get_ns_current_pid_tgid, st.st_dev, st.st_ino, info, 4), -EINVAL);
}

static void test_comm(void **state)
{
	char comm[20], name[16] = { 0 };

	prctl(PR_GET_NAME, name);
	memset(comm, 'x', sizeof(comm));
	assert_int_equal(CALL(get_current_comm, comm, 16), 0);
	assert_string_equal(comm, name);
	assert_int_equal(comm[16], 'x');
	assert_int_equal(CALL(get_current_comm, comm, 4), 0);
	assert_memory_equal(comm, name, 3);
	assert_int_equal(comm[3], 0);
}

static void test_cpu(void **state)
{
	cpu_set_t old, one;

	assert_int_equal(sched_getaffinity(0, sizeof(old), &old), 0);
	for (u32 cpu = 0; cpu < process.nr_cpus && cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &old))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		run.cpu = UB_CPU_UNKNOWN;
		assert_int_equal(CALL(get_smp_processor_id, 0), cpu);
	}
	sched_setaffinity(0, sizeof(old), &old);
}

static u64 clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

#define CHECK_CLOCK(name, clock)                                                                   \
	do {                                                                                       \
		u64 before = clock_ns(clock), now = (u64)CALL(name, 0), after = clock_ns(clock);   \
		assert_true(before <= now && now <= after);                                        \
	} while (0)

static void test_time(void **state)
{
	u64 a, b;

	CHECK_CLOCK(ktime_get_ns, CLOCK_MONOTONIC);
	CHECK_CLOCK(ktime_get_boot_ns, CLOCK_BOOTTIME);
	CHECK_CLOCK(ktime_get_coarse_ns, CLOCK_MONOTONIC_COARSE);
	CHECK_CLOCK(ktime_get_tai_ns, CLOCK_TAI);
	a = (u64)CALL(jiffies64, 0);
	usleep(30000);
	b = (u64)CALL(jiffies64, 0);
	assert_true(b > a);
}

static void test_reads(void **state)
{
	u8 *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 value = 0x1122334455667788ull, got = 0;
	char text[300], local[8] = "local";
	s64 n;

	assert_ptr_not_equal(page, MAP_FAILED);
	memcpy(page, &value, 8);
	assert_int_equal(CALL(probe_read_user, &got, 8, page), 0);
	assert_int_equal(got, value);
	assert_int_equal(CALL(probe_read_user, &got, 0, NULL), 0);
	assert_int_equal(got, value);
	assert_int_equal(CALL(probe_read_user, &got, 8, NULL), -EFAULT);
	assert_int_equal(got, 0);
	assert_int_equal(CALL(probe_read_user, &got, 8, UINT64_MAX - 3), -EFAULT);
	assert_int_equal(CALL(probe_read_user, &got, 8, 0xffffffff81000000ull), -EFAULT);
	/* Half of it is not there. */
	assert_int_equal(munmap(page + 4096, 4096), 0);
	got = 1;
	assert_int_equal(CALL(probe_read_user, &got, 8, page + 4092), -EFAULT);
	assert_int_equal(got, 0);
	assert_int_equal(CALL(probe_read_kernel, text, 6, local), 0);
	assert_string_equal(text, "local");
	assert_int_equal(CALL(copy_from_user, &got, 8, page), 0);
	assert_int_equal(got, value);

	memset(text, 'x', sizeof(text));
	strcpy((char *)page, "hello");
	assert_int_equal(CALL(probe_read_user_str, text, sizeof(text), page), 6);
	/* Whole words are copied. */
	assert_memory_equal(text, "hello\0\0\0x", 9);
	assert_int_equal(CALL(probe_read_user_str, text, 3, page), 3);
	assert_memory_equal(text, "he\0lo", 5);
	assert_int_equal(CALL(probe_read_user_str, text, 0, page), 0);
	assert_int_equal(CALL(probe_read_user_str, text, 10, NULL), -EFAULT);
	assert_int_equal(text[0], 0);
	/* Ends with the page; or does not end before it. */
	memset(page, 'a', 4096);
	page[4095] = 0;
	n = CALL(probe_read_user_str, text, sizeof(text), page + 4000);
	assert_int_equal(n, 96);
	page[4095] = 'a';
	assert_int_equal(CALL(probe_read_user_str, text, sizeof(text), page + 4000), -EFAULT);
	assert_int_equal(CALL(probe_read_user_str, text, 300, page), 300);
	assert_int_equal(text[299], 0);

	value = 7;
	assert_int_equal(CALL(probe_write_user, page, &value, 8), 0);
	assert_memory_equal(page, &value, 8);
	assert_int_equal(mprotect(page, 4096, PROT_READ), 0);
	assert_int_equal(CALL(probe_write_user, page, &value, 8), -EFAULT);
	assert_int_equal(CALL(probe_write_user, NULL, &value, 8), -EFAULT);
	munmap(page, 4096);
}

static u64 count_to(u64 i, u64 sum, u64 a3, u64 a4, u64 a5, void *run_)
{
	*(u64 *)sum += i;
	return *(u64 *)sum > 100;
}

static u64 add_up(u64 map, u64 key, u64 value, u64 sum, u64 a5, void *run_)
{
	*(u64 *)sum += *(u32 *)key * 1000 + *(u64 *)value;
	return 0;
}

static void test_callbacks(void **state)
{
	struct ub_map_attr attr = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 10
	};
	struct ub_map map;
	u64 sum = 0;

	assert_int_equal(CALL(loop, 5, count_to, &sum, 0), 5);
	assert_int_equal(sum, 10);
	assert_int_equal(CALL(loop, 1000, count_to, &sum, 0), 14);
	assert_int_equal(CALL(loop, 1, count_to, &sum, 1), -EINVAL);
	assert_int_equal(CALL(loop, (8u << 20) + 1, count_to, &sum, 0), -E2BIG);
	our_map_create(&map, &attr);
	for (u32 key = 1; key <= 3; key++) {
		u64 value = key;

		assert_int_equal(CALL(map_update_elem, &map, &key, &value, BPF_NOEXIST), 0);
	}
	sum = 0;
	assert_int_equal(CALL(for_each_map_elem, &map, add_up, &sum, 0), 3);
	assert_int_equal(sum, 6006);
	assert_int_equal(CALL(for_each_map_elem, &map, add_up, &sum, 1), -EINVAL);
	our_map_destroy(&map);
	attr.type = BPF_MAP_TYPE_ARRAY;
	our_map_create(&map, &attr);
	sum = 0;
	assert_int_equal(CALL(for_each_map_elem, &map, add_up, &sum, 0), 10);
	assert_int_equal(sum, 45000);
	our_map_destroy(&map);
}

static void test_link(void **state)
{
	struct ub_link_info link = { .cookie = 77, .func_ip = 0x1234 };

	assert_int_equal(CALL(get_attach_cookie, 0), 0);
	run.link = &link;
	assert_int_equal(CALL(get_attach_cookie, 0), 77);
	assert_int_equal(CALL(get_func_ip, 0), 0x1234);
	run.link = NULL;
	assert_int_equal(CALL(override_return, 0, 1), 0);
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

static void test_signal(void **state)
{
	void (*old)(int) = signal(SIGUSR1, on_signal);

	assert_int_equal(CALL(send_signal, SIGUSR1), 0);
	assert_int_equal(CALL(send_signal_thread, SIGUSR1), 0);
	assert_int_equal(signals, 2);
	assert_int_equal(CALL(send_signal, 65), -EINVAL);
	assert_int_equal(CALL(send_signal, 0), 0);
	signal(SIGUSR1, old);
}

/* struct pt_regs by words, with frames as a compiler makes them. */
static void test_stack(void **state)
{
	u64 frames[64] = { 0 }, regs[21] = { 0 }, ips[127], id;
	struct ub_map_attr attr = {
		.type = BPF_MAP_TYPE_STACK_TRACE, .key_size = 4, .value_size = 64, .max_entries = 16
	};
	struct ub_map map;
	u32 key;

	regs[16] = 0x1000;
	regs[19] = (u64)&frames[0];
	regs[4] = (u64)&frames[10];
	frames[10] = (u64)&frames[20];
	frames[11] = 0x2000;
	frames[20] = (u64)&frames[30];
	frames[21] = 0x3000;
	frames[30] = 1; /* not a frame */
	frames[31] = 0x4000;
	memset(ips, 0xff, sizeof(ips));
	assert_int_equal(CALL(get_stack, regs, ips, 80, BPF_F_USER_STACK), 32);
	assert_int_equal(ips[0], 0x1000);
	assert_int_equal(ips[1], 0x2000);
	assert_int_equal(ips[2], 0x3000);
	assert_int_equal(ips[3], 0x4000);
	assert_int_equal(ips[4], 0);
	assert_int_equal(ips[9], 0);
	assert_int_equal(ips[10], UINT64_MAX);
	assert_int_equal(CALL(get_stack, regs, ips, 80, BPF_F_USER_STACK | 1), 24);
	assert_int_equal(ips[0], 0x2000);
	assert_int_equal(CALL(get_stack, regs, ips, 16, BPF_F_USER_STACK), 16);
	assert_int_equal(CALL(get_stack, regs, ips, 80, BPF_F_USER_STACK | 9), -EFAULT);
	assert_int_equal(CALL(get_stack, regs, ips, 81, BPF_F_USER_STACK), -EINVAL);
	assert_int_equal(CALL(get_stack, regs, ips, 80, 1ull << 40), -EINVAL);

	our_map_create(&map, &attr);
	id = (u64)CALL(get_stackid, regs, &map, BPF_F_USER_STACK);
	assert_true(id < 16);
	assert_int_equal(CALL(get_stackid, regs, &map, BPF_F_USER_STACK), id);
	key = (u32)id;
	assert_int_equal(ub_map_sys_lookup(&map, &key, ips, 0), 0);
	assert_int_equal(ips[3], 0x4000);
	assert_int_equal(ips[4], 0);
	/* Another trace with other ids, until one collides; then it may replace. */
	for (u64 ip = 0x5000;; ip++) {
		s64 other;

		assert_true(ip < 0x6000);
		regs[16] = ip;
		other = CALL(get_stackid, regs, &map, BPF_F_USER_STACK);
		if (other == -EEXIST) {
			other = CALL(get_stackid, regs, &map,
				     BPF_F_USER_STACK | BPF_F_REUSE_STACKID);
			assert_true(other >= 0 && other < 16);
			break;
		}
		assert_true(other >= 0 && other < 16);
	}
	assert_int_equal(ub_map_sys_update(&map, &key, ips, 0), -EINVAL);
	assert_int_equal(ub_map_sys_delete(&map, &key), 0);
	assert_int_equal(ub_map_sys_delete(&map, &key), -ENOENT);
	assert_int_equal(ub_map_sys_lookup(&map, &key, ips, 0), -ENOENT);
	our_map_destroy(&map);
}

static bool always(void *opaque, u64 tid)
{
	return true;
}

static void test_events(void **state)
{
	struct ub_map_attr attr = { .type = BPF_MAP_TYPE_RINGBUF, .max_entries = 4096, .id = 5 };
	struct ub_map_attr perf_attr = { .type = BPF_MAP_TYPE_PERF_EVENT_ARRAY,
					 .key_size = 4,
					 .value_size = 4,
					 .max_entries = 2,
					 .id = 6 };
	u32 size = 65536, index = 1, on = 1;
	struct ub_event_ring *ring = aligned_alloc(4096, ub_event_ring_size(size));
	struct ub_map map, perf;
	struct ub_event event;
	struct ub_event_reader *reader;
	u64 value = 42, four[4] = { 1, 2, 3, 4 }, *to;

	assert_non_null(ring);
	our_map_create(&map, &attr);
	our_map_create(&perf, &perf_attr);
	/* Nowhere to write to. */
	assert_int_equal(CALL(ringbuf_reserve, &map, 8, 0), 0);
	assert_int_equal(CALL(ringbuf_output, &map, &value, 8, 0), -EAGAIN);
	ub_event_ring_format(ring, size);
	reader = ub_event_reader_new(ring, size, 0);
	process.events = ring;

	assert_int_equal(CALL(ringbuf_output, &map, &value, 8, 4), -EINVAL);
	assert_int_equal(CALL(ringbuf_output, &map, &value, 8, 1), 0);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(event.map_id, 5);
	assert_int_equal(event.wakeup, 1);
	assert_int_equal(event.size, 8);
	assert_memory_equal(event.data, &value, 8);
	assert_int_equal(CALL(ringbuf_reserve, &map, 4089, 0), 0);
	assert_int_equal(CALL(ringbuf_reserve, &map, 8, 1), 0);
	to = (u64 *)CALL(ringbuf_reserve, &map, 8, 0);
	assert_non_null(to);
	*to = 9;
	CALL(ringbuf_submit, to, 0);
	to = (u64 *)CALL(ringbuf_reserve, &map, 8, 0);
	CALL(ringbuf_discard, to, 0);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(*(const u64 *)event.data, 9);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 0);
	assert_int_equal(CALL(ringbuf_query, &map, BPF_RB_RING_SIZE), 4096);
	assert_int_equal(CALL(ringbuf_query, &map, BPF_RB_AVAIL_DATA), 0);
	assert_int_equal(CALL(ringbuf_query, &map, 99), 0);

	assert_int_equal(CALL(perf_event_output, NULL, &perf, 1, &value, 8), -ENOENT);
	assert_int_equal(CALL(perf_event_output, NULL, &perf, 2, &value, 8), -E2BIG);
	assert_int_equal(CALL(perf_event_output, NULL, &perf, 1ull << 32, &value, 8), -EINVAL);
	assert_int_equal(ub_map_sys_update(&perf, &index, &on, 0), 0);
	assert_int_equal(CALL(perf_event_output, NULL, &perf, 1, &value, 8), 0);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(event.kind, UB_EVENT_PERF);
	assert_int_equal(event.cpu, 1);
	assert_int_equal(event.map_id, 6);

	assert_int_equal(CALL(trace_printk, "n=%d", 5, 3), 3);
	assert_int_equal(ub_event_read(reader, &event, always, NULL), 1);
	assert_int_equal(event.kind, UB_EVENT_PRINTK);
	assert_memory_equal((const char *)event.data + event.size - 24, ": bpf_trace_printk: n=3\n",
			    24);
	assert_int_equal(CALL(trace_printk, "n=%d", 4, 3), -EINVAL);
	assert_int_equal(CALL(trace_vprintk, "%d %d %d %d", 12, four, 32), 7);
	process.events = NULL;
	ub_event_reader_free(reader);
	free(ring);
	our_map_destroy(&map);
	our_map_destroy(&perf);
}

static void test_spin_lock(void **state)
{
	u32 lock[2] = { 0, 0 };

	CALL(spin_lock, lock);
	assert_int_not_equal(lock[0], 0);
	CALL(spin_unlock, lock);
	assert_int_equal(lock[0], 0);
	/* The dead one's lock is taken over. */
	lock[0] = 12345;
	CALL(spin_lock, lock);
	CALL(spin_unlock, lock);
	assert_int_equal(lock[0], 0);
}

static void test_table(void **state)
{
	u32 known = 0, offered = 0;

	for (u32 id = 0; id < UB_MAX_HELPER + 10; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		if (!helper)
			continue;
		assert_int_equal(helper->id, id);
		known++;
		offered += helper->fn != NULL;
	}
	assert_null(ub_helper_by_id(0));
	assert_true(known >= 70 && offered >= 50);
	assert_true(ub_helper_allowed(ub_helper_by_id(BPF_FUNC_probe_read), BPF_PROG_TYPE_KPROBE));
	assert_false(ub_helper_allowed(ub_helper_by_id(BPF_FUNC_probe_read),
				       BPF_PROG_TYPE_SOCKET_FILTER));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),  cmocka_unit_test(test_namespace),
		cmocka_unit_test(test_comm),	  cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_time),	  cmocka_unit_test(test_reads),
		cmocka_unit_test(test_callbacks), cmocka_unit_test(test_link),
		cmocka_unit_test(test_signal),	  cmocka_unit_test(test_stack),
		cmocka_unit_test(test_events),	  cmocka_unit_test(test_spin_lock),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
