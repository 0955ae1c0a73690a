// SPDX-License-Identifier: MIT
/*
 * A hostile client under the real listener: random calls with random and half-right arguments, from
 * two threads, while a third rewrites what the arguments point to. It gets answers; the daemon,
 * which a second session keeps alive, goes on, holds (nearly) no more descriptors than before and
 * does not grow.
 *
 *   hostile [CALLS [SEED]]
 *   hostile --client CALLS SEED    the client
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/perf_event.h>

#include <common/cleanup.h>
#include <common/types.h>

#define CALLS	    "20000"
#define NR_FDS	    64
#define ARENA	    8192
#define DEADLINE_MS 100000
#define MAX_GROWTH  (16l << 10) /* KiB: a heap finds its size */

/* --- the client ----------------------------------------------------------------------------------
 */

static u8 *arena; /* what arguments point to; nothing behind it */
static int fds[NR_FDS];
static int epoll;
static volatile bool over;

struct hostile {
	u64 state;
	long calls;
	long answered;
};

static u64 rnd(struct hostile *h)
{
	h->state ^= h->state << 13;
	h->state ^= h->state >> 7;
	h->state ^= h->state << 17;
	return h->state;
}

static u32 below(struct hostile *h, u32 n)
{
	return (u32)(rnd(h) % n);
}

static int any_fd(struct hostile *h)
{
	return below(h, 12) ? fds[below(h, NR_FDS)] : (int)below(h, 300) - 2;
}

static u64 any_address(struct hostile *h)
{
	switch (below(h, 12)) {
	case 0:
		return 0;
	case 1:
		return rnd(h);
	case 2: /* over the edge */
		return (u64)arena + ARENA - below(h, 64);
	default:
		return (u64)arena + below(h, ARENA / 8) * 8;
	}
}

static void keep_fd(struct hostile *h, long fd)
{
	u32 at = below(h, NR_FDS);

	if (fd < 3)
		return;
	if (fds[at] > 2 && fds[at] != fd)
		close(fds[at]);
	fds[at] = (int)fd;
}

/* Right but for what chance makes wrong: a small map, a program, and so on. */
static void fill_attr(struct hostile *h, u32 cmd, union bpf_attr *attr)
{
	static const struct bpf_insn program[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0 },
		{ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
	};
	u32 *words = (u32 *)attr;

	for (u32 i = 0; i < sizeof(*attr) / sizeof(u32); i++)
		words[i] = below(h, 40) ? 0 : (u32)rnd(h);
	switch (cmd) {
	case BPF_MAP_CREATE:
		attr->map_type = below(h, 34);
		attr->key_size = below(h, 4) ? 4 : below(h, 600);
		attr->value_size = below(h, 4) ? 8 : below(h, 5000);
		attr->max_entries = below(h, 2) ? 4096 : below(h, 100);
		break;
	case BPF_PROG_LOAD:
		attr->prog_type = below(h, 3) ? BPF_PROG_TYPE_KPROBE : below(h, 35);
		attr->insns = below(h, 2) ? (u64)program : any_address(h);
		attr->insn_cnt = below(h, 2) ? 2 : below(h, 80);
		attr->license = below(h, 4) ? (u64) "GPL" : any_address(h);
		break;
	case BPF_OBJ_PIN:
	case BPF_OBJ_GET:
		attr->pathname = below(h, 2) ? (u64) "/sys/fs/bpf/hostile" : any_address(h);
		attr->bpf_fd = (u32)any_fd(h);
		break;
	case BPF_OBJ_GET_INFO_BY_FD:
		attr->info.bpf_fd = (u32)any_fd(h);
		attr->info.info_len = below(h, 300);
		attr->info.info = any_address(h);
		break;
	case BPF_LINK_CREATE:
		attr->link_create.prog_fd = (u32)any_fd(h);
		attr->link_create.target_fd = (u32)any_fd(h);
		attr->link_create.attach_type = below(h, 60);
		break;
	case BPF_PROG_GET_FD_BY_ID:
	case BPF_MAP_GET_FD_BY_ID:
	case BPF_BTF_GET_FD_BY_ID:
	case BPF_LINK_GET_FD_BY_ID:
		attr->start_id = below(h, 100);
		break;
	default: /* elements, batches, tests: an fd and addresses */
		attr->map_fd = (u32)any_fd(h);
		attr->key = any_address(h);
		attr->value = any_address(h);
		attr->flags = below(h, 4) ? 0 : below(h, 8);
	}
}

