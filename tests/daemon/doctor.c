// SPDX-License-Identifier: MIT
/*
 * The doctor finds this machine healthy where the tests beside this one pass, and each finding that
 * is not plain success says why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <client/doctor.h>

static void test_findings(void **state)
{
	struct ub_finding findings[UB_MAX_FINDINGS];
	u32 nr = ub_client_doctor(findings);

	assert_in_range(nr, 7, UB_MAX_FINDINGS);
	for (u32 i = 0; i < nr; i++) {
		printf("%-45s %d %s %s\n", findings[i].what, findings[i].health, findings[i].why,
		       findings[i].advice);
		assert_non_null(findings[i].what);
		if (findings[i].health != UB_HEALTH_WORKS) {
			assert_true(findings[i].why[0] != '\0');
			assert_true(findings[i].advice[0] != '\0');
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_findings) };
	char dir[] = "/tmp/ubpf-test-XXXXXX";
	char command[64];
	int failed;

	if (!mkdtemp(dir) || setenv("UBPF_RUN_DIR", dir, 1))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) || failed ? 1 : 0;
}
