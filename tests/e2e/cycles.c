// SPDX-License-Identifier: MIT
/*
 * cycles BACKEND [--cycles N] [--threads N] [--seconds N] [--pid PID] [--place FILE:FUNCTION]:
 * attach and detach N times on one process whose threads call malloc all the time and take signals.
 * Every attach must count, every detach must stop counting, and after every cycle the process must
 * be what it was before the first; neither side may grow. --pid: somebody else's process that is at
 * work; its memory, files and threads are its own affair. --place: what it calls instead of malloc.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/membarrier.h>

#include <common/cleanup.h>
#include <daemon/daemon.h>

#include "link_manager.h"
#include "map_dump.h"
#include "output.h"
#include "residue.h"

enum { PATIENCE_MS = 30000, FULL_EVERY = 100, MIN_CYCLES = 20 };

/* A sanitizer keeps freed memory for a while. */
#ifdef __SANITIZE_ADDRESS__
enum { MAX_GROWTH_KB = 400 << 10 };
#else
enum { MAX_GROWTH_KB = 4096 };
#endif

static const struct ub_backend *backend;
static struct ub_programs *programs;
static pid_t victim;
static bool others; /* not started here */
static char *place;

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

static u64 count(void)
{
	return ub_map_count_of(programs, place ? "calls" : "malloc_calls", victim);
}

static int start_victim(const char *threads)
{
	const char *build = getenv("UBPF_BUILD");
	char path[PATH_MAX], line[64] = "";
	struct pollfd pfd;
	int out[2];

	snprintf(path, sizeof(path), "%s/tests/lib/ubpf-victim", build ? build : "build/release");
	if (pipe2(out, O_CLOEXEC))
		return -errno;
	victim = fork();
	if (!victim) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		execl(path, "ubpf-victim", "-q", "-t", threads, "-d", "100", "-s", "2000", NULL);
		_exit(127);
	}
	close(out[1]);
	pfd = (struct pollfd) { .fd = out[0], .events = POLLIN };
	if (victim < 0 || poll(&pfd, 1, PATIENCE_MS) != 1 ||
	    read(out[0], line, sizeof(line) - 1) <= 0 || strncmp(line, "ready", 5) != 0)
		return -ECHILD;
	return 0;
}

/* Lines that the kernel's own uprobes leave behind: a private page of text that equals the file's.
 */
static bool is_kernels_own(const char *line)
{
	return backend == &ub_backend_kernel && !strncmp(line + 1, " text ", 6);
}

static int nr_differences(const struct ub_residue *before, unsigned int flags, FILE *to)
{
	_cleanup_fclose_ FILE *diff = tmpfile();
	struct ub_residue *now;
	char line[1024];
	int nr = 0;

	if (!diff || ub_residue_snapshot(victim, flags, &now))
		return -ESRCH;
	ub_residue_diff(before, now, diff);
	ub_residue_free(now);
	rewind(diff);
	while (fgets(line, sizeof(line), diff)) {
		if (is_kernels_own(line))
			continue;
		nr++;
		if (to)
			fputs(line, to);
	}
	return nr;
}

static unsigned int kept(unsigned int flags)
{
	return others ? flags | UB_RESIDUE_NO_TASKS | UB_RESIDUE_NO_ANON : flags;
}

static int check_residue(const struct ub_residue *before, unsigned int flags)
{
	flags = kept(flags);
	for (int ms = 0; ms < PATIENCE_MS; ms += 10) {
		int nr = nr_differences(before, flags, NULL);

		if (nr <= 0)
			return nr;
		usleep(10000);
	}
	return nr_differences(before, flags, stderr);
}

static int wait_for_more(u64 than)
{
	for (int ms = 0; ms < PATIENCE_MS; ms++) {
		if (count() > than)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

static long rss_kb(pid_t pid)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64];
	long size, resident;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
		return -1;
	return resident * 4;
}

static int nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

/* Attaches that had to be tried again, and detaches that ended later. */
static long nr_late;

static bool is_starved(const char *reason)
{
	return strstr(reason, "did not stop in time");
}

