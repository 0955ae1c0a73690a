// SPDX-License-Identifier: MIT
/*
 * One link for several places, each with a cookie (uprobe_multi), entries and returns: the same
 * exact numbers on every backend. multi BACKEND. libbpf 1.1 knows no such links, so bpf(2) is
 * called as a newer one would.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>

#include "backend.h"
#include "enter.h"
#include "symbol.h"
#include "victim.h"

enum {
	TRACE_UPROBE_MULTI = 48, /* enum bpf_attach_type since Linux 6.6 */
	MULTI_RETURN = 1,	 /* BPF_F_UPROBE_MULTI_RETURN */
	NR_THREADS = 4,
	NR_CALLS = 200,
	PATIENCE_MS = 30000,
};

/* What BPF_LINK_CREATE takes for such a link. */
struct multi_attr {
	u32 prog_fd, target_fd, attach_type, flags;
	u64 path, offsets, ref_ctr_offsets, cookies;
	u32 cnt, multi_flags, pid, unused;
};

struct sum {
	u64 hits, values;
};

static const struct ub_backend *backend;
static struct bpf_object *object;

static int create_link(const char *program, const char *path, const u64 *offsets,
		       const u64 *cookies, u32 nr, u32 flags, pid_t pid)
{
	struct bpf_program *prog = bpf_object__find_program_by_name(object, program);
	struct multi_attr attr = {
		.prog_fd = (u32)bpf_program__fd(prog),
		.attach_type = TRACE_UPROBE_MULTI,
		.path = (u64)path,
		.offsets = (u64)offsets,
		.cookies = (u64)cookies,
		.cnt = nr,
		.multi_flags = flags,
		.pid = (u32)pid,
	};

	return (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
}

static struct sum read_sum(u32 cookie)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, "sums");
	struct sum sum;

	assert_int_equal(bpf_map__lookup_elem(map, &cookie, sizeof(cookie), &sum, sizeof(sum), 0),
			 0);
	return sum;
}

static u64 offset_of(const struct ub_tracee_file *file, const char *function)
{
	struct ub_reason why = { 0 };
	u64 offset = 0;

	if (ub_symbol_offset(file->path, function, &offset, &why))
		fail_msg("%s", why.text);
	return offset;
}

/* The last close of a link is only the beginning of its end. */
static void wait_for_silence(struct victim *victim, u32 cookie)
{
	for (int ms = 0; ms < PATIENCE_MS; ms += 20) {
		u64 before = read_sum(cookie).hits;

		ask_victim(victim, "calls 1");
		if (read_sum(cookie).hits == before)
			return;
		usleep(20000);
	}
	fail_msg("a link that was closed goes on counting");
}

static void counts_each_place_with_its_cookie(void **state)
{
	enum { MALLOC = 1, FREE = 5, RETURN = 7 };
	const u64 cookies[] = { MALLOC, FREE }, return_cookie = RETURN;
	_cleanup_close_ int entries = -1;
	_cleanup_close_ int returns = -1;
	struct ub_tracee_file libc, exe;
	u64 offsets[2], return_offset, sizes = 0, results = 0, malloc_hits, return_hits;
	struct ub_tracee target;
	struct victim victim;
	char command[32];

	start_victim(&victim, "4");
	assert_int_equal(ub_tracee_open(victim.pid, &target, NULL), 0);
	assert_int_equal(ub_tracee_find_file(&target, "libc", NULL, &libc, NULL), 0);
	assert_int_equal(ub_tracee_find_file(&target, "", NULL, &exe, NULL), 0);
	offsets[0] = offset_of(&libc, "malloc");
	offsets[1] = offset_of(&libc, "free");
	return_offset = offset_of(&exe, "ubpf_victim_function");
	entries = create_link("enter", libc.path, offsets, cookies, 2, 0, victim.pid);
	returns = create_link("leave", exe.path, &return_offset, &return_cookie, 1, MULTI_RETURN,
			      victim.pid);
	if (entries < 0 || returns < 0)
		fail_msg("link: %s", strerror(errno));
	snprintf(command, sizeof(command), "calls %d", NR_CALLS);
	ask_victim(&victim, command);
	for (u64 i = 0; i < NR_CALLS; i++) {
		sizes += 16 + (i & 63);
		results += i + 1;
	}
	assert_int_equal(read_sum(MALLOC).hits, NR_THREADS * NR_CALLS);
	assert_int_equal(read_sum(MALLOC).values, NR_THREADS * sizes);
	assert_int_equal(read_sum(FREE).hits, NR_THREADS * NR_CALLS);
	assert_int_equal(read_sum(RETURN).hits, NR_THREADS * NR_CALLS);
	assert_int_equal(read_sum(RETURN).values, NR_THREADS * results);
	assert_int_equal(read_sum(0).hits, 0);

	/* One goes, the other stays; in the end none counts. */
	close(TAKE_FD(entries));
	wait_for_silence(&victim, MALLOC);
	malloc_hits = read_sum(MALLOC).hits;
	return_hits = read_sum(RETURN).hits;
	ask_victim(&victim, command);
	assert_int_equal(read_sum(MALLOC).hits, malloc_hits);
	assert_int_equal(read_sum(RETURN).hits, return_hits + NR_THREADS * NR_CALLS);
	close(TAKE_FD(returns));
	wait_for_silence(&victim, RETURN);
	ub_tracee_close(&target);
	end_victim(&victim);
}

