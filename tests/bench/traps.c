// SPDX-License-Identifier: MIT
/*
 * What a system call costs that a tool under `ubpf-run exec` makes: each kind of call in a tight
 * loop, then a thousand calls a second, whose price is all the CPU time that the tool and the
 * daemon use meanwhile. The real kernel's figures stand beside it where it may be asked (root).
 *
 *   bench_traps [CALLS]     $UBPF_BUILD/loader/ubpf-run is the program under test
 *   bench_traps --here CALLS NAME    the measuring itself, wherever it runs
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/perf_event.h>

#include <common/types.h>

#define ROUNDS	    5
#define PER_SECOND  1000
#define PACED_CALLS 2000

static u64 now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static long bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int create_map(u32 type)
{
	union bpf_attr attr = {
		.map_type = type, .key_size = 4, .value_size = 8, .max_entries = 16
	};

	return (int)bpf(BPF_MAP_CREATE, &attr);
}

static int map, hash, perf, epoll, ring;

/* --- the calls -----------------------------------------------------------------------------------
 */

static bool call_getppid(void)
{
	return syscall(SYS_getppid) >= 0;
}

/* Refused before anything but attr is looked at. */
static bool call_unknown(void)
{
	union bpf_attr attr = {};

	return bpf(0x7fff, &attr) == -1 && errno == EINVAL;
}

static bool call_lookup(void)
{
	u32 key = 3;
	u64 value;
	union bpf_attr attr = { .map_fd = (u32)map, .key = (u64)&key, .value = (u64)&value };

	return bpf(BPF_MAP_LOOKUP_ELEM, &attr) == 0;
}

static bool call_update(void)
{
	u32 key = 3;
	u64 value = 4;
	union bpf_attr attr = { .map_fd = (u32)hash, .key = (u64)&key, .value = (u64)&value };

	return bpf(BPF_MAP_UPDATE_ELEM, &attr) == 0;
}

static bool call_next_key(void)
{
	u32 key = 3, next;
	union bpf_attr attr = { .map_fd = (u32)map, .key = (u64)&key, .next_key = (u64)&next };

	return bpf(BPF_MAP_GET_NEXT_KEY, &attr) == 0;
}

static bool call_info(void)
{
	struct bpf_map_info info = {};
	union bpf_attr attr = {
		.info = { .bpf_fd = (u32)map, .info_len = sizeof(info), .info = (u64)&info }
	};

	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0;
}

static bool call_create(void)
{
	int fd = create_map(BPF_MAP_TYPE_ARRAY);

	return fd >= 0 && close(fd) == 0;
}

static bool call_epoll(void)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_MOD, ring, &event) == 0;
}

/* No file of ours: the daemon lets the real kernel have it. */
static bool call_epoll_other(void)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_MOD, 0, &event) == -1;
}

static bool call_ioctl(void)
{
	u64 id;

	return ioctl(perf, PERF_EVENT_IOC_ID, &id) == 0;
}

static const struct {
	const char *name;
	bool (*call)(void);
} calls[] = {
	{ "getppid (never trapped)", call_getppid },
	{ "bpf, refused", call_unknown },
	{ "array lookup", call_lookup },
	{ "hash update", call_update },
	{ "array next key", call_next_key },
	{ "map info", call_info },
	{ "map create and close", call_create },
	{ "epoll_ctl, ring buffer", call_epoll },
	{ "epoll_ctl, other file", call_epoll_other },
	{ "perf ioctl", call_ioctl },
};

/* --- measuring -----------------------------------------------------------------------------------
 */

static int prepare(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_SW_BPF_OUTPUT,
					.sample_type = PERF_SAMPLE_RAW };
	union bpf_attr ring_attr = { .map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = 4096 };
	struct epoll_event event = { .events = EPOLLIN };

	map = create_map(BPF_MAP_TYPE_ARRAY);
	hash = create_map(BPF_MAP_TYPE_HASH);
	ring = (int)bpf(BPF_MAP_CREATE, &ring_attr);
	perf = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (map < 0 || hash < 0 || ring < 0 || perf < 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, ring, &event))
		return -errno;
	return 0;
}

