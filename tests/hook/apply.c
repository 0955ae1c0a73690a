// SPDX-License-Identifier: MIT
#include "apply.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hook/module.h>

#define PAGE	    4096ull
#define PATIENCE    30 /* seconds for others to finish */
#define MAX_THREADS 16

static int memory_fd = -1;

/* Not by libc: the system call's return address might lie in the bytes being written. */
static int write_memory(u64 address, const void *bytes, size_t size)
{
	register u64 offset __asm__("r10") = address;
	long n;

	__asm__ volatile("syscall"
			 : "=a"(n)
			 : "a"(SYS_pwrite64), "D"((long)memory_fd), "S"(bytes), "d"(size),
			   "r"(offset)
			 : "rcx", "r11", "memory");
	return n == (long)size ? 0 : -EIO;
}

static int open_memory(void)
{
	memory_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	return memory_fd < 0 ? -errno : 0;
}

static int map_part(const struct ub_part *part)
{
	void *at = mmap((void *)(uintptr_t)part->address, part->size, part->prot,
			part->flags | MAP_FIXED_NOREPLACE, part->fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	if ((u64)(uintptr_t)at != part->address) {
		munmap(at, part->size);
		return -EEXIST;
	}
	if (part->kind == UB_PART_FORK) {
		if (madvise(at, part->size, MADV_WIPEONFORK))
			return -errno;
		*(u64 *)at = 1;
	}
	return 0;
}

int apply_image(const struct ub_image *image)
{
	int err = open_memory();

	for (u32 i = 0; i < image->nr_parts && !err; i++) {
		err = map_part(&image->parts[i]);
		while (err && i--)
			munmap((void *)(uintptr_t)image->parts[i].address, image->parts[i].size);
		if (err) {
			close(memory_fd);
			return err == -EEXIST ? -EAGAIN : err;
		}
	}
	for (u32 i = 0; i < image->nr_semaphores && !err; i++)
		*(u16 *)(uintptr_t)image->semaphores[i].address += (u16)image->semaphores[i].count;
	for (u32 i = 0; i < image->nr_sites && !err; i++) {
		if (memcmp((const void *)(uintptr_t)image->sites[i].address, image->sites[i].old,
			   image->sites[i].len))
			err = -EBUSY;
		else
			err = write_memory(image->sites[i].address, image->sites[i].new,
					   image->sites[i].len);
	}
	close(memory_fd);
	return err;
}

void remove_image(const struct ub_image *image)
{
	if (open_memory())
		abort();
	for (u32 i = 0; i < image->nr_sites; i++)
		if (write_memory(image->sites[i].address, image->sites[i].old, image->sites[i].len))
			abort();
	close(memory_fd);
	for (u32 i = 0; i < image->nr_semaphores; i++)
		*(u16 *)(uintptr_t)image->semaphores[i].address -= (u16)image->semaphores[i].count;
	for (u32 i = 0; i < image->nr_parts; i++)
		munmap((void *)(uintptr_t)image->parts[i].address, image->parts[i].size);
}

int build_and_apply(const struct ub_image_request *request, struct ub_image **image)
{
	struct ub_reason why = {};
	int err = -EAGAIN;

	for (u32 tries = 0; tries < 10 && err == -EAGAIN; tries++) {
		err = ub_image_build(request, image, &why);
		if (!err)
			err = apply_image(*image);
	}
	if (err)
		dprintf(2, "%s: %s\n", strerror(-err), why.text);
	return err;
}

static bool was_busy;

int run_in_child(int (*run)(void *opaque), void *opaque)
{
	const time_t deadline = time(NULL) + PATIENCE;
	int status;

	for (;;) {
		pid_t pid = fork();

		if (pid < 0)
			abort();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			alarm(60);
			_exit(run(opaque));
		}
		if (waitpid(pid, &status, 0) != pid)
			abort();
		if (!WIFEXITED(status) || WEXITSTATUS(status) != CHILD_BUSY)
			return status;
		if (was_busy || time(NULL) >= deadline)
			break;
		usleep(200000);
	}
	was_busy = true;
	return 0;
}

int end_of_tests(int failed)
{
	if (failed || !was_busy)
		return failed;
	printf("skip: somebody else holds kernel uprobes in libc\n");
	return 77;
}

struct calls {
	void (*call)(void);
	u32 times;
};

static void *make_calls(void *opaque)
{
	const struct calls *calls = opaque;

	for (u32 i = 0; i < calls->times; i++)
		calls->call();
	return NULL;
}

