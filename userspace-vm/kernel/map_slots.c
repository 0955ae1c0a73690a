// SPDX-License-Identifier: MIT
/*
 * Maps whose values are objects: PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY and maps of maps. An
 * update gives an fd of the caller's; a lookup gets the object's id. The references are kept here;
 * the shared memory of the map holds ids only, which mean nothing to a process that writes there.
 * Control groups are no objects of ours: map_cgroup.c.
 */
#include <kernel/kinds.h>

#include <string.h>

#define ENOTSUPP 524

bool ub_kmap_holds_objects(const struct ub_kernel_map *map)
{
	switch (map->map.attr.type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		return true;
	default:
		return false;
	}
}

static bool is_hash(const struct ub_kernel_map *map)
{
	return map->map.attr.type == BPF_MAP_TYPE_HASH_OF_MAPS;
}

static void changed(struct ub_kernel_map *map)
{
	struct ub_kernel *kernel = map->object.kernel;

	if (kernel->ops->map_changed)
		kernel->ops->map_changed(kernel->opaque, map);
}

/* An inner map is known wherever programs run before they can find its id. */
static void announce(struct ub_kernel_map *map, struct ub_object *object)
{
	map->coming = object;
	changed(map);
	map->coming = NULL;
}

/* bpf_map_meta_equal(): an inner map must look like the template. */
static bool fits_template(const struct ub_kernel_map *map, const struct ub_kernel_map *inner)
{
	const struct ub_map_attr *a = &map->inner, *b = &inner->map.attr;

	if (a->type != b->type || a->key_size != b->key_size || a->value_size != b->value_size ||
	    a->flags != b->flags || a->lock != b->lock || a->timer != b->timer)
		return false;
	/* Lookups in arrays are compiled with the bound in them, unless BPF_F_INNER_MAP says not
	 * to. */
	if (a->type == BPF_MAP_TYPE_ARRAY && !(a->flags & BPF_F_INNER_MAP))
		return a->max_entries == b->max_entries;
	return true;
}

/* prog_array: all programs in one array, and all that use it, must be of one kind. */
static bool fits_programs(const struct ub_kernel_map *map, const struct ub_kprog *prog)
{
	for (u32 i = 0; i < map->nr_slots; i++) {
		const struct ub_kprog *other;

		if (!map->slots[i])
			continue;
		other = ub_to_prog(map->slots[i]);
		return other->program->type == prog->program->type &&
		       other->program->sleepable == prog->program->sleepable;
	}
	return true;
}

static int object_by_fd(struct ub_kernel_map *map, struct ub_caller *c, int fd,
			struct ub_object **out)
{
	struct ub_kernel *k = map->object.kernel;
	struct ub_object *object;
	int err;

	switch (map->map.attr.type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
		err = ub_file_object(k, c, fd, UB_KIND_PROG, &object);
		if (!err && !fits_programs(map, ub_to_prog(object)))
			err = -EINVAL;
		break;
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
		err = ub_file_object(k, c, fd, UB_KIND_PERF, &object);
		if (err == -EINVAL)
			err = -EBADF;
		if (!err)
			ub_perf_find_size(ub_to_perf(object));
		break;
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		err = ub_file_object(k, c, fd, UB_KIND_MAP, &object);
		if (!err && !fits_template(map, ub_to_map(object)))
			err = -EINVAL;
		break;
	default:
		return -EBADF;
	}
	if (!err)
		*out = object;
	return err;
}

static int slot_of(const struct ub_kernel_map *map, const void *key, u32 *index)
{
	memcpy(index, key, sizeof(*index));
	return *index < map->nr_slots ? 0 : -E2BIG;
}

/* What programs see of an entry: whether it is there, and where that is a map, its id. */
static void show(struct ub_kernel_map *map, u32 index, const struct ub_object *object)
{
	int err = object ? ub_map_sys_update(&map->map, &index, &object->id, BPF_ANY)
			 : ub_map_sys_delete(&map->map, &index);

	/* The index is good, and of an entry that was not shown there is nothing to take back. */
	(void)err;
}

