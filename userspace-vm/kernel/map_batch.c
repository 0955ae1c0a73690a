// SPDX-License-Identifier: MIT
/*
 * BPF_MAP_*_BATCH. Where a batch stopped is told to the caller as the last key, as Linux does for
 * arrays; for hash maps Linux gives a bucket's number in 4 bytes, and callers have room for no
 * more: there it is the number of entries so far, and the key that goes with it is remembered in
 * the map.
 */
#include <kernel/kinds.h>

#include <string.h>

#define ENOTSUPP 524

struct batch {
	struct ub_kernel_map *map;
	struct ub_caller *caller;
	struct ub_attr *attr;
	u32 key_size;
	u32 value_size;
	u32 done;
	u8 *key;
	u8 *previous;
	u8 *value;
};

static bool is_hash(u32 type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_PERCPU_HASH ||
	       type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
	       type == BPF_MAP_TYPE_HASH_OF_MAPS;
}

/* Which commands a type has: the map_*_batch of its struct bpf_map_ops. */
static bool has_batch(u32 type, u32 cmd)
{
	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return true;
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		return true;
	case BPF_MAP_TYPE_LPM_TRIE:
		return cmd != BPF_MAP_LOOKUP_AND_DELETE_BATCH;
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_UPDATE_BATCH;
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_UPDATE_BATCH;
	default:
		return false;
	}
}

static u64 key_address(const struct batch *b, u32 i)
{
	return b->attr->a.batch.keys + (u64)i * b->key_size;
}

static u64 value_address(const struct batch *b, u32 i)
{
	return b->attr->a.batch.values + (u64)i * b->value_size;
}

static int write_count(struct batch *b, u32 count)
{
	b->attr->a.batch.count = count;
	return UB_ATTR_WRITE(b->attr, b->caller, batch.count);
}

static int update_batch(struct batch *b)
{
	const union bpf_attr *a = &b->attr->a;
	int err = 0;

	for (b->done = 0; b->done < a->batch.count; b->done++) {
		err = b->caller->read(b->caller, key_address(b, b->done), b->key, b->key_size);
		if (!err)
			err = b->caller->read(b->caller, value_address(b, b->done), b->value,
					      b->value_size);
		if (!err)
			err = ub_kmap_update(b->map, b->caller, b->key, b->value,
					     a->batch.elem_flags);
		if (err)
			break;
	}
	return write_count(b, b->done) ? -EFAULT : err;
}

static int delete_batch(struct batch *b)
{
	int err = 0;

	for (b->done = 0; b->done < b->attr->a.batch.count; b->done++) {
		err = b->caller->read(b->caller, key_address(b, b->done), b->key, b->key_size);
		if (!err)
			err = ub_kmap_delete(b->map, b->key);
		if (err)
			break;
	}
	return write_count(b, b->done) ? -EFAULT : err;
}

/* Puts the key after which to go on into b->previous: 1, or 0: from the start. */
static int find_start(struct batch *b)
{
	const union bpf_attr *a = &b->attr->a;
	u32 position;
	int err;

	if (!a->batch.in_batch)
		return 0;
	if (!is_hash(b->map->map.attr.type)) {
		err = b->caller->read(b->caller, a->batch.in_batch, b->previous, b->key_size);
		return err ? err : 1;
	}
	err = b->caller->read(b->caller, a->batch.in_batch, &position, sizeof(position));
	if (err)
		return err;
	if (!position)
		return 0;
	if (position == b->map->batch_at && b->map->batch_key) {
		memcpy(b->previous, b->map->batch_key, b->key_size);
		return 1;
	}
	/* Somebody else's batch came between: walk there. */
	for (u32 i = 0; i < position; i++) {
		err = ub_kmap_next_key(b->map, i ? b->previous : NULL, b->key);
		if (err)
			return err;
		memcpy(b->previous, b->key, b->key_size);
	}
	return 1;
}

static int say_position(struct batch *b, u32 start)
{
	const union bpf_attr *a = &b->attr->a;
	u32 position = start + b->done;

	if (!b->done)
		return 0;
	if (!is_hash(b->map->map.attr.type))
		return b->caller->write(b->caller, a->batch.out_batch, b->previous, b->key_size);
	if (!b->map->batch_key)
		b->map->batch_key = malloc(b->key_size);
	if (b->map->batch_key) {
		memcpy(b->map->batch_key, b->previous, b->key_size);
		b->map->batch_at = position;
	}
	return b->caller->write(b->caller, a->batch.out_batch, &position, sizeof(position));
}

