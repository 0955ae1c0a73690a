// SPDX-License-Identifier: MIT
/*
 * ring [ROUNDS]: eight threads of a target write to one ring buffer as fast as they can, a thousand
 * records for each hit, and a tool reads it with libbpf, on both backends in turn. What the program
 * was told that the ring took must arrive: anything else is a failure.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <common/types.h>

#define THREADS	   8
#define RUN_MS	   300
#define MAX_QUIET  300 /* times 10 ms */
#define MAX_CPUS   1024
#define MAX_ROUNDS 21

enum phase { WAIT, HIT, REST };

struct rates {
	double received, refused; /* records a second */
};

__attribute__((noinline)) void bench_ring_hit(void);
void bench_ring_hit(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop");
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int on_record(void *opaque, void *data, size_t size)
{
	++*(u64 *)opaque;
	return 0;
}

static void *hit(void *opaque)
{
	const u32 *phase = opaque;
	struct timespec tick = { .tv_nsec = 1000000 };
	u32 seen;

	while ((seen = __atomic_load_n(phase, __ATOMIC_RELAXED)) != REST) {
		if (seen == HIT)
			bench_ring_hit();
		else
			nanosleep(&tick, NULL);
	}
	return NULL;
}

static pid_t start_target(u32 *phase)
{
	pthread_t threads[THREADS];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (u32 i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, hit, phase))
			_exit(1);
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (;;)
		pause();
}

static int sum_of(int fd, u32 index, u64 *sum)
{
	static u64 values[MAX_CPUS];
	int nr = libbpf_num_possible_cpus();

	if (nr <= 0 || nr > MAX_CPUS)
		return -E2BIG;
	if (bpf_map_lookup_elem(fd, &index, values))
		return -errno;
	*sum = 0;
	for (int i = 0; i < nr; i++)
		*sum += values[i];
	return 0;
}

/* The tool: on whichever kernel it finds. */
static int run_tool(void)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .func_name = "bench_ring_hit");
	const char *build = getenv("UBPF_BUILD");
	u32 *phase = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u64 received = 0, at_end, taken = 0, refused = 0;
	struct bpf_link *link = NULL;
	struct bpf_program *program;
	struct bpf_object *object;
	struct ring_buffer *ring;
	double start, elapsed;
	char path[PATH_MAX];
	pid_t target;
	int counts;

	if (phase == MAP_FAILED)
		return 1;
	target = start_target(phase);
	snprintf(path, sizeof(path), "%s/tests/bench/ring.bpf.o", build ? build : "build/release");
	object = bpf_object__open(path);
	if (!object || bpf_object__load(object))
		return 1;
	counts = bpf_object__find_map_fd_by_name(object, "counts");
	program = bpf_object__find_program_by_name(object, "burst");
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(object, "records"), on_record,
				&received, NULL);
	if (program)
		link = bpf_program__attach_uprobe_opts(program, target, "/proc/self/exe", 0,
						       &options);
	if (!ring || !link) {
		fprintf(stderr, "cannot attach: %s\n", strerror(errno));
		return 1;
	}
	start = now();
	__atomic_store_n(phase, HIT, __ATOMIC_RELEASE);
	while (elapsed = now() - start, elapsed < RUN_MS / 1e3)
		if (ring_buffer__poll(ring, 10) < 0 && errno != EINTR)
			return 1;
	at_end = received;
	__atomic_store_n(phase, REST, __ATOMIC_RELEASE);
	/* What is on its way is waited for, as long as anything comes. */
	for (u32 quiet = 0; quiet < MAX_QUIET; quiet++) {
		u64 before = taken + received;

		ring_buffer__poll(ring, 10);
		if (sum_of(counts, 0, &taken) || sum_of(counts, 1, &refused))
			return 1;
		if (taken + received != before)
			quiet = 0;
		else if (taken == received && quiet > 5)
			break;
	}
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
	bpf_link__destroy(link);
	ring_buffer__free(ring);
	bpf_object__close(object);
	printf("%f %f %lld\n", (double)at_end / elapsed, (double)refused / elapsed,
	       (long long)(taken - received));
	return 0;
}

static int run_on(char **argv, struct rates *rates)
{
	long long missing = 0;
	char command[2 * PATH_MAX] = "";
	FILE *from;
	int n;

	for (u32 i = 0; argv[i]; i++)
		snprintf(command + strlen(command), sizeof(command) - strlen(command), "'%s' ",
			 argv[i]);
	from = popen(command, "re");
	if (!from)
		return 1;
	n = fscanf(from, "%lf %lf %lld", &rates->received, &rates->refused, &missing);
	if (pclose(from) || n != 3)
		return 1;
	if (missing)
		fprintf(stderr, "%lld records were taken and did not arrive\n", missing);
	return missing != 0;
}

static int by_received(const void *a, const void *b)
{
	double x = ((const struct rates *)a)->received, y = ((const struct rates *)b)->received;

	return x < y ? -1 : x > y;
}

static void show(const char *name, const struct rates *rates)
{
	printf("%-11s%8.2f M %8.0f %%\n", name, rates->received / 1e6,
	       100 * rates->refused / (rates->refused + rates->received + 1));
}

int main(int argc, char **argv)
{
	struct rates kernels[MAX_ROUNDS], ours[MAX_ROUNDS];
	const char *build = getenv("UBPF_BUILD");
	u32 rounds = argc > 1 ? (u32)strtoul(argv[1], NULL, 0) : 5;
	char self[PATH_MAX], runner[PATH_MAX];
	char *kernel[] = { self, "tool", NULL };
	char *userspace[] = { runner, "--userspace", "exec", "--", self, "tool", NULL };
	char run_dir[] = "/tmp/ubpf-bench-XXXXXX";
	bool privileged = geteuid() == 0;
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int failed = 0;

	if (argc == 2 && !strcmp(argv[1], "tool"))
		return run_tool();
	if (size <= 0 || !rounds || rounds > MAX_ROUNDS)
		return 2;
	self[size] = 0;
	/* A daemon of its own, if nobody has named one. */
	if (!getenv("UBPF_RUN_DIR") && (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1)))
		return 1;
	snprintf(runner, sizeof(runner), "%s/loader/ubpf-run", build ? build : "build/release");
	for (u32 i = 0; i < rounds; i++) {
		if (privileged && run_on(kernel, &kernels[i]))
			privileged = false;
		failed |= run_on(userspace, &ours[i]);
	}
	qsort(kernels, rounds, sizeof(*kernels), by_received);
	qsort(ours, rounds, sizeof(*ours), by_received);
	printf("%-11s%10s %10s\n", "records/s", "received", "refused");
	if (privileged)
		show("kernel", &kernels[rounds / 2]);
	else
		printf("%-11snot to be had\n", "kernel");
	show("userspace", &ours[rounds / 2]);
	if (privileged)
		printf("%.1fx the kernel's\n",
		       ours[rounds / 2].received / kernels[rounds / 2].received);
	snprintf(runner, sizeof(runner), "rm -rf %s", run_dir);
	return system(runner) || failed;
}
