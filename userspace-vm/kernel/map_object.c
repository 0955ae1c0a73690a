// SPDX-License-Identifier: MIT
/* Maps: creation, their memory and their files. */
#include <common/clock.h>
#include <kernel/kinds.h>

#include <bpf/btf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define ENOTSUPP    524
#define MAX_NESTING 4

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Memory for a map: no holder may change its size under us, or make it executable. */
static int create_memory(u64 size)
{
	_cleanup_close_ int fd = -1;

	fd = memfd_create("ubpf-run:map", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("ubpf-run:map", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size))
		return errno == EFBIG || errno == EINVAL ? -E2BIG : -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		return -errno;
	return TAKE_FD(fd);
}

static bool is_mmapable(const struct ub_map_attr *attr)
{
	return attr->type == BPF_MAP_TYPE_RINGBUF || attr->type == BPF_MAP_TYPE_USER_RINGBUF ||
	       (attr->type == BPF_MAP_TYPE_ARRAY && attr->flags & BPF_F_MMAPABLE);
}

void ub_kmap_destroy(struct ub_object *object)
{
	struct ub_kernel_map *map = ub_to_map(object);

	if (map->object.kernel->unpublished == map)
		map->object.kernel->unpublished = NULL;
	for (u32 i = 0; i < map->nr_slots; i++)
		ub_object_put(map->slots[i]);
	free(map->slots);
	free(map->cgroups);
	free(map->batch_key);
	ub_timer_remove(map->task_sweep);
	ub_timer_remove(map->left_sweep);
	if (map->map.shared)
		munmap(map->map.shared, map->map.shared_size);
	if (map->memfd >= 0)
		close(map->memfd);
	if (map->eventfd >= 0)
		close(map->eventfd);
	ub_kmap_free_late(map);
	if (map->btf)
		ub_object_put(&map->btf->object);
	free(map);
}

static int resolve(const struct btf *btf, u32 id, const struct btf_type **type, s64 *size)
{
	s32 real = btf__resolve_type(btf, id);

	if (real <= 0)
		return -EINVAL;
	*type = btf__type_by_id(btf, (u32)real);
	*size = btf__resolve_size(btf, id);
	return *type && *size >= 0 ? 0 : -EINVAL;
}

/* map_check_btf() of the kernel and of its map types. */
static int check_btf(const struct ub_map_attr *attr, const struct btf *btf, u32 key_id,
		     u32 value_id)
{
	const struct btf_type *key = NULL, *value;
	s64 key_size, value_size;

	if (key_id) {
		if (resolve(btf, key_id, &key, &key_size) || key_size != attr->key_size)
			return -EINVAL;
	}
	if (resolve(btf, value_id, &value, &value_size) || value_size != attr->value_size)
		return -EINVAL;
	switch (attr->type) {
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		if (!key) /* .bss, .data, .rodata */
			return attr->type == BPF_MAP_TYPE_ARRAY && attr->max_entries == 1 &&
					       btf_is_datasec(value)
				       ? 0
				       : -EINVAL;
		return btf_is_int(key) && btf_int_bits(key) == 32 && !btf_int_offset(key) ? 0
											  : -EINVAL;
	case BPF_MAP_TYPE_TASK_STORAGE:
		return key && btf_is_int(key) && btf_int_bits(key) == 32 && !btf_int_offset(key)
			       ? 0
			       : -EINVAL;
	case BPF_MAP_TYPE_LPM_TRIE:
		return key && btf_is_struct(key) ? 0 : -EINVAL;
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return key ? -EINVAL : 0;
	case BPF_MAP_TYPE_STACK_TRACE:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return -ENOTSUPP;
	default:
		return key ? 0 : -EINVAL;
	}
}

/* Notes where a value, or a struct in it, has a spin lock or a timer: btf_parse_fields(). */
static void find_fields(const struct btf *btf, u32 id, u32 base, u32 depth,
			struct ub_map_attr *attr)
{
	s32 real = btf__resolve_type(btf, id);
	const struct btf_type *type = real > 0 ? btf__type_by_id(btf, (u32)real) : NULL;