/* ns for each call, the best of some rounds: what else runs on the machine only adds. */
static double cost_of(bool (*call)(void), long nr)
{
	double best = 0;

	for (int round = 0; round < ROUNDS; round++) {
		u64 start = now_ns(CLOCK_MONOTONIC);
		double each;

		for (long i = 0; i < nr; i++) {
			if (!call())
				return -1;
		}
		each = (double)(now_ns(CLOCK_MONOTONIC) - start) / (double)nr;
		if (!round || each < best)
			best = each;
	}
	return best;
}

/* CPU time of a process so far, ns; of no process, none. */
static u64 cpu_time(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *file;

	if (!pid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	file = fopen(path, "re");
	if (file && fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	if (file)
		fclose(file);
	return ns;
}

/* The daemon of our run directory, 0: none. */
static pid_t find_daemon(void)
{
	const char *run_dir = getenv("UBPF_RUN_DIR");
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (proc && run_dir && !found && (entry = readdir(proc))) {
		char path[300], text[32768] = "";
		FILE *file;
		size_t size;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		size = fread(text, 1, sizeof(text), file);
		fclose(file);
		if (size < 11 || strncmp(text, "ubpf-daemon", 11) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/environ", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		size = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
		if (memmem(text, size, run_dir, strlen(run_dir)))
			found = (pid_t)atoi(entry->d_name);
	}
	if (proc)
		closedir(proc);
	return found;
}

/* Percent of a core that a thousand lookups a second take, of the tool and of the daemon. */
static double share_of_core(pid_t daemon)
{
	u64 start = now_ns(CLOCK_MONOTONIC), cpu = cpu_time(getpid()) + cpu_time(daemon);

	for (u64 i = 1; i <= PACED_CALLS; i++) {
		u64 due = start + i * 1000000000 / PER_SECOND;
		struct timespec ts = { (time_t)(due / 1000000000), (long)(due % 1000000000) };

		if (!call_lookup())
			return -1;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	}
	cpu = cpu_time(getpid()) + cpu_time(daemon) - cpu;
	return 100.0 * (double)cpu / (double)(now_ns(CLOCK_MONOTONIC) - start);
}

static int measure_here(long nr, const char *name)
{
	int err = prepare();

	if (err) {
		fprintf(stderr, "%s: %s\n", name, strerror(-err));
		return 1;
	}
	for (size_t i = 0; i < ub_array_size(calls); i++) {
		double ns = cost_of(calls[i].call, nr);

		if (ns < 0) {
			fprintf(stderr, "%s: %s: %s\n", name, calls[i].name, strerror(errno));
			return 1;
		}
		printf("%-12s %-26s %8.2f us\n", name, calls[i].name, ns / 1000);
	}
	printf("%-12s %-26s %8.2f %% of a core\n", name, "1000 lookups a second",
	       share_of_core(find_daemon()));
	return 0;
}

static int run(char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const char *build = getenv("UBPF_BUILD");
	char run_dir[] = "/tmp/ubpf-bench-XXXXXX", tool[4096];
	char *nr = argc > 1 ? argv[1] : "20000";
	char *here[] = { argv[0], "--here", nr, "kernel", NULL };
	char *under[] = { tool, "exec", "--", argv[0], "--here", nr, "userspace", NULL };
	int failed;

	if (argc == 4 && !strcmp(argv[1], "--here"))
		return measure_here(atol(argv[2]), argv[3]);
	if (!build) {
		printf("skip: UBPF_BUILD is not set\n");
		return 77;
	}
	snprintf(tool, sizeof(tool), "%s/loader/ubpf-run", build);
	if (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1))
		return 1;
	failed = run(under);
	if (!failed && geteuid() == 0)
		failed = run(here);
	if (failed)
		fprintf(stderr, "exit status %d\n", failed);
	snprintf(tool, sizeof(tool), "rm -rf %s", run_dir);
	return system(tool) || failed ? 1 : 0;
}
