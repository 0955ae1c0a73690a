/* SPDX-License-Identifier: MIT */
/* Processes in odd states, with odd stacks, with libraries that come and go, with many threads, probes, signals. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/proc.h>
#include <hook/image_private.h>

#include "targets.h"

/* --- states -------------------------------------------------------------------------------- */

static bool is_zombie(void *opaque)
{
	return victim_state(opaque) == 'Z';
}

void zombie_leader(void)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	struct ub_image *image;
	struct victim v;
	int err;

	odd_start(&v, "leader-exits");
	/* The image is planned while its /proc still shows everything. */
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	victim_tell(&v, "exit");
	check(wait_until(is_zombie, &v), "its main thread does not exit");
	err = replace_patiently(&v, NULL, image, &result, &why);
	if (err == -EOPNOTSUPP && strstr(why.text, "Linux 6.9")) {
		printf("zombie leader: %s\n", why.text);
	} else {
		check(!err, "%s (%d)", why.text, err);
		for (int i = 0; !image_hits(image) && i < 30000; i++)
			usleep(1000);
		check(image_hits(image), "no hits");
		must_replace(&v, image, NULL, NULL);
	}
	ub_image_free(image);
	victim_reap(&v);
}

void stopped(void)
{
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	siginfo_t info;

	victim_start(&v, "-t", "4", "-d", "100", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	kill(v.pid, SIGSTOP);
	check(!waitid(P_PID, v.pid, &info, WSTOPPED), "it does not stop");
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	usleep(20000);
	check(victim_state(&v) == 'T', "attach woke it: state %c", victim_state(&v));
	check(!image_hits(image), "it runs");
	kill(v.pid, SIGCONT);
	for (int i = 0; !image_hits(image) && i < 30000; i++)
		usleep(1000);
	check(image_hits(image), "no hits after SIGCONT");
	kill(v.pid, SIGSTOP);
	check(!waitid(P_PID, v.pid, &info, WSTOPPED), "it does not stop again");
	must_replace(&v, image, NULL, NULL);
	usleep(20000);
	check(victim_state(&v) == 'T', "detach woke it: state %c", victim_state(&v));
	kill(v.pid, SIGCONT);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	ub_image_free(image);
	victim_end(&v);
}

/* --- stacks --------------------------------------------------------------------------------- */

/* The main stack looks free from the stack pointer that its thread has now. */
void deep_stack(void)
{
	struct victim v;

	odd_start(&v, "deep-stack");
	cycles(&v, 5, 5);
	victim_tell(&v, "go");
	check(!strcmp(victim_line(&v), "0 wrong"), "its stack was written to");
	end_well(&v);
}

/* A frame that nobody will return by does not keep the image there. */
void stale_frame(void)
{
	struct ub_residue *snapshot;
	struct ub_image *image;
	struct victim v;
	char path[64];
	u64 ip = 0, address;
	int mem;

	odd_start_unready(&v, "stale-frame");
	check(sscanf(victim_line(&v), "%lx", &address) == 1, "it does not say where its frame is");
	snapshot = before(&v, UB_RESIDUE_FULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	must_replace(&v, NULL, image, NULL);
	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_CODE)
			ip = image->parts[i].address + image->parts[i].size - 1;
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	check(ip && pwrite(mem, &ip, sizeof(ip), (off_t)address) == sizeof(ip), "its frame: %m");
	must_replace(&v, image, NULL, NULL);
	close(mem);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	ub_image_free(image);
	end_well(&v);
}

/* --- libraries that come and go ------------------------------------------------------------ */

static void ask(struct victim *v, const char *command)
{
	check(!strcmp(victim_ask(v, command), command), "it does not %s", command);
}

static struct ub_image *cbrt_image(struct victim *v, const struct ub_image *current)
{
	static void *library;
	Dl_info info;

	if (!library)
		library = dlopen("libm.so.6", RTLD_NOW);
	check(library && dladdr(dlsym(library, "cbrt"), &info), "where is libm?");
	return image_of(v->pid, current, info.dli_fname, "cbrt", NULL);
}

static void must_hit(struct victim *v, struct ub_image *image)
{
	u64 hits = image_hits(image);

	ask(v, "call");
	check(image_hits(image) == hits + 10, "%lu hits of 10", image_hits(image) - hits);
}

void libraries_come_and_go(void)
{
	struct ub_image *image, *next;
	struct ub_residue *snapshot;
	struct victim v;

	odd_start(&v, "libraries");
	ask(&v, "open");
	ask(&v, "call");
	ask(&v, "close");
	snapshot = before(&v, UB_RESIDUE_FULL);

	ask(&v, "open");
	image = cbrt_image(&v, NULL);
	must_replace(&v, NULL, image, NULL);
	must_hit(&v, image);
	/* Unloaded: a change takes no notice of what was there. */
	ask(&v, "close");
	next = image_of(v.pid, image, NULL, "free", NULL);
	must_replace(&v, image, next, NULL);
	ub_image_free(image);
	/* Loaded again: hooked again. */
	ask(&v, "open");
	image = cbrt_image(&v, next);
	must_replace(&v, next, image, NULL);
	ub_image_free(next);
	must_hit(&v, image);
	/* Loaded again behind our back, most likely at the same place. */
	ask(&v, "close");
	ask(&v, "open");
	next = cbrt_image(&v, image);
	must_replace(&v, image, next, NULL);
	ub_image_free(image);
	must_hit(&v, next);
	/* And taken out of a library that is not there. */
	ask(&v, "close");
	must_replace(&v, next, NULL, NULL);
	ub_image_free(next);
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

/* --- many threads, many signals ------------------------------------------------------------ */

void many_threads(void)
{
	struct ub_residue *snapshot;
	struct ub_surgery in, out;
	struct ub_image *image;
	struct victim v;

	victim_start(&v, "-t", "1000", "-d", "20000", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	for (int i = 0; i < 3; i++) {
		image = image_of(v.pid, NULL, NULL, "malloc", NULL);
		must_replace(&v, NULL, image, &in);
		for (int tries = 0; !image_hits(image) && tries < 30000; tries++)
			usleep(1000);
		check(image_hits(image), "no hits");
		check(in.nr_threads == 1001, "%u threads", in.nr_threads);
		must_replace(&v, image, NULL, &out);
		printf("1001 threads: pause in %.1f ms, out %.1f ms\n", in.pause_ns / 1e6,
		       out.pause_ns / 1e6);
		ub_image_free(image);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

void many_probes(void)
{
	struct ub_residue *snapshot;
	struct ub_surgery in, out;
	struct ub_image *image;
	struct victim v;

	victim_start(&v, "-t", "8", "-d", "100", NULL);
	snapshot = before(&v, UB_RESIDUE_FULL);
	for (int i = 0; i < 3; i++) {
		image = image_of_many(v.pid, 1000);
		must_replace(&v, NULL, image, &in);
		for (int tries = 0; !image_hits(image) && tries < 30000; tries++)
			usleep(1000);
		check(image_hits(image), "no hits");
		must_replace(&v, image, NULL, &out);
		printf("1000 probes: pause in %.2f ms, out %.2f ms\n", in.pause_ns / 1e6,
		       out.pause_ns / 1e6);
		ub_image_free(image);
	}
	must_be_clean(&v, snapshot, UB_RESIDUE_FULL);
	ub_residue_free(snapshot);
	end_well(&v);
}

#define NR_QUEUED  20000 /* of each of two signals, as tests/lib/odd.c expects */
#define NR_PENDING 500 /* at most: the kernel looks through all of them for each that it delivers */

static bool has_taken_all(void *opaque)
{
	struct victim *v = opaque;
	char proc[32];
	u64 pending = 0;

	snprintf(proc, sizeof(proc), "/proc/%d", v->pid);
	return ub_proc_status(proc, "ShdPnd", 16, &pending) || !pending;
}

void signals_with_siginfo(void)
{
	const char *line;
	struct victim v;
	pid_t sender;

	odd_start(&v, "signals");
	sender = fork();
	if (!sender) {
		for (int i = 0; i < 2 * NR_QUEUED; i++) {
			union sigval value = { .sival_int = i / 2 };

			while (sigqueue(v.pid, SIGRTMIN + i % 2, value))
				usleep(100);
			if (i % 20 == 0)
				usleep(200);
			if (i % NR_PENDING == 0 && !wait_until(has_taken_all, &v))
				_exit(1);
		}
		_exit(0);
	}
	while (waitpid(sender, NULL, WNOHANG) == 0)
		cycles(&v, 1, 1);
	line = victim_line(&v);
	check(!strcmp(line, "40000 taken, 0 wrong"), "%s", line);
	end_well(&v);
}