	if (!type || !btf_is_struct(type) || depth > MAX_NESTING)
		return;
	for (u32 i = 0; i < btf_vlen(type); i++) {
		const struct btf_member *member = &btf_members(type)[i];
		u32 at = base + btf_member_bit_offset(type, i) / 8;
		s32 inner = btf__resolve_type(btf, member->type);
		const struct btf_type *t = inner > 0 ? btf__type_by_id(btf, (u32)inner) : NULL;
		const char *name = t ? btf__name_by_offset(btf, t->name_off) : NULL;

		if (!name || !btf_is_struct(t) || at > attr->value_size ||
		    t->size > attr->value_size - at)
			continue;
		if (!strcmp(name, "bpf_spin_lock") && t->size == 4 && at % 4 == 0)
			attr->lock = at + 1;
		else if (!strcmp(name, "bpf_timer") && t->size == 16 && at % 8 == 0)
			attr->timer = at + 1;
		else
			find_fields(btf, member->type, at, depth + 1, attr);
	}
}

/* map_check_btf(): which maps may have such values. */
static int check_fields(const struct ub_map_attr *attr)
{
	if (!attr->lock && !attr->timer)
		return 0;
	if (attr->flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG))
		return -EACCES;
	switch (attr->type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_ARRAY:
		return 0;
	case BPF_MAP_TYPE_TASK_STORAGE:
		return attr->timer ? -EOPNOTSUPP : 0;
	case BPF_MAP_TYPE_LRU_HASH:
		return attr->lock ? -EOPNOTSUPP : 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int set_btf(struct ub_kernel_map *map, struct ub_caller *caller, const union bpf_attr *a)
{
	struct ub_object *object;
	struct ub_kbtf *btf;
	int err;

	if (!a->btf_key_type_id && !a->btf_value_type_id)
		return 0;
	err = ub_file_object(map->object.kernel, caller, (s32)a->btf_fd, UB_KIND_BTF, &object);
	if (err)
		return err;
	btf = ub_to_btf(object);
	if (a->btf_value_type_id) {
		err = check_btf(&map->map.attr, btf->btf, a->btf_key_type_id, a->btf_value_type_id);
		if (err)
			return err;
		find_fields(btf->btf, a->btf_value_type_id, 0, 0, &map->map.attr);
		err = check_fields(&map->map.attr);
		if (err)
			return err;
	}
	ub_object_get(object);
	map->btf = btf;
	map->btf_key_type_id = a->btf_key_type_id;
	map->btf_value_type_id = a->btf_value_type_id;
	return 0;
}

/* The template of a map of maps: array_of_map_alloc(), bpf_map_meta_alloc(). */
static int set_inner(struct ub_kernel_map *map, struct ub_caller *caller, int inner_fd)
{
	struct ub_object *object;
	struct ub_kernel_map *inner;
	int err;

	if (map->map.attr.type != BPF_MAP_TYPE_ARRAY_OF_MAPS &&
	    map->map.attr.type != BPF_MAP_TYPE_HASH_OF_MAPS)
		return 0;
	err = ub_file_object(map->object.kernel, caller, inner_fd, UB_KIND_MAP, &object);
	if (err)
		return err;
	inner = ub_to_map(object);
	if (inner->inner.type) /* one level only */
		return -EINVAL;
	if (inner->map.attr.type == BPF_MAP_TYPE_PROG_ARRAY ||
	    inner->map.attr.type == BPF_MAP_TYPE_CGROUP_STORAGE ||
	    inner->map.attr.type == BPF_MAP_TYPE_STRUCT_OPS)
		return -ENOTSUPP;
	map->inner = inner->map.attr;
	return 0;
}

static int alloc_memory(struct ub_kernel_map *map)
{
	const struct ub_map_attr shape = map->map.attr, *attr = &shape;
	u32 nr_cpus = map->object.kernel->nr_cpus;
	u64 size = ub_map_shared_size(attr, nr_cpus);
	struct sysinfo machine;
	void *shared;

	/* As Linux, which allocates most of it at once: more than there is can't be had. */
	if (!sysinfo(&machine) && size > (u64)machine.totalram * machine.mem_unit)
		return -ENOMEM;
	map->memfd = create_memory(size);
	if (map->memfd < 0)
		return map->memfd;
	shared =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, map->memfd, 0);
	if (shared == MAP_FAILED)
		return -ENOMEM;
	ub_map_bind(&map->map, attr, nr_cpus, shared);
	map->map.shared = shared;
	map->map.shared_size = size;
	ub_map_format(&map->map);
	switch (attr->type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		map->slots = calloc(attr->max_entries, sizeof(*map->slots));
		if (!map->slots)
			return -ENOMEM;
		map->nr_slots = attr->max_entries;
		break;
	default:
		break;
	}
	return 0;
}