int call_in_threads(void (*call)(void), u32 times, u32 nr_threads)
{
	struct calls calls = { call, times };
	pthread_t threads[MAX_THREADS];

	if (nr_threads == 1) {
		make_calls(&calls);
		return 0;
	}
	if (nr_threads > MAX_THREADS)
		return -EINVAL;
	for (u32 i = 0; i < nr_threads; i++)
		if (pthread_create(&threads[i], NULL, make_calls, &calls))
			return -EAGAIN;
	for (u32 i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

struct ub_point point_of(const void *code, enum ub_point_kind kind)
{
	struct ub_point point = { .kind = kind };
	struct ub_address_space space;

	if (ub_address_space_read(getpid(), &space, NULL))
		abort();
	for (u32 i = 0; i < space.nr; i++) {
		const struct ub_mapping *mapping = &space.mappings[i];
		struct stat stat_;

		if ((u64)(uintptr_t)code < mapping->start || (u64)(uintptr_t)code >= mapping->end)
			continue;
		if (stat(mapping->name, &stat_))
			abort();
		point.dev = stat_.st_dev;
		point.ino = stat_.st_ino;
		point.offset = (u64)(uintptr_t)code - mapping->start + mapping->offset;
	}
	ub_address_space_free(&space);
	return point;
}

static struct ub_program *program_of(const struct bpf_insn *insns, u32 nr, u32 nr_maps)
{
	struct ub_program *program = ub_program_new(nr);

	if (!program)
		abort();
	memcpy(program->insns, insns, nr * sizeof(*insns));
	program->type = BPF_PROG_TYPE_KPROBE;
	program->subprogs[0].stack_depth = 0;
	program->nr_maps = nr_maps;
	if (nr_maps)
		program->maps[0] = (struct ub_map_attr) { .type = BPF_MAP_TYPE_ARRAY,
							  .key_size = 4,
							  .value_size = 64,
							  .max_entries = 1 };
	return program;
}

#define INSN(c, d, s, o, i)                                                                        \
	{                                                                                          \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)                \
	}

struct ub_program *counting_program(u32 offset)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, 0),
		INSN(0, 0, 0, 0, (s32)offset),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
		INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 1, 2, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return program_of(insns, ub_array_size(insns), 1);
}

struct ub_program *context_program(u32 word)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_LDX | BPF_DW | BPF_MEM, 3, 1, (s16)(word * 8), 0),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, 0),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_STX | BPF_DW | BPF_MEM, 1, 3, 8, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
		INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 1, 2, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	struct ub_program *program = program_of(insns, ub_array_size(insns), 1);

	program->ctx.words = 1ull << word;
	return program;
}

struct ub_program *identity_program(void)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_current_pid_tgid),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, 0),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_STX | BPF_DW | BPF_MEM, 1, 0, 8, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
		INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 1, 2, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return program_of(insns, ub_array_size(insns), 1);
}

struct ub_program *busy_program(void)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_current_pid_tgid),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	struct ub_program *program = program_of(insns, ub_array_size(insns), 0);

	program->ctx.escapes = true;
	return program;
}

struct ub_program *reading_program(void)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
		INSN(BPF_LDX | BPF_DW | BPF_MEM, 3, 6, 14 * 8, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, -16),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 16),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_probe_read_user),
		INSN(BPF_LDX | BPF_DW | BPF_MEM, 3, 6, 19 * 8, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, -16),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 16),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_probe_read_user),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	struct ub_program *program = program_of(insns, ub_array_size(insns), 0);

	program->ctx.words = 1ull << 14 | 1ull << 19;
	program->subprogs[0].stack_depth = 16;
	return program;
}

struct ub_program *empty_program(void)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return program_of(insns, ub_array_size(insns), 0);
}

int test_map_create_as(const struct ub_map_attr *attr, u32 nr_cpus, struct test_map *map)
{
	u64 bytes = ub_map_shared_size(attr, nr_cpus);
	void *shared;

	map->image = (struct ub_image_map) {
		.attr = *attr,
		.fd = memfd_create("ubpf-run:map", MFD_CLOEXEC),
	};
	if (map->image.fd < 0 || ftruncate(map->image.fd, (off_t)bytes))
		return -errno;
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map->image.fd, 0);
	if (shared == MAP_FAILED)
		return -errno;
	ub_map_bind(&map->map, attr, nr_cpus, shared);
	ub_map_format(&map->map);
	return 0;
}

int test_map_create(u32 size, struct test_map *map)
{
	const struct ub_map_attr attr = {
		.type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = size, .max_entries = 1
	};

	return test_map_create_as(&attr, 1, map);
}

void test_map_destroy(struct test_map *map)
{
	munmap(map->map.shared, map->map.shared_size);
	close(map->image.fd);
}

u64 *test_map_values(const struct test_map *map)
{
	return (u64 *)(map->map.shared + map->map.values_offset);
}
