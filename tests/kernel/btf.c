// SPDX-License-Identifier: MIT
/*
 * BTF that was damaged here and there: what is let through must be what Linux lets through, and
 * libbpf must survive it. Compared with Linux where bpf(2) may be used and knows all that we do
 * (6.15).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <cmocka.h>

#include "harness.h"

static struct harness h;
static u64 state = 0x2545f4914f6cdd1dull;

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static struct btf *everything(void)
{
	struct btf *btf = btf__new_empty();
	int i32 = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	int u64_ = btf__add_int(btf, "long unsigned int", 8, 0);
	int chr = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
	int ptr = btf__add_ptr(btf, chr);
	int cst = btf__add_const(btf, i32);
	int arr = btf__add_array(btf, i32, chr, 16);
	int td = btf__add_typedef(btf, "name_t", arr);
	int st = btf__add_struct(btf, "outer", 40);
	int fwd, proto, func, var, sec;

	btf__add_field(btf, "name", td, 0, 0);
	btf__add_field(btf, "next", st + 1, 128, 0);
	btf__add_field(btf, "n", u64_, 192, 0);
	btf__add_field(btf, "c", cst, 256, 0);
	btf__add_field(btf, "bits", i32, 288, 5);
	btf__add_ptr(btf, st);
	btf__add_union(btf, "either", 8);
	btf__add_field(btf, "a", i32, 0, 0);
	btf__add_field(btf, "b", u64_, 0, 0);
	btf__add_enum(btf, "colour", 4);
	btf__add_enum_value(btf, "RED", 0);
	btf__add_enum_value(btf, "BLUE", 1);
	btf__add_enum64(btf, "large", 8, false);
	btf__add_enum64_value(btf, "LARGE", 1ull << 40);
	fwd = btf__add_fwd(btf, "somewhere", BTF_FWD_STRUCT);
	btf__add_ptr(btf, fwd);
	btf__add_volatile(btf, ptr);
	btf__add_restrict(btf, ptr);
	proto = btf__add_func_proto(btf, i32);
	btf__add_func_param(btf, "ctx", ptr);
	func = btf__add_func(btf, "handler", BTF_FUNC_GLOBAL, proto);
	var = btf__add_var(btf, "counter", BTF_VAR_GLOBAL_ALLOCATED, u64_);
	sec = btf__add_datasec(btf, ".bss", 8);
	btf__add_datasec_var_info(btf, var, 0, 8);
	btf__add_float(btf, "double", 8);
	btf__add_decl_tag(btf, "tag", func, 0);
	btf__add_type_tag(btf, "user", ptr);
	(void)sec;
	return btf;
}

static char log_text[65536];

static s64 load(bool linux_too, const void *data, u32 size)
{
	union bpf_attr attr = { .btf = (u64)data,
				.btf_size = size,
				.btf_log_level = 1,
				.btf_log_buf = (u64)log_text,
				.btf_log_size = sizeof(log_text) };
	s64 r;

	log_text[0] = 0;
	if (!linux_too) {
		r = harness_bpf(&h, BPF_BTF_LOAD, &attr, sizeof(attr));
	} else {
		r = syscall(SYS_bpf, BPF_BTF_LOAD, &attr, sizeof(attr));
		if (r < 0)
			r = -errno;
	}
	if (r >= 0)
		close((int)r);
	return r < 0 ? r : 0;
}

static const char *last_line(void)
{
	char *end = log_text + strlen(log_text);

	while (end > log_text && end[-1] == '\n')
		*--end = 0;
	while (end > log_text && end[-1] != '\n')
		end--;
	return end;
}

static bool can_compare(const void *data, u32 size)
{
	struct utsname name;
	int major, minor;

	return !uname(&name) && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	       major * 100 + minor >= 615 && !load(true, data, size);
}

static void damaged(void **unused)
{
	struct btf *btf = everything();
	const char *env = getenv("UB_BTF_ROUNDS");
	u32 rounds = env ? (u32)atoi(env) : 20000;
	u32 size, compared = 0, accepted = 0, stricter = 0;
	const u8 *good = btf__raw_data(btf, &size);
	bool compare = can_compare(good, size);
	u8 *bad = malloc(size + 64);

	assert_int_equal(load(false, good, size), 0);
	for (u32 i = 0; i < rounds; i++) {
		u32 length = size;
		s64 ours, theirs;

		memcpy(bad, good, size);
		memset(bad + size, 0, 64);
		for (u32 n = 1 + rnd() % 3; n; n--) {
			u32 at = rnd() % size & ~3u;

			switch (rnd() % 6) {
			case 0:
				bad[rnd() % size] = (u8)rnd();
				break;
			case 1:
				bad[rnd() % size] ^= 1 << rnd() % 8;
				break;
			case 2: /* another type id */
				bad[at] = (u8)(rnd() % 34);
				bad[at + 1] = bad[at + 2] = 0;
				break;
			case 3: /* another kind */
				bad[at + 3] = (u8)(rnd() % 20 | (rnd() % 4 ? 0 : 0x80));
				break;
			case 4:
				bad[at] += 1;
				break;
			default:
				if (!(rnd() % 8))
					length = rnd() % (size + 64);
			}
		}
		if (i % 64 == 0)
			harness_pump(&h); /* closed fds are noticed there */
		ours = load(false, bad, length);
		accepted += !ours;
		if (!compare || i % 4)
			continue;
		theirs = load(true, bad, length);
		compared++;
		if (!ours && theirs)
			fail_msg("round %u: accepted what Linux refuses with %lld: %s", i,
				 (long long)theirs, last_line());
		if (ours && !theirs && getenv("UB_BTF_STRICT")) {
			load(false, bad, length);
			fail_msg("round %u: refused with %lld what Linux accepts: %s", i,
				 (long long)ours, last_line());
		}
		stricter += ours && !theirs;
	}
	printf("%u rounds, %u accepted, %u compared with Linux, %u of them accepted there only\n",
	       rounds, accepted, compared, stricter);
	free(bad);
	btf__free(btf);
	assert_true(harness_wait_objects(&h, 0));
}

static void deep(void **unused)
{
	struct btf *btf = btf__new_empty();
	int id = btf__add_int(btf, "int", 4, 0);
	const void *data;
	u32 size;

	/* Chains and nests as deep as they go, and deeper. */
	for (u32 i = 0; i < 100000; i++)
		id = btf__add_const(btf, id);
	data = btf__raw_data(btf, &size);
	load(false, data, size);
	btf__free(btf);
	btf = btf__new_empty();
	for (u32 i = 0; i < 50000; i++)
		btf__add_ptr(btf, (int)i + 2); /* to the next, which is not there yet */
	data = btf__raw_data(btf, &size);
	assert_int_not_equal(load(false, data, size), 0);
	btf__free(btf);
	assert_true(harness_wait_objects(&h, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(damaged), cmocka_unit_test(deep) };
	int failed;

	harness_init(&h);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	harness_exit(&h);
	return failed;
}