static int check_create(const struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;
	u32 modes = a->map_flags & (BPF_F_RDONLY | BPF_F_WRONLY);

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(map_extra)))
		return -EINVAL;
	if (a->btf_vmlinux_value_type_id || (a->btf_key_type_id && !a->btf_value_type_id))
		return -EINVAL;
	if (a->map_type != BPF_MAP_TYPE_BLOOM_FILTER && a->map_extra)
		return -EINVAL;
	if (a->map_type == BPF_MAP_TYPE_TASK_STORAGE &&
	    (!a->btf_key_type_id || !a->btf_value_type_id))
		return -EINVAL;
	if (modes == (BPF_F_RDONLY | BPF_F_WRONLY))
		return -EINVAL;
	if (a->map_flags & BPF_F_NUMA_NODE && a->numa_node)
		return -EINVAL;
	if (a->map_ifindex)
		return -EINVAL;
	return 0;
}

s64 ub_cmd_map_create(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	const union bpf_attr *a = &attr->a;
	struct ub_map_attr shape = { .type = a->map_type,
				     .key_size = a->key_size,
				     .value_size = a->value_size,
				     .max_entries = a->max_entries,
				     .flags = a->map_flags,
				     .extra = a->map_extra };
	_cleanup_object_ struct ub_object *object = NULL;
	struct ub_kernel_map *map;
	int err;

	err = check_create(attr);
	if (err)
		return err;
	err = ub_map_check(&shape, k->nr_cpus);
	if (err)
		return err;
	map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	map->memfd = -1;
	map->eventfd = -1;
	err = ub_object_init(&map->object, k, UB_KIND_MAP, c);
	if (err) {
		free(map);
		return err;
	}
	object = &map->object;
	map->map.attr = shape;
	map->map.attr.id = object->id;
	map->mode = shape.flags & BPF_F_RDONLY	 ? UB_FILE_READ
		    : shape.flags & BPF_F_WRONLY ? UB_FILE_WRITE
						 : UB_FILE_RDWR;
	map->mmapable = is_mmapable(&shape);
	err = set_inner(map, c, (s32)a->inner_map_fd);
	if (!err) {
		err = ub_attr_name(map->name, a->map_name);
		err = err < 0 ? err : 0;
	}
	if (!err)
		err = set_btf(map, c, a);
	if (!err)
		err = alloc_memory(map);
	if (err)
		return err;
	if (shape.type == BPF_MAP_TYPE_TASK_STORAGE)
		ub_kmap_task_watch(map);
	*fd = ub_kmap_open(map, map->mode);
	return *fd < 0 ? *fd : 0;
}

int ub_kmap_open(struct ub_kernel_map *map, u32 mode)
{
	if (!map->mmapable)
		return ub_file_socket(&map->object, mode);
	/* All descriptions of one memfd share its inode, by which they are known. */
	return ub_file_memory(&map->object, map->memfd, map->mode);
}

int ub_kernel_map_fd(const struct ub_kernel_map *map)
{
	return map->memfd;
}

const struct ub_map_attr *ub_kernel_map_attr(const struct ub_kernel_map *map)
{
	return &map->map.attr;
}

u32 ub_kernel_map_id(const struct ub_kernel_map *map)
{
	return map->object.id;
}

static bool says_alive(void *opaque, u32 tgid)
{
	return true;
}

static void sweep_left(struct ub_kernel_map *map, bool again);

static void on_sweep_due(void *opaque)
{
	struct ub_kernel_map *map = opaque;
	bool left = map->left;

	map->left_sweep = NULL;
	map->left = false;
	sweep_left(map, left);
}

/* @again: and then once more, for what could not be told while others were busy there. */
static void sweep_left(struct ub_kernel_map *map, bool again)
{
	u64 from = ub_now_ns();

	ub_map_sweep(&map->map, says_alive, NULL);
	if (again)
		map->left_sweep =
			ub_loop_after(map->object.kernel->loop,
				      1 + 16 * (ub_now_ns() - from) / 1000000, on_sweep_due, map);
}

/* The target says so, as often as it likes: no map is swept for more than a fraction of the
 * time. */
void ub_kmap_sweep_left(struct ub_kernel_map *map)
{
	if (map->left_sweep)
		map->left = true;
	else
		sweep_left(map, true);
}

void ub_kernel_sweep(struct ub_kernel *kernel, bool (*is_alive)(void *opaque, u32 tgid),
		     void *opaque)
{
	const struct ub_id_space *space = &kernel->ids[UB_KIND_MAP];

	for (u32 i = 0; i < space->nr; i++)
		ub_map_sweep(&ub_to_map(space->objects[i])->map, is_alive, opaque);
}
