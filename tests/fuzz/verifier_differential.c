/* SPDX-License-Identifier: MIT */
/*
 * Random programs to this verifier and to the kernel's: what the kernel refuses must be refused
 * here. -v: also show programs that only the kernel accepts. Frees what it loads slowly: kernels
 * have been seen to lock up when many programs go at once.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <verifier/verifier.h>

#include "verifier_fuzz.h"
#include "verifier_programs.h"

static const struct ub_map_attr attr = { .type = BPF_MAP_TYPE_ARRAY,
					 .key_size = 4,
					 .value_size = PROGRAM_VALUE_SIZE,
					 .max_entries = 1 };
static char kernel_log[1 << 22];

static long sys_bpf(int cmd, union bpf_attr *a)
{
	return syscall(__NR_bpf, cmd, a, sizeof(*a));
}

static bool map_by_fd(void *opaque, int fd, bool idx, struct ub_verifier_map *out)
{
	memset(out, 0, sizeof(*out));
	out->attr = attr;
	out->opaque = (void *)&attr;
	return true;
}

static int ours(const struct random_program *p, struct ub_reason *why)
{
	struct ub_verify_request req = { .type = BPF_PROG_TYPE_KPROBE,
					 .name = "fuzz",
					 .license = "GPL",
					 .insns = p->insns,
					 .nr_insns = p->nr,
					 .prog_flags = p->flags,
					 .privileged = true,
					 .map_by_fd = map_by_fd };
	struct ub_program *program = NULL;
	void *used[UB_MAX_USED_MAPS];
	int err = ub_verify(&req, &program, used, why);

	ub_program_free(program);
	return err;
}

static int kernel(const struct random_program *p, u32 log_level)
{
	static u32 loads;
	union bpf_attr a = { 0 };
	long fd;

	if (++loads % 32 == 0)
		syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	a.prog_type = BPF_PROG_TYPE_KPROBE;
	a.insns = (u64)p->insns;
	a.insn_cnt = p->nr;
	a.prog_flags = p->flags;
	a.license = (u64) "GPL";
	if (log_level) {
		kernel_log[0] = '\0';
		a.log_level = log_level;
		a.log_buf = (u64)kernel_log;
		a.log_size = sizeof(kernel_log);
	}
	fd = sys_bpf(BPF_PROG_LOAD, &a);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* The line that says why: before the statistics. */
static const char *last_line(char *log)
{
	char *end = strstr(log, "\nprocessed ");

	if (end)
		*end = '\0';
	end = strrchr(log, '\n');
	return end ? end + 1 : log;
}

/* The map that the programs use, or -errno. */
static int make_map(void)
{
	union bpf_attr a = { .map_type = attr.type,
			     .key_size = attr.key_size,
			     .value_size = attr.value_size,
			     .max_entries = attr.max_entries };
	long fd = sys_bpf(BPF_MAP_CREATE, &a);

	return fd < 0 ? -errno : (int)fd;
}

int main(int argc, char **argv)
{
	static struct random_program p;
	u64 accepted = 0, stricter = 0, looser = 0;
	struct utsname name;
	struct fuzz fuzz;
	int map;

	if (!fuzz_init(&fuzz, argc, argv))
		return 2;
	if (uname(&name) || strncmp(name.release, "6.18.", 5)) {
		printf("skip: the verdicts that this verifier follows are those of Linux 6.18\n");
		return 77;
	}
	map = make_map();
	if (map < 0) {
		printf("skip: this kernel lets nobody here load BPF programs: %s\n",
		       strerror(-map));
		return 77;
	}
	while (fuzz_next(&fuzz)) {
		struct ub_reason why = { 0 };
		int our_err, kernel_err;

		random_program(&p, fuzz.seed, map);
		our_err = ours(&p, &why);
		kernel_err = kernel(&p, 0);
		if (kernel_err == -EPERM) {
			printf("skip: this kernel lets nobody here load BPF programs\n");
			return 77;
		}
		accepted += !our_err;
		if (!our_err && kernel_err) {
			kernel_err = kernel(&p, 1);
			printf("seed %llu: accepted here, by the kernel refused (%d): %s\n",
			       (unsigned long long)fuzz.seed, kernel_err, last_line(kernel_log));
			looser++;
		}
		if (our_err && !kernel_err) {
			stricter++;
			if (fuzz.verbose)
				printf("seed %llu: only the kernel accepts; %s\n",
				       (unsigned long long)fuzz.seed, why.text);
		}
	}
	printf("%llu programs, %llu accepted, %llu accepted by the kernel only\n",
	       (unsigned long long)fuzz.tried, (unsigned long long)accepted,
	       (unsigned long long)stricter);
	return looser ? 1 : 0;
}
