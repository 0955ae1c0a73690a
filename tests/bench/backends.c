// SPDX-License-Identifier: MIT
/*
 * Each case in interleaved rounds on both backends. Where a program stands on a function, its hits
 * cost what calls of that function cost more than without.
 */
#include "backends.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <client/client.h>
#include <daemon/daemon.h>
#include <json-c/json.h>

#include "link_manager.h"
#include "output.h"

enum { MAX_ROUNDS = 101, CALLS = 2000000, KERNEL_CALLS = 20000, REPEAT = 3, MAX_PROCESSES = 2 };

struct sample {
	double hit_ns[UB_BENCH_CASES];
	double attach_ms, pause_us, detach_ms;
};

static const struct ub_bench_case *cases;
static u32 nr_cases;

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static const char *built(char path[PATH_MAX], const char *name)
{
	const char *build = getenv("UBPF_BUILD");

	snprintf(path, PATH_MAX, "%s/tests/bench/%s", build ? build : "build/release", name);
	return path;
}

/* A target on pipes, and what runs in it. */
struct victim {
	pid_t pid;
	FILE *to, *from;
	struct ub_link_manager *manager;
	struct ub_programs *programs;
};

static int nr_processes(const struct ub_bench_case *c)
{
	return c->processes ? c->processes : 1;
}

