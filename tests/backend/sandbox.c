// SPDX-License-Identifier: MIT
/*
 * Processes that a seccomp filter kills for every system call but read and write: what programs
 * there count, read and say is right, or the error that is documented; and the process lives, is
 * detached and clean. Under filters that let pass what programs need all of it is right.
 *
 *   sandbox BACKEND	the kernel's programs make no system calls: what they say is what is expected
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <common/cleanup.h>

#include "backend.h"
#include "enter.h"
#include "residue.h"
#include "sandbox.h"
#include "symbol.h"
#include "victim.h"

enum { NR_THREADS = 4, NR_CALLS = 1000, PATIENCE_MS = 30000 };

static const struct ub_backend *backend;

struct fixture {
	struct bpf_object *object;
	struct bpf_link *link;
	struct ring_buffer *ring;
	struct perf_buffer *perf;
	pid_t pid;
	u64 from_ring, from_perf, wrong;
};

static void start(struct victim *victim)
{
	const char *build = getenv("UBPF_BUILD");
	char *const argv[] = { "ubpf-odd-victim", "strict", NULL };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/tests/lib/ubpf-odd-victim",
		 build ? build : "build/release");
	start_program(victim, path, argv);
}

static void check_record(struct fixture *f, const void *data, size_t size)
{
	struct record record = { 0 };

	/* A perf buffer's lie at any address. */
	memcpy(&record, data, size < sizeof(record) ? size : sizeof(record));
	f->wrong += size < sizeof(record) || record.id >> 32 != (u64)f->pid || !record.ns;
}

static int on_ring(void *opaque, void *data, size_t size)
{
	struct fixture *f = opaque;

	f->from_ring++;
	check_record(f, data, size);
	return 0;
}

static void on_perf(void *opaque, int cpu, void *data, u32 size)
{
	struct fixture *f = opaque;

	f->from_perf++;
	check_record(f, data, size);
}

static struct bpf_map *map_of(const struct fixture *f, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(f->object, name);

	assert_non_null(map);
	return map;
}

static void attach(struct fixture *f, pid_t pid)
{
	const char *build = getenv("UBPF_BUILD");
	char path[PATH_MAX], exe[64];
	struct ub_reason why = { 0 };
	u64 offset = 0;

	*f = (struct fixture) { .pid = pid };
	snprintf(path, sizeof(path), "%s/tests/backend/sandbox.bpf.o",
		 build ? build : "build/release");
	f->object = bpf_object__open_file(path, NULL);
	assert_non_null(f->object);
	assert_int_equal(bpf_object__load(f->object), 0);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
	assert_true(readlink(exe, path, sizeof(path)) > 0);
	path[readlink(exe, path, sizeof(path) - 1)] = '\0';
	if (ub_symbol_offset(path, "ubpf_odd_function", &offset, &why))
		fail_msg("%s", why.text);
	f->ring = ring_buffer__new(bpf_map__fd(map_of(f, "ring")), on_ring, f, NULL);
	f->perf = perf_buffer__new(bpf_map__fd(map_of(f, "perf")), 64, on_perf, NULL, f, NULL);
	assert_non_null(f->ring);
	assert_non_null(f->perf);
	f->link = bpf_program__attach_uprobe(bpf_object__find_program_by_name(f->object, "probe"),
					     false, pid, path, offset);
	if (!f->link)
		fail_msg("attach: %s", strerror(errno));
}

static void detach(struct fixture *f)
{
	bpf_link__destroy(f->link);
	ring_buffer__free(f->ring);
	perf_buffer__free(f->perf);
	bpf_object__close(f->object);
}

static u64 count_of(const struct fixture *f, u32 what)
{
	u64 value = 0;

	assert_int_equal(bpf_map__lookup_elem(map_of(f, "counts"), &what, sizeof(what), &value,
					      sizeof(value), 0),
			 0);
	return value;
}

