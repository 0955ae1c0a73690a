/* SPDX-License-Identifier: MIT */
/*
 * Runs the cases in accept/ and reject/: each a program in the assembler's syntax behind a head of
 *	# free text
 *	type kprobe | tracepoint | raw_tracepoint | perf_event | socket_filter | xdp | sched_cls
 *	map TYPE KEY_SIZE VALUE_SIZE MAX_ENTRIES [FLAGS]	any number: map 0, map 1, ...
 *	license TEXT		flags NUMBER		message TEXT (part of the log)
 *	functions		(BTF says of each: int f(void))
 *	kernel differs WHY	(the kernel is not asked)
 *	--
 * A case in accept/ must be accepted, one in reject/ refused with a log that has the message. Where
 * programs can be loaded into a Linux 6.18, it must agree.
 *   cases FOLDER
 */
#include <bpf/btf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <program/program.h>
#include <verifier/verifier.h>

#include "../vm/assembler.h"

#define MAX_INSNS 1024
#define MAX_MAPS  4

struct test_case {
	enum bpf_prog_type type;
	struct ub_map_attr maps[MAX_MAPS];
	u32 nr_maps;
	char license[32];
	u32 flags;
	char message[256];
	bool skip_kernel;
	bool functions;
	struct bpf_func_info info[UB_MAX_SUBPROGS];
	u32 nr_info;
	struct bpf_insn insns[MAX_INSNS];
	u32 nr;
};

static const struct {
	const char *name;
	u32 value;
} prog_types[] = { { "kprobe", BPF_PROG_TYPE_KPROBE },
		   { "tracepoint", BPF_PROG_TYPE_TRACEPOINT },
		   { "raw_tracepoint", BPF_PROG_TYPE_RAW_TRACEPOINT },
		   { "perf_event", BPF_PROG_TYPE_PERF_EVENT },
		   { "socket_filter", BPF_PROG_TYPE_SOCKET_FILTER },
		   { "xdp", BPF_PROG_TYPE_XDP },
		   { "sched_cls", BPF_PROG_TYPE_SCHED_CLS },
		   { "syscall", BPF_PROG_TYPE_SYSCALL } },
  map_types[] = { { "hash", BPF_MAP_TYPE_HASH },
		  { "array", BPF_MAP_TYPE_ARRAY },
		  { "percpu_array", BPF_MAP_TYPE_PERCPU_ARRAY },
		  { "ringbuf", BPF_MAP_TYPE_RINGBUF },
		  { "queue", BPF_MAP_TYPE_QUEUE },
		  { "stack_trace", BPF_MAP_TYPE_STACK_TRACE },
		  { "perf_event_array", BPF_MAP_TYPE_PERF_EVENT_ARRAY },
		  { "prog_array", BPF_MAP_TYPE_PROG_ARRAY },
		  { "task_storage", BPF_MAP_TYPE_TASK_STORAGE } };

static char *log_text;
static size_t log_size;

static void log_append(void *opaque, const char *text, size_t size)
{
	log_text = realloc(log_text, log_size + size + 1);
	memcpy(log_text + log_size, text, size);
	log_size += size;
	log_text[log_size] = '\0';
}

static bool map_by_fd(void *opaque, int fd, bool idx, struct ub_verifier_map *map)
{
	struct test_case *t = opaque;

	if (fd < 0 || (u32)fd >= t->nr_maps)
		return false;
	memset(map, 0, sizeof(*map));
	map->attr = t->maps[fd];
	map->opaque = &t->maps[fd];
	return true;
}

