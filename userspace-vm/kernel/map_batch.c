// SPDX-License-Identifier: MIT
/*
 * BPF_MAP_*_BATCH. Where a batch stopped is told to the caller as the last key, as Linux does for
 * arrays; for hash maps Linux gives a bucket's number in 4 bytes, and callers have room for no
 * more: there it is the number of entries so far, and the key that goes with it is remembered in
 * the map.
 */
#include <common/clock.h>
#include <kernel/kinds.h>

#include <string.h>
#include <time.h>

#define ENOTSUPP 524

#define CHUNK_BYTES 65536
#define LIMIT_NS    500000000ull /* the daemon has other clients */
#define CLOCK_EVERY 1024

struct batch {
	struct ub_kernel_map *map;
	struct ub_caller *caller;
	struct ub_attr *attr;
	u32 key_size;
	u32 value_size;
	u32 value_stride; /* in values: aligned */
	u32 done;
	u8 *previous;
	/* Elements on their way from or to the caller: [from, to) of its arrays, with values
	 * 8-aligned here. */
	u8 *keys;
	u8 *values;
	u8 *packed; /* values as the caller has them */
	u32 from, to;
	u32 chunk;
	u64 deadline;
};

static bool is_late(const struct batch *b)
{
	return b->done % CLOCK_EVERY == CLOCK_EVERY - 1 && ub_now_ns() > b->deadline;
}

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

static u8 *key_of(const struct batch *b, u32 i)
{
	return b->keys + (size_t)(i - b->from) * b->key_size;
}

static u8 *value_of(const struct batch *b, u32 i)
{
	return b->values + (size_t)(i - b->from) * b->value_stride;
}

static int fetch_some(struct batch *b, u32 i, u32 nr, bool with_values)
{
	int err = b->caller->read(b->caller, key_address(b, i), b->keys, (size_t)nr * b->key_size);

	if (!err && with_values && b->value_size)
		err = b->caller->read(b->caller, value_address(b, i), b->packed,
				      (size_t)nr * b->value_size);
	if (err)
		return err;
	b->from = i;
	b->to = i + nr;
	for (u32 j = 0; with_values && j < nr; j++)
		memcpy(value_of(b, i + j), b->packed + (size_t)j * b->value_size, b->value_size);
	return 0;
}

/* Makes element @i available. Many at once are cheaper; one by one where not all can be read,
 * because those before the one that can't count. */
static int fetch(struct batch *b, u32 i, bool with_values)
{
	u32 left = b->attr->a.batch.count - i, nr = left < b->chunk ? left : b->chunk;

	if (i >= b->from && i < b->to)
		return 0;
	return fetch_some(b, i, nr, with_values) ? fetch_some(b, i, 1, with_values) : 0;
}

/* Gives the caller the elements that are kept here. */
static int flush(struct batch *b)
{
	u32 nr = b->to - b->from;
	int err;

	if (!nr)
		return 0;
	for (u32 j = 0; j < nr; j++)
		memcpy(b->packed + (size_t)j * b->value_size, value_of(b, b->from + j),
		       b->value_size);
	err = b->caller->write(b->caller, key_address(b, b->from), b->keys,
			       (size_t)nr * b->key_size);
	if (!err && b->value_size)
		err = b->caller->write(b->caller, value_address(b, b->from), b->packed,
				       (size_t)nr * b->value_size);
	b->from = b->to;
	return err;
}

static int update_batch(struct batch *b)
{
	const union bpf_attr *a = &b->attr->a;
	u32 count = a->batch.count;
	int err = 0;

	for (b->done = 0; b->done < count && !err; b->done += !err) {
		err = fetch(b, b->done, true);
		if (!err)
			err = ub_kmap_update(b->map, b->caller, key_of(b, b->done),
					     value_of(b, b->done), a->batch.elem_flags);
		if (!err && is_late(b)) {
			b->done++;
			err = -EINTR;
			break;
		}
	}
	return write_count(b, b->done) ? -EFAULT : err;
}

static int delete_batch(struct batch *b)
{
	u32 count = b->attr->a.batch.count;
	int err = 0;

	for (b->done = 0; b->done < count && !err; b->done += !err) {
		err = fetch(b, b->done, false);
		if (!err)
			err = ub_kmap_delete(b->map, key_of(b, b->done));
		if (!err && is_late(b)) {
			b->done++;
			err = -EINTR;
			break;
		}
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
		if (i % CLOCK_EVERY == CLOCK_EVERY - 1 && ub_now_ns() > b->deadline)
			return -EINTR;
		err = ub_kmap_next_key(b->map, i ? b->previous : NULL, b->keys);
		if (err)
			return err;
		memcpy(b->previous, b->keys, b->key_size);
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

/* Linux's hash maps say at once that nothing comes behind a batch that is full: -ENOENT. */
static int look_further(struct batch *b, bool has_previous)
{
	_cleanup_free_ u8 *next = malloc(b->key_size);
	int err = next ? ub_kmap_next_key(b->map, has_previous ? b->previous : NULL, next) : 0;

	return err == -ENOENT ? err : 0;
}

static int lookup_batch(struct batch *b, bool and_delete)
{
	const union bpf_attr *a = &b->attr->a;
	u32 max = a->batch.count, start = 0, steps = 0;
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
	for (b->done = 0, err = 0; b->done < max && !err;) {
		u8 *key = key_of(b, b->done), *value = value_of(b, b->done);

		if (++steps % CLOCK_EVERY == 0 && ub_now_ns() > b->deadline)
			break; /* so much for now */
		err = ub_kmap_next_key(b->map, has_previous ? b->previous : NULL, key);
		if (err)
			break;
		err = ub_kmap_lookup(b->map, key, value, a->batch.elem_flags);
		memcpy(b->previous, key, b->key_size);
		has_previous = true;
		if (err == -ENOENT) { /* gone meanwhile, or an empty entry */
			err = 0;
			continue;
		}
		if (!err && and_delete) {
			err = ub_kmap_delete(b->map, key);
			has_previous = false;
		}
		if (err)
			break;
		b->to = ++b->done;
		if (b->to - b->from == b->chunk)
			err = flush(b);
	}
	if (!err && b->done == max && is_hash(b->map->map.attr.type))
		err = look_further(b, has_previous);
	if (err == -EFAULT || flush(b) || say_position(b, start) || write_count(b, b->done))
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
	if (a->batch.elem_flags & BPF_F_LOCK && !b->map->map.attr.lock)
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
	b.value_stride = ub_round_up(b.value_size, 8);
	b.chunk = CHUNK_BYTES / (b.key_size + b.value_size + 1);
	if (!b.chunk)
		b.chunk = 1;
	if (b.chunk > attr->a.batch.count)
		b.chunk = attr->a.batch.count;
	b.deadline = ub_now_ns() + LIMIT_NS;
	memory = calloc(b.chunk, (size_t)b.key_size + b.value_stride + b.value_size);
	b.previous = malloc(b.key_size + 1);
	if (!memory || !b.previous) {
		free(b.previous);
		return -ENOMEM;
	}
	b.values = memory; /* first: they want alignment */
	b.packed = b.values + (size_t)b.chunk * b.value_stride;
	b.keys = b.packed + (size_t)b.chunk * b.value_size;
	err = cmd == BPF_MAP_UPDATE_BATCH ? update_batch(&b)
	      : cmd == BPF_MAP_DELETE_BATCH
		      ? delete_batch(&b)
		      : lookup_batch(&b, cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH);
	free(b.previous);
	return err;
}
