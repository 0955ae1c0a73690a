// SPDX-License-Identifier: MIT
/*
 * storm SECONDS KINDS POINTS PID[,PID]... [FILE]...: attaches to processes that somebody else started
 * and drives, at points chosen anew each time, and detaches again, for SECONDS. KINDS: letters of e
 * (entries), r (returns), o (any instruction). POINTS: how many at once, at most. +PID: its
 * descendants too, those to come included. FILEs (parts of their paths): whose code; without, all
 * that a process has mapped. The line "seed N" says how to have the same choices again: STORM_SEED=N
 * in the environment.
 *
 * Processes that end are no failure; those that end by a signal are whoever's who waits for them. It
 * fails if something of ours stays in one that lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/elf_file.h>
#include <hook/flow.h>
#include <hook/image_private.h>
#include <surgeon/surgeon.h>

#include "../hook/apply.h"
#include "../lib/residue.h"

#define MAX_FILES    512
#define MAX_PROGRAMS 3
#define NR_SOME	     3 /* files at a time, for a while: analysing one takes longer than attaching */

struct file {
	struct stat stat;
	struct ub_elf *elf;
	u8 *refused; /* by function: once is enough to know */
	u32 *hot;    /* functions that have been hit, which are chosen more often */
	u8 *is_hot;
	u32 nr_hot;
};

static struct file files[MAX_FILES];
static struct file *some[NR_SOME];
static u32 nr_files;
static struct ub_program *programs[MAX_PROGRAMS];
static struct ub_code codes[MAX_PROGRAMS];
static unsigned short state[3];
static u64 nr_cycles, nr_points, nr_hits, nr_misses, nr_refused, nr_busy, nr_left;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static u32 below(u32 limit)
{
	return (u32)((u64)nrand48(state) % limit);
}

/* --- what is there to be probed ---------------------------------------------------------------- */

/* The file that process @pid has mapped from @path, or NULL: it has no code, or is too much. */
static struct file *get_file(pid_t pid, const char *path)
{
	struct file *file = &files[nr_files];
	_cleanup_close_ int fd = -1;
	struct ub_reason why = {};
	char in_root[PATH_MAX + 32];
	struct stat stat;

	snprintf(in_root, sizeof(in_root), "/proc/%d/root%s", pid, path);
	fd = open(in_root, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat))
		return NULL;
	for (u32 i = 0; i < nr_files; i++)
		if (files[i].stat.st_ino == stat.st_ino && files[i].stat.st_dev == stat.st_dev)
			return files[i].elf->nr_functions ? &files[i] : NULL;
	if (nr_files == MAX_FILES || ub_elf_open(fd, &file->elf, &why))
		return NULL;
	nr_files++;
	file->stat = stat;
	file->refused = calloc(file->elf->nr_functions + 1, 1);
	file->is_hot = calloc(file->elf->nr_functions + 1, 1);
	file->hot = calloc(file->elf->nr_functions + 1, sizeof(*file->hot));
	return file->elf->nr_functions ? file : NULL;
}

static bool is_wanted(const char *path, char **parts)
{
	bool found = !*parts;

	for (; *parts && !found; parts++)
		found = strstr(path, *parts) != NULL;
	return found;
}

/* What to probe next: most of what a program has mapped is hardly ever called, so its own code, the C
 * library, and one of the rest. False: there is none. */
static bool choose_files(pid_t pid, char **parts)
{
	char path[64], line[PATH_MAX + 128], last[PATH_MAX] = "", other[PATH_MAX] = "";
	u32 nr = 0, nr_others = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		char perms[5], name[PATH_MAX];

		if (sscanf(line, "%*s %4s %*s %*s %*s %[^\n]", perms, name) != 2 ||
		    perms[2] != 'x' || *name != '/' || !strcmp(name, last) ||
		    !is_wanted(name, parts))
			continue;
		strcpy(last, name);
		if (nr < NR_SOME - 1 && (!nr || strstr(name, "/libc."))) {
			some[nr] = get_file(pid, name);
			nr += some[nr] != NULL;
		} else if (!below(++nr_others)) {
			strcpy(other, name);
		}
	}
	if (maps)
		fclose(maps);
	if (nr_others) {
		some[nr] = get_file(pid, other);
		nr += some[nr] != NULL;
	}
	for (u32 i = nr; nr && i < NR_SOME; i++)
		some[i] = some[i - nr];
	return nr;
}