/* All that @nr hits on each thread must have done. @allowed: system calls are. */
static void check_all(struct fixture *f, u64 nr, bool allowed)
{
	const u64 all = NR_THREADS * nr;
	u64 id = 0, next, nr_ids = 0;

	for (int ms = 0; ms < PATIENCE_MS && (f->from_ring < all || f->from_perf < all); ms += 20) {
		ring_buffer__poll(f->ring, 10);
		perf_buffer__poll(f->perf, 10);
	}
	assert_int_equal(count_of(f, HITS), all);
	assert_int_equal(count_of(f, STACK_READ), all);
	assert_int_equal(count_of(f, HEAP_READ) + count_of(f, HEAP_REFUSED), all);
	if (allowed) {
		assert_int_equal(count_of(f, HEAP_READ), all);
		assert_int_equal(count_of(f, NAMED), all);
	}
	assert_int_equal(count_of(f, TIMED), all);
	assert_int_equal(count_of(f, TO_RING), all);
	assert_int_equal(count_of(f, TO_PERF), all);
	assert_int_equal(f->from_ring, all);
	assert_int_equal(f->from_perf, all);
	assert_int_equal(f->wrong, 0);
	/* One entry for each thread, under its own number. */
	for (bool first = true; !bpf_map__get_next_key(map_of(f, "by_thread"), first ? NULL : &id,
						       &next, sizeof(next));
	     first = false) {
		u64 hits = 0;

		id = next;
		assert_int_equal(id >> 32, f->pid);
		assert_int_equal(bpf_map__lookup_elem(map_of(f, "by_thread"), &id, sizeof(id),
						      &hits, sizeof(hits), 0),
				 0);
		assert_int_equal(hits, nr);
		nr_ids++;
	}
	assert_int_equal(nr_ids, NR_THREADS);
}

static void call(struct victim *victim)
{
	char command[16];

	snprintf(command, sizeof(command), "%d", NR_CALLS);
	ask_victim(victim, command);
}

static void must_live(const struct victim *victim)
{
	siginfo_t info = { 0 };

	assert_int_equal(waitid(P_PID, (id_t)victim->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	if (info.si_pid)
		fail_msg("the victim died of %d", info.si_status);
}

static void filter_first(void **state)
{
	struct ub_residue *before;
	struct victim victim;
	struct fixture f;

	if (geteuid())
		skip();
	start(&victim);
	ask_victim(&victim, "sandbox");
	assert_int_equal(ub_residue_snapshot(victim.pid, UB_RESIDUE_FULL, &before), 0);
	attach(&f, victim.pid);
	call(&victim);
	must_live(&victim);
	check_all(&f, NR_CALLS, backend == &ub_backend_kernel);
	detach(&f);
	if (backend != &ub_backend_kernel)
		assert_int_equal(
			ub_residue_check(victim.pid, before, UB_RESIDUE_FULL, PATIENCE_MS, stderr),
			0);
	ub_residue_free(before);
	call(&victim);
	must_live(&victim);
	end_victim(&victim);
}

static void filters_let_pass(void **state)
{
	struct victim victim;
	struct fixture f;

	if (geteuid())
		skip();
	start(&victim);
	ask_victim(&victim, "lenient");
	ask_victim(&victim, "lenient");
	attach(&f, victim.pid);
	call(&victim);
	/* The daemon looks at filters ten times a second. */
	usleep(500000);
	call(&victim);
	must_live(&victim);
	check_all(&f, 2 * NR_CALLS, true);
	detach(&f);
	end_victim(&victim);
}

/* What the daemon has noticed by now. */
static bool has_noticed(pid_t pid)
{
	_cleanup_fclose_ FILE *log = fopen(getenv("UBPF_DAEMON_LOG"), "re");
	char line[512], expected[64];

	snprintf(expected, sizeof(expected), "pid %d: under a seccomp filter", pid);
	while (log && fgets(line, sizeof(line), log)) {
		if (strstr(line, expected))
			return true;
	}
	return false;
}

static void filter_later(void **state)
{
	struct ub_residue *before;
	struct victim victim;
	struct fixture f;

	start(&victim);
	assert_int_equal(ub_residue_snapshot(victim.pid, 0, &before), 0);
	attach(&f, victim.pid);
	call(&victim);
	check_all(&f, NR_CALLS, true);
	ask_victim(&victim, "sandbox");
	for (int ms = 0; backend != &ub_backend_kernel && !has_noticed(victim.pid); ms += 10) {
		assert_true(ms < PATIENCE_MS);
		usleep(10000);
	}
	call(&victim);
	must_live(&victim);
	check_all(&f, 2 * NR_CALLS, backend == &ub_backend_kernel);
	detach(&f);
	/* Without privileges the filter can't be suspended, and the mapping stays. */
	if (!geteuid() && backend != &ub_backend_kernel)
		assert_int_equal(ub_residue_check(victim.pid, before, 0, PATIENCE_MS, stderr), 0);
	ub_residue_free(before);
	call(&victim);
	must_live(&victim);
	end_victim(&victim);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(filter_first),
		cmocka_unit_test(filters_let_pass),
		cmocka_unit_test(filter_later),
	};
	int err = enter_backend(argc, argv, &backend);

	return err >= 0 ? err : cmocka_run_group_tests(tests, NULL, NULL);
}