static int cycle(struct ub_link_manager *manager, const struct ub_residue *cheap,
		 const struct ub_residue *full, bool check_full, u64 *attach_ns, u64 *detach_ns)
{
	struct ub_detach_outcome outcome;
	struct ub_reason why = { 0 };
	u64 start = count(), begin, stopped;
	int err, tries = 0;

	do {
		begin = now_ns();
		err = ub_link_manager_attach(manager, victim, &why);
		*attach_ns = now_ns() - begin;
		nr_late += err && is_starved(why.text);
	} while (err && is_starved(why.text) && ++tries < 5);
	if (err) {
		fprintf(stderr, "attach: %s\n", why.text);
		return err;
	}
	if (wait_for_more(start)) {
		fprintf(stderr, "attached, and nothing counts\n");
		return -EIO;
	}
	begin = now_ns();
	ub_link_manager_detach(manager, victim, &outcome);
	*detach_ns = now_ns() - begin;
	/* A starved thread may not stop in time: then the rest is taken out later, but it is. */
	if (outcome.result == UB_DETACH_LEFT && is_starved(outcome.left.text)) {
		nr_late++;
	} else if (outcome.result != UB_DETACH_CLEAN) {
		fprintf(stderr, "detach: result %d: %s\n", outcome.result, outcome.left.text);
		return -EIO;
	}
	stopped = count();
	usleep(2000);
	if (count() != stopped) {
		fprintf(stderr, "detached, and it still counts\n");
		return -EIO;
	}
	if (kill(victim, 0) || check_residue(cheap, 0) ||
	    (check_full && check_residue(full, UB_RESIDUE_FULL))) {
		fprintf(stderr, "the process is not what it was\n");
		return -EIO;
	}
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int run(long nr_cycles, double seconds)
{
	const u64 deadline = now_ns() + (u64)(seconds * 1e9);
	struct ub_link_manager *manager = ub_link_manager_new(backend, programs);
	u64 *attach = calloc(nr_cycles, sizeof(u64)), *detach = calloc(nr_cycles, sizeof(u64));
	struct ub_residue *cheap = NULL, *full = NULL;
	long rss = 0, victim_rss = 0;
	int err = 0, fds = 0;

	if (!manager || !attach || !detach)
		return -ENOMEM;
	usleep(100000);
	err = ub_residue_snapshot(victim, kept(0), &cheap);
	if (!err)
		err = ub_residue_snapshot(victim, kept(UB_RESIDUE_FULL), &full);
	for (long i = 0; i < nr_cycles && !err; i++) {
		if (seconds > 0 && i >= MIN_CYCLES && now_ns() > deadline) {
			/* A busy machine: as many as there was time for. */
			nr_cycles = i;
			break;
		}
		err = cycle(manager, cheap, full,
			    i % FULL_EVERY == FULL_EVERY - 1 || i == nr_cycles - 1, &attach[i],
			    &detach[i]);
		if (err)
			fprintf(stderr, "cycle %ld failed\n", i);
		/* Linux 6.18 stumbles over many programs and probes freed at once: let it catch up.
		 */
		if (backend == &ub_backend_kernel && i % 16 == 15)
			syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
		if (i == (nr_cycles / 4 < MIN_CYCLES / 2 ? nr_cycles / 4 : MIN_CYCLES / 2)) {
			rss = rss_kb(getpid());
			victim_rss = rss_kb(victim);
			fds = nr_fds();
		}
	}
	if (!err && (rss_kb(getpid()) > rss + MAX_GROWTH_KB || nr_fds() > fds ||
		     (!others && rss_kb(victim) > victim_rss + MAX_GROWTH_KB))) {
		fprintf(stderr,
			"growth: rss %ld -> %ld kB, descriptors %d -> %d, target's rss %ld -> %ld kB\n",
			rss, rss_kb(getpid()), fds, nr_fds(), victim_rss, rss_kb(victim));
		err = -EIO;
	}
	if (!err) {
		qsort(attach, nr_cycles, sizeof(u64), compare_u64);
		qsort(detach, nr_cycles, sizeof(u64), compare_u64);
		printf("%ld cycles on the %s backend: attach %.2f ms, detach %.2f ms (medians), %lu counted, %ld starved\n",
		       nr_cycles, backend->name, attach[nr_cycles / 2] / 1e6,
		       detach[nr_cycles / 2] / 1e6, count(), nr_late);
	}
	ub_residue_free(cheap);
	ub_residue_free(full);
	free(attach);
	free(detach);
	ub_link_manager_free(manager);
	return err;
}

static int load(struct ub_reason *why)
{
	const char *build = getenv("UBPF_BUILD");
	char path[PATH_MAX];

	if (!place)
		return ub_programs_load("malloc", NULL, 0, &programs, why);
	snprintf(path, sizeof(path), "%s/tests/e2e/calls.bpf.o", build ? build : "build/release");
	return ub_programs_load(path, &place, 1, &programs, why);
}

int main(int argc, char **argv)
{
	const char *threads = "8";
	struct ub_reason why = { 0 };
	long nr_cycles = 100;
	double seconds = 0;
	int err;

	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		return ub_daemon_main((int)strtol(argv[2], NULL, 10));
	backend = argc > 1 ? ub_backend_find(argv[1]) : NULL;
	for (int i = 2; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--cycles"))
			nr_cycles = strtol(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--threads"))
			threads = argv[i + 1];
		else if (!strcmp(argv[i], "--seconds"))
			seconds = strtod(argv[i + 1], NULL);
		else if (!strcmp(argv[i], "--pid"))
			victim = (pid_t)strtol(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--place"))
			place = argv[i + 1];
		else
			backend = NULL;
	}
	if (!backend || nr_cycles < 1) {
		fprintf(stderr,
			"usage: cycles kernel|userspace [--cycles N] [--threads N] [--seconds N] [--pid PID] [--place FILE:FUNCTION]\n");
		return 2;
	}
	ub_libbpf_log(0);
	err = backend->enter(&why);
	if (err == -EPERM && backend == &ub_backend_kernel) {
		printf("skip: %s\n", why.text);
		return 77;
	}
	if (!err)
		err = load(&why);
	others = victim > 0;
	if (!err && !others)
		err = start_victim(threads);
	if (err) {
		fprintf(stderr, "%s\n", why.text[0] ? why.text : strerror(-err));
		return 1;
	}
	err = run(nr_cycles, seconds);
	if (!others) {
		kill(victim, SIGKILL);
		waitpid(victim, NULL, 0);
	}
	ub_programs_free(programs);
	return err ? 1 : 0;
}
