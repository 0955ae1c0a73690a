// SPDX-License-Identifier: MIT
/*
 * CGROUP_ARRAY: an update gives the descriptor of a directory of the unified hierarchy; programs
 * find the control group's id in the entry (cgroup_id() in Linux: the directory's inode), to be
 * compared with those of their process. Ids are not given twice, so of a group that is removed
 * nothing needs to be kept.
 */
#include <kernel/kinds.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <map/array.h>

/* cgroup_get_from_fd(): -EBADF for what is no directory of control groups, -ENOENT for one that was
 * removed. */
static int cgroup_id(const struct ub_caller *caller, int fd, u64 *id)
{
	_cleanup_close_ int dir = -1;
	struct statfs fs;
	struct stat st;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", caller->pid, fd);
	dir = fd < 0 ? -1 : open(path, O_PATH | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) || fstatfs(dir, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC ||
	    !S_ISDIR(st.st_mode))
		return -EBADF;
	if (!st.st_nlink)
		return -ENOENT;
	*id = st.st_ino;
	return 0;
}

static void set(struct ub_kernel_map *map, u32 index, u64 id)
{
	map->cgroups[index] = id;
	__atomic_store_n((u64 *)ub_array_value(&map->map, index, 0), id, __ATOMIC_RELEASE);
}

int ub_kmap_cgroup_update(struct ub_kernel_map *map, const struct ub_caller *caller, u32 index,
			  s32 fd)
{
	u64 id;
	int err = cgroup_id(caller, fd, &id);

	if (err)
		return err;
	if (!map->cgroups)
		map->cgroups = calloc(map->nr_slots, sizeof(*map->cgroups));
	if (!map->cgroups)
		return -ENOMEM;
	set(map, index, id);
	return 0;
}

int ub_kmap_cgroup_delete(struct ub_kernel_map *map, u32 index)
{
	if (!map->cgroups || !map->cgroups[index])
		return -ENOENT;
	set(map, index, 0);
	return 0;
}
