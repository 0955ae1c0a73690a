// SPDX-License-Identifier: MIT
/* The commands on one element of a map, and freezing. */
#include <kernel/kinds.h>

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define ENOTSUPP 524

u32 ub_kmap_value_size(const struct ub_kernel_map *map)
{
	return ub_kmap_holds_objects(map) ? sizeof(u32) : ub_map_user_value_size(&map->map);
}

int ub_kmap_update(struct ub_kernel_map *map, struct ub_caller *caller, const void *key,
		   const void *value, u64 flags)
{
	u32 fd;

	if (!ub_kmap_holds_objects(map))
		return ub_map_sys_update(&map->map, key, value, flags);
	memcpy(&fd, value, sizeof(fd));
	return ub_kmap_object_update(map, caller, key, fd, flags);
}

int ub_kmap_lookup(struct ub_kernel_map *map, const void *key, void *value, u64 flags)
{
	u32 id;
	int err;

	if (!ub_kmap_holds_objects(map))
		return ub_map_sys_lookup(&map->map, key, value, flags);
	err = ub_kmap_object_lookup(map, key, &id);
	if (!err)
		memcpy(value, &id, sizeof(id));
	return err;
}

int ub_kmap_delete(struct ub_kernel_map *map, const void *key)
{
	return ub_kmap_holds_objects(map) ? ub_kmap_object_delete(map, key)
					  : ub_map_sys_delete(&map->map, key);
}

int ub_kmap_next_key(struct ub_kernel_map *map, const void *key, void *next)
{
	/* There is a pidfd for a thread's element, but no element's pidfd. */
	if (map->map.attr.type == BPF_MAP_TYPE_TASK_STORAGE)
		return -ENOTSUPP;
	return ub_kmap_holds_objects(map) ? ub_kmap_object_next_key(map, key, next)
					  : ub_map_sys_next_key(&map->map, key, next);
}

/* The map behind the caller's fd, if the fd and the map allow @mode. */
static int get_map(struct ub_kernel *k, struct ub_caller *c, u32 fd, u32 mode,
		   struct ub_kernel_map **out)
{
	struct ub_file *file;
	struct ub_kernel_map *map;
	int err = ub_file_get(k, c, (s32)fd, &file);

	if (err)
		return err;
	if (file->object->kind != UB_KIND_MAP)
		return -EINVAL;
	map = ub_to_map(file->object);
	if ((file->mode & mode) != mode || (mode & UB_FILE_WRITE && map->frozen))
		return -EPERM;
	*out = map;
	return 0;
}

/* Copies a key, with room for a TASK_STORAGE's own; maps without keys (queues) are given none. */
static int copy_key(struct ub_kernel_map *map, struct ub_caller *c, u64 address, void **out)
{
	u32 size = map->map.attr.key_size;
	_cleanup_free_ void *key = NULL;
	int err;

	if (!size)
		return address ? -EINVAL : 0;
	key = malloc(size > sizeof(u64) ? size : sizeof(u64));
	if (!key)
		return -ENOMEM;
	err = c->read(c, address, key, size);
	if (!err)
		*out = TAKE_PTR(key);
	return err;
}

/* The key that the caller gave becomes the one by which the map knows the element. */
static int find_element(struct ub_kernel_map *map, struct ub_caller *c, void *key)
{
	s32 pidfd;

	if (map->map.attr.type != BPF_MAP_TYPE_TASK_STORAGE)
		return 0;
	memcpy(&pidfd, key, sizeof(pidfd));
	return ub_kmap_task_key(c, pidfd, key);
}

/* What a command on an element works with. */
struct element {
	struct ub_kernel_map *map;
	void *key;
	void *value;
	u32 size; /* of value */
};

static void element_deinit(struct element *e)
{
	free(e->key);
	free(e->value);
}

#define _cleanup_element_ _cleanup_(element_deinit)

/* The map that allows @mode, and the caller's key. */
static int get_element(struct ub_kernel *k, struct ub_caller *c, const struct ub_attr *a, u32 mode,
		       struct element *e)
{
	int err = get_map(k, c, a->a.map_fd, mode, &e->map);

	if (err)
		return err;
	if (a->a.flags & BPF_F_LOCK && !e->map->map.attr.lock)
		return -EINVAL;
	return copy_key(e->map, c, a->a.key, &e->key);
}

/* Zeroes in the place of its value. */
static int make_value(struct element *e)
{
	e->size = ub_kmap_value_size(e->map);
	e->value = calloc(1, e->size ? e->size : 1);
	return e->value ? 0 : -ENOMEM;
}

