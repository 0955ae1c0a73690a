// SPDX-License-Identifier: MIT
/* What libbpf does to load and attach a program with maps, and what becomes of it at last close. */
#include <errno.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"

#define MOV64_IMM(dst, value)                                                                      \
	((struct bpf_insn) { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = dst, .imm = value })
#define EXIT() ((struct bpf_insn) { .code = BPF_JMP | BPF_EXIT })
#define LD_MAP(dst, fd)                                                                            \
	((struct bpf_insn) { .code = BPF_LD | BPF_IMM | BPF_DW,                                    \
			     .dst_reg = dst,                                                       \
			     .src_reg = BPF_PSEUDO_MAP_FD,                                         \
			     .imm = fd }),                                                         \
		((struct bpf_insn) { 0 })

static const struct bpf_insn trivial[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
					   { .code = BPF_JMP | BPF_EXIT } };

static int setup(void **state)
{
	static struct harness h;

	harness_init(&h);
	*state = &h;
	return h.kernel ? 0 : -1;
}

static int teardown(void **state)
{
	harness_exit(*state);
	return 0;
}

static void hash_map(void **state)
{
	struct harness *h = *state;
	int fd = harness_map(h, BPF_MAP_TYPE_HASH, 4, 8, 10, 0);
	u32 key = 7, next = 0;
	u64 value = 42, got = 0;

	assert_true(fd >= 0);
	assert_int_equal(harness_lookup(h, fd, &key, &got), -ENOENT);
	assert_int_equal(harness_update(h, fd, &key, &value, BPF_NOEXIST), 0);
	assert_int_equal(harness_update(h, fd, &key, &value, BPF_NOEXIST), -EEXIST);
	assert_int_equal(harness_lookup(h, fd, &key, &got), 0);
	assert_int_equal(got, 42);
	assert_int_equal(harness_next_key(h, fd, NULL, &next), 0);
	assert_int_equal(next, 7);
	assert_int_equal(harness_next_key(h, fd, &next, &next), -ENOENT);
	assert_int_equal(harness_delete(h, fd, &key), 0);
	assert_int_equal(harness_delete(h, fd, &key), -ENOENT);
	assert_int_equal(harness_lookup(h, fd, NULL, &got), -EFAULT);
	assert_int_equal(ub_kernel_objects(h->kernel), 1);
	close(fd);
	assert_true(harness_wait_objects(h, 0));
}

#define MANY	   5000u
#define VALUE_SIZE 200u

/* Batches that go through in several pieces: each element once, with its own value. */
static void large_batches(void **state)
{
	struct harness *h = *state;
	static u32 keys[MANY];
	static u8 values[MANY][VALUE_SIZE], seen[MANY];

	for (u32 type = BPF_MAP_TYPE_HASH; type <= BPF_MAP_TYPE_ARRAY; type++) {
		int fd = harness_map(h, type, 4, VALUE_SIZE, MANY, 0);
		union bpf_attr attr = { .batch = { .map_fd = (u32)fd,
						   .keys = (u64)keys,
						   .values = (u64)values,
						   .count = MANY } };
		u32 in = 0, out = 0, total = 0;
		s64 err = 0;

		for (u32 i = 0; i < MANY; i++) {
			keys[i] = i;
			memset(values[i], (int)(i % 251), VALUE_SIZE);
		}
		assert_int_equal(harness_bpf(h, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)), 0);
		assert_int_equal(attr.batch.count, MANY);
		memset(seen, 0, sizeof(seen));
		while (!err) {
			memset(keys, 0xff, sizeof(keys));
			memset(values, 0xff, sizeof(values));
			attr.batch.count = 777;
			attr.batch.in_batch = total ? (u64)&in : 0;
			attr.batch.out_batch = (u64)&out;
			err = harness_bpf(h, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));
			for (u32 i = 0; i < attr.batch.count; i++) {
				assert_true(keys[i] < MANY);
				assert_int_equal(values[i][0], keys[i] % 251);
				assert_int_equal(values[i][VALUE_SIZE - 1], keys[i] % 251);
				assert_int_equal(seen[keys[i]]++, 0);
			}
			total += attr.batch.count;
			in = out;
		}
		assert_int_equal(err, -ENOENT);
		assert_int_equal(total, MANY);
		close(fd);
		assert_true(harness_wait_objects(h, 0));
	}
}

static void last_close_of_memory(void **state)
{
	struct harness *h = *state;
	int fd = harness_map(h, BPF_MAP_TYPE_ARRAY, 4, 8, 100, BPF_F_MMAPABLE);
	u32 key = 3;
	u64 got = 0;
	u64 *values;
	int other;
	union bpf_attr attr = { 0 };

	assert_true(fd >= 0);
	values = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(values, MAP_FAILED);
	values[3] = 99;
	assert_int_equal(harness_lookup(h, fd, &key, &got), 0);
	assert_int_equal(got, 99);
	attr.map_id = 1;
	other = (int)harness_bpf(h, BPF_MAP_GET_FD_BY_ID, &attr, sizeof(attr));
	assert_true(other >= 0);
	/* Descriptions come and go, dups too; the map stays until the mapping is gone as well. */
	close(fd);
	fd = dup(other);
	close(other);
	for (int i = 0; i < 20; i++)
		harness_pump(h);
	assert_int_equal(ub_kernel_objects(h->kernel), 1);
	close(fd);
	for (int i = 0; i < 20; i++)
		harness_pump(h);
	assert_int_equal(ub_kernel_objects(h->kernel), 1);
	munmap(values, 4096);
	assert_true(harness_wait_objects(h, 0));
}

