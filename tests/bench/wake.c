// SPDX-License-Identifier: MIT
/*
 * wake [RECORDS]: how long after a target wrote a record a reader that sleeps in epoll_wait(2) has
 * it, on both backends; one record each 20 ms, so that everybody sleeps before each. Microseconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include <common/types.h>

#define MAX_RECORDS 10000u
#define PERIOD_NS   20000000

struct reader {
	u32 nr;
	double us[MAX_RECORDS];
};

__attribute__((noinline)) void bench_wake_tick(void);
void bench_wake_tick(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop");
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static int on_record(void *opaque, void *data, size_t size)
{
	struct reader *reader = opaque;
	u64 then;

	memcpy(&then, data, sizeof(then));
	if (reader->nr < MAX_RECORDS)
		reader->us[reader->nr++] = (double)(now_ns() - then) / 1e3;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static pid_t start_target(void)
{
	struct timespec period = { .tv_nsec = PERIOD_NS };
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		nanosleep(&period, NULL);
		bench_wake_tick();
	}
}

/* The tool: on whichever kernel it finds. */
static int run_tool(u32 records)
{
	static struct reader reader;
	LIBBPF_OPTS(bpf_uprobe_opts, options, .func_name = "bench_wake_tick");
	const char *build = getenv("UBPF_BUILD");
	struct bpf_program *program;
	struct bpf_link *link = NULL;
	struct ring_buffer *ring;
	struct bpf_object *object;
	char path[PATH_MAX];
	pid_t target = start_target();

	snprintf(path, sizeof(path), "%s/tests/bench/wake.bpf.o", build ? build : "build/release");
	object = bpf_object__open(path);
	if (!object || bpf_object__load(object))
		return 1;
	program = bpf_object__find_program_by_name(object, "note");
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(object, "records"), on_record,
				&reader, NULL);
	if (program)
		link = bpf_program__attach_uprobe_opts(program, target, "/proc/self/exe", 0,
						       &options);
	if (!ring || !link) {
		fprintf(stderr, "cannot attach: %s\n", strerror(errno));
		return 1;
	}
	for (u32 i = 0; reader.nr < records && i < records * 50; i++) {
		int err = ring_buffer__poll(ring, 1000);

		if (err < 0 && err != -EINTR)
			return 1;
	}
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
	bpf_link__destroy(link);
	ring_buffer__free(ring);
	bpf_object__close(object);
	if (reader.nr < records)
		return 1;
	qsort(reader.us, reader.nr, sizeof(*reader.us), by_value);
	printf("%8.0f %8.0f %8.0f\n", reader.us[reader.nr / 2], reader.us[reader.nr * 99 / 100],
	       reader.us[reader.nr - 1]);
	return 0;
}

static int run_on(const char *backend, char **argv)
{
	pid_t pid;
	int status;

	printf("%-11s", backend);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execv(argv[0], argv);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

int main(int argc, char **argv)
{
	bool tool = argc == 3 && !strcmp(argv[1], "tool");
	const char *count = tool ? argv[2] : argc > 1 ? argv[1] : "300";
	const char *build = getenv("UBPF_BUILD");
	u32 records = (u32)strtoul(count, NULL, 0);
	char self[PATH_MAX], runner[PATH_MAX];
	char *kernel[] = { self, "tool", (char *)count, NULL };
	char *ours[] = { runner, "--userspace", "exec", "--", self, "tool", (char *)count, NULL };
	char run_dir[] = "/tmp/ubpf-bench-XXXXXX";
	int failed;
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (size <= 0 || !records || records > MAX_RECORDS)
		return 2;
	self[size] = 0;
	if (tool)
		return run_tool(records);
	/* A daemon of its own, if nobody has named one. */
	if (!getenv("UBPF_RUN_DIR") && (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1)))
		return 1;
	snprintf(runner, sizeof(runner), "%s/loader/ubpf-run", build ? build : "build/release");
	printf("%-11s%8s %8s %8s\n", "us", "median", "p99", "max");
	if (geteuid() == 0 && run_on("kernel", kernel))
		printf("not to be had\n");
	failed = run_on("userspace", ours);
	snprintf(runner, sizeof(runner), "rm -rf %s", run_dir);
	return system(runner) || failed;
}
