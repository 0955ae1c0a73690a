// SPDX-License-Identifier: MIT
/*
 * Damaged files: whatever they say, they are refused or measured, and nothing crashes.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <hook/coverage.h>

#define NR_FILES 300
#define MAX_SIZE (64u << 10)

static u32 seed = 1;

static u32 next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

/* Mostly the headers and tables, where lies are believed soonest. */
static void damage(u8 *bytes, size_t size)
{
	u32 nr = 1 + next_random() % 16;

	while (nr--) {
		size_t at = next_random() % 4 ? next_random() % size : next_random() % 1024 % size;

		switch (next_random() % 4) {
		case 0:
			bytes[at] ^= (u8)(1u << next_random() % 8);
			break;
		case 1:
			bytes[at] = 0xff;
			break;
		case 2:
			bytes[at] = (u8)next_random();
			break;
		default:
			if (at + 8 <= size)
				memset(bytes + at, next_random() % 2 ? 0xff : 0x80, 8);
		}
	}
}

static void test_damaged(void **state)
{
	const time_t end = time(NULL) + 20;
	u8 *original, *bytes;
	struct stat stat_;
	size_t size;
	int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &stat_), 0);
	size = (size_t)stat_.st_size < MAX_SIZE ? (size_t)stat_.st_size : MAX_SIZE;
	original = malloc(size);
	bytes = malloc(size);
	assert_non_null(original);
	assert_non_null(bytes);
	assert_int_equal(pread(fd, original, size, 0), size);
	close(fd);
	for (u32 i = 0; i < NR_FILES && time(NULL) < end; i++) {
		struct ub_coverage coverage;
		struct ub_reason why = {};
		size_t kept = i % 5 ? size : 1 + next_random() % size;
		int copy = memfd_create("damaged", MFD_CLOEXEC), err;

		assert_true(copy >= 0);
		memcpy(bytes, original, size);
		if (i)
			damage(bytes, size);
		assert_int_equal(write(copy, bytes, kept), kept);
		err = ub_coverage_measure(copy, &coverage, &why);
		assert_true(err <= 0);
		if (!err)
			assert_true(coverage.entries.hooked <= coverage.entries.total);
		close(copy);
	}
	free(original);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