/* One of @pid and its descendants. */
static pid_t descendant(pid_t pid)
{
	pid_t all[256] = { pid };
	u32 nr = 1;

	for (u32 i = 0; i < nr; i++) {
		char path[64];
		FILE *children;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", all[i], all[i]);
		children = fopen(path, "re");
		while (children && nr < ub_array_size(all) && fscanf(children, "%d", &all[nr]) == 1)
			nr++;
		if (children)
			fclose(children);
	}
	return all[below(nr)];
}

/* --- points chosen at random ------------------------------------------------------------------- */

struct choice {
	struct file *file;
	u32 function;
};

static bool choose(const char *kinds, u32 id, struct ub_image_link *link, struct choice *choice)
{
	struct file *file = some[below(NR_SOME)];
	const u32 i = file->nr_hot && below(4) ? file->hot[below(file->nr_hot)]
					       : below(file->elf->nr_functions);
	const struct ub_elf_function *function = &file->elf->functions[i];
	const char kind = kinds[below((u32)strlen(kinds))];
	const u32 which = below(MAX_PROGRAMS);
	const struct ub_elf_segment *segment;
	u64 address = function->start;

	if (function->gap || function->fragment || (file->refused[i] && kind != 'o'))
		return false;
	segment = ub_elf_segment_at(file->elf, address);
	if (!segment || !segment->executable)
		return false;
	if (kind == 'o') {
		struct ub_flow_insns insns = {};

		if (ub_flow_decode(file->elf, function, &insns))
			abort();
		if (insns.nr)
			address = insns.insns[below(insns.nr)].address;
		ub_flow_insns_free(&insns);
	}
	*choice = (struct choice) { file, i };
	*link = (struct ub_image_link) {
		.point = { .kind = kind == 'r' ? UB_POINT_RETURN : UB_POINT_ENTRY,
			   .dev = file->stat.st_dev,
			   .ino = file->stat.st_ino,
			   .offset = address - segment->address + segment->offset },
		.link_id = id,
		.program = programs[which],
		.code = &codes[which],
	};
	return true;
}

/* Of @nr links those that are not @refused stay. */
static u32 drop_refused(struct ub_image_link *links, struct choice *choices, u32 nr,
			const bool *refused)
{
	u32 left = 0;

	for (u32 i = 0; i < nr; i++) {
		if (refused[i]) {
			choices[i].file->refused[choices[i].function] = 1;
			continue;
		}
		links[left] = links[i];
		choices[left] = choices[i];
		links[left].link_id = left;
		left++;
	}
	return left;
}

/* What is said of a process that ends may be anything. */
static bool is_over(int err, int pidfd)
{
	return err && poll(&(struct pollfd) { pidfd, POLLIN, 0 }, 1, 10) == 1;
}

static bool is_busy(int err)
{
	return err == -EAGAIN || err == -ETIMEDOUT || err == -EBUSY || err == -EINTR ||
	       err == -ENOENT || err == -ESRCH || err == -ENOSPC;
}

/* --- processes --------------------------------------------------------------------------------- */

struct target {
	pid_t pid;
	int pidfd;
	bool family;
	struct ub_residue *before;
};

static void close_target(struct target *target)
{
	close(target->pidfd);
	ub_residue_free(target->before);
}

static bool open_target(pid_t pid, struct target *target)
{
	*target = (struct target) { .pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0) };
	if (target->pidfd < 0)
		return false;
	if (!ub_residue_snapshot(pid, UB_RESIDUE_FULL | UB_RESIDUE_NO_ANON, &target->before))
		return true;
	close(target->pidfd);
	return false;
}