static int parse_head(char *line, struct test_case *t)
{
	char word[32];
	u32 n[5] = { 0 };

	if (line[0] == '#' || !line[0])
		return 0;
	if (sscanf(line, "type %31s", word) == 1) {
		for (u32 i = 0; i < ub_array_size(prog_types); i++) {
			if (!strcmp(prog_types[i].name, word)) {
				t->type = prog_types[i].value;
				return 0;
			}
		}
		return -EINVAL;
	}
	if (sscanf(line, "map %31s %u %u %u %u", word, &n[0], &n[1], &n[2], &n[3]) >= 4) {
		for (u32 i = 0; i < ub_array_size(map_types); i++) {
			if (strcmp(map_types[i].name, word) || t->nr_maps == MAX_MAPS)
				continue;
			t->maps[t->nr_maps++] = (struct ub_map_attr) { .type = map_types[i].value,
								       .key_size = n[0],
								       .value_size = n[1],
								       .max_entries = n[2],
								       .flags = n[3] };
			return 0;
		}
		return -EINVAL;
	}
	if (sscanf(line, "license %31[^\n]", t->license) == 1 ||
	    sscanf(line, "message %255[^\n]", t->message) == 1 ||
	    sscanf(line, "flags %u", &t->flags) == 1)
		return 0;
	if (!strncmp(line, "kernel differs ", 15)) {
		t->skip_kernel = true;
		return 0;
	}
	if (!strcmp(line, "functions")) {
		t->functions = true;
		return 0;
	}
	return -EINVAL;
}

/* BTF with one function, and where the program's are. */
static int describe_functions(struct test_case *t, struct btf **out)
{
	struct btf *btf = btf__new_empty();
	struct ub_program *program;
	int integer, proto, function;

	if (!btf || ub_program_from_insns(t->insns, t->nr, &program, NULL))
		return -EINVAL;
	integer = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	proto = btf__add_func_proto(btf, integer);
	function = btf__add_func(btf, "f", BTF_FUNC_STATIC, proto);
	t->nr_info = program->nr_subprogs;
	for (u32 i = 0; i < t->nr_info; i++)
		t->info[i] = (struct bpf_func_info) { program->subprogs[i].start, function };
	ub_program_free(program);
	*out = btf;
	return function < 0 ? function : 0;
}

static int read_case(const char *path, struct test_case *t)
{
	_cleanup_fclose_ FILE *file = fopen(path, "r");
	static char text[65536];
	struct ub_reason why = { 0 };
	char line[512];
	size_t n;
	int nr;

	memset(t, 0, sizeof(*t));
	strcpy(t->license, "GPL");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strcmp(line, "--"))
			break;
		if (parse_head(line, t)) {
			printf("%s: bad head: %s\n", path, line);
			return -EINVAL;
		}
	}
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	nr = assemble(text, t->insns, MAX_INSNS, &why);
	if (nr < 0) {
		printf("%s: %s\n", path, why.text);
		return nr;
	}
	t->nr = nr;
	return 0;
}

/* Older kernels know less, and their verdicts are not what this verifier follows. */
static bool kernel_is_oracle(void)
{
	u32 major = 0, minor = 0;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major == 6 && minor == 18;
}

