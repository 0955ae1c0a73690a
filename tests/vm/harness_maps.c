// SPDX-License-Identifier: MIT
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"

const struct ub_map_attr vm_map_attrs[VM_NR_MAPS] = {
	[VM_MAP_ARRAY] = { .type = BPF_MAP_TYPE_ARRAY,
			   .key_size = 4,
			   .value_size = VM_MAP_VALUE,
			   .max_entries = VM_MAP_ENTRIES },
	[VM_MAP_PERCPU] = { .type = BPF_MAP_TYPE_PERCPU_ARRAY,
			    .key_size = 4,
			    .value_size = VM_MAP_VALUE,
			    .max_entries = VM_MAP_ENTRIES },
	[VM_MAP_HASH] = { .type = BPF_MAP_TYPE_HASH,
			  .key_size = 4,
			  .value_size = VM_MAP_VALUE,
			  .max_entries = VM_MAP_ENTRIES },
	[VM_MAP_DATA] = { .type = BPF_MAP_TYPE_ARRAY,
			  .key_size = 4,
			  .value_size = VM_MAP_DATA_SIZE,
			  .max_entries = 1 },
	[VM_MAP_PROGS] = { .type = BPF_MAP_TYPE_PROG_ARRAY,
			   .key_size = 4,
			   .value_size = 4,
			   .max_entries = VM_PROG_SLOTS },
};

static struct ub_map storage[VM_KERNEL][VM_NR_MAPS];
static struct ub_map *maps[VM_KERNEL][VM_NR_MAPS];
static struct ub_map *programs[VM_KERNEL][VM_PROG_SLOTS];
static int fds[VM_NR_MAPS] = { -1, -1, -1, -1, -1 };

struct ub_process *vm_process(void)
{
	static struct ub_process process;

	process.size = sizeof(process);
	process.nr_cpus = (u32)sysconf(_SC_NPROCESSORS_CONF);
	return &process;
}

/* Values of another CPU would be other values. */
static void stay_on_one_cpu(void)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

struct ub_map **vm_maps(enum vm_engine engine)
{
	if (maps[engine][0])
		return maps[engine];
	stay_on_one_cpu();
	for (u32 i = 0; i < VM_NR_MAPS; i++) {
		u64 size = ub_round_up(ub_map_shared_size(&vm_map_attrs[i], vm_process()->nr_cpus),
				       4096);
		void *shared = aligned_alloc(4096, size);

		if (!shared)
			abort();
		memset(shared, 0, size);
		ub_map_bind(&storage[engine][i], &vm_map_attrs[i], vm_process()->nr_cpus, shared);
		ub_map_format(&storage[engine][i]);
		maps[engine][i] = &storage[engine][i];
	}
	storage[engine][VM_MAP_PROGS].inner = programs[engine];
	storage[engine][VM_MAP_PROGS].nr_inner = VM_PROG_SLOTS;
	return maps[engine];
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

int vm_map_fd(u32 index)
{
	if (fds[index] < 0) {
		union bpf_attr attr = {
			.map_type = vm_map_attrs[index].type,
			.key_size = vm_map_attrs[index].key_size,
			.value_size = vm_map_attrs[index].value_size,
			.max_entries = vm_map_attrs[index].max_entries,
		};

		fds[index] = sys_bpf(BPF_MAP_CREATE, &attr);
	}
	return fds[index];
}

int vm_set_slot(enum vm_engine engine, u32 slot, u64 target)
{
	union bpf_attr attr = { .key = (u64)&slot };

	if (engine != VM_KERNEL) {
		vm_maps(engine);
		programs[engine][slot] = (struct ub_map *)target;
		return 0;
	}
	attr.map_fd = (u32)vm_map_fd(VM_MAP_PROGS);
	if (!target)
		return sys_bpf(BPF_MAP_DELETE_ELEM, &attr) && errno != ENOENT ? -errno : 0;
	attr.value = (u64)&target;
	return sys_bpf(BPF_MAP_UPDATE_ELEM, &attr) ? -errno : 0;
}

static void reset_kernel_map(u32 index)
{
	static u8 zeroes[1 << 16];

	for (u32 key = 0; key < VM_MAP_KEYS; key++) {
		union bpf_attr attr = { .map_fd = (u32)fds[index], .key = (u64)&key };

		if (index == VM_MAP_HASH) {
			sys_bpf(BPF_MAP_DELETE_ELEM, &attr);
			continue;
		}
		attr.value = (u64)zeroes;
		sys_bpf(BPF_MAP_UPDATE_ELEM, &attr);
	}
}

void vm_maps_reset(void)
{
	for (int engine = 0; engine < VM_KERNEL; engine++) {
		for (u32 i = 0; i < VM_NR_MAPS; i++) {
			struct ub_map *map = vm_maps(engine)[i];

			memset(map->shared, 0, map->shared_size);
			ub_map_format(map);
		}
	}
	for (u32 i = 0; i < VM_NR_MAPS; i++) {
		if (fds[i] >= 0 && i != VM_MAP_PROGS)
			reset_kernel_map(i);
	}
}