static void pin(pid_t pid, int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(number % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	(void)sched_setaffinity(pid, sizeof(set), &set);
}

static pid_t start_target(FILE **to, FILE **from)
{
	char path[PATH_MAX], line[128];
	int in[2], out[2];
	pid_t pid;

	built(path, "bench_entries");
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		exit(1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(path, "bench_entries", NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	*to = fdopen(in[1], "w");
	*from = fdopen(out[0], "r");
	if (pid < 0 || !fgets(line, sizeof(line), *from))
		exit(1);
	return pid;
}

/* ns for each of @calls, the best of a few: what disturbs only ever adds. Of several processes the
 * slower one's. */
static double time_calls(const struct victim *victims, const struct ub_bench_case *c, long calls)
{
	double best = 0;
	char line[128];

	for (int i = 0; i < REPEAT; i++) {
		double ns = 0;

		for (int k = 0; k < nr_processes(c); k++) {
			fprintf(victims[k].to, "%s %ld %d %s\n", c->entry, calls,
				c->threads ? c->threads : 1, c->data ? c->data : "stack");
			fflush(victims[k].to);
		}
		for (int k = 0; k < nr_processes(c); k++) {
			if (!fgets(line, sizeof(line), victims[k].from))
				exit(1);
			ns = strtod(line, NULL) > ns ? strtod(line, NULL) : ns;
		}
		best = i && best < ns ? best : ns;
	}
	return best;
}

/* The last pause of @pid in microseconds, as the daemon measured it, or 0. */
static double last_pause_us(pid_t pid)
{
	struct json_object *answer, *processes, *value;
	char *text = NULL;
	double us = 0;

	if (ub_client_ask("{\"cmd\":\"attached\"}", &text, NULL))
		return 0;
	answer = json_tokener_parse(text);
	if (json_object_object_get_ex(answer, "processes", &processes)) {
		for (size_t i = 0; i < json_object_array_length(processes); i++) {
			struct json_object *process = json_object_array_get_idx(processes, i);

			if (json_object_object_get_ex(process, "pid", &value) &&
			    json_object_get_int(value) == pid &&
			    json_object_object_get_ex(process, "pause_ns", &value))
				us = (double)json_object_get_int64(value) / 1000;
		}
	}
	json_object_put(answer);
	free(text);
	return us;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare_double);
	return values[nr / 2];
}

static int load(const struct ub_backend *backend, const struct ub_bench_case *c,
		struct victim *victim, struct ub_reason *why)
{
	char object[PATH_MAX], name[64], place[64], *args[] = { place };
	int err;

	snprintf(name, sizeof(name), "%s.bpf.o", c->program);
	snprintf(place, sizeof(place), ":bench_%s", c->entry);
	err = ub_programs_load(built(object, name), args, 1, &victim->programs, why);
	if (!err)
		victim->manager = ub_link_manager_new(backend, victim->programs);
	return err;
}

static void end_victim(struct victim *victim)
{
	kill(victim->pid, SIGKILL);
	waitpid(victim->pid, NULL, 0);
	fclose(victim->to);
	fclose(victim->from);
	if (!victim->programs)
		return;
	ub_link_manager_free(victim->manager);
	ub_programs_free(victim->programs);
}

/* Attaches the case's program, times hits, detaches. */
static int run_case(const struct ub_backend *backend, u32 nr, struct sample *sample,
		    double times[3], struct ub_reason *why)
{
	const struct ub_bench_case *c = &cases[nr];
	const bool userspace = backend == &ub_backend_userspace;
	struct victim victims[MAX_PROCESSES] = { 0 };
	double bare, start;
	int err = 0, n = nr_processes(c);

	for (int i = 0; i < n; i++) {
		struct victim *victim = &victims[i];

		victim->pid = start_target(&victim->to, &victim->from);
		/* One thread alone is measured where it is when there are two. */
		pin(victim->pid, i);
	}
	bare = time_calls(victims, c, CALLS);
	for (int i = 0; i < n && c->program && !err; i++)
		err = load(backend, c, &victims[i], why);
	start = now_ns();
	for (int i = 0; i < n && c->program && !err; i++)
		err = ub_link_manager_attach(victims[i].manager, victims[i].pid, why);
	times[0] = (now_ns() - start) / 1e6;
	if (!c->program)
		sample->hit_ns[nr] = bare;
	if (!err && c->program) {
		times[1] = userspace ? last_pause_us(victims[0].pid) : 0;
		sample->hit_ns[nr] =
			time_calls(victims, c, userspace ? CALLS : KERNEL_CALLS) - bare;
		start = now_ns();
		for (int i = 0; i < n; i++)
			ub_link_manager_detach(victims[i].manager, victims[i].pid, NULL);
		times[2] = (now_ns() - start) / 1e6;
	}
	for (int i = 0; i < n; i++)
		end_victim(&victims[i]);
	return err;
}

/* One round on one backend, in a process of its own: a process can be under one kernel only. */
static int round_on(const struct ub_backend *backend, int out_fd)
{
	double times[3][UB_BENCH_CASES];
	struct ub_reason why = { 0 };
	struct sample sample = { 0 };
	int err;

	ub_libbpf_log(0);
	err = backend->enter(&why);
	for (u32 i = 0; i < nr_cases && !err; i++) {
		double of_case[3] = { 0 };

		err = run_case(backend, i, &sample, of_case, &why);
		for (int k = 0; k < 3; k++)
			times[k][i] = of_case[k];
	}
	if (err) {
		fprintf(stderr, "%s\n", why.text[0] ? why.text : strerror(-err));
		return 1;
	}
	sample.attach_ms = median(times[0], nr_cases);
	sample.pause_us = median(times[1], nr_cases);
	sample.detach_ms = median(times[2], nr_cases);
	return write(out_fd, &sample, sizeof(sample)) != sizeof(sample);
}

static int measure(const struct ub_backend *backend, struct sample *sample)
{
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(round_on(backend, fds[1]));
	close(fds[1]);
	n = read(fds[0], sample, sizeof(*sample));
	close(fds[0]);
	waitpid(pid, &status, 0);
	return n == sizeof(*sample) && !status ? 0 : -EIO;
}

static double median_of(const struct sample *samples, int nr, size_t field)
{
	double values[MAX_ROUNDS];

	for (int i = 0; i < nr; i++)
		memcpy(&values[i], (const char *)&samples[i] + field, sizeof(double));
	return median(values, nr);
}

static void show_row(const char *name, const struct sample *kernel, const struct sample *userspace,
		     int nr, size_t field)
{
	double k = median_of(kernel, nr, field), u = median_of(userspace, nr, field);

	if (k > 0)
		printf("%-28s %12.1f %12.1f %12.2f\n", name, k, u, u > 0 ? k / u : 0);
	else
		printf("%-28s %12s %12.1f\n", name, "-", u);
}

static bool is_same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* Of @like's program and entry, in so many threads and processes. -1: it is not measured. */
static int find_case(const struct ub_bench_case *like, int threads, int processes)
{
	for (u32 i = 0; i < nr_cases; i++) {
		const struct ub_bench_case *c = &cases[i];

		if (is_same(c->program, like->program) && !strcmp(c->entry, like->entry) &&
		    is_same(c->data, like->data) && (c->threads ? c->threads : 1) == threads &&
		    nr_processes(c) == processes)
			return (int)i;
	}
	return -1;
}

static double hit_of(const struct sample *samples, int nr, int i)
{
	return median_of(samples, nr, offsetof(struct sample, hit_ns) + (size_t)i * sizeof(double));
}

static void show_sharing(const struct sample *userspace, int nr)
{
	for (u32 i = 0; i < nr_cases; i++) {
		int alone = find_case(&cases[i], 1, 1), apart = find_case(&cases[i], 1, 2);
		double threads;

		if (cases[i].threads != 2 || alone < 0 || apart < 0)
			continue;
		threads = hit_of(userspace, nr, (int)i);
		printf("%s: %.2f x alone, %.2f x in two processes\n", cases[i].shown,
		       threads / hit_of(userspace, nr, alone),
		       threads / hit_of(userspace, nr, apart));
	}
}

int ub_bench_backends(int argc, char **argv, const struct ub_bench_case *of, u32 nr_of,
		      bool operations)
{
	static struct sample kernel[MAX_ROUNDS], userspace[MAX_ROUNDS];
	int nr = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 5;
	bool has_kernel = !ub_backend_kernel_try(NULL);

	cases = of;
	nr_cases = nr_of;
	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		return ub_daemon_main((int)strtol(argv[2], NULL, 10));
	if (nr < 1 || nr > MAX_ROUNDS || nr_cases > UB_BENCH_CASES) {
		fprintf(stderr, "usage: %s [ROUNDS]\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < nr; i++) {
		if (measure(&ub_backend_userspace, &userspace[i]) ||
		    (has_kernel && measure(&ub_backend_kernel, &kernel[i])))
			return 1;
	}
	printf("%-28s %12s %12s %12s   (medians of %d)\n", "ns a hit", "kernel", "userspace",
	       "ratio", nr);
	for (u32 i = 0; i < nr_cases; i++)
		show_row(cases[i].shown, kernel, userspace, nr,
			 offsetof(struct sample, hit_ns) + i * sizeof(double));
	show_sharing(userspace, nr);
	if (!operations)
		return 0;
	printf("8 threads\n");
	show_row("attach, ms", kernel, userspace, nr, offsetof(struct sample, attach_ms));
	show_row("pause of it, us", kernel, userspace, nr, offsetof(struct sample, pause_us));
	show_row("detach, ms", kernel, userspace, nr, offsetof(struct sample, detach_ms));
	return 0;
}
