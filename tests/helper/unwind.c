// SPDX-License-Identifier: MIT
/*
 * Stacks of optimised code, by tables compiled from the .eh_frame of this very process's files: the
 * chain must be what backtrace(3) finds, whose unwinder is somebody else's. And whatever registers
 * and tables say, nothing crashes. unwind -b: what a frame costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <alloca.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <helper/helper.h>
#include <hook/module.h>
#include <hook/unwind.h>
#include <map/map.h>

#include "unwind_chain.h"

#define DEPTH 64
#define USER  BPF_F_USER_STACK

static struct ub_unwind *tables;
static struct ub_process process;
static struct ub_run run;
static u32 nr_compared;

static long get_stack(const u64 *regs, u64 *ips, u32 size, u64 flags)
{
	return (long)ub_helper_get_stack((u64)regs, (u64)ips, size, flags, 0, &run);
}

static void on_chain(const u64 *regs, void *const *expected, int nr)
{
	u64 ips[DEPTH];
	long n = get_stack(regs, ips, sizeof(ips), USER) / 8;
	int more = 0;

	assert_true(nr > 3 && n > 3);
	assert_int_equal(ips[0], regs[16]);
	/* backtrace() may start in a sanitizer's, and the first common frame is where each was
	 * asked. */
	while (more < 3 && more + 1 < nr && (u64)expected[more + 1] != ips[1])
		more++;
	for (int i = 1; i + more < nr && i < DEPTH; i++) {
		if (i < n && ips[i] == (u64)expected[i + more])
			continue;
		for (int k = 0; k < nr || k < n; k++)
			print_error("%2d %16llx %16llx\n", k,
				    k < nr ? (unsigned long long)(u64)expected[k] : 0,
				    k < n ? (unsigned long long)ips[k] : 0);
		fail();
	}
	nr_compared++;
}

static void expect_compared(u32 nr)
{
	assert_int_equal(nr_compared, nr);
	nr_compared = 0;
}

static void test_plain(void **state)
{
	unwind_chain_plain(on_chain);
	expect_compared(1);
}

static void test_large_frame(void **state)
{
	unwind_chain_large(on_chain);
	expect_compared(1);
}

static void test_alloca(void **state)
{
	unwind_chain_alloca(on_chain, 300);
	expect_compared(1);
}

static void test_aligned(void **state)
{
	unwind_chain_aligned(on_chain, 5);
	expect_compared(1);
}

static void test_qsort_callback(void **state)
{
	unwind_chain_qsort(on_chain);
	expect_compared(1);
}

static void test_signal(void **state)
{
	unwind_chain_signal(on_chain, false);
	expect_compared(1);
	unwind_chain_signal(on_chain, true);
	expect_compared(1);
}

static void *in_thread(void *unused)
{
	unwind_chain_plain(on_chain);
	return unused;
}

static void test_thread(void **state)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
	pthread_join(thread, NULL);
	expect_compared(1);
}

static void check_sizes(const u64 *regs, void *const *expected, int nr)
{
	u64 ips[DEPTH], all[DEPTH];
	long n = get_stack(regs, all, sizeof(all), USER) / 8;

	for (u32 want = 0; want <= 4; want++) {
		memset(ips, 0xaa, sizeof(ips));
		assert_int_equal(get_stack(regs, ips, want * 8, USER), want ? want * 8 : 0);
		assert_memory_equal(ips, all, want * 8);
		assert_int_equal(ips[want], 0xaaaaaaaaaaaaaaaaull);
	}
	assert_int_equal(get_stack(regs, ips, 16, USER | 2), 16);
	assert_memory_equal(ips, all + 2, 16);
	assert_int_equal(get_stack(regs, ips, sizeof(ips), USER | 255), -EFAULT);
	assert_int_equal(get_stack(regs, ips, sizeof(ips), USER | (u64)(n - 1)), 8);
	nr_compared++;
}

static void test_sizes(void **state)
{
	unwind_chain_plain(check_sizes);
	expect_compared(1);
}

