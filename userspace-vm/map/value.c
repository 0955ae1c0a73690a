// SPDX-License-Identifier: MIT
#include <map/value.h>

struct span {
	u32 at, size;
};

/* The fields that are not data, ascending. Their number. */
static u32 fields_of(const struct ub_map *map, struct span *fields)
{
	struct span lock = { map->attr.lock - 1, UB_SPIN_LOCK_SIZE };
	struct span timer = { map->attr.timer - 1, UB_TIMER_SIZE };
	u32 n = 0;

	if (map->attr.lock && !(map->attr.timer && timer.at < lock.at))
		fields[n++] = lock;
	if (map->attr.timer)
		fields[n++] = timer;
	if (map->attr.lock && map->attr.timer && timer.at < lock.at)
		fields[n++] = lock;
	return n;
}

void ub_value_copy_around(const struct ub_map *map, u8 *to, const u8 *from)
{
	struct span fields[2];
	u32 n = fields_of(map, fields), at = 0;

	for (u32 i = 0; i < n; i++) {
		ub_mem_copy(to + at, from + at, fields[i].at - at);
		at = fields[i].at + fields[i].size;
	}
	ub_mem_copy(to + at, from + at, map->attr.value_size - at);
}

void ub_value_zero_fields(const struct ub_map *map, u8 *value)
{
	struct span fields[2];
	u32 n = fields_of(map, fields);

	for (u32 i = 0; i < n; i++)
		ub_mem_zero(value + fields[i].at, fields[i].size);
}

void ub_value_copy_locked(const struct ub_map *map, u8 *to, const u8 *from, bool out,
			  struct ub_run *run)
{
	/* Reading takes the lock as well, which is in the map in either case. */
	u32 *lock = (u32 *)(uintptr_t)((out ? from : to) + map->attr.lock - 1);

	ub_lock_acquire(lock, run);
	ub_value_copy_around(map, to, from);
	ub_lock_release(lock, run);
	if (out)
		ub_value_zero_fields(map, to);
}