/* What the kernel says: 0 or -errno; 1: not to be had here. */
static int ask_kernel(const struct test_case *t, const struct btf *btf, char *log, u32 size)
{
	struct bpf_insn insns[MAX_INSNS];
	_cleanup_close_ int btf_fd = -1;
	union bpf_attr attr = { 0 };
	int fds[MAX_MAPS], ret = 0;

	if (btf) {
		u32 btf_size;

		attr.btf = (u64)btf__raw_data(btf, &btf_size);
		attr.btf_size = btf_size;
		btf_fd = syscall(__NR_bpf, BPF_BTF_LOAD, &attr, sizeof(attr));
		if (btf_fd < 0)
			return 1;
	}
	memcpy(insns, t->insns, sizeof(insns));
	for (u32 i = 0; i < t->nr_maps; i++) {
		memset(&attr, 0, sizeof(attr));
		attr.map_type = t->maps[i].type;
		attr.key_size = t->maps[i].key_size;
		attr.value_size = t->maps[i].value_size;
		attr.max_entries = t->maps[i].max_entries;
		attr.map_flags = t->maps[i].flags;
		fds[i] = syscall(__NR_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
		if (fds[i] < 0) {
			while (i--)
				close(fds[i]);
			return 1;
		}
	}
	for (u32 i = 0; i < t->nr; i++) {
		if (insns[i].code == (BPF_LD | BPF_IMM | BPF_DW)) {
			if ((insns[i].src_reg == BPF_PSEUDO_MAP_FD ||
			     insns[i].src_reg == BPF_PSEUDO_MAP_VALUE) &&
			    (u32)insns[i].imm < t->nr_maps)
				insns[i].imm = fds[insns[i].imm];
			i++;
		}
	}
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = t->type;
	attr.insns = (u64)insns;
	attr.insn_cnt = t->nr;
	attr.license = (u64)t->license;
	attr.prog_flags = t->flags;
	attr.log_buf = (u64)log;
	attr.log_size = size;
	attr.log_level = 1;
	if (btf) {
		attr.prog_btf_fd = btf_fd;
		attr.func_info = (u64)t->info;
		attr.func_info_cnt = t->nr_info;
		attr.func_info_rec_size = sizeof(t->info[0]);
	}
	ret = syscall(__NR_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (ret >= 0)
		close(ret);
	else
		ret = errno == EPERM || errno == ENOSYS ? 1 : -errno;
	for (u32 i = 0; i < t->nr_maps; i++)
		close(fds[i]);
	return ret > 0 ? (ret == 1 ? 1 : 0) : ret;
}

static void free_btf(struct btf **btf)
{
	btf__free(*btf);
}

static bool run_case(const char *path, bool accept)
{
	static char kernel_log[1 << 18];
	static struct test_case t;
	struct ub_verify_request req = { 0 };
	struct ub_program *program = NULL;
	struct ub_reason why = { 0 };
	_cleanup_(free_btf) struct btf *btf = NULL;
	void *used[UB_MAX_USED_MAPS];
	bool ok = true;
	int err, kernel;

	if (read_case(path, &t) || (t.functions && describe_functions(&t, &btf)))
		return false;
	req.type = t.type ?: BPF_PROG_TYPE_KPROBE;
	t.type = req.type;
	req.name = "case";
	req.license = t.license;
	req.insns = t.insns;
	req.nr_insns = t.nr;
	req.prog_flags = t.flags;
	req.privileged = true;
	req.map_by_fd = map_by_fd;
	req.opaque = &t;
	req.log = log_append;
	req.log_level = 1;
	req.btf = btf;
	req.func_info = t.info;
	req.nr_func_info = t.nr_info;
	log_size = 0;
	err = ub_verify(&req, &program, used, &why);
	ub_program_free(program);
	if (accept && err) {
		printf("%s: rejected (%d): %s\n", path, err, why.text);
		ok = false;
	} else if (!accept && !err) {
		printf("%s: accepted\n", path);
		ok = false;
	} else if (!accept && (!log_size || !strstr(log_text, t.message))) {
		printf("%s: log lacks \"%s\":\n%s\n", path, t.message, log_size ? log_text : "");
		ok = false;
	}
	if (t.skip_kernel || !kernel_is_oracle())
		return ok;
	kernel = ask_kernel(&t, btf, kernel_log, sizeof(kernel_log));
	if (kernel != 1 && (kernel == 0) != accept) {
		printf("%s: the kernel says %d:\n%s\n", path, kernel, kernel_log);
		ok = false;
	}
	return ok;
}

static int run_folder(const char *folder, const char *sub, bool accept, u32 *run, u32 *failed)
{
	char path[4096];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", folder, sub);
	dir = opendir(path);
	if (!dir) {
		printf("%s: %s\n", path, strerror(errno));
		return -errno;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", folder, sub, entry->d_name);
		(*run)++;
		*failed += !run_case(path, accept);
	}
	closedir(dir);
	return 0;
}

int main(int argc, char **argv)
{
	u32 run = 0, failed = 0;

	if (argc != 2)
		return 2;
	if (run_folder(argv[1], "accept", true, &run, &failed) ||
	    run_folder(argv[1], "reject", false, &run, &failed))
		return 1;
	printf("%u cases, %u failed\n", run, failed);
	free(log_text);
	return failed || !run ? 1 : 0;
}