s64 ub_cmd_map_lookup(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	_cleanup_element_ struct element e = {};
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(flags)) || a->a.flags & ~(u64)BPF_F_LOCK)
		return -EINVAL;
	err = get_element(k, c, a, UB_FILE_READ, &e);
	if (!err)
		err = make_value(&e);
	if (err)
		return err;
	if (e.map->map.attr.type == BPF_MAP_TYPE_BLOOM_FILTER) {
		/* The question is the value: is it in there? */
		err = c->read(c, a->a.value, e.value, e.size);
		if (err)
			return err;
		return ub_map_sys_lookup(&e.map->map, NULL, e.value, 0);
	}
	err = find_element(e.map, c, e.key);
	if (!err)
		err = ub_kmap_lookup(e.map, e.key, e.value, a->a.flags);
	return err ? err : c->write(c, a->a.value, e.value, e.size);
}

s64 ub_cmd_map_update(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	_cleanup_element_ struct element e = {};
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(flags)))
		return -EINVAL;
	err = get_element(k, c, a, UB_FILE_WRITE, &e);
	if (!err)
		err = make_value(&e);
	if (!err && e.size)
		err = c->read(c, a->a.value, e.value, e.size);
	if (!err)
		err = find_element(e.map, c, e.key);
	return err ? err : ub_kmap_update(e.map, c, e.key, e.value, a->a.flags);
}

s64 ub_cmd_map_delete(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	_cleanup_element_ struct element e = {};
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(key)))
		return -EINVAL;
	err = get_element(k, c, a, UB_FILE_WRITE, &e);
	if (!err)
		err = find_element(e.map, c, e.key);
	return err ? err : ub_kmap_delete(e.map, e.key);
}

s64 ub_cmd_map_next_key(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	_cleanup_free_ void *key = NULL;
	_cleanup_free_ void *next = NULL;
	struct ub_kernel_map *map;
	u32 size;
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(next_key)))
		return -EINVAL;
	err = get_map(k, c, a->a.map_fd, UB_FILE_READ, &map);
	if (err)
		return err;
	if (a->a.key) {
		err = copy_key(map, c, a->a.key, &key);
		if (err)
			return err;
	}
	size = map->map.attr.key_size;
	next = calloc(1, size ? size : 1);
	if (!next)
		return -ENOMEM;
	err = ub_kmap_next_key(map, key, next);
	if (err)
		return err;
	return c->write(c, a->a.next_key, next, size);
}

static bool can_lookup_and_delete(u32 type)
{
	switch (type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_STACK_TRACE:
		return true;
	default:
		return false;
	}
}

s64 ub_cmd_map_lookup_and_delete(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	_cleanup_element_ struct element e = {};
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(flags)) || a->a.flags & ~(u64)BPF_F_LOCK)
		return -EINVAL;
	err = get_element(k, c, a, UB_FILE_RDWR, &e);
	if (!err && !can_lookup_and_delete(e.map->map.attr.type))
		err = -ENOTSUPP;
	if (!err)
		err = make_value(&e);
	if (!err)
		err = ub_map_sys_lookup_and_delete(&e.map->map, e.key, e.value, a->a.flags);
	return err ? err : c->write(c, a->a.value, e.value, e.size);
}

/* Whether the caller has a mapping of the map that it can write to. */
static bool mapped_for_writing(const struct ub_kernel_map *map, const struct ub_caller *c)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	char path[32];
	struct ub_file *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", c->pid);
	maps = fopen(path, "re");
	while (maps && getline(&line, &size, maps) > 0) {
		char rights[5];
		u64 ino;

		if (sscanf(line, "%*s %4s %*s %*s %" SCNu64, rights, &ino) != 2 ||
		    rights[1] != 'w' || rights[3] != 's')
			continue;
		for (u32 i = 0; i < UB_FILE_BUCKETS; i++)
			for (file = map->object.kernel->files[i]; file; file = file->next)
				if (file->object == &map->object && file->ino == ino)
					return true;
	}
	return false;
}

s64 ub_cmd_map_freeze(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a)
{
	struct ub_kernel_map *map;
	int err;

	if (!ub_attr_tail_zero(a, UB_ATTR_END(map_fd)))
		return -EINVAL;
	err = get_map(k, c, a->a.map_fd, 0, &map);
	if (err)
		return err;
	if (ub_kmap_has_fields(map))
		return -ENOTSUPP;
	err = get_map(k, c, a->a.map_fd, UB_FILE_WRITE, &map);
	if (err)
		return err;
	if (map->mmapable && mapped_for_writing(map, c))
		return -EBUSY;
	/* The verifier takes the contents for constants: nobody may get to write them any more.
	 * Where programs may write, their processes must still be able to map it. */
	if (map->map.attr.flags & BPF_F_RDONLY_PROG)
		fcntl(map->memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	map->frozen = true;
	return 0;
}
