/* SPDX-License-Identifier: MIT */
#include "capture.h"

#include <bpf/btf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 4096

struct capture capture;
u32 capture_log_level = 1;
bool capture_ask_kernel = true;
void (*capture_request)(struct ub_verify_request *request);

static struct {
	struct ub_verifier_map map;
	struct ub_map_attr inner;
	bool used;
	u8 *values;
	u64 serial;
} maps[MAX_FDS];
static struct btf *btfs[MAX_FDS];
static u64 serial;

static long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void capture_reset(void)
{
	free(capture.our_log);
	free(capture.kernel_log);
	ub_program_free(capture.program);
	memset(&capture, 0, sizeof(capture));
}

static void log_append(void *opaque, const char *text, size_t size)
{
	capture.our_log = realloc(capture.our_log, capture.our_log_size + size + 1);
	memcpy(capture.our_log + capture.our_log_size, text, size);
	capture.our_log_size += size;
	capture.our_log[capture.our_log_size] = '\0';
}

const char *capture_last_line(const char *log)
{
	static __thread char line[512];
	const char *end, *start;

	line[0] = '\0';
	if (!log)
		return line;
	end = strstr(log, "\nprocessed ");
	if (!end)
		end = log + strlen(log);
	while (end > log && end[-1] == '\n')
		end--;
	start = end;
	while (start > log && start[-1] != '\n')
		start--;
	snprintf(line, sizeof(line), "%.*s", (int)(end - start), start);
	return line;
}

static bool find_map(void *opaque, int fd, bool idx, struct ub_verifier_map *map)
{
	const union bpf_attr *attr = opaque;
	u32 n;

	if (idx) {
		if (!attr->fd_array || fd < 0 || fd > 64)
			return false;
		fd = ((const int *)attr->fd_array)[fd];
	}
	if (fd < 0 || fd >= MAX_FDS || !maps[fd].used)
		return false;
	if (maps[fd].map.frozen && !maps[fd].values) {
		union bpf_attr lookup = { 0 };
		u32 key = 0;

		n = maps[fd].map.attr.value_size;
		maps[fd].values = calloc(1, n);
		lookup.map_fd = fd;
		lookup.key = (u64)&key;
		lookup.value = (u64)maps[fd].values;
		raw_syscall(__NR_bpf, BPF_MAP_LOOKUP_ELEM, (long)&lookup, sizeof(lookup), 0, 0, 0);
	}
	*map = maps[fd].map;
	map->frozen_values = maps[fd].values;
	map->opaque = (void *)(maps[fd].serial);
	return true;
}

static void *records(u64 from, u32 nr, u32 rec, u32 want)
{
	u8 *out;

	if (!nr || !rec)
		return NULL;
	out = calloc(nr, want);
	for (u32 i = 0; i < nr; i++)
		memcpy(out + i * want, (u8 *)from + i * rec, rec < want ? rec : want);
	return out;
}

static void verify(const union bpf_attr *attr)
{
	struct ub_verify_request req = {
		.type = attr->prog_type,
		.expected_attach_type = attr->expected_attach_type,
		.name = attr->prog_name,
		.license = (const char *)attr->license,
		.insns = (const struct bpf_insn *)attr->insns,
		.nr_insns = attr->insn_cnt,
		.prog_flags = attr->prog_flags,
		.privileged = true,
		.map_by_fd = find_map,
		.opaque = (void *)attr,
		.btf = attr->prog_btf_fd < MAX_FDS ? btfs[attr->prog_btf_fd] : NULL,
		.log_level = capture_log_level,
		.log = log_append,
		.nr_func_info = attr->func_info_cnt,
		.nr_line_info = attr->line_info_cnt,
	};
	struct bpf_func_info *funcs = records(attr->func_info, attr->func_info_cnt,
					      attr->func_info_rec_size, sizeof(*funcs));
	struct bpf_line_info *lines = records(attr->line_info, attr->line_info_cnt,
					      attr->line_info_rec_size, sizeof(*lines));
	void *used[UB_MAX_USED_MAPS];
	u64 start;

	req.func_info = funcs;
	req.line_info = lines;
	if (capture_request)
		capture_request(&req);
	capture.our_log_size = 0;
	free(capture.our_log);
	capture.our_log = NULL;
	ub_program_free(capture.program);
	capture.program = NULL;
	start = now();
	capture.ours = ub_verify(&req, &capture.program, used, &capture.why);
	capture.our_ns = now() - start;
	free(funcs);
	free(lines);
}

