// SPDX-License-Identifier: MIT
#include "sides.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

unsigned int possible_cpus(void)
{
	unsigned int first, last = 0;
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");

	if (!file)
		return (unsigned int)sysconf(_SC_NPROCESSORS_CONF);
	if (fscanf(file, "%u-%u", &first, &last) < 1)
		last = 0;
	fclose(file);
	return last + 1;
}

long kernel_bpf(int command, union bpf_attr *attr)
{
	long ret = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return ret < 0 ? -errno : ret;
}

int kernel_map_create(const struct ub_map_attr *attr)
{
	union bpf_attr create;

	memset(&create, 0, sizeof(create));
	create.map_type = attr->type;
	create.key_size = attr->key_size;
	create.value_size = attr->value_size;
	create.max_entries = attr->max_entries;
	create.map_flags = attr->flags;
	create.map_extra = attr->extra;
	return (int)kernel_bpf(BPF_MAP_CREATE, &create);
}

bool kernel_comparable(void)
{
	struct ub_map_attr attr = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 1
	};
	struct utsname name;
	int fd;

	if (uname(&name) || strncmp(name.release, "6.18.", 5)) {
		printf("skip: compares with Linux 6.18, and this is another\n");
		return false;
	}
	fd = kernel_map_create(&attr);
	if (fd < 0) {
		printf("skip: bpf(2) is not allowed here, nothing to compare with\n");
		return false;
	}
	close(fd);
	return true;
}

static long elem(int command, int fd, const void *key, const void *value, u64 flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (u32)fd;
	attr.key = (u64)key;
	attr.value = (u64)value;
	attr.flags = flags;
	return kernel_bpf(command, &attr);
}

int kernel_lookup(int fd, const void *key, void *value, u64 flags)
{
	return (int)elem(BPF_MAP_LOOKUP_ELEM, fd, key, value, flags);
}

int kernel_update(int fd, const void *key, const void *value, u64 flags)
{
	return (int)elem(BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
}

int kernel_delete(int fd, const void *key)
{
	return (int)elem(BPF_MAP_DELETE_ELEM, fd, key, NULL, 0);
}

int kernel_take(int fd, const void *key, void *value, u64 flags)
{
	return (int)elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, key, value, flags);
}

int kernel_next_key(int fd, const void *key, void *next)
{
	return (int)elem(BPF_MAP_GET_NEXT_KEY, fd, key, next, 0);
}

void our_map_create(struct ub_map *map, const struct ub_map_attr *attr)
{
	u32 cpus = possible_cpus();
	int err = ub_map_check(attr, cpus);
	void *shared;

	if (err) {
		fprintf(stderr, "map of type %u refused: %d\n", attr->type, err);
		exit(1);
	}
	shared = mmap(NULL, ub_map_shared_size(attr, cpus), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	ub_map_bind(map, attr, cpus, shared);
	ub_map_format(map);
}

void our_map_destroy(struct ub_map *map)
{
	munmap(map->shared, map->shared_size);
	map->shared = NULL;
}
