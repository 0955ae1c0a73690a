// SPDX-License-Identifier: MIT
/*
 * attach [ROUNDS]: what the backends cost, in interleaved rounds: ns for each call of malloc that
 * is counted, and the times of attach and detach, on a target with 8 threads that sleep most of the
 * time. Medians, and ratios.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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

enum { MAX_ROUNDS = 101, CALLS = 200000, KERNEL_CALLS = 100000 };

struct sample {
	double hit_ns, attach_ms, detach_ms, pause_us;
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* A victim on pipes. */
static pid_t start_victim(const char *threads, FILE **to, FILE **from)
{
	const char *build = getenv("UBPF_BUILD");
	char path[PATH_MAX], line[128];
	int in[2], out[2];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/tests/lib/ubpf-victim", build ? build : "build/release");
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		exit(1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(path, "ubpf-victim", "-i", "-q", "-t", threads, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	*to = fdopen(in[1], "w");
	*from = fdopen(out[0], "r");
	if (!fgets(line, sizeof(line), *from))
		exit(1);
	return pid;
}

static double time_calls(FILE *to, FILE *from, long calls)
{
	double start = now_ns();
	char line[128];

	fprintf(to, "calls %ld\n", calls);
	fflush(to);
	if (!fgets(line, sizeof(line), from))
		exit(1);
	return (now_ns() - start) / (double)calls;
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

/* One round on one backend, in a process of its own: a process can be under one kernel only. */
static int round_on(const struct ub_backend *backend, int out_fd)
{
	struct ub_programs *programs;
	struct ub_link_manager *manager;
	struct ub_reason why = { 0 };
	struct sample sample = { 0 };
	FILE *to, *from;
	double bare, start;
	pid_t pid;
	int err;

	ub_libbpf_log(0);
	err = backend->enter(&why);
	if (!err)
		err = ub_programs_load("malloc", NULL, 0, &programs, &why);
	if (err) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	manager = ub_link_manager_new(backend, programs);

	/* Hits on one thread, so that its time is the probe's. */
	pid = start_victim("1", &to, &from);
	time_calls(to, from, CALLS);
	bare = time_calls(to, from, CALLS);
	err = ub_link_manager_attach(manager, pid, &why);
	if (!err) {
		sample.hit_ns = time_calls(to, from, KERNEL_CALLS) - bare;
		ub_link_manager_detach(manager, pid, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);

	pid = start_victim("8", &to, &from);
	start = now_ns();
	err = err ? err : ub_link_manager_attach(manager, pid, &why);
	sample.attach_ms = (now_ns() - start) / 1e6;
	if (!err && backend == &ub_backend_userspace)
		sample.pause_us = last_pause_us(pid);
	start = now_ns();
	ub_link_manager_detach(manager, pid, NULL);
	sample.detach_ms = (now_ns() - start) / 1e6;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (err)
		fprintf(stderr, "%s\n", why.text);
	ub_link_manager_free(manager);
	ub_programs_free(programs);
	return err || write(out_fd, &sample, sizeof(sample)) != sizeof(sample);
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

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(const struct sample *samples, int nr, size_t field)
{
	double values[MAX_ROUNDS];

	for (int i = 0; i < nr; i++)
		memcpy(&values[i], (const char *)&samples[i] + field, sizeof(double));
	qsort(values, nr, sizeof(double), compare_double);
	return values[nr / 2];
}

int main(int argc, char **argv)
{
	static struct sample kernel[MAX_ROUNDS], userspace[MAX_ROUNDS];
	static const struct {
		const char *name;
		size_t field;
	} rows[] = {
		{ "malloc counted, ns a hit", offsetof(struct sample, hit_ns) },
		{ "attach, 8 threads, ms", offsetof(struct sample, attach_ms) },
		{ "pause of it, us", offsetof(struct sample, pause_us) },
		{ "detach, ms", offsetof(struct sample, detach_ms) },
	};
	int nr = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 5;
	bool has_kernel = !ub_backend_kernel_try(NULL);

	if (argc == 3 && !strcmp(argv[1], "--daemon"))
		return ub_daemon_main((int)strtol(argv[2], NULL, 10));
	if (nr < 1 || nr > MAX_ROUNDS) {
		fprintf(stderr, "usage: attach [ROUNDS]\n");
		return 2;
	}
	for (int i = 0; i < nr; i++) {
		if (measure(&ub_backend_userspace, &userspace[i]) ||
		    (has_kernel && measure(&ub_backend_kernel, &kernel[i])))
			return 1;
	}
	printf("%-28s %12s %12s %12s   (medians of %d)\n", "", "kernel", "userspace", "ratio", nr);
	for (size_t i = 0; i < ub_array_size(rows); i++) {
		double k = median(kernel, nr, rows[i].field);
		double u = median(userspace, nr, rows[i].field);

		if (has_kernel && k > 0)
			printf("%-28s %12.1f %12.1f %12.2f\n", rows[i].name, k, u,
			       u > 0 ? k / u : 0);
		else
			printf("%-28s %12s %12.1f\n", rows[i].name, "-", u);
	}
	return 0;
}