static long prog_load(union bpf_attr *attr, u32 size)
{
	static u32 loads;
	long ret = 0;
	u64 start;

	/* Feature probes of libbpf have no more than a few instructions and no name, or one of its
	 * own. */
	if (!strncmp(attr->prog_name, "libbpf_", 7) ||
	    !strncmp(attr->prog_name, "det_arg_ctx", 11) || !attr->prog_name[0])
		return raw_syscall(__NR_bpf, BPF_PROG_LOAD, (long)attr, size, 0, 0, 0);
	capture.seen = true;
	capture.insns = attr->insn_cnt;
	verify(attr);
	if (!capture_ask_kernel) {
		capture.kernel = capture.ours;
		return capture.ours ? capture.ours : dup(STDERR_FILENO);
	}
	if (++loads % 64 == 0)
		raw_syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0, 0, 0, 0);
	start = now();
	ret = raw_syscall(__NR_bpf, BPF_PROG_LOAD, (long)attr, size, 0, 0, 0);
	capture.kernel_ns = now() - start;
	capture.kernel = ret < 0 ? (int)ret : 0;
	if (attr->log_buf && attr->log_size && attr->log_level) {
		free(capture.kernel_log);
		capture.kernel_log = strdup((const char *)attr->log_buf);
	}
	return ret;
}

static void map_created(const union bpf_attr *attr, int fd)
{
	if (fd >= MAX_FDS)
		return;
	memset(&maps[fd], 0, sizeof(maps[fd]));
	maps[fd].used = true;
	maps[fd].serial = ++serial;
	maps[fd].map.attr = (struct ub_map_attr) {
		.type = attr->map_type,
		.key_size = attr->key_size,
		.value_size = attr->value_size,
		.max_entries = attr->max_entries,
		.flags = attr->map_flags,
	};
	memcpy(maps[fd].map.name, attr->map_name, sizeof(maps[fd].map.name));
	if (attr->btf_fd && attr->btf_fd < MAX_FDS) {
		maps[fd].map.btf = btfs[attr->btf_fd];
		maps[fd].map.btf_value_type_id = attr->btf_value_type_id;
	}
	if ((attr->map_type == BPF_MAP_TYPE_ARRAY_OF_MAPS ||
	     attr->map_type == BPF_MAP_TYPE_HASH_OF_MAPS) &&
	    attr->inner_map_fd < MAX_FDS && maps[attr->inner_map_fd].used) {
		maps[fd].inner = maps[attr->inner_map_fd].map.attr;
		maps[fd].map.inner = &maps[fd].inner;
	}
}

/* libbpf's bpf(2) calls come through here. */
long syscall(long nr, ...)
{
	long a[6], ret;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == __NR_bpf && a[0] == BPF_PROG_LOAD)
		ret = prog_load((union bpf_attr *)a[1], a[2]);
	else
		ret = raw_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (nr == __NR_bpf && ret >= 0) {
		union bpf_attr *attr = (union bpf_attr *)a[1];

		if (a[0] == BPF_MAP_CREATE)
			map_created(attr, ret);
		else if (a[0] == BPF_BTF_LOAD && ret < MAX_FDS)
			btfs[ret] = btf__new((const void *)attr->btf, attr->btf_size);
		else if (a[0] == BPF_MAP_FREEZE && attr->map_fd < MAX_FDS)
			maps[attr->map_fd].map.frozen = true;
	}
	if (nr == __NR_dup3 || nr == __NR_fcntl) {
		/* libbpf moves map fds when it reuses their numbers. */
		if (nr == __NR_dup3 && ret >= 0 && ret < MAX_FDS && a[0] < MAX_FDS)
			maps[ret] = maps[a[0]];
	}
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}