static int lookup_batch(struct batch *b, bool and_delete)
{
	const union bpf_attr *a = &b->attr->a;
	u32 max = a->batch.count, start = 0;
	bool has_previous;
	int err;

	if (write_count(b, 0))
		return -EFAULT;
	err = find_start(b);
	if (err < 0)
		return err;
	has_previous = err;
	if (a->batch.in_batch && is_hash(b->map->map.attr.type) && !and_delete &&
	    b->caller->read(b->caller, a->batch.in_batch, &start, sizeof(start)))
		return -EFAULT;
	if (and_delete) /* what was taken before is gone: always from the start */
		has_previous = false;
	err = 0;
	for (b->done = 0; b->done < max;) {
		err = ub_kmap_next_key(b->map, has_previous ? b->previous : NULL, b->key);
		if (err)
			break;
		err = ub_kmap_lookup(b->map, b->key, b->value, a->batch.elem_flags);
		if (err == -ENOENT) { /* gone meanwhile, or an empty entry */
			memcpy(b->previous, b->key, b->key_size);
			has_previous = true;
			err = 0;
			continue;
		}
		if (!err)
			err = b->caller->write(b->caller, key_address(b, b->done), b->key,
					       b->key_size);
		if (!err)
			err = b->caller->write(b->caller, value_address(b, b->done), b->value,
					       b->value_size);
		if (err)
			break;
		if (and_delete) {
			err = ub_kmap_delete(b->map, b->key);
			if (err)
				break;
			has_previous = false;
		} else {
			memcpy(b->previous, b->key, b->key_size);
			has_previous = true;
		}
		b->done++;
	}
	if (err == -EFAULT)
		return err;
	if (and_delete)
		memcpy(b->previous, b->key, b->key_size);
	if (say_position(b, start) || write_count(b, b->done))
		return -EFAULT;
	return err;
}

static int check(const struct batch *b, u32 cmd)
{
	const union bpf_attr *a = &b->attr->a;
	bool reads = cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH;

	if (!has_batch(b->map->map.attr.type, cmd))
		return -ENOTSUPP;
	if (a->batch.elem_flags & ~(u64)BPF_F_LOCK)
		return -EINVAL;
	/* Only the hash maps' own lookup looks at these. */
	if (a->batch.flags && reads && is_hash(b->map->map.attr.type))
		return -EINVAL;
	if (a->batch.elem_flags & BPF_F_LOCK && !b->map->has_spin_lock)
		return -EINVAL;
	return 0;
}

s64 ub_cmd_map_batch(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, u32 cmd)
{
	bool reads = cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH;
	bool writes = cmd != BPF_MAP_LOOKUP_BATCH;
	_cleanup_free_ u8 *memory = NULL;
	struct batch b = { .caller = c, .attr = attr };
	struct ub_file *file;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(batch.flags)))
		return -EINVAL;
	err = ub_file_get(k, c, (s32)attr->a.batch.map_fd, &file);
	if (err)
		return err;
	if (file->object->kind != UB_KIND_MAP)
		return -EINVAL;
	b.map = ub_to_map(file->object);
	if ((reads && !(file->mode & UB_FILE_READ)) ||
	    (writes && (!(file->mode & UB_FILE_WRITE) || b.map->frozen)))
		return -EPERM;
	err = check(&b, cmd);
	if (err || !attr->a.batch.count)
		return err;
	b.key_size = b.map->map.attr.key_size;
	b.value_size = ub_kmap_value_size(b.map);
	memory = calloc(1, (size_t)b.key_size * 2 + b.value_size + 16);
	if (!memory)
		return -ENOMEM;
	b.value = memory; /* first: it wants alignment */
	b.key = memory + ub_round_up((size_t)b.value_size, 8);
	b.previous = b.key + b.key_size;
	if (cmd == BPF_MAP_UPDATE_BATCH)
		return update_batch(&b);
	if (cmd == BPF_MAP_DELETE_BATCH)
		return delete_batch(&b);
	return lookup_batch(&b, cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH);
}