static long hostile_bpf(struct hostile *h)
{
	u32 cmd = below(h, 40), size = below(h, 8) ? sizeof(union bpf_attr) : below(h, 4200);
	union bpf_attr *attr = (union bpf_attr *)(arena + below(h, 8) * 64);
	long fd;

	fill_attr(h, cmd, attr);
	fd = syscall(SYS_bpf, cmd, below(h, 16) ? (u64)attr : any_address(h), size);
	if (cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD || cmd == BPF_BTF_LOAD ||
	    cmd == BPF_LINK_CREATE || cmd == BPF_OBJ_GET ||
	    (cmd >= BPF_PROG_GET_FD_BY_ID && cmd <= BPF_MAP_GET_FD_BY_ID) ||
	    cmd == BPF_BTF_GET_FD_BY_ID || cmd == BPF_LINK_GET_FD_BY_ID)
		keep_fd(h, fd);
	return fd;
}

static long hostile_perf(struct hostile *h)
{
	struct perf_event_attr *attr = (struct perf_event_attr *)(arena + below(h, 8) * 128);
	long fd;

	memset(attr, below(h, 30) ? 0 : (int)rnd(h), sizeof(*attr));
	attr->type = below(h, 12);
	attr->size = below(h, 8) ? sizeof(*attr) : below(h, 5000);
	attr->config = below(h, 3) ? PERF_COUNT_SW_BPF_OUTPUT : below(h, 20);
	attr->sample_type = PERF_SAMPLE_RAW;
	attr->sample_period = below(h, 2) ? 1 : rnd(h);
	attr->uprobe_path = any_address(h);
	fd = syscall(SYS_perf_event_open, below(h, 16) ? (u64)attr : any_address(h),
		     (int)below(h, 3) - 1, (int)below(h, 4) - 1, below(h, 8) ? -1 : any_fd(h),
		     below(h, 4) ? PERF_FLAG_FD_CLOEXEC : rnd(h));
	keep_fd(h, fd);
	return fd;
}

static long hostile_wait(struct hostile *h)
{
	struct timespec none = { 0, 0 };

	switch (below(h, 3)) {
	case 0:
		return syscall(SYS_poll, any_address(h), below(h, 40), 0);
	case 1:
		return syscall(SYS_ppoll, any_address(h), below(h, 40), &none, NULL, 8);
	default:
		return syscall(SYS_pselect6, below(h, 70), any_address(h), NULL, NULL, &none, NULL);
	}
}

static void hostile_mmap(struct hostile *h)
{
	size_t size = 4096 * (1 + below(h, 3));
	void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, any_fd(h), below(h, 2) * 4096);

	if (at != MAP_FAILED)
		munmap(at, size);
}