static void sealed(void **state)
{
	struct harness *h = *state;
	int fd = harness_map(h, BPF_MAP_TYPE_ARRAY, 4, 8, 100, BPF_F_MMAPABLE);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	close(fd);
	assert_true(harness_wait_objects(h, 0));
}

static void program_holds_map(void **state)
{
	struct harness *h = *state;
	int map = harness_map(h, BPF_MAP_TYPE_HASH, 4, 8, 10, 0);
	const struct bpf_insn insns[] = { LD_MAP(BPF_REG_1, map), MOV64_IMM(BPF_REG_0, 0), EXIT() };
	int prog = harness_prog(h, BPF_PROG_TYPE_KPROBE, 0, insns, 4);

	assert_true(prog >= 0);
	close(map);
	for (int i = 0; i < 5; i++)
		harness_pump(h);
	assert_int_equal(ub_kernel_objects(h->kernel), 2);
	close(prog);
	assert_true(harness_wait_objects(h, 0));
}

static void perf_link(void **state)
{
	struct harness *h = *state;
	int prog = harness_prog(h, BPF_PROG_TYPE_KPROBE, 0, trivial, 2);
	int event = harness_uprobe(h, "/proc/self/exe", 0x40, true, getpid(), -1);
	union bpf_attr attr = { .link_create = { .prog_fd = (u32)prog,
						 .target_fd = (u32)event,
						 .attach_type = BPF_PERF_EVENT,
						 .perf_event.bpf_cookie = 0x1234 } };
	struct stat st;
	int link;

	assert_true(prog >= 0);
	assert_true(event >= 0);
	link = (int)harness_bpf(h, BPF_LINK_CREATE, &attr, sizeof(attr));
	assert_true(link >= 0);
	assert_int_equal(h->nr_views, 1);
	assert_int_equal(h->views[0].cookie, 0x1234);
	assert_int_equal(h->views[0].offset, 0x40);
	assert_true(h->views[0].is_return);
	assert_int_equal(h->views[0].pid, getpid());
	assert_int_equal(stat("/proc/self/exe", &st), 0);
	assert_int_equal(h->views[0].ino, st.st_ino);
	assert_int_equal(harness_bpf(h, BPF_LINK_CREATE, &attr, sizeof(attr)), -EEXIST);
	assert_int_equal(harness_call(h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_ENABLE, 0, 0, 0, 0),
			 0);
	assert_int_equal(harness_call(h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_DISABLE, 0, 0, 0, 0),
			 0);
	assert_false(h->views[0].enabled);
	close(event);
	close(prog);
	for (int i = 0; i < 5; i++)
		harness_pump(h);
	assert_int_equal(h->nr_views, 1); /* the link holds all of it */
	close(link);
	assert_true(harness_wait_objects(h, 0));
	assert_int_equal(h->nr_views, 0);
}

static void set_bpf(void **state)
{
	struct harness *h = *state;
	int prog = harness_prog(h, BPF_PROG_TYPE_KPROBE, 0, trivial, 2);
	int event = harness_uprobe(h, "/proc/self/exe", 0x40, false, -1, 0);

	assert_int_equal(
		harness_call(h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_SET_BPF, (u64)prog, 0, 0, 0),
		0);
	assert_int_equal(h->nr_views, 1);
	assert_int_equal(h->views[0].pid, -1);
	close(prog);
	close(event);
	assert_true(harness_wait_objects(h, 0));
	assert_int_equal(h->nr_views, 0);
}

static void attach_fails(void **state)
{
	struct harness *h = *state;
	int prog = harness_prog(h, BPF_PROG_TYPE_KPROBE, 0, trivial, 2);
	int event = harness_uprobe(h, "/proc/self/exe", 0x40, false, -1, 0);

	h->attach_error = -EPERM;
	assert_int_equal(
		harness_call(h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_SET_BPF, (u64)prog, 0, 0, 0),
		-EPERM);
	h->attach_error = 0;
	assert_int_equal(
		harness_call(h, SYS_ioctl, (u64)event, PERF_EVENT_IOC_SET_BPF, (u64)prog, 0, 0, 0),
		0);
	close(event);
	close(prog);
	assert_true(harness_wait_objects(h, 0));
	assert_int_equal(h->nr_views, 0);
}

static void others_fds_pass(void **state)
{
	struct harness *h = *state;

	assert_int_equal(harness_call(h, SYS_ioctl, 1, PERF_EVENT_IOC_ENABLE, 0, 0, 0, 0),
			 HARNESS_PASSED);
	assert_int_equal(harness_call(h, SYS_epoll_ctl, 1, EPOLL_CTL_ADD, 0, 0, 0, 0),
			 HARNESS_PASSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hash_map, setup, teardown),
		cmocka_unit_test_setup_teardown(large_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(last_close_of_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(sealed, setup, teardown),
		cmocka_unit_test_setup_teardown(program_holds_map, setup, teardown),
		cmocka_unit_test_setup_teardown(perf_link, setup, teardown),
		cmocka_unit_test_setup_teardown(set_bpf, setup, teardown),
		cmocka_unit_test_setup_teardown(attach_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(others_fds_pass, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