/* Hash of maps: one reference per entry, in an unordered list. */
static int hash_hold(struct ub_kernel_map *map, struct ub_object *object)
{
	struct ub_object **grown = reallocarray(map->slots, map->nr_slots + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	map->slots = grown;
	map->slots[map->nr_slots++] = object;
	ub_object_get(object);
	return 0;
}

static void hash_let_go(struct ub_kernel_map *map, u32 id)
{
	for (u32 i = 0; i < map->nr_slots; i++) {
		struct ub_object *object = map->slots[i];

		if (object->id != id)
			continue;
		map->slots[i] = map->slots[--map->nr_slots];
		ub_object_put(object);
		return;
	}
}

static int hash_update(struct ub_kernel_map *map, const void *key, struct ub_object *object,
		       u64 flags)
{
	u32 old = 0;
	bool replaces = !ub_map_sys_lookup(&map->map, key, &old, 0);
	int err = hash_hold(map, object);

	if (err)
		return err;
	changed(map);
	err = ub_map_sys_update(&map->map, key, &object->id, flags);
	if (err)
		hash_let_go(map, object->id);
	else if (replaces)
		hash_let_go(map, old);
	return err;
}

int ub_kmap_object_update(struct ub_kernel_map *map, struct ub_caller *caller, const void *key,
			  u32 fd, u64 flags)
{
	struct ub_object *object, *old;
	u32 index = 0;
	int err;

	if (is_hash(map)) {
		err = object_by_fd(map, caller, (s32)fd, &object);
		if (!err)
			err = hash_update(map, key, object, flags);
		return err;
	}
	if (flags != BPF_ANY)
		return -EINVAL;
	err = slot_of(map, key, &index);
	if (!err && map->map.attr.type == BPF_MAP_TYPE_CGROUP_ARRAY)
		return ub_kmap_cgroup_update(map, caller, index, (s32)fd);
	if (!err)
		err = object_by_fd(map, caller, (s32)fd, &object);
	if (err)
		return err;
	old = map->slots[index];
	ub_object_get(object);
	if (object->kind == UB_KIND_MAP)
		announce(map, object);
	map->slots[index] = object;
	/* Programs don't go by what is shown here, but by what the change brought them. */
	if (object->kind != UB_KIND_MAP)
		changed(map);
	show(map, index, object);
	ub_object_put(old);
	return 0;
}

int ub_kmap_object_lookup(struct ub_kernel_map *map, const void *key, u32 *id)
{
	u32 index;

	if (is_hash(map))
		return ub_map_sys_lookup(&map->map, key, id, 0);
	if (map->map.attr.type != BPF_MAP_TYPE_PROG_ARRAY &&
	    map->map.attr.type != BPF_MAP_TYPE_ARRAY_OF_MAPS)
		return -ENOTSUPP;
	if (slot_of(map, key, &index) || !map->slots[index])
		return -ENOENT;
	*id = map->slots[index]->id;
	return 0;
}

int ub_kmap_object_delete(struct ub_kernel_map *map, const void *key)
{
	struct ub_object *old;
	u32 index, id;
	int err;

	if (is_hash(map)) {
		bool there = !ub_map_sys_lookup(&map->map, key, &id, 0);

		err = ub_map_sys_delete(&map->map, key);
		if (!err && there)
			hash_let_go(map, id);
		if (!err)
			changed(map);
		return err;
	}
	err = slot_of(map, key, &index);
	if (err)
		return err;
	if (map->map.attr.type == BPF_MAP_TYPE_CGROUP_ARRAY)
		return ub_kmap_cgroup_delete(map, index);
	old = map->slots[index];
	if (!old)
		return -ENOENT;
	map->slots[index] = NULL;
	show(map, index, NULL);
	changed(map);
	ub_object_put(old);
	return 0;
}

int ub_kmap_object_next_key(struct ub_kernel_map *map, const void *key, void *next)
{
	u32 index = UINT32_MAX;

	if (is_hash(map))
		return ub_map_sys_next_key(&map->map, key, next);
	if (key)
		memcpy(&index, key, sizeof(index));
	/* array_map_get_next_key(): an index that is none means the first. */
	if (index >= map->nr_slots)
		index = 0;
	else if (index == map->nr_slots - 1)
		return -ENOENT;
	else
		index++;
	memcpy(next, &index, sizeof(index));
	return 0;
}

/* The last file and pin is gone: references in a circle (a program array holds programs that hold
 * the array) must not keep each other alive. */
void ub_kmap_release_user(struct ub_object *object)
{
	struct ub_kernel_map *map = ub_to_map(object);
	bool any = false;

	if (map->map.attr.type != BPF_MAP_TYPE_PROG_ARRAY &&
	    (map->map.attr.type != BPF_MAP_TYPE_PERF_EVENT_ARRAY ||
	     map->map.attr.flags & BPF_F_PRESERVE_ELEMS))
		return;
	ub_object_get(object);
	for (u32 i = 0; i < map->nr_slots; i++) {
		struct ub_object *old = map->slots[i];

		if (!old)
			continue;
		map->slots[i] = NULL;
		show(map, i, NULL);
		ub_object_put(old);
		any = true;
	}
	if (any)
		changed(map);
	ub_object_put(object);
}

u32 ub_kernel_map_slots(const struct ub_kernel_map *map)
{
	return map->nr_slots + (map->coming ? 1 : 0);
}

struct ub_kernel_map *ub_kernel_map_inner(const struct ub_kernel_map *map, u32 index)
{
	if (map->coming && index == map->nr_slots)
		return ub_to_map(map->coming);
	if (index >= map->nr_slots || !map->slots[index] || map->slots[index]->kind != UB_KIND_MAP)
		return NULL;
	return ub_to_map(map->slots[index]);
}

bool ub_kernel_map_program(const struct ub_kernel_map *map, u32 index, struct ub_link_view *view)
{
	const struct ub_kprog *prog;

	if (index >= map->nr_slots || !map->slots[index] || map->slots[index]->kind != UB_KIND_PROG)
		return false;
	prog = ub_to_prog(map->slots[index]);
	*view = (struct ub_link_view) { .prog_id = prog->object.id,
					.session = prog->object.session,
					.program = prog->program,
					.code = &prog->code,
					.nr_maps = prog->nr_maps,
					.maps = prog->maps };
	return true;
}

/* Linux refuses what does not fit: such a program does not know the context. */
int ub_reach_slot(const struct ub_reach *reach, const struct ub_kernel_map *map, u32 slot)
{
	const struct ub_program *first = reach->progs[0]->program;
	const struct ub_kprog *prog = map->slots[slot] ? ub_to_prog(map->slots[slot]) : NULL;

	if (!prog || prog->program->type != first->type ||
	    prog->program->sleepable != first->sleepable)
		return -1;
	for (u32 i = 0; i < reach->nr; i++)
		if (reach->progs[i] == prog)
			return (int)i;
	return -1;
}

static void reach_array(struct ub_reach *reach, const struct ub_kernel_map *map)
{
	const struct ub_program *first = reach->progs[0]->program;

	for (u32 slot = 0; slot < map->nr_slots && reach->nr < ub_array_size(reach->progs);
	     slot++) {
		struct ub_kprog *prog = map->slots[slot] ? ub_to_prog(map->slots[slot]) : NULL;

		if (prog && prog->program->type == first->type &&
		    prog->program->sleepable == first->sleepable &&
		    ub_reach_slot(reach, map, slot) < 0)
			reach->progs[reach->nr++] = prog;
	}
}

void ub_kprog_reach(struct ub_kprog *prog, struct ub_reach *reach)
{
	reach->progs[0] = prog;
	reach->nr = 1;
	for (u32 i = 0; i < reach->nr; i++)
		for (u32 m = 0; m < reach->progs[i]->nr_maps; m++)
			if (reach->progs[i]->maps[m]->map.attr.type == BPF_MAP_TYPE_PROG_ARRAY)
				reach_array(reach, reach->progs[i]->maps[m]);
}