static void hostile_file(struct hostile *h)
{
	static const char *const paths[] = {
		"/sys/kernel/tracing/trace_pipe",
		"/sys/bus/event_source/devices/uprobe/type",
		"/proc/self/fdinfo/%d",
		"/sys/kernel/tracing/uprobe_events",
	};
	char *path = (char *)arena + below(h, 16) * 64;
	char link[64];

	snprintf(path, 64, paths[below(h, ub_array_size(paths))], any_fd(h));
	keep_fd(h, syscall(SYS_openat, AT_FDCWD, below(h, 8) ? (u64)path : any_address(h),
			   O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	snprintf(path, 64, "/proc/self/fd/%d", any_fd(h));
	syscall(SYS_readlink, path, below(h, 2) ? (u64)link : any_address(h), sizeof(link));
}

static void *be_hostile(void *opaque)
{
	struct hostile *h = opaque;

	for (long i = 0; i < h->calls; i++) {
		switch (below(h, 16)) {
		case 0:
			hostile_perf(h);
			break;
		case 1:
			ioctl(any_fd(h), _IOC(below(h, 4), '$', below(h, 16), below(h, 2) * 8),
			      below(h, 2) ? (u64)any_fd(h) : any_address(h));
			break;
		case 2:
			syscall(SYS_epoll_ctl, epoll, below(h, 5), any_fd(h), any_address(h));
			break;
		case 3:
			hostile_wait(h);
			break;
		case 4:
			hostile_mmap(h);
			break;
		case 5:
			hostile_file(h);
			break;
		default:
			hostile_bpf(h);
		}
	}
	return NULL;
}

static void *rewrite(void *opaque)
{
	struct hostile *h = opaque;

	while (!over) {
		u32 at = below(h, ARENA / 4);

		__atomic_store_n((u32 *)arena + at, below(h, 3) ? below(h, 100) : (u32)rnd(h),
				 __ATOMIC_RELAXED);
		if (!below(h, 64))
			sched_yield();
	}
	return NULL;
}

static int client(long calls, u64 seed)
{
	struct hostile callers[2], rewriter = { .state = seed * 31 + 7 };
	pthread_t threads[2], other;

	arena = mmap(NULL, ARENA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (arena == MAP_FAILED || mprotect(arena + ARENA, 4096, PROT_NONE))
		return 1;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	for (u32 i = 0; i < 2; i++) {
		callers[i] = (struct hostile) { .state = seed * 2654435761u + i + 1,
						.calls = calls / 2 };
		pthread_create(&threads[i], NULL, be_hostile, &callers[i]);
	}
	pthread_create(&other, NULL, rewrite, &rewriter);
	for (u32 i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	over = true;
	pthread_join(other, NULL);
	return 0;
}

/* --- the daemon ----------------------------------------------------------------------------------
 */

static char run_dir[] = "/tmp/ubpf-hostile-XXXXXX";

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

static size_t read_file(const char *path, char *text, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;

	text[n] = '\0';
	return n;
}

static pid_t find_daemon(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		char path[300], text[32768];
		size_t size;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		read_file(path, text, sizeof(text));
		if (strncmp(text, "ubpf-daemon", 11) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/environ", entry->d_name);
		size = read_file(path, text, sizeof(text));
		if (memmem(text, size, run_dir, strlen(run_dir)))
			found = (pid_t)atoi(entry->d_name);
	}
	if (proc)
		closedir(proc);
	return found;
}

static long resident_kib(pid_t pid)
{
	char path[64], text[4096];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	read_file(path, text, sizeof(text));
	at = strstr(text, "VmRSS:");
	return at ? atol(at + 6) : -1;
}

static int count_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

static pid_t start(char *const *argv)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool attack(char *ubpf_run, char *self, char *calls, char *seed)
{
	char *keeper_argv[] = { ubpf_run, "exec", "--", "/bin/sleep", "10000", NULL };
	char *argv[] = { ubpf_run, "exec", "--", self, "--client", calls, seed, NULL };
	u64 until = now_ms() + DEADLINE_MS;
	pid_t keeper = start(keeper_argv), daemon = 0;
	long before, after;
	int files, status;
	bool held;

	while (!(daemon = find_daemon()) && now_ms() < until)
		usleep(5000);
	/* The first round has the heap find its size. */
	status = finish(start(argv));
	before = resident_kib(daemon);
	files = count_fds(daemon);
	if (!status)
		status = finish(start(argv));
	until = now_ms() + DEADLINE_MS;
	while (count_fds(daemon) > files && now_ms() < until)
		usleep(5000);
	after = resident_kib(daemon);
	held = !status && find_daemon() == daemon && count_fds(daemon) <= files &&
	       after - before <= MAX_GROWTH;
	printf("client %d; daemon %d, then %d; files %d, then %d; %ld KiB, then %ld KiB\n", status,
	       daemon, find_daemon(), files, count_fds(daemon), before, after);
	kill(keeper, SIGKILL);
	finish(keeper);
	until = now_ms() + DEADLINE_MS;
	while (find_daemon() && now_ms() < until)
		usleep(5000);
	return held;
}

/* ASan keeps freed memory back, up to 256 MB of it, which is no growth. */
static void let_asan_free(void)
{
	const char *options = getenv("ASAN_OPTIONS");
	char all[512];

	snprintf(all, sizeof(all), "%s:quarantine_size_mb=1", options ? options : "");
	setenv("ASAN_OPTIONS", all, 1);
}

int main(int argc, char **argv)
{
	const char *build = getenv("UBPF_BUILD");
	char ubpf_run[4096], command[128], self[4096];
	bool held;

	if (argc == 4 && !strcmp(argv[1], "--client"))
		return client(atol(argv[2]), (u64)atol(argv[3]));
	if (!build) {
		printf("skip: UBPF_BUILD is not set\n");
		return 77;
	}
	snprintf(ubpf_run, sizeof(ubpf_run), "%s/loader/ubpf-run", build);
	snprintf(self, sizeof(self), "%s/tests/daemon/test_daemon_hostile", build);
	if (!mkdtemp(run_dir) || setenv("UBPF_RUN_DIR", run_dir, 1))
		return 1;
	let_asan_free();
	held = attack(ubpf_run, self, argc > 1 ? argv[1] : CALLS, argc > 2 ? argv[2] : "1");
	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	return system(command) || !held ? 1 : 0;
}