static u64 hits_of(u32 cookie)
{
	return read_sum(cookie).hits;
}

/* A link that was there when a function was called counts its return, whatever came and went in
 * between; so does one that came after the call. */
static void counts_returns_in_flight(void **state)
{
	enum { JUMPS = 2, PASSES = 3, LATE_JUMPS = 4, LATE_PASSES = 6 };
	const u64 cookies[] = { JUMPS, PASSES }, late_cookies[] = { LATE_JUMPS, LATE_PASSES };
	_cleanup_close_ int early = -1;
	struct ub_tracee_file exe;
	struct ub_tracee target;
	struct victim victim;
	u64 offsets[2];

	start_victim(&victim, "1");
	assert_int_equal(ub_tracee_open(victim.pid, &target, NULL), 0);
	assert_int_equal(ub_tracee_find_file(&target, "", NULL, &exe, NULL), 0);
	offsets[0] = offset_of(&exe, "ubpf_victim_jumps");
	offsets[1] = offset_of(&exe, "ubpf_victim_passes");
	early = create_link("leave", exe.path, offsets, cookies, 2, MULTI_RETURN, victim.pid);
	if (early < 0)
		fail_msg("link: %s", strerror(errno));
	for (u64 round = 1; round <= 3; round++) {
		_cleanup_close_ int late = -1;

		ask_victim(&victim, "wait");
		late = create_link("leave", exe.path, offsets, late_cookies, 2, MULTI_RETURN,
				   victim.pid);
		if (late < 0)
			fail_msg("link: %s", strerror(errno));
		/* Once more everything is replaced. */
		if (round == 2)
			close(create_link("leave", exe.path, offsets, late_cookies, 1, MULTI_RETURN,
					  victim.pid));
		ask_victim(&victim, "go on");
		assert_int_equal(hits_of(JUMPS), round);
		assert_int_equal(hits_of(PASSES), round);
		assert_int_equal(read_sum(JUMPS).values, 6 * round);
		assert_int_equal(read_sum(PASSES).values, 5 * round);
		/* Those of the rounds before may not be gone yet. */
		assert_in_range(hits_of(LATE_JUMPS), round, round == 1 ? 1 : 3 * round);
		assert_in_range(hits_of(LATE_PASSES), round, round == 1 ? 1 : 3 * round);
	}
	/* Nobody is there any more when it returns. */
	ask_victim(&victim, "wait");
	close(TAKE_FD(early));
	ask_victim(&victim, "go on");
	ub_tracee_close(&target);
	end_victim(&victim);
}

static int load(void)
{
	const char *build = getenv("UBPF_BUILD");
	struct bpf_program *program;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/tests/backend/multi.bpf.o",
		 build ? build : "build/release");
	object = bpf_object__open_file(path, NULL);
	if (!object)
		return -errno;
	bpf_object__for_each_program(program, object) bpf_program__set_expected_attach_type(
		program, (enum bpf_attach_type)TRACE_UPROBE_MULTI);
	return bpf_object__load(object);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_each_place_with_its_cookie),
		cmocka_unit_test(counts_returns_in_flight),
	};
	int err, failed;

	err = enter_backend(argc, argv, &backend);
	if (err >= 0)
		return err;
	err = load();
	if (err == -EINVAL && backend == &ub_backend_kernel) {
		printf("skip: this kernel has no uprobe_multi links (Linux 6.6 has)\n");
		return 77;
	}
	if (err) {
		fprintf(stderr, "cannot load: %s\n", strerror(-err));
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	bpf_object__close(object);
	return failed;
}