static u64 random_word(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Registers point anywhere, mostly to places that look right. */
static void check_nonsense(const u64 *regs, void *const *expected, int nr)
{
	u64 seed = 88172645463325252ull, ips[DEPTH];

	for (u32 i = 0; i < 200000; i++) {
		const struct ub_unwind_module *module =
			&tables->modules[random_word(&seed) % tables->nr_modules];
		u64 wrong[21];

		memcpy(wrong, regs, sizeof(wrong));
		wrong[16] = module->start + random_word(&seed) % (module->end - module->start);
		wrong[4] += random_word(&seed) % 512 - 256;
		wrong[19] += random_word(&seed) % 512 - 256;
		if (i % 4 == 1)
			wrong[19] = random_word(&seed);
		if (i % 8 == 2)
			wrong[4] = random_word(&seed) >> random_word(&seed) % 64;
		if (i % 16 == 3)
			wrong[16] = random_word(&seed);
		assert_true(get_stack(wrong, ips, sizeof(ips), USER) > 0);
	}
	nr_compared++;
}

static void test_nonsense(void **state)
{
	unwind_chain_plain(check_nonsense);
	expect_compared(1);
}

/* A file whose tables are damaged at random: compiling ends, and rows stay sorted and in bounds. */
static void test_damaged_files(void **state)
{
	char path[] = "/tmp/ubpf-unwind-XXXXXX";
	int fd = open("/proc/self/exe", O_RDONLY), copy = mkstemp(path);
	struct stat st;
	u64 seed = 1234567;
	u8 *bytes;

	assert_true(fd >= 0 && copy >= 0);
	unlink(path);
	assert_int_equal(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	for (u32 round = 0; round < 10; round++) {
		struct ub_unwind_row *rows;
		struct ub_reason why;
		struct ub_elf *elf;
		u64 nr, base, size;

		/* Headers stay as they are. */
		for (u32 i = 0; i < (u32)(st.st_size / 200); i++)
			bytes[4096 + random_word(&seed) % (u64)(st.st_size - 8192)] =
				(u8)random_word(&seed);
		assert_int_equal(pwrite(copy, bytes, (size_t)st.st_size, 0), st.st_size);
		if (ub_elf_open(copy, &elf, &why))
			continue;
		if (!ub_unwind_compile(elf, &rows, &nr, &base, &size)) {
			for (u64 i = 1; i < nr; i++)
				assert_true(rows[i - 1].pc < rows[i].pc);
			free(rows);
		}
		ub_elf_put(elf);
	}
	free(bytes);
	close(fd);
	close(copy);
}

/* Numbers that no multiplication by the data alignment survives, and a state for what is behind the
 * function. */
#define TWO_TO_63 "0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80"

extern const u8 unwind_odd[], unwind_odd_end[];
__asm__(".text\n"
	".globl unwind_odd\n"
	".globl unwind_odd_end\n"
	".type unwind_odd, @function\n"
	"unwind_odd:\n"
	"	.cfi_startproc\n"
	"	nop\n"
	"	.cfi_escape 0x86, " TWO_TO_63 ", 0x01\n"
	"	nop\n"
	"	.cfi_escape 0x11, 6, " TWO_TO_63 ", 0x7f\n"
	"	nop\n"
	"	.cfi_escape 0x2f, 6, " TWO_TO_63 ", 0x01\n"
	"	nop\n"
	"	.cfi_escape 0x12, 7, " TWO_TO_63 ", 0x7f\n"
	"	nop\n"
	"	.cfi_def_cfa_offset 32\n"
	"unwind_odd_end:\n"
	"	.cfi_endproc\n"
	".size unwind_odd, . - unwind_odd\n");

static void test_odd_numbers(void **state)
{
	const struct ub_unwind_module *module = NULL;
	u32 nr = 0;

	for (u64 i = 0; i < tables->nr_modules && !module; i++)
		if ((u64)unwind_odd >= tables->modules[i].start &&
		    (u64)unwind_odd < tables->modules[i].end)
			module = &tables->modules[i];
	assert_non_null(module);
	for (u64 i = 0; i < module->nr_rows; i++) {
		const struct ub_unwind_row *row = &((const struct ub_unwind_row *)module->rows)[i];
		const u64 pc = module->base + row->pc;

		if (pc <= (u64)unwind_odd || pc >= (u64)unwind_odd_end)
			continue;
		nr++;
		assert_int_equal(row->rule >> 3 & 0xff, UB_UNWIND_RBP_LOST);
	}
	assert_true(nr >= 1 && nr < (u64)unwind_odd_end - (u64)unwind_odd);
}

static void measure(const u64 *regs, void *const *expected, int nr)
{
	struct timespec from, to;
	u64 ips[DEPTH];
	long n = 0;
	double ns;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (u32 i = 0; i < 100000; i++)
		n = get_stack(regs, ips, sizeof(ips), USER) / 8;
	clock_gettime(CLOCK_MONOTONIC, &to);
	ns = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
	     100000;
	printf("%ld frames: %.0f ns, %.0f ns a frame\n", n, ns, ns / (double)n);
}

/* As the image does it for a target, in this process. */
static void add_tables(const struct ub_mapping *mapping, const struct ub_address_space *space)
{
	struct ub_module *modules;
	u32 nr;

	if (!mapping->ino || !(mapping->prot & PROT_EXEC) || mapping->name[0] != '/' ||
	    ub_modules_find_mapping(getpid(), space, mapping, &modules, &nr))
		return;
	for (u32 i = 0; i < nr; i++) {
		struct ub_unwind_module *module = &tables->modules[tables->nr_modules];
		const struct ub_unwind_table *table;
		void *rows;

		if (ub_unwind_table(modules[i].elf, &table))
			continue;
		rows = mmap(NULL, table->memory, PROT_READ, MAP_PRIVATE, table->fd, 0);
		assert_true(rows != MAP_FAILED);
		module->base = module->start = modules[i].bias + table->base;
		module->end = module->start + table->size;
		module->rows = (u64)rows;
		module->nr_rows = table->nr_rows;
		tables->nr_modules++;
	}
	ub_modules_free(modules, nr);
}

static int setup(void **state)
{
	struct ub_address_space space = { 0 };
	struct ub_reason why;

	tables = calloc(1, sizeof(*tables) + UB_UNWIND_MODULES * sizeof(tables->modules[0]));
	if (!tables || ub_address_space_read(getpid(), &space, &why))
		return -1;
	for (u32 i = 0; i < space.nr; i++)
		add_tables(&space.mappings[i], &space);
	ub_address_space_free(&space);
	process = (struct ub_process) { .size = sizeof(process),
					.nr_cpus = 1,
					.unwind = (u64)tables };
	run = (struct ub_run) { .process = &process };
	return tables->nr_modules ? 0 : -1;
}

static int teardown(void **state)
{
	free(tables);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	       cmocka_unit_test(test_large_frame),
		cmocka_unit_test(test_alloca),	       cmocka_unit_test(test_aligned),
		cmocka_unit_test(test_qsort_callback), cmocka_unit_test(test_signal),
		cmocka_unit_test(test_thread),	       cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_nonsense),       cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_odd_numbers),
	};

	/* It loads its unwinder the first time. */
	backtrace((void *[4]) { 0 }, 4);
	if (argc > 1 && !strcmp(argv[1], "-b")) {
		if (setup(NULL))
			return 1;
		unwind_chain_qsort(measure);
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
