// SPDX-License-Identifier: MIT
/*
 * How much of libc and of what else is there can be hooked: floors that may only rise.
 */
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <hook/coverage.h>

static int find_libc(struct dl_phdr_info *info, size_t size, void *opaque)
{
	const char **path = opaque;

	if (strstr(info->dlpi_name, "libc.so") || strstr(info->dlpi_name, "libc-"))
		*path = info->dlpi_name;
	return 0;
}

static double percent(const struct ub_coverage_counts *counts)
{
	return 100.0 * (double)counts->hooked / (double)counts->total;
}

static void check(const char *path, double entries, double offsets)
{
	struct ub_coverage coverage;
	struct ub_reason why = {};
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		print_message("%s is not there\n", path);
		return;
	}
	if (ub_coverage_measure(fd, &coverage, &why))
		fail_msg("%s: %s", path, why.text);
	close(fd);
	print_message("%s: %lu entries %.2f %%, %lu offsets %.2f %%\n", path,
		      (unsigned long)coverage.entries.total, percent(&coverage.entries),
		      (unsigned long)coverage.offsets.total, percent(&coverage.offsets));
	print_message("returns of %lu of %lu functions\n", (unsigned long)coverage.returns,
		      (unsigned long)coverage.returning);
	if ((double)coverage.returns < 0.99 * (double)coverage.returning)
		fail_msg("%s: only %lu of %lu returns", path, (unsigned long)coverage.returns,
			 (unsigned long)coverage.returning);
	if (percent(&coverage.entries) < entries)
		fail_msg("%s: only %.2f %% of entries", path, percent(&coverage.entries));
	if (percent(&coverage.offsets) < offsets)
		fail_msg("%s: only %.2f %% of offsets", path, percent(&coverage.offsets));
}

static void test_libc(void **state)
{
	const char *path = NULL;

	dl_iterate_phdr(find_libc, &path);
	assert_non_null(path);
	check(path, 99.5, 97);
}

static void test_others(void **state)
{
	check("/usr/bin/bash", 99.5, 97);
	check("/usr/bin/cmake", 99.5, 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libc),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