static int check(const struct target *target)
{
	struct ub_residue *after = NULL;
	struct ub_reason why = {};
	int found = ub_surgeon_find(target->pid, &why);

	if (found == -ESRCH ||
	    ub_residue_snapshot(target->pid, UB_RESIDUE_FULL | UB_RESIDUE_NO_ANON, &after))
		return 0;
	if (found > 0)
		printf("process %d holds something of ours\n", target->pid);
	if (ub_residue_touched(after) && !ub_residue_touched(target->before)) {
		printf("process %d: text is not the file's\n", target->pid);
		ub_residue_diff(target->before, after, stdout);
		found = 1;
	}
	ub_residue_free(after);
	return found > 0;
}

/* --- one attach and detach --------------------------------------------------------------------- */

/* 0, -ESRCH: it ended, -EAGAIN: it could not be done now. */
static int put(pid_t pid, int pidfd, struct ub_image *old, struct ub_image_link *links,
	       struct choice *choices, u32 *nr, struct ub_image **image)
{
	struct ub_surgery surgery;
	struct ub_reason why = {};
	int err;

	for (;;) {
		bool *refused = calloc(*nr + 1, sizeof(*refused));
		const struct ub_image_request request = {
			.pid = pid,
			.nr_links = *nr,
			.links = links,
			.nr_cpus = 64,
			.refused = refused,
			.current = old,
		};

		*image = NULL;
		err = ub_image_build(&request, image, &why);
		if (err == -EOPNOTSUPP) {
			u32 left = drop_refused(links, choices, *nr, refused);

			free(refused);
			if (left == *nr)
				fail("%d: %s", pid, why.text);
			nr_refused += *nr - left;
			*nr = left;
			if (!left)
				return -EAGAIN;
			continue;
		}
		free(refused);
		break;
	}
	if (!err)
		err = ub_surgeon_replace(pid, pidfd, old, *image, &surgery, &why);
	if (err) {
		ub_image_free(*image);
		*image = NULL;
	}
	if (err == -ESRCH && getenv("STORM_VERBOSE"))
		printf("gone: %s\n", why.text);
	if (is_over(err, pidfd))
		return -ESRCH;
	if (is_busy(err)) {
		nr_busy++;
		if (getenv("STORM_VERBOSE"))
			printf("busy: %s\n", why.text);
		return -EAGAIN;
	}
	if (err)
		fail("%d: %d: %s", pid, err, why.text);
	for (u32 i = 0; old && surgery.removal == UB_REMOVED_LATER; i++) {
		usleep(20000);
		err = ub_surgeon_collect(pid, pidfd, old, &surgery, &why);
		if (is_over(err, pidfd))
			break;
		if ((err && !is_busy(err)) || i > 1500)
			fail("%d: %d: %s", pid, err, err ? why.text : surgery.left.text);
		nr_left++;
	}
	return 0;
}

static int take_out(pid_t pid, int pidfd, struct ub_image *image)
{
	const double deadline = now() + 60;
	struct ub_surgery surgery;
	struct ub_reason why = {};

	for (;;) {
		int err = ub_surgeon_replace(pid, pidfd, image, NULL, &surgery, &why);

		if (is_over(err, pidfd) || (!err && surgery.removal == UB_REMOVED_GONE))
			return -ESRCH;
		if (!err && surgery.removal == UB_REMOVED_CLEAN)
			return 0;
		if (now() > deadline || (err && !is_busy(err)))
			fail("%d: %d: %s", pid, err, err ? why.text : surgery.left.text);
		nr_left++;
		usleep(20000);
	}
}

static void count(const struct ub_image *image, const struct choice *choices, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		struct file *file = choices[i].file;
		const u32 function = choices[i].function;
		u64 hits, misses;

		ub_image_counters(image, i, &hits, &misses);
		nr_hits += hits;
		nr_misses += misses;
		if (misses && getenv("STORM_VERBOSE"))
			printf("missed: %llu of %llu at 0x%llx of file %u\n",
			       (unsigned long long)misses, (unsigned long long)(hits + misses),
			       (unsigned long long)file->elf->functions[function].start,
			       (u32)(file - files));
		if (!hits || file->is_hot[function])
			continue;
		file->is_hot[function] = 1;
		file->hot[file->nr_hot++] = function;
	}
}

static u32 choose_all(const char *kinds, u32 points, struct ub_image_link *links,
		      struct choice *choices)
{
	u32 nr = 0;

