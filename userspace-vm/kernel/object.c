// SPDX-License-Identifier: MIT
#include <kernel/object.h>

#include <limits.h>
#include <string.h>

/* First object with an id above @id: index into the sorted array. */
static u32 position_after(const struct ub_id_space *space, u32 id)
{
	u32 low = 0, high = space->nr;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (space->objects[middle]->id <= id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int space_add(struct ub_id_space *space, struct ub_object *object)
{
	if (space->last_id >= INT_MAX)
		return -ENOSPC;
	if (space->nr == space->capacity) {
		u32 capacity = space->capacity ? space->capacity * 2 : 64;
		struct ub_object **grown = reallocarray(space->objects, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		space->objects = grown;
		space->capacity = capacity;
	}
	object->id = ++space->last_id;
	space->objects[space->nr++] = object; /* the highest id so far: stays sorted */
	return 0;
}

static void space_remove(struct ub_id_space *space, struct ub_object *object)
{
	u32 at = position_after(space, object->id);

	if (!at || space->objects[at - 1] != object)
		return;
	memmove(&space->objects[at - 1], &space->objects[at],
		(space->nr - at) * sizeof(*space->objects));
	space->nr--;
}

int ub_object_init(struct ub_object *object, struct ub_kernel *kernel, enum ub_kind kind,
		   const struct ub_caller *caller)
{
	int err;

	*object = (struct ub_object) {
		.kind = kind, .kernel = kernel, .session = caller->session, .uid = caller->uid
	};
	err = space_add(&kernel->ids[kind], object);
	if (err)
		return err;
	object->refs = 1;
	kernel->nr_objects++;
	return 0;
}

void ub_object_get(struct ub_object *object)
{
	object->refs++;
}

void ub_object_put(struct ub_object *object)
{
	static void (*const destroy[UB_KINDS])(struct ub_object *) = {
		[UB_KIND_MAP] = ub_kmap_destroy,   [UB_KIND_PROG] = ub_kprog_destroy,
		[UB_KIND_BTF] = ub_kbtf_destroy,   [UB_KIND_LINK] = ub_klink_destroy,
		[UB_KIND_PERF] = ub_kperf_destroy, [UB_KIND_STATS] = ub_kstats_destroy,
	};
	struct ub_kernel *kernel;

	if (!object || --object->refs)
		return;
	kernel = object->kernel;
	space_remove(&kernel->ids[object->kind], object);
	ub_tick_remove(object);
	kernel->nr_objects--;
	object->next_dying = kernel->dying;
	kernel->dying = object;
	/* One object's end is others' end. A loop, not recursion: clients decide how long the chain
	 * is. */
	if (kernel->destroying)
		return;
	kernel->destroying = true;
	while (kernel->dying) {
		object = kernel->dying;
		kernel->dying = object->next_dying;
		destroy[object->kind](object);
	}
	kernel->destroying = false;
}

void ub_object_get_user(struct ub_object *object)
{
	object->files++;
	ub_object_get(object);
}

void ub_object_put_user(struct ub_object *object)
{
	if (!--object->files && object->kind == UB_KIND_MAP)
		ub_kmap_release_user(object);
	ub_object_put(object);
}

struct ub_object *ub_object_by_id(struct ub_kernel *kernel, enum ub_kind kind, u32 id)
{
	const struct ub_id_space *space = &kernel->ids[kind];
	u32 at = position_after(space, id);

	return at && space->objects[at - 1]->id == id ? space->objects[at - 1] : NULL;
}

struct ub_object *ub_object_after(struct ub_kernel *kernel, enum ub_kind kind, u32 id)
{
	const struct ub_id_space *space = &kernel->ids[kind];
	u32 at = position_after(space, id);

	return at < space->nr ? space->objects[at] : NULL;
}

u32 ub_object_reserve_id(struct ub_kernel *kernel, enum ub_kind kind)
{
	return ++kernel->ids[kind].last_id;
}