	for (u32 tries = 0; nr < points && tries < 8 * points; tries++)
		nr += choose(kinds, nr, &links[nr], &choices[nr]);
	return nr;
}

static bool cycle(struct target *target, const char *kinds, u32 points, struct ub_image_link *links,
		  struct choice *choices, char **parts)
{
	struct ub_image *image, *next;
	const pid_t pid = target->pid;
	const int pidfd = target->pidfd;
	u32 nr;
	int err;

	if (!choose_files(pid, parts)) {
		usleep(1000);
		return !poll(&(struct pollfd) { pidfd, POLLIN, 0 }, 1, 0);
	}

	nr = choose_all(kinds, 1 + below(points), links, choices);
	err = put(pid, pidfd, NULL, links, choices, &nr, &image);
	if (err == -EAGAIN)
		usleep(10000);
	if (err)
		return err != -ESRCH;
	for (u32 i = below(3);; i--) {
		nr_points += nr;
		usleep(below(4) ? below(20000) : below(200000));
		count(image, choices, nr);
		if (!i)
			break;
		/* Other points, or fewer. */
		nr = choose_all(kinds, 1 + below(points), links, choices);
		err = put(pid, pidfd, image, links, choices, &nr, &next);
		if (err == -ESRCH)
			break;
		if (err) {
			nr = 0;
			continue;
		}
		ub_image_free(image);
		image = next;
	}
	if (err != -ESRCH)
		err = take_out(pid, pidfd, image);
	ub_image_free(image);
	nr_cycles++;
	return err != -ESRCH;
}

int main(int argc, char **argv)
{
	u32 points = argc > 4 ? (u32)atoi(argv[3]) : 0, nr_targets = 0, bad = 0;
	const char *seed = getenv("STORM_SEED");
	struct target *targets;
	struct ub_image_link *links;
	struct choice *choices;
	double until;

	if (!points)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	until = now() + strtod(argv[1], NULL);
	state[0] = (unsigned short)(seed ? atol(seed) : time(NULL));
	printf("seed %d\n", state[0]);
	for (u32 i = 0; i < MAX_PROGRAMS; i++) {
		struct ub_reason why = {};

		programs[i] = !i ? empty_program() : i == 1 ? busy_program() : reading_program();
		if (ub_jit_compile(programs[i], &codes[i], &why))
			fail("%s", why.text);
	}
	links = calloc(points + 1, sizeof(*links));
	choices = calloc(points + 1, sizeof(*choices));
	targets = calloc(strlen(argv[4]), sizeof(*targets));
	for (char *text = strtok(argv[4], ","); text; text = strtok(NULL, ",")) {
		if (open_target((pid_t)atoi(text), &targets[nr_targets]))
			targets[nr_targets++].family = *text == '+';
		else
			printf("no process %s\n", text);
	}
	while (now() < until && nr_targets) {
		u32 i = below(nr_targets);
		struct target other, *target = &targets[i];

		if (target->family && open_target(descendant(target->pid), &other)) {
			if (cycle(&other, argv[2], points, links, choices, argv + 5))
				bad += (u32)check(&other);
			close_target(&other);
		} else if (!target->family &&
			   !cycle(target, argv[2], points, links, choices, argv + 5)) {
			printf("process %d ended\n", target->pid);
			close_target(target);
			*target = targets[--nr_targets];
		} else if (target->family &&
			   poll(&(struct pollfd) { target->pidfd, POLLIN, 0 }, 1, 0)) {
			break;
		}
	}
	for (u32 i = 0; i < nr_targets; i++)
		bad += targets[i].family ? 0 : (u32)check(&targets[i]);
	printf("%llu cycles, %llu points, %llu hits, %llu misses, %llu refused, %llu times busy, %llu left for later\n",
	       (unsigned long long)nr_cycles, (unsigned long long)nr_points,
	       (unsigned long long)nr_hits, (unsigned long long)nr_misses,
	       (unsigned long long)nr_refused, (unsigned long long)nr_busy,
	       (unsigned long long)nr_left);
	return bad ? 1 : 0;
}
